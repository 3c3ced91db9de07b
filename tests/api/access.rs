//! Who may do what, and how often.

use std::time::Duration;

use confab::api::ApiSettings;
use serde_json::json;

use crate::harness::{ADMIN, Api, KEY};

const NIL: &str = "00000000-0000-0000-0000-000000000000";

#[tokio::test]
async fn every_operation_but_the_open_ones_refuses_a_request_without_a_valid_key() {
    let api = Api::new().await;
    let mut keyed = 0;
    for (method, template) in api.operations() {
        let path = template.replace("{id}", NIL);
        let method = method.to_uppercase();
        if ["/ping", "/health"].contains(&path.as_str()) {
            assert_eq!(api.ask(&method, &path).send().await.status, 200, "{path}");
            continue;
        }
        keyed += 1;
        for key in [None, Some("vb_99999999999999999999999999999999"), Some("x")] {
            let ask = api.ask(&method, &path);
            let answer = key.map_or(ask, |key| api.ask(&method, &path).key(key)).send().await;
            assert_eq!(answer.reason(), (401, "INVALID_ACCESS_KEY"), "{method} {path}");
            assert!(answer.headers.contains_key("www-authenticate"));
        }
    }
    assert_eq!(keyed, 50);
}

#[tokio::test]
async fn a_key_is_taken_from_header_query_and_cookie_and_the_header_wins() {
    let api = Api::new().await;
    let path = "/v1.0/conferences";
    assert_eq!(
        api.ask("GET", path).header("authorization", &format!("bearer {KEY}")).send().await.status,
        200
    );
    assert_eq!(api.ask("GET", &format!("{path}?accesskey={KEY}")).send().await.status, 200);
    assert_eq!(
        api.ask("GET", path).header("cookie", &format!("a=b; accesskey={KEY}")).send().await.status,
        200
    );
    let wrong_header =
        api.ask("GET", &format!("{path}?accesskey={KEY}")).header("authorization", "Basic eDp5").send().await;
    assert_eq!(wrong_header.status, 401);
}

#[tokio::test]
async fn kinds_of_keys_do_not_stand_for_each_other() {
    let api = Api::new().await;
    for (method, path) in
        [("GET", "/v1.0/conferences"), ("GET", "/v1.0/conferencecalls"), ("GET", "/v1.0/customer")]
    {
        assert_eq!(api.keyed(ADMIN, method, path, None).await.reason(), (403, "WRONG_KIND_OF_KEY"), "{path}");
    }
    for (method, path) in [
        ("POST", "/v1.0/customers"),
        ("GET", "/v1.0/accesskeys"),
        ("POST", "/v1.0/accesskeys"),
        ("GET", "/metrics"),
    ] {
        assert_eq!(api.own(method, path, None).await.reason(), (403, "WRONG_KIND_OF_KEY"), "{path}");
    }
}

#[tokio::test]
async fn another_customers_resources_are_not_found() {
    let api = Api::new().await;
    let (_, other) = api.other_customer().await;
    let conference =
        api.own("POST", "/v1.0/conferences", None).await.json["id"].as_str().expect("an id").to_owned();
    let call = api.join(&conference).await;
    let of_conference = format!("/v1.0/conferences/{conference}");
    for (method, path) in [
        ("GET", of_conference.clone()),
        ("PUT", of_conference.clone()),
        ("DELETE", of_conference.clone()),
        ("POST", format!("{of_conference}/direct-hash-regenerate")),
        ("POST", format!("{of_conference}/recording_start")),
        ("GET", format!("{of_conference}/media_stream?encapsulation=sln")),
        ("GET", format!("/v1.0/conferencecalls/{call}")),
        ("DELETE", format!("/v1.0/conferencecalls/{call}")),
        ("GET", format!("/v1.0/customers/{}", api.customer)),
    ] {
        assert_eq!(
            api.keyed(&other, method, &path, None).await.reason(),
            (404, "RESOURCE_NOT_FOUND"),
            "{method} {path}"
        );
    }
    for list in ["conferences", "conferencecalls"] {
        assert_eq!(api.keyed(&other, "GET", &format!("/v1.0/{list}"), None).await.json["result"], json!([]));
    }
    let own = api.keyed(&other, "GET", "/v1.0/customers", None).await;
    assert_eq!(own.json["result"].as_array().map(Vec::len), Some(1));
    assert_eq!(own.json["result"][0]["name"], "other");
}

