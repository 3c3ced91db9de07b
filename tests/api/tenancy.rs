//! Scopes, rotation of keys, and the log of who changed what.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{ADMIN, Api, KEY};

const NIL: &str = "00000000-0000-0000-0000-000000000000";

async fn make_key(api: &Api, body: Value) -> (String, String) {
    let made = api.keyed(ADMIN, "POST", "/v1.0/accesskeys", Some(body)).await.json;
    let text = |field: &str| made[field].as_str().unwrap_or_else(|| panic!("{field} of {made}")).to_owned();
    (text("id"), text("token"))
}

#[tokio::test]
async fn a_key_that_may_read_changes_nothing_by_any_call() {
    let api = Api::new().await;
    let (id, reader) =
        make_key(&api, json!({"customer_id": api.customer.to_string(), "scope": "read"})).await;
    let conference =
        api.own("POST", "/v1.0/conferences", None).await.json["id"].as_str().expect("an id").to_owned();
    let mut refused = 0;
    for (method, template) in api.operations() {
        let path = template.replace("{id}", &conference);
        let method = method.to_uppercase();
        let answer = api.keyed(&reader, &method, &path, None).await;
        if method == "GET" && !path.ends_with("/media_stream") {
            assert_ne!(answer.reason().1, "READ_ONLY_KEY", "{method} {path}");
        } else {
            assert_eq!(answer.reason(), (403, "READ_ONLY_KEY"), "{method} {path}");
            assert_eq!(answer.json["error"]["status"], "PERMISSION_DENIED");
            refused += 1;
        }
    }
    assert!(refused >= 15, "{refused}");
    let path = format!("/v1.0/conferences/{conference}");
    assert_eq!(api.keyed(&reader, "GET", &path, None).await.json["status"], "progressing");
    let key = format!("/v1.0/accesskeys/{id}");
    assert_eq!(api.keyed(ADMIN, "GET", &key, None).await.json["scope"], "read");
    assert_eq!(api.keyed(ADMIN, "PUT", &key, Some(json!({"scope": "manage"}))).await.json["scope"], "manage");
    assert_eq!(api.keyed(&reader, "DELETE", &path, None).await.status, 200, "at once");
    for bad in [json!("write"), json!(1), json!(null)] {
        assert_eq!(
            api.keyed(ADMIN, "PUT", &key, Some(json!({ "scope": bad }))).await.reason(),
            (400, "INVALID_FIELD")
        );
    }
}

#[tokio::test]
async fn a_rotated_key_works_beside_the_new_one_for_the_overlap() {
    let api = Api::new().await;
    let body = json!({"customer_id": api.customer.to_string(), "name": "n", "scope": "read", "expire": 7200});
    let (id, old) = make_key(&api, body).await;
    let rotate = format!("/v1.0/accesskeys/{id}/rotate");
    let made = api.keyed(ADMIN, "POST", &rotate, Some(json!({"overlap": 60}))).await.json;
    let new = made["token"].as_str().expect("a token");
    assert_eq!(
        (&made["name"], &made["scope"], &made["customer_id"]),
        (&json!("n"), &json!("read"), &json!(api.customer.to_string()))
    );
    assert_ne!(made["id"], id);
    let works = async |key: &str| api.keyed(key, "GET", "/v1.0/customer", None).await.status == 200;
    assert!(works(&old).await && works(new).await);
    api.advance(Duration::from_millis(59_999));
    assert!(works(&old).await);
    api.advance(Duration::from_millis(1));
    assert!(!works(&old).await && works(new).await);
    api.advance(Duration::from_secs(7200 - 60));
    assert!(!works(new).await, "it ends when the old one would have");

    let (id, old) = make_key(&api, json!({"customer_id": api.customer.to_string()})).await;
    let rotate = format!("/v1.0/accesskeys/{id}/rotate");
    assert_eq!(api.keyed(ADMIN, "POST", &rotate, Some(json!({"overlap": 0}))).await.status, 200);
    assert!(!works(&old).await, "without overlap it dies at once");
    assert_eq!(
        api.keyed(ADMIN, "POST", &rotate, Some(json!({"overlap": 2_592_001}))).await.reason(),
        (400, "INVALID_FIELD")
    );
    api.keyed(ADMIN, "DELETE", &format!("/v1.0/accesskeys/{id}"), None).await;
    assert_eq!(api.keyed(ADMIN, "POST", &rotate, None).await.reason(), (409, "WRONG_STATUS"));
    assert_eq!(
        api.keyed(ADMIN, "POST", &rotate.replace(&id, NIL), None).await.reason(),
        (404, "RESOURCE_NOT_FOUND")
    );
}

