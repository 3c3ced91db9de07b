//! Two phones in a room that is recorded: the file holds both, is as long as it was, and outlives
//! kill -9.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Folder, Program, command, pass};
use crate::server::{Conference, Server, text};
use crate::sound::Heard;

/// How long a phone may need to end.
const END_LIMIT: Duration = Duration::from_secs(10);
/// From an order over HTTP to its effect, on a machine that does other things as well.
const SLACK: Duration = Duration::from_millis(700);

/// A `confab call` that speaks a tone.
fn phone(folder: &Path, conference: &Conference<'_>, tone_hz: u32) -> Program {
    let folder = folder.join(tone_hz.to_string());
    fs::create_dir_all(&folder).expect("the folder is ours");
    let mut call = command(env!("CARGO_BIN_EXE_confab"));
    call.args(["call", &conference.uri(), "--quiet", "--tone", &tone_hz.to_string()]);
    Program::start("confab", "none: cargo builds it", &folder, &mut call)
}

fn hang_up(mut phone: Program) {
    phone.signal(libc::SIGINT);
    phone.wait(END_LIMIT);
}

/// Fetches a file of a recording and has another program read it.
fn fetched(server: &Server, folder: &Path, name: &str, format: &str) -> Heard {
    let path = folder.join(format!("fetched.{format}"));
    fs::write(&path, server.file(name)).expect("the folder is ours");
    if format == "wav" {
        return Heard::recorded(&path);
    }
    let decoded = folder.join("decoded.wav");
    let mut opusdec = command("opusdec");
    opusdec.args(["--quiet", "--rate", "8000", "--no-dither"]).arg(&path).arg(&decoded);
    let mut program = Program::start("opusdec", "opus-tools", folder, &mut opusdec);
    assert!(program.wait(END_LIMIT).success(), "opusdec: {}", program.said());
    Heard::recorded(&decoded)
}

fn assert_lasts(heard: &Heard, least: Duration, most: Duration) {
    let length = heard.duration();
    assert!(least <= length && length <= most, "{length:?}, not {least:?} to {most:?}");
}

#[test]
fn both_phones_are_in_the_recording_and_each_in_its_track() {
    let server = Server::start();
    let folder = Folder::new("recording");
    for format in ["wav", "ogg"] {
        let conference = server.conference("conference");
        let first = phone(folder.path(), &conference, 440);
        conference.wait_for_joined(1);
        let ordered = Instant::now();
        let recording = conference.record(&json!({ "format": format, "tracks": true }));
        let started = Instant::now();
        let second = phone(folder.path(), &conference, 1000);
        conference.wait_for_joined(2);
        pass(Duration::from_secs(3));
        conference.recording("pause");
        pass(Duration::from_secs(2));
        conference.recording("resume");
        let least = started.elapsed();
        conference.recording("stop");
        let most = ordered.elapsed();
        let ended = server.wait_for_recording(&recording, "ended");
        assert_eq!((&ended["cause"], &ended["lost_ms"]), (&json!(""), &json!(0)), "{ended:#}");
        let heard = fetched(&server, folder.path(), &recording, format);
        assert_lasts(&heard, least.saturating_sub(SLACK), most + SLACK);
        assert_eq!(ended["duration_ms"], json!(heard.duration().as_millis() as u64));
        heard.assert_hears("the recording", 440);
        heard.assert_hears("the recording", 1000);

        let marks = String::from_utf8(server.file(&format!("{recording}.json"))).expect("text");
        let marks: Vec<Value> = marks.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for call in conference.wait_for_joined(2) {
            let id = text(&call, "id");
            let of = |what: &str| {
                marks.iter().any(|mark| mark["type"] == what && mark["conferencecall_id"] == id.as_str())
            };
            assert!(of("join") && of("talk_start"), "{marks:#?}");
            let track = fetched(&server, folder.path(), &format!("{recording}?track={id}"), "wav");
            let heard = [440, 1000].map(|tone| track.peak(tone) > 1000.0);
            assert_eq!(heard.iter().filter(|heard| **heard).count(), 1, "one voice a track: {heard:?}");
        }
        hang_up(first);
        hang_up(second);
        conference.delete();
        conference.wait_for_end();
    }
}

#[test]
fn a_killed_server_leaves_a_recording_that_plays_and_lost_less_than_two_seconds() {
    let mut server = Server::start();
    let folder = Folder::new("recording");
    for format in ["wav", "ogg"] {
        let conference = server.conference("conference");
        let caller = phone(folder.path(), &conference, 440);
        conference.wait_for_joined(1);
        let recording = conference.record(&json!({ "format": format }));
        let started = Instant::now();
        pass(Duration::from_secs(4));
        let at_least = started.elapsed();
        server.restart();
        drop(caller);
        let ended = server.wait_for_recording(&recording, "ended");
        assert_eq!(ended["cause"], "the server restarted");
        let heard = fetched(&server, folder.path(), &recording, format);
        assert_lasts(
            &heard,
            at_least.saturating_sub(Duration::from_secs(2)),
            at_least + Duration::from_secs(2),
        );
        heard.assert_hears("the recording", 440);
    }
}

#[test]
fn a_conference_that_is_deleted_has_its_recording_finished_first() {
    let server = Server::start();
    let folder = Folder::new("recording");
    let conference = server.conference("conference");
    let caller = phone(folder.path(), &conference, 440);
    conference.wait_for_joined(1);
    let recording = conference.record(&json!({}));
    pass(Duration::from_secs(1));
    conference.delete();
    let ended = conference.wait_for_end();
    assert_eq!(ended["recording_ids"], json!([recording]));
    let shown = server.wait_for_recording(&recording, "ended");
    assert_eq!(shown["cause"], "the conference ended");
    fetched(&server, folder.path(), &recording, "wav").assert_hears("the recording", 440);
    drop(caller);
}
