//! `confab recording …`: a conference is recorded, and the file fetched over a line that breaks.

#![allow(clippy::disallowed_methods, reason = "other programs run by the real clock")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{ACCESS_KEY, LIMIT, Server, http};

/// What a line passes of an answer before it breaks.
const PASSED: usize = 10_000;

/// A line to the server on which every connection breaks after so many bytes of the answer.
fn breaking_line(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let Ok(server) = TcpStream::connect(server) else { return };
                let (mut from, mut to) = (&client, &server);
                std::thread::scope(|scope| {
                    scope.spawn(move || {
                        let mut bytes = [0; 4096];
                        while let Ok(read @ 1..) = from.read(&mut bytes) {
                            if to.write_all(&bytes[..read]).is_err() {
                                break;
                            }
                        }
                    });
                    let (mut answer, mut passed, mut bytes) = (&server, 0, [0; 4096]);
                    while passed < PASSED
                        && let Ok(read @ 1..) = answer.read(&mut bytes)
                        && (&client).write_all(&bytes[..read]).is_ok()
                    {
                        passed += read;
                    }
                    let _ = client.shutdown(Shutdown::Both);
                    let _ = server.shutdown(Shutdown::Both);
                });
            });
        }
    });
    address
}

/// How often something is looked at that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

fn wait_for(server: &Server, what: &str, mut holds: impl FnMut(&Server) -> bool) {
    let begun = Instant::now();
    while !holds(server) {
        assert!(begun.elapsed() < LIMIT, "waited for {what}");
        // As a client that polls: one that asks without a pause meets the limit of requests.
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn api(server: &Server, path: &str) -> Value {
    let (status, text) = http::request(server.http, "GET", path, Some(ACCESS_KEY), None).expect("it answers");
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_conference_is_recorded_and_its_file_comes_whole_over_a_line_that_breaks() {
    let server = Server::start("recording");
    let conference = server.json(&["conference", "create"])["id"].as_str().expect("an id").to_owned();
    let started = server.json(&["recording", "start", &conference, "--tracks", "--duration", "600"]);
    let id = started["id"].as_str().expect("an id");
    assert_eq!((&started["duration"], &started["tracks"]), (&json!(600), &json!(true)));
    let status = |server: &Server| server.json(&["recording", "show", id])["status"].clone();
    wait_for(&server, "sound", |server| status(server) == "recording");
    assert_eq!(server.json(&["recording", "pause", &conference])["paused"], true);
    assert!(server.said(&["recording", "list"]).contains(" paused "));
    assert_eq!(server.json(&["recording", "resume", &conference])["paused"], false);
    // Three connections' worth.
    let files = format!("/v1.0/recordings/{id}/files");
    wait_for(&server, "enough of it", |server| {
        api(server, &files)["result"].as_array().is_some_and(|files| {
            files
                .iter()
                .any(|file| file["media_type"] == "audio/wav" && file["size_bytes"].as_u64() > Some(25_000))
        })
    });
    assert_eq!(server.json(&["recording", "stop", &conference])["id"], id);
    wait_for(&server, "its end", |server| status(server) == "ended");

    let folder = server.data.join("fetched");
    fs::create_dir_all(&folder).expect("the folder is ours");
    let to = folder.join("meeting.wav");
    let to_text = to.to_str().expect("text");
    let line = breaking_line(server.http);
    // What is small comes over that line in one piece.
    let fetch = ["recording", "download", id, "--to", to_text, "--output", "json"];
    let output = server.run_at(line, &fetch);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("the connection broke after"), "{told}");
    let path = format!("/v1.0/recordingfiles/{id}");
    let (_, whole) = http::exchange(server.http, "GET", &path, Some(ACCESS_KEY), None).expect("it answers");
    let fetched = fs::read(&to).expect("a file");
    assert!(fetched.len() > 25_000 && fetched == whole, "{} of {}", fetched.len(), whole.len());
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said, json!({"id": id, "file": to_text, "size_bytes": whole.len()}));
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1, "no part is left");

    let again = server.run(&fetch);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"));
    let stopped = server.run(&["recording", "stop", &conference]);
    assert!(
        String::from_utf8_lossy(&stopped.stderr).contains("refused: the conference is not being recorded")
    );
    let marks = folder.join("marks");
    server.said(&["recording", "download", id, "--marks", "--to", marks.to_str().expect("text")]);
    assert_eq!(fs::read(&marks).expect("a file"), b"", "nobody came");
    let shown = server.said(&["recording", "show", id]);
    assert!(shown.contains(&format!("{id}.wav")) && shown.contains("local"), "{shown}");
    assert_eq!(server.json(&["recording", "list", "--conference", &conference])[0]["id"], id);
    let nobodys = "c0ffee00-0000-4000-8000-000000000000";
    assert_eq!(server.json(&["recording", "list", "--conference", nobodys]), json!([]));
    server.said(&["recording", "delete", id]);
    assert_eq!(server.json(&["recording", "list"]), json!([]));
    let gone = server.run(&["recording", "download", id, "--to", folder.join("x").to_str().expect("text")]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("refused: there is no such recording"));
    assert!(!folder.join("x").exists() && !folder.join("x.part").exists());
}