#[tokio::test]
async fn an_access_key_shows_its_token_once_expires_and_dies_at_once() {
    let api = Api::new().await;
    let body = json!({"customer_id": api.customer.to_string(), "name": "n", "expire": 60});
    let made = api.keyed(ADMIN, "POST", "/v1.0/accesskeys", Some(body)).await.json;
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    assert!(confab::store::is_access_key(token));
    assert!(token.starts_with(made["token_prefix"].as_str().expect("a prefix")));
    let path = format!("/v1.0/accesskeys/{id}");
    assert_eq!(api.keyed(ADMIN, "GET", &path, None).await.json["token"], "");

    assert_eq!(api.keyed(token, "GET", "/v1.0/customer", None).await.json["id"], api.customer.to_string());
    api.advance(Duration::from_millis(59_999));
    assert_eq!(api.keyed(token, "GET", "/v1.0/customer", None).await.status, 200);
    api.advance(Duration::from_millis(1));
    assert_eq!(api.keyed(token, "GET", "/v1.0/customer", None).await.status, 401);

    assert_eq!(
        api.keyed(ADMIN, "PUT", &path, Some(json!({"expire": 0}))).await.json["tm_expire"],
        "9999-01-01 00:00:00.000000"
    );
    assert_eq!(api.keyed(token, "GET", "/v1.0/customer", None).await.status, 200);
    let deleted = api.keyed(ADMIN, "DELETE", &path, None).await.json;
    assert_eq!(api.keyed(token, "GET", "/v1.0/customer", None).await.status, 401, "the cache forgot it");
    api.advance(Duration::from_secs(1));
    assert_eq!(api.keyed(ADMIN, "DELETE", &path, None).await.json, deleted, "a second time changes nothing");
    assert_eq!(
        api.keyed(ADMIN, "PUT", &path, Some(json!({"name": "x"}))).await.reason(),
        (409, "WRONG_STATUS")
    );
    let text = api.keyed(ADMIN, "GET", "/v1.0/accesskeys", None).await.text;
    assert!(!text.contains(id) && !text.contains(token));
}

#[tokio::test]
async fn a_customer_takes_its_keys_along_but_not_while_it_has_live_conferences() {
    let api = Api::new().await;
    let (id, key) = api.other_customer().await;
    let path = format!("/v1.0/customers/{id}");
    assert_eq!(api.keyed(ADMIN, "PUT", &path, Some(json!({"detail": "d"}))).await.json["detail"], "d");
    let conference = api.keyed(&key, "POST", "/v1.0/conferences", None).await.json["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert_eq!(api.keyed(ADMIN, "DELETE", &path, None).await.reason(), (409, "WRONG_STATUS"));
    assert_eq!(api.keyed(&key, "DELETE", &format!("/v1.0/conferences/{conference}"), None).await.status, 200);
    let deleted = api.keyed(ADMIN, "DELETE", &path, None).await;
    assert_ne!(deleted.json["tm_delete"], "9999-01-01 00:00:00.000000");
    assert_eq!(api.keyed(&key, "GET", "/v1.0/conferences", None).await.status, 401);
    assert_eq!(api.keyed(ADMIN, "GET", &path, None).await.json, deleted.json);
    let key_for_deleted =
        api.keyed(ADMIN, "POST", "/v1.0/accesskeys", Some(json!({"customer_id": id}))).await;
    assert_eq!(key_for_deleted.reason(), (400, "INVALID_FIELD"));
}

#[tokio::test]
async fn guessing_is_slowed_down_by_address_and_known_keys_go_on() {
    let settings =
        ApiSettings { requests_per_s_per_source: 10, burst_per_source: 5, ..ApiSettings::default() };
    let api = Api::with(settings).await;
    assert_eq!(api.own("GET", "/v1.0/customer", None).await.status, 200);
    for _ in 0..4 {
        assert_eq!(api.keyed("vb_1", "GET", "/v1.0/customer", None).await.status, 401);
    }
    let limited = api.keyed("vb_1", "GET", "/v1.0/customer", None).await;
    assert_eq!(limited.reason(), (429, "RATE_LIMITED"));
    assert_eq!(limited.headers["retry-after"], "1");
    assert_eq!(api.ask("GET", "/ping").send().await.status, 429, "open paths share the address's bucket");
    assert_eq!(api.own("GET", "/v1.0/customer", None).await.status, 200, "a key that is known goes on");
    assert_eq!(
        api.ask("GET", "/ping").from("192.0.2.2").send().await.status,
        200,
        "another address has its own"
    );
    api.advance(Duration::from_millis(99));
    assert_eq!(api.ask("GET", "/ping").send().await.status, 429);
    api.advance(Duration::from_millis(1));
    assert_eq!(api.ask("GET", "/ping").send().await.status, 200);
}

#[tokio::test]
async fn a_key_has_its_own_limit() {
    let api =
        Api::with(ApiSettings { requests_per_s_per_key: 10, burst_per_key: 3, ..ApiSettings::default() })
            .await;
    for _ in 0..3 {
        assert_eq!(api.own("GET", "/v1.0/customer", None).await.status, 200);
    }
    assert_eq!(api.own("GET", "/v1.0/customer", None).await.reason(), (429, "RATE_LIMITED"));
    assert_eq!(api.keyed(ADMIN, "GET", "/v1.0/customers", None).await.status, 200);
    api.advance(Duration::from_millis(100));
    assert_eq!(api.own("GET", "/v1.0/customer", None).await.status, 200);
}

#[tokio::test]
async fn metrics_open_to_the_admin_key_or_to_all_where_set() {
    let api = Api::new().await;
    let text = api.keyed(ADMIN, "GET", "/metrics", None).await.text;
    for line in ["confab_calls 0", "confab_store_durable 1", "confab_http_requests_total{code=\"4xx\"} 0"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let open = Api::with(ApiSettings { metrics_open: true, ..ApiSettings::default() }).await;
    assert_eq!(open.ask("GET", "/metrics").send().await.status, 200);
}
