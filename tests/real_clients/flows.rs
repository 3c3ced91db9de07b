//! Flows end to end: callers hear the flow before the mix alone, press keys that branch, join or are
//! sent off; a web server of the test's own plays the customer's.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Folder, Program, command, wait_for};
use crate::server::{Server, text};
use crate::sound::{self, Heard, RATE_HZ};

const PROMPT_HZ: u32 = 1_200;
const ROOM_HZ: u32 = 700;
/// What the beep is.
const BEEP_HZ: u32 = 1_000;
const PROMPT_S: u32 = 3;

/// A web server that has one sound and keeps what it is sent.
pub struct Web {
    address: SocketAddr,
    got: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub fn start(sound: Vec<u8>) -> Web {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&got);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let request = answer(stream, &sound);
                kept.lock().expect("nobody panics").push(request);
            }
        });
        Web { address, got }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The bodies of the requests that begin like this, as JSON, in order.
    pub fn bodies(&self, begins: &str) -> Vec<Value> {
        let got = self.got.lock().expect("nobody panics");
        let bodies = got.iter().filter(|request| request.starts_with(begins));
        bodies.filter_map(|request| serde_json::from_str(request.split_once("\r\n\r\n")?.1).ok()).collect()
    }

    fn count(&self, begins: &str) -> usize {
        self.got.lock().expect("nobody panics").iter().filter(|request| request.starts_with(begins)).count()
    }
}

/// Reads one request, answers it with the sound, and gives the request.
fn answer(mut stream: TcpStream, sound: &[u8]) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a TCP socket");
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                break;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
        }
    }
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", sound.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sound));
    String::from_utf8_lossy(&request).into_owned()
}

/// Confab's own phone, recording what it hears.
pub struct Call {
    program: Program,
    folder: Folder,
}

impl Call {
    pub fn start(uri: &str, more: &[&str]) -> Call {
        let folder = Folder::new("call");
        let mut call = command(env!("CARGO_BIN_EXE_confab"));
        call.args(["call", uri, "--quiet", "--record"]).arg(folder.path().join("heard.wav")).args(more);
        let program = Program::start("confab-call", "none: cargo builds it", folder.path(), &mut call);
        Call { program, folder }
    }

    /// Waits for its end; gives its exit code and what it heard.
    pub fn end(mut self) -> (Option<i32>, Vec<i16>) {
        let status = self.program.wait(Duration::from_secs(30));
        let mut file = hound::WavReader::open(self.folder.path().join("heard.wav")).expect("a recording");
        (status.code(), file.samples().map_while(Result::ok).collect())
    }
}

/// A part of what was heard, in seconds.
pub fn part(samples: &[i16], from_s: f64, to_s: f64) -> Heard {
    let at = |seconds: f64| ((seconds * f64::from(RATE_HZ)) as usize).min(samples.len());
    Heard::of(samples[at(from_s)..at(to_s)].to_vec())
}

fn activeflow(server: &Server, call: &Value) -> Value {
    server.api("GET", &format!("/activeflows/{}", text(call, "activeflow_id")), None)
}

