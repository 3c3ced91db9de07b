//! A customer's webhook, and what could not be told.

use confab::bridge::event::{Change, Event};
use confab::id::ConferenceId;
use confab::store::OutboxChange;
use confab::time::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::harness::{ADMIN, Api};

const FAILURES: &str = "/v1.0/webhooks/failures";

#[tokio::test]
async fn a_webhook_is_set_and_shown_but_its_secret_never() {
    let api = Api::new().await;
    let path = format!("/v1.0/customers/{}", api.customer);
    let set = json!({"webhook_uri": "https://example.com/e", "webhook_method": "PUT", "webhook_secret": "hush-hush"});
    let changed = api.keyed(ADMIN, "PUT", &path, Some(set)).await;
    assert_eq!(changed.json["webhook_uri"], "https://example.com/e");
    assert_eq!(changed.json["webhook_method"], "PUT");
    let own = api.own("GET", "/v1.0/customer", None).await;
    assert_eq!(own.json["webhook_uri"], "https://example.com/e");
    for answer in [changed, own, api.keyed(ADMIN, "GET", "/v1.0/customers", None).await] {
        assert!(!answer.text.contains("hush") && !answer.text.contains("secret"), "{}", answer.text);
    }
    let stored = api.store.webhook_of(api.customer).await.expect("a read").expect("a webhook");
    assert_eq!(stored.secret, "hush-hush");
    for (key, value) in [
        ("webhook_uri", json!("example.com")),
        ("webhook_uri", json!("ftp://example.com")),
        ("webhook_uri", json!(1)),
        ("webhook_method", json!("post")),
        ("webhook_secret", json!("x".repeat(257))),
    ] {
        let answer = api.keyed(ADMIN, "PUT", &path, Some(json!({ key: value }))).await;
        assert_eq!(answer.reason(), (400, "INVALID_FIELD"), "{key}: {value}");
    }
    let off = api.keyed(ADMIN, "PUT", &path, Some(json!({"webhook_uri": "", "webhook_method": ""}))).await;
    assert_eq!(off.json["webhook_uri"], "");
    assert_eq!(api.store.webhook_of(api.customer).await.expect("a read"), None);
}

#[tokio::test]
async fn failures_are_paged_and_replayed_by_their_owner_only() {
    let api = Api::new().await;
    let path = format!("/v1.0/customers/{}", api.customer);
    api.keyed(ADMIN, "PUT", &path, Some(json!({"webhook_uri": "https://example.com/e"}))).await;
    let (conference, at) = (ConferenceId(Uuid::from_u128(5)), Timestamp::from_micros(1_700_000_000_000_000));
    for seq in 1..=5 {
        let event =
            Event { r#type: "conference_updated".to_owned(), data: json!({"n": seq}), seq, tm_event: at };
        api.persist(Change::Event { customer: api.customer, conference, event: Box::new(event) }).await;
    }
    for row in api.store.outbox_of(conference, 0, 10).await.expect("a read") {
        api.settle(OutboxChange::Failed {
            position: row.position,
            attempts: 7,
            reason: "the answer was 500".to_owned(),
        })
        .await;
        api.settle(OutboxChange::Dead { customer: api.customer, position: row.position, at }).await;
    }
    let first = api.own("GET", &format!("{FAILURES}?page_size=3"), None).await.json;
    let token = first["next_page_token"].as_str().expect("a token");
    let second = api.own("GET", &format!("{FAILURES}?page_size=3&page_token={token}"), None).await.json;
    assert_eq!(
        (first["result"].as_array().map(Vec::len), second["result"].as_array().map(Vec::len)),
        (Some(3), Some(2))
    );
    let one = &first["result"][0];
    assert_eq!((&one["attempts"], &one["reason"]), (&json!(7), &json!("the answer was 500")));
    assert_eq!(one["event"]["type"], "conference_updated");
    assert_eq!(
        api.own("GET", &format!("{FAILURES}?conference_id={}", Uuid::from_u128(6)), None).await.json["result"],
        json!([])
    );

    let (_, other) = api.other_customer().await;
    let replay = format!("{FAILURES}/{}/replay", one["id"].as_str().expect("an id"));
    assert_eq!(api.keyed(&other, "GET", FAILURES, None).await.json["result"], json!([]));
    assert_eq!(api.keyed(&other, "POST", &replay, None).await.reason(), (404, "RESOURCE_NOT_FOUND"));
    assert_eq!(api.keyed(&other, "POST", "/v1.0/webhooks/replay", None).await.json, json!({"replayed": 0}));
    assert_eq!(&api.own("POST", &replay, None).await.json, one);
    assert_eq!(api.own("POST", &replay, None).await.reason(), (404, "RESOURCE_NOT_FOUND"));
    assert_eq!(api.own("POST", "/v1.0/webhooks/replay", None).await.json, json!({"replayed": 4}));
    assert_eq!(api.own("GET", FAILURES, None).await.json["result"], json!([]));
    assert_eq!(api.store.outbox_rows_total(), 5);
}
