//! Recordings: started, shown, fetched in parts, deleted.

use std::time::Duration;

use axum::http::StatusCode;
use confab::bridge::command::Refusal;
use confab::record::retention::Retention;
use confab::store::FileState;
use confab::time::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, KEY};

const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// Starts a recording of a new conference: their ids.
async fn recorded(api: &Api, body: Value) -> (String, String) {
    let conference =
        api.own("POST", "/v1.0/conferences", None).await.json["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1.0/conferences/{conference}/recording_start");
    let started = api.own("POST", &path, Some(body)).await;
    assert_eq!(started.status, StatusCode::OK, "{started:?}");
    let recording = started.json["recording_id"].as_str().expect("an id").to_owned();
    assert_eq!(started.json["recording_ids"], json!([recording]));
    api.advance(Duration::from_secs(1));
    (conference, recording)
}

async fn part(api: &Api, id: &str, range: &str, if_range: Option<&str>) -> Answer {
    let ask = api.ask("GET", &format!("/v1.0/recordingfiles/{id}")).key(KEY).header("range", range);
    let ask = if let Some(etag) = if_range { ask.header("if-range", etag) } else { ask };
    ask.send().await
}

#[tokio::test]
async fn a_recording_is_started_shown_stopped_fetched_and_deleted() {
    let api = Api::new().await;
    let (conference, id) = recorded(&api, json!({ "format": "ogg", "duration": 60, "tracks": true })).await;
    let path = format!("/v1.0/recordings/{id}");
    let shown = api.own("GET", &path, None).await.json;
    assert_eq!(
        (&shown["format"], &shown["duration"], &shown["tracks"]),
        (&json!("ogg"), &json!(60), &json!(true))
    );
    assert_eq!((&shown["reference_id"], &shown["status"]), (&json!(conference), &json!("recording")));
    for action in ["recording_pause", "recording_resume", "recording_stop"] {
        let answer = api.own("POST", &format!("/v1.0/conferences/{conference}/{action}"), None).await;
        assert_eq!(answer.json["id"], json!(conference), "{action}");
    }
    let file = format!("/v1.0/recordingfiles/{id}");
    assert_eq!(api.own("DELETE", &path, None).await.reason(), (409, "WRONG_STATUS"));
    assert_eq!(api.own("GET", &file, None).await.reason(), (409, "WRONG_STATUS"));
    api.end_recording(&id, b"OggS and so on", "{\"ms\":0}\n").await;
    let ended = api.own("GET", &path, None).await.json;
    assert_eq!((&ended["status"], &ended["size_bytes"]), (&json!("ended"), &json!(14)));
    let whole = api.own("GET", &file, None).await;
    assert_eq!(
        (whole.text.as_str(), whole.headers["content-type"].as_bytes()),
        ("OggS and so on", &b"audio/ogg"[..])
    );
    let marks = api.own("GET", &format!("{file}.json"), None).await;
    assert_eq!(marks.text, "{\"ms\":0}\n");
    assert_eq!(marks.headers["content-type"], "application/x-ndjson");
    assert_eq!(
        api.own("GET", &format!("{file}?track={NIL}"), None).await.reason(),
        (404, "RESOURCE_NOT_FOUND")
    );
    assert_eq!(api.recording_files(), 2);
    let listed = api.own("GET", &format!("{path}/files"), None).await.json;
    let told = |name: String, media_type: &str, size_bytes: usize| json!({"name": name, "track": NIL, "media_type": media_type, "size_bytes": size_bytes, "state": "local", "attempts": 0});
    let (marks, mix) = (format!("{id}.json"), format!("{id}.ogg"));
    assert_eq!(listed["result"], json!([told(marks, "application/x-ndjson", 9), told(mix, "audio/ogg", 14)]));
    let deleted = api.own("DELETE", &path, None).await.json;
    assert_ne!(deleted["tm_delete"], json!("9999-01-01 00:00:00.000000"));
    assert_eq!(api.recording_files(), 0);
    api.advance(Duration::from_secs(1));
    assert_eq!(api.own("DELETE", &path, None).await.json, deleted, "twice is once");
    assert_eq!(api.own("GET", &path, None).await.json, deleted);
    assert_eq!(api.own("GET", &file, None).await.reason(), (404, "RESOURCE_NOT_FOUND"));
}

