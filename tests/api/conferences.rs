//! Conferences and conferencecalls through their lives.

use std::time::Duration;

use serde_json::json;

use crate::harness::Api;

const NEVER: &str = "9999-01-01 00:00:00.000000";
const NIL: &str = "00000000-0000-0000-0000-000000000000";

#[tokio::test]
async fn a_conference_made_of_nothing_has_every_field() {
    let api = Api::new().await;
    let made = api.own("POST", "/v1.0/conferences", None).await;
    assert_eq!(made.status, 200);
    let mut body = made.json;
    let object = body.as_object_mut().expect("an object");
    assert!(object.remove("id").is_some_and(|id| id != NIL));
    assert_eq!(
        body,
        json!({
            "customer_id": api.customer.to_string(), "type": "conference", "status": "progressing", "name": "", "detail": "", "data": {},
            "timeout": 0, "pre_flow_id": NIL, "post_flow_id": NIL, "conferencecall_ids": [], "recording_id": NIL, "recording_ids": [],
            "transcribe_id": NIL, "transcribe_ids": [], "direct_hash": "0123456789ab", "tm_end": null,
            "tm_create": "2023-11-14 22:13:20.000000", "tm_update": NEVER, "tm_delete": NEVER
        })
    );
}

#[tokio::test]
async fn a_conference_takes_what_is_sent_and_ignores_what_it_does_not_know() {
    let api = Api::new().await;
    let id = "6b1bbd16-6f2c-4b2c-9d0e-0a4a5a8f0f11";
    let body = json!({
        "id": id, "type": "connect", "name": "n", "detail": "d", "timeout": 60.0, "data": {"a": [1, {"b": null}]},
        "pre_flow_id": NIL, "post_flow_id": NIL, "direct_access": false, "colour": {"not": "known"}
    });
    let made = api.own("POST", "/v1.0/conferences", Some(body.clone())).await.json;
    for (key, value) in [
        ("id", json!(id)),
        ("type", json!("connect")),
        ("timeout", json!(60)),
        ("data", body["data"].clone()),
        ("direct_hash", json!("")),
    ] {
        assert_eq!(made[key], value, "{key}");
    }
    assert_eq!(
        api.own("POST", "/v1.0/conferences", Some(json!({"id": id}))).await.reason(),
        (409, "ID_TAKEN")
    );
    let (_, other) = api.other_customer().await;
    assert_eq!(
        api.keyed(&other, "POST", "/v1.0/conferences", Some(json!({"id": id.to_uppercase()}))).await.reason(),
        (409, "ID_TAKEN")
    );
}

#[tokio::test]
async fn a_put_changes_only_what_is_sent() {
    let api = Api::new().await;
    let made = api
        .own("POST", "/v1.0/conferences", Some(json!({"name": "a", "detail": "b", "timeout": 10})))
        .await
        .json;
    let path = format!("/v1.0/conferences/{}", made["id"].as_str().expect("an id"));
    api.advance(Duration::from_secs(1));
    let mut wanted = made.clone();
    wanted["detail"] = json!("c");
    wanted["direct_hash"] = json!("");
    wanted["tm_update"] = json!("2023-11-14 22:13:21.000000");
    let changed = api.own("PUT", &path, Some(json!({"detail": "c", "direct_access": false}))).await.json;
    assert_eq!(changed, wanted);
    assert_eq!(api.own("GET", &path, None).await.json, wanted);
    let refused = api.own("PUT", &path, Some(json!({"type": "conference"}))).await;
    assert_eq!(refused.reason(), (400, "INVALID_FIELD"));
    assert_eq!(refused.json["error"]["details"][0]["field"], "type");
    let hash =
        api.own("POST", &format!("{path}/direct-hash-regenerate"), None).await.json["direct_hash"].clone();
    assert_eq!(hash, "abcdefabcdef");
}

