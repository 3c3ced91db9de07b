//! Transcriptions and transcripts, as the API shows them.

use confab::bridge::command::Refusal;
use confab::bridge::event::Change;
use confab::bridge::resource::{Transcribe, TranscribeDirection, TranscribeStatus, Transcript};
use confab::id::{ConferencecallId, TranscribeId, TranscriptId};
use confab::time::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::harness::Api;

const NEVER: &str = "9999-01-01 00:00:00.000000";

/// A conference's id.
async fn conference(api: &Api) -> String {
    let made = api.own("POST", "/v1.0/conferences", None).await.json;
    made["id"].as_str().expect("an id").to_owned()
}

/// A transcription that is done, with this many transcripts.
async fn kept(api: &Api, number: u128, transcripts: u128) -> String {
    let id = TranscribeId(Uuid::from_u128(0x4000_8000_0000_0000_0000 + number));
    let transcribe = Transcribe {
        id,
        customer_id: api.customer,
        reference_type: "conference".to_owned(),
        reference_id: Uuid::from_u128(5),
        status: TranscribeStatus::Done,
        language: "en-US".to_owned(),
        direction: TranscribeDirection::Both,
        provider: "moonshine".to_owned(),
        tm_create: Timestamp::from_micros(number as i64),
        tm_update: Timestamp::NEVER,
        tm_delete: Timestamp::NEVER,
    };
    api.persist(Change::Transcribe(Box::new(transcribe))).await;
    for place in 0..transcripts {
        let transcript = Transcript {
            id: TranscriptId(Uuid::from_u128((number << 8) + place)),
            customer_id: api.customer,
            transcribe_id: id,
            direction: "in".to_owned(),
            message: format!("sentence {place}"),
            conferencecall_id: ConferencecallId(Uuid::from_u128(9)),
            tm_transcript: Timestamp::from_micros(place as i64),
            tm_create: Timestamp::from_micros(place as i64),
        };
        api.persist(Change::Transcript(Box::new(transcript))).await;
    }
    id.to_string()
}

#[tokio::test]
async fn a_start_names_the_language_and_gives_the_conference() {
    let api = Api::new().await;
    let id = conference(&api).await;
    let start = format!("/v1.0/conferences/{id}/transcribe_start");
    let started = api.own("POST", &start, Some(json!({"language": "en-US", "direction": "both"}))).await;
    assert_eq!((started.status.as_u16(), &started.json["id"]), (200, &json!(id)));
    assert_ne!(started.json["transcribe_id"], Uuid::nil().to_string());
    let stopped = api.own("POST", &format!("/v1.0/conferences/{id}/transcribe_stop"), None).await;
    assert_eq!(stopped.json["transcribe_id"], Uuid::nil().to_string());
    for (body, field) in [
        (json!({}), "language"),
        (json!({"language": 7}), "language"),
        (json!({"language": ""}), "language"),
        (json!({"language": "e"}), "language"),
        (json!({"language": "en_US"}), "language"),
        (json!({"language": "en-"}), "language"),
        (json!({"language": format!("en{}", "-12345678".repeat(4))}), "language"),
        (json!({"language": "en", "direction": "out"}), "direction"),
    ] {
        let refused = api.own("POST", &start, Some(body.clone())).await;
        assert_eq!(refused.reason(), (400, "INVALID_FIELD"), "{body}");
        assert_eq!(refused.json["error"]["details"][0]["field"], field, "{body}");
    }
    let unknown = api.own("POST", &start, Some(json!({"language": "xx"}))).await;
    assert_eq!(unknown.reason(), (400, "INVALID_FIELD"));
    assert!(unknown.text.contains("it knows en"), "{}", unknown.text);
}

#[tokio::test]
async fn what_the_bridge_refuses_has_its_own_status() {
    let api = Api::new().await;
    let id = conference(&api).await;
    let start = format!("/v1.0/conferences/{id}/transcribe_start");
    for (refusal, expected) in [
        (Refusal::Conflict("being transcribed already"), (409, "WRONG_STATUS")),
        (Refusal::NoTranscriber("run `make models`".to_owned()), (503, "NO_TRANSCRIBER")),
    ] {
        api.refuse(Some(refusal.clone()));
        let refused = api.own("POST", &start, Some(json!({"language": "en"}))).await;
        assert_eq!(refused.reason(), expected, "{refusal}");
        assert!(refused.text.contains(&refusal.to_string()), "{}", refused.text);
    }
}

#[tokio::test]
async fn transcriptions_are_listed_and_read_by_their_owner() {
    let api = Api::new().await;
    let (first, second) = (kept(&api, 1, 0).await, kept(&api, 2, 0).await);
    let listed = api.own("GET", "/v1.0/transcribes?page_size=1", None).await.json;
    assert_eq!(listed["result"][0]["id"], second);
    let token = listed["next_page_token"].as_str().expect("a token");
    let rest = api.own("GET", &format!("/v1.0/transcribes?page_token={token}"), None).await.json;
    assert_eq!((&rest["result"][0]["id"], &rest["next_page_token"]), (&json!(first), &json!("")));
    let read = api.own("GET", &format!("/v1.0/transcribes/{first}"), None).await.json;
    assert_eq!(
        read,
        json!({
            "id": first, "customer_id": api.customer.to_string(), "reference_type": "conference",
            "reference_id": Uuid::from_u128(5).to_string(), "status": "done", "language": "en-US", "direction": "both",
            "provider": "moonshine", "tm_create": "1970-01-01 00:00:00.000001", "tm_update": NEVER, "tm_delete": NEVER
        })
    );
    let none = format!("/v1.0/transcribes?reference_id={}", Uuid::from_u128(6));
    assert_eq!(api.own("GET", &none, None).await.json["result"], json!([]));
    assert_eq!(api.own("POST", &format!("/v1.0/transcribes/{first}/stop"), None).await.json, read);
    let (_, other) = api.other_customer().await;
    for path in [format!("/v1.0/transcribes/{first}"), format!("/v1.0/transcripts?transcribe_id={first}")] {
        assert_eq!(api.keyed(&other, "GET", &path, None).await.reason(), (404, "RESOURCE_NOT_FOUND"));
    }
}

#[tokio::test]
async fn transcripts_are_listed_newest_first_and_only_of_one_transcription() {
    let api = Api::new().await;
    let (id, other) = (kept(&api, 1, 3).await, kept(&api, 2, 1).await);
    let listed =
        api.own("GET", &format!("/v1.0/transcripts?transcribe_id={id}&page_size=2"), None).await.json;
    let messages = |list: &serde_json::Value| -> Vec<String> {
        let rows = list["result"].as_array().expect("rows");
        rows.iter().map(|row| row["message"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(messages(&listed), ["sentence 2", "sentence 1"]);
    let token = listed["next_page_token"].as_str().expect("a token");
    let rest = format!("/v1.0/transcripts?transcribe_id={id}&page_token={token}");
    let rest = api.own("GET", &rest, None).await.json;
    assert_eq!(messages(&rest), ["sentence 0"]);
    assert_eq!(rest["result"][0]["conferencecall_id"], Uuid::from_u128(9).to_string());
    assert_eq!(rest["result"][0]["transcribe_id"], id);
    let of_other = api.own("GET", &format!("/v1.0/transcripts?transcribe_id={other}"), None).await.json;
    assert_eq!(messages(&of_other).len(), 1);
    assert_eq!(api.own("GET", "/v1.0/transcripts", None).await.reason(), (400, "INVALID_QUERY"));
}
