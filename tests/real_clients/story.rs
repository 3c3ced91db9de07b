//! The whole story of a call: it is greeted, presses a key that branches, joins, is recorded and
//! transcribed, its conference times out, it hears the goodbye, and the webhooks tell all of it in order.
//! Needs the speech models: `make models`.

use std::iter::repeat_n;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::flows::{Call, Web};
use crate::process::{Folder, wait_for};
use crate::server::{Server, text};
use crate::sound::{Heard, RATE_HZ, write_samples};
use crate::speech::{hear, recogniser, say};

/// How long a thing may take on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(60);
/// What the caller says, and how long after its call began, again and again.
const SENTENCE: &str = "the boy was there when the sun rose";
const PAUSE_S: usize = 3;
const TIMES: usize = 12;

/// A file of the caller's sentence, said again and again.
fn write_speech(path: &Path) {
    let sentence = say(&flite_rs::Engine::new(), SENTENCE);
    let once = repeat_n(0, RATE_HZ as usize * PAUSE_S).chain(sentence);
    write_samples(path, repeat_n(once, TIMES).flatten());
}

/// Whether the words come in this order, others between them or not.
fn tells(story: &[&str], words: &[&str]) -> bool {
    let mut story = story.iter();
    words.iter().all(|word| story.any(|told| told == word))
}

fn flow(server: &Server, actions: &Value) -> Value {
    server.api("POST", "/flows", Some(&json!({ "actions": actions })))["id"].clone()
}

#[test]
fn a_call_is_greeted_joins_by_a_key_is_kept_times_out_and_all_of_it_is_told() {
    let (server, folder, web) = (Server::start_for_webhooks(), Folder::new("story"), Web::start(Vec::new()));
    server.tell_events_to(&web.url("/events"));
    let (sorry, go_on) = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222");
    let pre = flow(
        &server,
        &json!([
            {"type": "talk", "option": {"text": "Welcome to our conference. Press one to join.", "language": "en-US"}},
            {"type": "digits_receive", "option": {"duration": 8000, "length": 1}},
            {"type": "branch", "option": {"default_target_id": sorry, "target_ids": {"1": go_on}}},
            {"type": "hangup", "id": sorry},
            {"type": "beep", "id": go_on},
        ]),
    );
    let post = flow(
        &server,
        &json!([
            {"type": "talk", "option": {"text": "The conference is over. Goodbye.", "language": "en-US"}},
        ]),
    );
    let conference =
        server.conference_of(&json!({"name": "story", "pre_flow_id": pre, "post_flow_id": post}));
    let speech = folder.path().join("speech.wav");
    write_speech(&speech);
    let speech = speech.to_string_lossy().into_owned();
    let call = Call::start(&conference.uri(), &["--play", &speech, "--dtmf", "1", "--for", "120s"]);
    let joined = text(&conference.wait_for_joined(1)[0], "id");

    let recording = conference.record(&json!({"tracks": true}));
    let path = format!("/conferences/{}", conference.id);
    let english = json!({"language": "en-US"});
    let started = server.api("POST", &format!("{path}/transcribe_start"), Some(&english));
    let list = format!("/transcripts?transcribe_id={}", text(&started, "transcribe_id"));
    let transcript = wait_for("the sentence to be written", LIMIT, || {
        let page = server.api("GET", &list, None);
        let rows = page["result"].as_array().expect("a list").clone();
        rows.into_iter().find(|row| text(row, "message").to_lowercase().contains("when the sun rose"))
    });
    assert_eq!(text(&transcript, "conferencecall_id"), joined, "by the name of who said it");

    // It has lasted longer than that: its time is over now.
    server.api("PUT", &path, Some(&json!({"timeout": 1})));
    let (code, heard) = call.end();
    assert_eq!(code, Some(2), "the conference ended it");
    conference.wait_for_end();
    let left = conference.wait_for_all_left(1).remove(0);
    assert_eq!(text(&left, "hangup_cause"), "The conference ended");

    let mut recogniser = recogniser();
    let said = hear(&mut recogniser, &heard).join(" ").to_lowercase();
    let words = ["welcome", "conference", "press", "join", "over", "goodbye"];
    assert!(tells(&said.split(|c: char| !c.is_alphabetic()).collect::<Vec<_>>(), &words), "it heard: {said}");

    server.wait_for_recording(&recording, "ended");
    let track = folder.path().join("track.wav");
    std::fs::write(&track, server.file(&format!("{recording}?track={joined}"))).expect("the folder is ours");
    let kept = hear(&mut recogniser, Heard::recorded(&track).samples()).join(" ").to_lowercase();
    assert!(kept.contains("sun"), "the track says: {kept}");

    let story = wait_for("the last webhook", LIMIT, || {
        let told = web.bodies("POST /events");
        let ended = told
            .iter()
            .any(|event| event["type"] == "conference_updated" && event["data"]["status"] == "terminated");
        ended.then_some(told)
    });
    let seqs: Vec<u64> = story.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "in order, each once, none left out");
    let types: Vec<&str> = story.iter().filter_map(|event| event["type"].as_str()).collect();
    let expected = [
        "conference_created",
        "conferencecall_joining",
        "dtmf_received",
        "conferencecall_joined",
        "recording_started",
        "transcribe_created",
        "transcript_created",
        "conference_updated",
        "recording_finished",
        "conferencecall_leaving",
        "conferencecall_leaved",
        "conference_updated",
    ];
    assert!(tells(&types, &expected), "{types:#?}");
}