#[tokio::test]
async fn a_delete_is_final_readable_and_repeatable_long_after() {
    let api = Api::new().await;
    let id = api.own("POST", "/v1.0/conferences", None).await.json["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1.0/conferences/{id}");
    let deleted = api.own("DELETE", &path, None).await;
    assert_eq!((deleted.status.as_u16(), &deleted.json["status"]), (200, &json!("terminated")));
    api.advance(Duration::from_secs(86_400));
    assert_eq!(api.own("DELETE", &path, None).await.json, deleted.json);
    assert_eq!(api.own("GET", &path, None).await.json, deleted.json);
    assert_eq!(api.own("GET", "/v1.0/conferences", None).await.json["result"], json!([]));
    assert_eq!(api.own("PUT", &path, Some(json!({"name": "x"}))).await.reason(), (409, "WRONG_STATUS"));
    assert_eq!(
        api.own("POST", &format!("{path}/direct-hash-regenerate"), None).await.reason(),
        (409, "WRONG_STATUS")
    );
    assert_eq!(
        api.own("POST", "/v1.0/conferences", Some(json!({"id": id}))).await.reason(),
        (409, "ID_TAKEN")
    );
}

#[tokio::test]
async fn a_conference_that_ended_by_itself_is_listed_until_it_is_deleted() {
    let api = Api::new().await;
    let id = api.own("POST", "/v1.0/conferences", None).await.json["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1.0/conferences/{id}");
    api.end(&id).await;
    assert_eq!(
        api.own("GET", "/v1.0/conferences?status=terminated", None).await.json["result"][0]["id"],
        json!(id)
    );
    api.advance(Duration::from_secs(5));
    let deleted = api.own("DELETE", &path, None).await;
    assert_eq!(deleted.json["tm_delete"], "2023-11-14 22:13:25.000000");
    assert_eq!(deleted.json["direct_hash"], "");
    api.advance(Duration::from_secs(5));
    assert_eq!(api.own("DELETE", &path, None).await.json, deleted.json);
    let events = api.store.events(id.parse().expect("an id"), 3, 10).await.expect("events");
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].r#type.as_str(), events[0].seq), ("conference_deleted", 4));
}

#[tokio::test]
async fn conferencecalls_are_listed_by_conference_and_ejected() {
    let api = Api::new().await;
    let mut conferences = Vec::new();
    for _ in 0..2 {
        conferences.push(
            api.own("POST", "/v1.0/conferences", None).await.json["id"].as_str().expect("an id").to_owned(),
        );
        api.advance(Duration::from_secs(1));
    }
    let call = api.join(&conferences[0]).await;
    api.join(&conferences[1]).await;
    let of_first = api
        .own("GET", &format!("/v1.0/conferencecalls?conference_id={}&status=joined", conferences[0]), None)
        .await
        .json;
    assert_eq!(of_first["result"].as_array().map(Vec::len), Some(1));
    assert_eq!(of_first["result"][0]["id"], json!(call));
    assert_eq!(
        api.own("GET", "/v1.0/conferencecalls", None).await.json["result"].as_array().map(Vec::len),
        Some(2)
    );
    let path = format!("/v1.0/conferencecalls/{call}");
    assert_eq!(api.own("DELETE", &path, None).await.json["status"], "leaving");
    assert_eq!(api.own("GET", &path, None).await.json["status"], "leaving", "live state, not the stored one");
    assert_eq!(
        api.own("GET", "/v1.0/conferencecalls?status=joined", None).await.json["result"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    assert_eq!(
        api.own("DELETE", &format!("/v1.0/conferencecalls/{NIL}"), None).await.reason(),
        (404, "RESOURCE_NOT_FOUND")
    );
}

#[tokio::test]
async fn a_media_stream_that_cannot_be_says_why() {
    let api = Api::new().await;
    let id = api.own("POST", "/v1.0/conferences", None).await.json["id"].as_str().expect("an id").to_owned();
    let stream = |what: &str| format!("/v1.0/conferences/{id}/media_stream{what}");
    // The last is no WebSocket.
    for wrong in ["?encapsulation=mp3", "", "?encapsulation=rtp"] {
        assert_eq!(api.own("GET", &stream(wrong), None).await.reason(), (400, "INVALID_QUERY"), "{wrong}");
    }
}
