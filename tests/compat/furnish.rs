//! Something of every kind, for Schemathesis to find in the lists: a call, and what came of it, it cannot
//! make itself.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::mcp::text;
use crate::process::{Program, command, wait_for};
use crate::server::Server;

/// How long what was said may take to be a transcript, on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(120);
/// What the phone says: twelve seconds of speech.
const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/speech/austen-8k.wav");

/// Lets a phone hear a flow and speak in a conference that is recorded and transcribed. The phone stays
/// as long as what is given back.
pub fn furnish(server: &Server) -> Program {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/encoder_model.onnx");
    assert!(models.exists(), "the speech models are needed: run `make models`");
    let flow = server.own("POST", "/flows", Some(&json!({"actions": [{"type": "beep"}]})));
    let body = json!({"name": "furnished", "pre_flow_id": flow["id"]});
    let conference = server.own("POST", "/conferences", Some(&body));
    let path = format!("/conferences/{}", text(&conference, "id"));
    server.own("POST", &format!("{path}/recording_start"), Some(&json!({"tracks": true})));
    let started =
        server.own("POST", &format!("{path}/transcribe_start"), Some(&json!({"language": "en-US"})));

    let uri = format!("sip:direct.{}@{}", text(&conference, "direct_hash"), server.sip);
    let mut call = command(env!("CARGO_BIN_EXE_confab"));
    call.args(["call", &uri, "--quiet", "--play", SPEECH]);
    let phone = Program::start("phone", "none: cargo builds it", server.folder.path(), &mut call);
    let transcripts = format!("/transcripts?transcribe_id={}", text(&started, "transcribe_id"));
    wait_for_some(server, &transcripts);

    server.own("POST", &format!("{path}/transcribe_stop"), None);
    let stopped = server.own("POST", &format!("{path}/recording_stop"), None);
    let id = stopped["recording_ids"][0].as_str().expect("the recording");
    let recording = format!("/recordings/{id}");
    wait_for("the recording to end", LIMIT, || {
        (server.own("GET", &recording, None)["status"] == "ended").then_some(())
    });
    for list in ["/conferencecalls", "/activeflows", "/recordings", "/transcribes"] {
        wait_for_some(server, list);
    }
    phone
}

/// Waits until a list has something.
fn wait_for_some(server: &Server, list: &str) {
    wait_for(format!("something in {list}"), LIMIT, || {
        (server.own("GET", list, None)["result"] != json!([])).then_some(())
    });
}