#[tokio::test]
async fn every_changing_call_is_in_the_log_and_no_key_is() {
    let api = Api::new().await;
    let (other, other_key) = api.other_customer().await;
    api.advance(Duration::from_secs(1));
    let made = api
        .ask("POST", "/v1.0/conferences")
        .key(KEY)
        .header("x-request-id", "of-mine")
        .from("198.51.100.7")
        .send()
        .await;
    let id = made.json["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1.0/conferences/{id}");
    api.advance(Duration::from_secs(1));
    api.own("GET", &path, None).await;
    api.ask("PUT", &format!("{path}?accesskey={KEY}")).json(&json!({"timeout": -1})).send().await;
    api.advance(Duration::from_secs(1));
    api.keyed(&other_key, "DELETE", &path, None).await;
    api.ask("DELETE", &path).send().await;
    api.keyed("vb_99999999999999999999999999999999", "DELETE", &path, None).await;

    let own = api.own("GET", "/v1.0/audits", None).await;
    let rows = own.json["result"].as_array().expect("rows");
    let short = |row: &Value| (row["method"].clone(), row["path"].clone(), row["status"].clone());
    assert_eq!(
        rows.iter().map(short).collect::<Vec<_>>(),
        [(json!("PUT"), json!(path), json!(400)), (json!("POST"), json!("/v1.0/conferences"), json!(200))]
    );
    assert_eq!((&rows[1]["request_id"], &rows[1]["source"]), (&json!("of-mine"), &json!("198.51.100.7")));
    assert_eq!(rows[1]["customer_id"], api.customer.to_string());
    let keys =
        api.keyed(ADMIN, "GET", &format!("/v1.0/accesskeys?customer_id={}", api.customer), None).await.json;
    assert_eq!(rows[1]["accesskey_id"], keys["result"][0]["id"]);

    let of_other = api.keyed(&other_key, "GET", "/v1.0/audits", None).await.json;
    assert_eq!(
        of_other["result"].as_array().expect("rows").iter().map(short).collect::<Vec<_>>(),
        [(json!("DELETE"), json!(path), json!(404))]
    );
    assert_eq!(
        api.own("GET", &format!("/v1.0/audits?customer_id={other}"), None).await.reason(),
        (404, "RESOURCE_NOT_FOUND")
    );
    let all = api.keyed(ADMIN, "GET", "/v1.0/audits", None).await;
    assert_eq!(
        all.json["result"].as_array().map(Vec::len),
        Some(5),
        "the two that made the other customer too: {}",
        all.text
    );
    let by_admin = api.keyed(ADMIN, "GET", &format!("/v1.0/audits?customer_id={NIL}"), None).await.json;
    let mut paths: Vec<String> =
        by_admin["result"].as_array().expect("rows").iter().map(|row| row["path"].to_string()).collect();
    paths.sort();
    assert_eq!(paths, ["\"/v1.0/accesskeys\"", "\"/v1.0/customers\""]);
    assert_eq!(by_admin["result"][0]["accesskey_id"], NIL);
    assert!(!all.text.contains(KEY) && !all.text.contains(&other_key) && !all.text.contains(ADMIN));
    let page = api.keyed(ADMIN, "GET", "/v1.0/audits?page_size=2", None).await.json;
    let token = page["next_page_token"].as_str().expect("a token");
    let next =
        api.keyed(ADMIN, "GET", &format!("/v1.0/audits?page_size=10&page_token={token}"), None).await.json;
    assert_eq!(next["result"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn a_flood_that_a_limit_refuses_does_not_fill_the_log() {
    let settings =
        confab::api::ApiSettings { requests_per_s_per_key: 1, burst_per_key: 3, ..Default::default() };
    let api = Api::with(settings).await;
    for _ in 0..10 {
        api.own("POST", "/v1.0/conferences", None).await;
    }
    let all = api.keyed(ADMIN, "GET", "/v1.0/audits", None).await.json;
    assert_eq!(all["result"].as_array().map(Vec::len), Some(3));
}