#[test]
fn callers_hear_the_prompt_press_a_key_and_join_or_are_sent_off() {
    let folder = Folder::new("prompt");
    let wav = folder.path().join("prompt.wav");
    sound::write_wav(&wav, PROMPT_HZ, PROMPT_S);
    let web = Web::start(std::fs::read(&wav).expect("the prompt"));
    let server = Server::start_for_flows();
    let (sorry, go_on) = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222");
    let pre = server.api(
        "POST",
        "/flows",
        Some(&json!({"name": "greeting", "actions": [
            {"type": "answer"},
            {"type": "play", "option": {"stream_urls": [web.url("/prompt.wav")]}},
            {"type": "digits_receive", "option": {"duration": 1500, "length": 1}},
            {"type": "branch", "option": {"default_target_id": sorry, "target_ids": {"1": go_on}}},
            {"type": "hangup", "id": sorry, "option": {"reason": "decline"}},
            {"type": "webhook_send", "id": go_on, "option": {
                "sync": true, "uri": web.url("/hook"), "data": "{\"digits\": \"${voipbin.call.digits}\"}"}},
        ]})),
    );
    let post = server.api("POST", "/flows", Some(&json!({"actions": [{"type": "beep"}, {"type": "beep"}]})));
    let conference =
        server.conference_of(&json!({"name": "flows", "pre_flow_id": pre["id"], "post_flow_id": post["id"]}));
    // The talker joins first, by a key that comes while the prompt is played.
    let talker = Call::start(&conference.uri(), &["--tone", "700", "--dtmf", "1", "--for", "30s"]);
    conference.wait_for_joined(1);
    let listener = Call::start(&conference.uri(), &["--dtmf", "1", "--for", "30s"]);
    let refused = Call::start(&conference.uri(), &["--dtmf", "9", "--for", "30s"]);
    conference.wait_for_joined(2);
    let (code, heard) = refused.end();
    assert_eq!(code, Some(2), "it was cut off");
    part(&heard, 0.5, 2.5).assert_hears("the refused", PROMPT_HZ);
    Heard::of(heard).assert_does_not_hear("the refused", ROOM_HZ);

    crate::process::pass(Duration::from_millis(2_000));
    conference.delete();
    conference.wait_for_end();
    let (code, heard) = listener.end();
    assert_eq!(code, Some(2), "the conference ended it");
    part(&heard, 0.5, 2.5).assert_hears("the listener, at first,", PROMPT_HZ);
    part(&heard, 0.0, 2.5).assert_does_not_hear("the listener, at first,", ROOM_HZ);
    let later = part(&heard, f64::from(PROMPT_S) + 0.7, f64::MAX);
    later.assert_hears("the listener, later,", ROOM_HZ);
    later.assert_hears("the listener, at the end,", BEEP_HZ);
    talker.end();

    let calls = conference.wait_for_all_left(3);
    assert_eq!(web.count("GET /prompt.wav"), 1, "the prompt is fetched once and kept");
    assert_eq!(web.count("POST /hook"), 2);
    let joined = calls.iter().filter(|call| call["tm_joined"].is_string()).count();
    assert_eq!(joined, 2, "{calls:#?}");
    for call in &calls {
        let run = wait_for("the run of a flow to be told", Duration::from_secs(5), || {
            Some(activeflow(&server, call)).filter(|run| run["status"] == "ended")
        });
        let stage = if call["tm_joined"].is_string() { "post" } else { "pre" };
        assert_eq!(run["stage"], stage, "{run:#}");
        let steps = run["steps"].as_array().expect("steps");
        assert!(steps.iter().all(|step| step["status"] == "done"), "{run:#}");
    }
}

#[test]
fn the_built_in_voice_greets_and_the_echo_echoes() {
    let server = Server::start_for_flows();
    let pre = server.api(
        "POST",
        "/flows",
        Some(&json!({"actions": [
            {"type": "talk", "option": {"text": "Welcome. Please wait a moment.", "language": "en-US"}},
            {"type": "echo", "option": {"duration": 2000}},
            {"type": "digits_send", "option": {"digits": "12"}},
        ]})),
    );
    let conference = server.conference_of(&json!({"name": "voice", "pre_flow_id": pre["id"]}));
    let call = Call::start(&conference.uri(), &["--tone", "700", "--for", "9s"]);
    conference.wait_for_joined(1);
    let (code, heard) = call.end();
    assert_eq!(code, Some(0));
    let loud = heard.iter().filter(|sample| sample.abs() > 2_000).count();
    assert!(loud > 2_000, "a voice was heard: {loud} loud samples");
    Heard::of(heard).assert_hears("the caller, by the echo,", ROOM_HZ);
    let call = conference.wait_for_all_left(1).remove(0);
    let run = activeflow(&server, &call);
    let steps = run["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|step| step["status"] == "done"), "{run:#}");
}