#[tokio::test]
async fn a_file_comes_in_the_parts_that_are_asked_for() {
    let api = Api::new().await;
    let (_, id) = recorded(&api, json!({})).await;
    api.end_recording(&id, b"0123456789", "").await;
    let first = part(&api, &id, "bytes=0-3", None).await;
    assert_eq!((first.status, first.text.as_str()), (StatusCode::PARTIAL_CONTENT, "0123"));
    assert_eq!(first.headers["content-range"], "bytes 0-3/10");
    let etag = first.headers["etag"].to_str().expect("text").to_owned();
    assert_eq!(part(&api, &id, "bytes=4-", Some(&etag)).await.text, "456789");
    assert_eq!(part(&api, &id, "bytes=-2", Some(&etag)).await.text, "89");
    let other = part(&api, &id, "bytes=4-", Some("\"another\"")).await;
    assert_eq!(
        (other.status, other.text.as_str()),
        (StatusCode::OK, "0123456789"),
        "another file: all of it"
    );
    assert_eq!(part(&api, &id, "bytes=10-", None).await.reason(), (416, "RANGE_NOT_SATISFIABLE"));
}

#[tokio::test]
async fn a_file_that_is_in_storage_is_not_taken_for_one_that_is_not_there() {
    let api = Api::new().await;
    let (_, id) = recorded(&api, json!({})).await;
    api.end_recording(&id, b"0123456789", "").await;
    let recording = id.parse().expect("an id");
    assert_eq!(api.store.recordings_to_list(9).await.expect("read"), [recording]);
    let name = format!("{id}.wav");
    let row = (name.clone(), format!("s3://calls/{name}"), 10);
    api.store.list_files(recording, &[row]).await.expect("listed");
    assert!(api.store.recordings_to_list(9).await.expect("read").is_empty());
    std::fs::remove_file(api.recordings().file(&name)).expect("it is there");
    let file = format!("/v1.0/recordingfiles/{id}");
    // This server has no storage configured any more.
    let answer = api.own("GET", &file, None).await;
    assert_eq!(answer.reason(), (503, "STORAGE_UNAVAILABLE"));
    assert_eq!(answer.headers["retry-after"], "5");
    assert_eq!(part(&api, &id, "bytes=10-", None).await.reason(), (416, "RANGE_NOT_SATISFIABLE"));
    let listed = api.own("GET", &format!("/v1.0/recordings/{id}/files"), None).await.json;
    assert!(
        listed["result"].as_array().expect("rows").iter().any(|file| file["state"] == "waiting"),
        "{listed}"
    );
    let (_, key) = api.other_customer().await;
    let others = api.keyed(&key, "GET", &format!("/v1.0/recordings/{id}/files"), None).await;
    assert_eq!(others.reason(), (404, "RESOURCE_NOT_FOUND"));
    let due = api.store.due_files(Timestamp::from_micros(1), 9).await.expect("read");
    api.store.file_failed(&due[0], "503", Timestamp::from_micros(5)).await.expect("kept");
    assert!(api.store.due_files(Timestamp::from_micros(4), 9).await.expect("read").is_empty());
    let due = api.store.due_files(Timestamp::from_micros(5), 9).await.expect("read");
    assert_eq!((due[0].attempts, due[0].failure.as_str()), (1, "503"));
    api.own("DELETE", &format!("/v1.0/recordings/{id}"), None).await;
    // Its upload ends only now: the object goes all the same.
    api.store.file_stored(&due[0]).await.expect("kept");
    let due = api.store.due_files(Timestamp::from_micros(5), 9).await.expect("read");
    assert_eq!((due.len(), due[0].state), (1, FileState::Going));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let api = Api::new().await;
    let conference =
        api.own("POST", "/v1.0/conferences", None).await.json["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1.0/conferences/{conference}/recording_start");
    for (field, value) in [
        ("format", json!("mp3")),
        ("duration", json!(86_401)),
        ("duration", json!(-1)),
        ("tracks", json!("yes")),
        ("on_end_flow_id", json!("c0ffee00-0000-4000-8000-000000000000")),
    ] {
        let answer = api.own("POST", &path, Some(json!({ field: value }))).await;
        assert_eq!(answer.reason(), (400, "INVALID_FIELD"), "{field}");
        assert_eq!(answer.json["error"]["details"][0]["field"], field);
    }
    api.refuse(Some(Refusal::Conflict("the conference is being recorded already")));
    assert_eq!(api.own("POST", &path, None).await.reason(), (409, "WRONG_STATUS"));
    api.refuse(Some(Refusal::Limit("recordings at once")));
    assert_eq!(api.own("POST", &path, None).await.reason(), (429, "LIMIT_REACHED"));
    api.refuse(None);
    assert_eq!(api.own("GET", "/v1.0/recordingfiles/x", None).await.reason(), (400, "INVALID_PATH"));
    assert_eq!(
        api.own("GET", &format!("/v1.0/recordings/{NIL}"), None).await.reason(),
        (404, "RESOURCE_NOT_FOUND")
    );
}

