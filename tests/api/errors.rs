//! Every way to fail, and how it is said.

use std::time::Duration;

use axum::http::StatusCode;
use confab::api::BODY_MAX_BYTES;
use confab::bridge::command::Refusal;
use confab::control::ControlError;
use serde_json::{Value, json};

use crate::harness::{ADMIN, Api, KEY};

#[tokio::test]
async fn wrong_values_name_their_key() {
    let api = Api::new().await;
    let flow = "6b1bbd16-6f2c-4b2c-9d0e-0a4a5a8f0f11";
    let cases: Vec<(&str, Value)> = vec![
        ("name", json!(1)),
        ("name", json!(null)),
        ("detail", json!([])),
        ("type", json!("queue")),
        ("type", json!(0)),
        ("data", json!("x")),
        ("data", json!([])),
        ("timeout", json!(-1)),
        ("timeout", json!(-0.5)),
        ("timeout", json!(1.5)),
        ("timeout", json!("60")),
        ("timeout", json!(2_592_001)),
        ("timeout", json!(1e300)),
        ("timeout", json!(u64::MAX)),
        ("id", json!("x")),
        ("id", json!("00000000-0000-0000-0000-000000000000")),
        ("id", json!("6b1bbd166f2c4b2c9d0e0a4a5a8f0f11")),
        ("pre_flow_id", json!(flow)),
        ("post_flow_id", json!(flow)),
        ("pre_flow_id", json!("")),
        ("direct_access", json!("yes")),
    ];
    for (key, value) in cases {
        let answer = api.own("POST", "/v1.0/conferences", Some(json!({ key: value }))).await;
        assert_eq!(answer.reason(), (400, "INVALID_FIELD"), "{key}: {value}");
        assert_eq!(answer.json["error"]["details"][0]["field"], key);
        assert_eq!(answer.json["error"]["status"], "INVALID_ARGUMENT");
    }
    for timeout in [json!(0), json!(-0.0), json!(2_592_000)] {
        assert_eq!(
            api.own("POST", "/v1.0/conferences", Some(json!({"timeout": timeout}))).await.status,
            200,
            "{timeout}"
        );
        api.advance(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_object_say_where() {
    let api = Api::new().await;
    let post = |body: &str| api.ask("POST", "/v1.0/conferences").key(KEY).raw(body).send();
    let broken = post("{\"name\":\n  oops}").await;
    assert_eq!(broken.reason(), (400, "INVALID_BODY"));
    assert!(
        broken.json["error"]["message"].as_str().is_some_and(|text| text.contains("line 2 column 3")),
        "{}",
        broken.text
    );
    let deep = format!("{{\"data\":{}{}}}", "{\"a\":".repeat(5000), "}".repeat(5000));
    for body in ["[]", "1", "\"x\"", "null", "{", "{} {}", "\n", " ", "\u{0}", &deep] {
        assert_eq!(post(body).await.reason(), (400, "INVALID_BODY"), "{}", &body[..body.len().min(20)]);
    }
    let fits = format!("{{\"name\":\"{}\"}}", "x".repeat(BODY_MAX_BYTES - 11));
    assert_eq!(fits.len(), BODY_MAX_BYTES);
    assert_eq!(post(&fits).await.status, 200);
    assert_eq!(post(&format!("{fits} ")).await.reason(), (413, "BODY_TOO_LARGE"));
    let form = api
        .ask("POST", "/v1.0/conferences")
        .key(KEY)
        .header("content-type", "application/x-www-form-urlencoded")
        .body("name=x");
    assert_eq!(form.send().await.reason(), (415, "UNSUPPORTED_MEDIA_TYPE"));
    api.advance(Duration::from_millis(1));
    let unnamed = api.ask("POST", "/v1.0/conferences").key(KEY).body("{\"name\": \"x\"}").send().await;
    assert_eq!(unnamed.json["name"], "x");
}

#[tokio::test]
async fn wrong_paths_methods_and_queries() {
    let api = Api::new().await;
    assert_eq!(api.own("GET", "/v1.0/nothing", None).await.reason(), (404, "RESOURCE_NOT_FOUND"));
    assert_eq!(api.own("GET", "/", None).await.reason(), (404, "RESOURCE_NOT_FOUND"));
    let wrong_method = api.own("PATCH", "/v1.0/conferences", None).await;
    assert_eq!(wrong_method.reason(), (405, "METHOD_NOT_ALLOWED"));
    let allow = wrong_method.headers["allow"].to_str().expect("text").to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    for id in ["x", "6b1bbd166f2c4b2c9d0e0a4a5a8f0f11", "%ff", "6b1bbd16-6f2c-4b2c-9d0e-0a4a5a8f0f1g"] {
        assert_eq!(
            api.own("GET", &format!("/v1.0/conferences/{id}"), None).await.reason(),
            (400, "INVALID_PATH"),
            "{id}"
        );
    }
    for query in [
        "page_size=0",
        "page_size=101",
        "page_size=-1",
        "page_size=+1",
        "page_size=x",
        "page_size=",
        "page_token=x",
        "type=room",
        "status=1",
    ] {
        assert_eq!(
            api.own("GET", &format!("/v1.0/conferences?{query}"), None).await.reason(),
            (400, "INVALID_QUERY"),
            "{query}"
        );
    }
    assert_eq!(
        api.own("GET", "/v1.0/conferencecalls?conference_id=x", None).await.reason(),
        (400, "INVALID_QUERY")
    );
}

#[tokio::test]
async fn what_the_bridge_refuses_has_its_status() {
    let api = Api::new().await;
    let rows = [
        (Refusal::IdTaken, (409, "ID_TAKEN"), "ALREADY_EXISTS"),
        (Refusal::WrongStatus("terminating"), (409, "WRONG_STATUS"), "FAILED_PRECONDITION"),
        (Refusal::Limit("conferences"), (429, "LIMIT_REACHED"), "RESOURCE_EXHAUSTED"),
        (Refusal::Draining, (503, "SHUTTING_DOWN"), "UNAVAILABLE"),
    ];
    for (refusal, reason, status) in rows {
        api.refuse(Some(refusal));
        let answer = api.own("POST", "/v1.0/conferences", None).await;
        assert_eq!((answer.reason(), &answer.json["error"]["status"]), (reason, &json!(status)));
        assert_eq!(
            answer.headers.contains_key("retry-after"),
            answer.status == StatusCode::TOO_MANY_REQUESTS
        );
    }
    api.refuse(None);
    let failures = [
        (ControlError::Busy, "OVERLOADED"),
        (ControlError::NotDurable, "NOT_DURABLE"),
        (ControlError::Stopped, "SHUTTING_DOWN"),
    ];
    for (failure, reason) in failures {
        api.fail(Some(failure));
        assert_eq!(api.own("POST", "/v1.0/conferences", None).await.reason(), (503, reason));
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_next_request_goes_well() {
    let api = Api::new().await;
    api.panic_next();
    let answer = api.own("POST", "/v1.0/conferences", None).await;
    assert_eq!(answer.reason(), (500, "INTERNAL"));
    assert!(!answer.text.contains("as the test wants it"));
    assert_eq!(api.own("POST", "/v1.0/conferences", None).await.status, 200);
}

#[tokio::test]
async fn a_request_id_is_repeated_where_fit_and_made_where_not() {
    let api = Api::new().await;
    let ask = |id: &str| api.ask("GET", "/ping").header("x-request-id", id).send();
    assert_eq!(ask("abc-1.2_3:4").await.headers["x-request-id"], "abc-1.2_3:4");
    for unfit in ["", "a b", "a\"b", &"a".repeat(129)] {
        let made = ask(unfit).await.headers["x-request-id"].to_str().expect("text").to_owned();
        assert!(made != unfit && made.len() == 36, "{made}");
    }
}

#[tokio::test]
async fn health_says_why_not() {
    let api = Api::new().await;
    assert_eq!(api.ask("GET", "/health").send().await.json, json!({"status": "ready", "notes": []}));
    api.health.lock().expect("health").push("draining".to_owned());
    let answer = api.ask("GET", "/health").send().await;
    assert_eq!(answer.reason(), (503, "NOT_READY"));
    assert_eq!(answer.json["error"]["message"], "draining");
}

#[tokio::test]
async fn the_document_has_a_page_to_try_it() {
    let api = Api::new().await;
    let page = api.ask("GET", "/docs/").send().await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("swagger"));
    assert_eq!(api.ask("GET", "/openapi.json").send().await.json["info"]["title"], "Confab");
}

#[tokio::test]
async fn the_document_says_what_may_be_left_out_and_which_words_there_are() {
    let api = Api::new().await;
    let answer = api.ask("GET", "/openapi.json").send().await;
    let document = &answer.json;
    for (_, tail) in
        answer.text.match_indices("\"$ref\":\"#").map(|(at, head)| answer.text.split_at(at + head.len()))
    {
        let pointer = tail.split('"').next().expect("a pointer");
        assert!(document.pointer(pointer).is_some(), "{pointer} is nowhere");
    }
    let body_is_needed = |path: &str, method: &str| {
        document["paths"][path][method]["requestBody"]["required"].as_bool().expect("said")
    };
    // What it says is so: bodies without a needed key may be empty.
    assert!(!body_is_needed("/v1.0/conferences", "post"));
    assert_eq!(api.own("POST", "/v1.0/conferences", None).await.status, 200);
    assert!(!body_is_needed("/v1.0/flows", "post"));
    assert_eq!(api.own("POST", "/v1.0/flows", None).await.status, 200);
    assert!(body_is_needed("/v1.0/accesskeys", "post"));
    assert_eq!(api.keyed(ADMIN, "POST", "/v1.0/accesskeys", None).await.status, 400);
    let schema = |name: &str| &document["components"]["schemas"][name]["enum"];
    let stream = &document["paths"]["/v1.0/conferences/{id}/media_stream"]["get"]["parameters"];
    assert_eq!(stream[1]["schema"]["enum"], json!(["sln", "rtp", "audiosocket"]));
    assert!(schema("ActionType").as_array().is_some_and(|types| types.contains(&json!("talk"))));
    assert_eq!(schema("FlowType"), &json!(["", "flow"]));
}