#[tokio::test]
async fn another_customers_recording_is_not_there() {
    let api = Api::new().await;
    let (_, key) = api.other_customer().await;
    let (_, live) = recorded(&api, json!({})).await;
    let (_, ended) = recorded(&api, json!({})).await;
    api.end_recording(&ended, b"x", "").await;
    for id in [live, ended] {
        for (method, path) in [("GET", "recordings"), ("DELETE", "recordings"), ("GET", "recordingfiles")] {
            let answer = api.keyed(&key, method, &format!("/v1.0/{path}/{id}"), None).await;
            assert_eq!(answer.reason(), (404, "RESOURCE_NOT_FOUND"), "{method} {path}");
        }
    }
    assert_eq!(api.keyed(&key, "GET", "/v1.0/recordings", None).await.json["result"], json!([]));
}

#[tokio::test]
async fn recordings_are_listed_and_the_oldest_outlive_what_is_kept() {
    let api = Api::new().await;
    let mut made = Vec::new();
    for _ in 0..4 {
        let (conference, id) = recorded(&api, json!({})).await;
        api.end_recording(&id, &[0; 100], "").await;
        made.push((conference, id));
    }
    let ids = |answer: &Answer| -> Vec<String> {
        let rows = answer.json["result"].as_array().expect("rows");
        rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
    };
    let page = api.own("GET", "/v1.0/recordings?page_size=3", None).await;
    assert_eq!(ids(&page), [3, 2, 1].map(|at| made[at].1.clone()));
    let token = page.json["next_page_token"].as_str().expect("a token");
    assert_eq!(
        ids(&api.own("GET", &format!("/v1.0/recordings?page_token={token}"), None).await),
        [made[0].1.clone()]
    );
    let of_one = api.own("GET", &format!("/v1.0/recordings?reference_id={}", made[2].0), None).await;
    assert_eq!(ids(&of_one), [made[2].1.clone()]);

    let folder = api.recordings();
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let keep = |age, bytes| Retention { age, bytes };
    let gone = keep(None, Some(250)).apply(&api.store, &folder, now).await.expect("applied");
    assert_eq!(gone, 2, "of 400 bytes, 250 may stay");
    assert_eq!(ids(&api.own("GET", "/v1.0/recordings", None).await), [3, 2].map(|at| made[at].1.clone()));
    let later = now.plus(Duration::from_secs(3602)).plus(Duration::from_micros(1));
    let gone =
        keep(Some(Duration::from_secs(3600)), None).apply(&api.store, &folder, later).await.expect("applied");
    assert_eq!(gone, 1, "the one that is older than an hour");
    assert_eq!(api.recording_files(), 2);
}
