//! `confab backup` of a server that runs, and `confab restore` elsewhere: all is there, and goes on.

#![allow(clippy::disallowed_methods, reason = "other programs run by the real clock")]

#[path = "../real_clients/http.rs"]
mod http;
#[path = "../support/webhook.rs"]
mod webhook;

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(60);

/// A folder that goes when the test does.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("confab-backup-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the folder is ours");
        Folder(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `confab` with a clean environment.
fn confab() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confab"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONFAB_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn copy(command: &str, from: (&str, &Path), to: (&str, &Path)) -> Output {
    confab().arg(command).arg(from.0).arg(from.1).arg(to.0).arg(to.1).output().expect("it runs")
}

fn backup(data: &Path, to: &Path) -> Output {
    copy("backup", ("--data", data), ("--to", to))
}

fn restore(from: &Path, data: &Path) -> Output {
    copy("restore", ("--from", from), ("--data", data))
}

fn assert_done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn assert_refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(why), "{said}");
}

/// A server, with the keys that it showed on its first start.
struct Server {
    http: SocketAddr,
    child: Child,
    /// What it printed before it was ready.
    shown: String,
}

impl Server {
    fn start(data: &Path) -> Server {
        let mut child = confab()
            .args(["serve", "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0", "--media-threads", "1"])
            .args(["--log", "warn", "--set", "webhook.allow_private=true", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server");
        // All of it comes by one write, which a pipe keeps whole.
        let mut block = [0; 4096];
        let read = child.stdout.as_mut().expect("its output").read(&mut block).expect("it gets ready");
        let shown = String::from_utf8_lossy(&block[..read]).into_owned();
        let place = shown.split_once("http://").and_then(|(_, rest)| rest.split(' ').next());
        let http = place.and_then(|place| place.parse().ok()).expect("it says where it is");
        Server { http, child, shown }
    }

    /// The key that it showed under this name.
    fn key(&self, name: &str) -> String {
        let shown = self.shown.lines().find_map(|line| line.trim().strip_prefix(name));
        shown.and_then(|rest| rest.split_whitespace().next()).expect("a first start shows it").to_owned()
    }

    fn ask(&self, key: &str, method: &str, path: &str, body: Option<&Value>) -> Value {
        let reply = http::request(self.http, method, &format!("/v1.0{path}"), Some(key), body);
        let (status, text) = reply.expect("it answers");
        assert_eq!(status, 200, "{method} {path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    fn file(&self, key: &str, recording: &str) -> Vec<u8> {
        let path = format!("/v1.0/recordingfiles/{recording}");
        let (status, bytes) = http::exchange(self.http, "GET", &path, Some(key), None).expect("it answers");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
        bytes
    }

    fn wait_for_recording(&self, key: &str, recording: &str, status: &str) -> Value {
        let begun = Instant::now();
        loop {
            let shown = self.ask(key, "GET", &format!("/recordings/{recording}"), None);
            if shown["status"] == status {
                return shown;
            }
            assert!(begun.elapsed() < LIMIT, "{shown:#}");
            std::thread::yield_now();
        }
    }

    fn kill(mut self) {
        self.child.kill().expect("ours");
        self.child.wait().expect("ours");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A receiver of webhooks at an address of before; gives the types of `wanted` events.
fn receive(address: SocketAddr, wanted: usize) -> Vec<String> {
    let listener = TcpListener::bind(address).expect("its port is free again");
    let mut types = Vec::new();
    for stream in listener.incoming().map_while(Result::ok) {
        let event = webhook::take(&stream);
        types.push(event["type"].as_str().expect("a type").to_owned());
        if types.len() == wanted {
            break;
        }
    }
    types
}

#[test]
fn a_backup_of_a_server_that_runs_is_restored_elsewhere_and_all_is_there() {
    let folder = Folder::new();
    let (data, saved, elsewhere) = (folder.at("data"), folder.at("saved"), folder.at("elsewhere"));
    let server = Server::start(&data);
    let (key, admin) = (server.key("access key"), server.key("admin key"));
    // Nobody is there to be told: what happens stays in the outbox.
    let receiver = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let customer = server.ask(&key, "GET", "/customer", None)["id"].as_str().expect("an id").to_owned();
    let told = json!({"webhook_uri": format!("http://{receiver}/events")});
    server.ask(&admin, "PUT", &format!("/customers/{customer}"), Some(&told));
    let flow = json!({"name": "greeting", "actions": [{"type": "answer"}]});
    let flow = server.ask(&key, "POST", "/flows", Some(&flow))["id"].clone();
    let new = json!({"name": "standup", "pre_flow_id": flow});
    let conference = server.ask(&key, "POST", "/conferences", Some(&new));
    let path = format!("/conferences/{}", conference["id"].as_str().expect("an id"));
    let record = || {
        let started = server.ask(&key, "POST", &format!("{path}/recording_start"), Some(&json!({})));
        let id = started["recording_id"].as_str().expect("an id").to_owned();
        server.wait_for_recording(&key, &id, "recording");
        id
    };
    let ended = record();
    server.ask(&key, "POST", &format!("{path}/recording_stop"), None);
    server.wait_for_recording(&key, &ended, "ended");
    let sound = server.file(&key, &ended);
    let running = record();

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The database is written to all the while.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                server.ask(&key, "PUT", &path, Some(&json!({"detail": "changed"})));
            }
        });
        let output = backup(&data, &saved);
        over.store(true, Ordering::Relaxed);
        assert_done(&output);
    });
    assert_refused(&backup(&data, &saved), "is there already");
    let after = server.ask(&key, "POST", "/conferences", Some(&json!({"name": "after the backup"})));
    server.kill();

    assert_done(&restore(&saved, &elsewhere));
    let server = Server::start(&elsewhere);
    assert!(!server.shown.contains("access key"), "no key is made: those of before work");
    let found = server.ask(&key, "GET", &path, None);
    for field in ["id", "name", "direct_hash", "pre_flow_id", "recording_ids", "tm_create"] {
        let before = if field == "recording_ids" { &json!([ended, running]) } else { &conference[field] };
        assert_eq!(&found[field], before, "{field}");
    }
    assert_eq!(server.ask(&key, "GET", "/flows", None)["result"][0]["name"], "greeting");
    assert_eq!(server.ask(&admin, "GET", "/customers", None)["result"][0]["id"], customer);
    let later = format!("/v1.0/conferences/{}", after["id"].as_str().expect("an id"));
    assert_eq!(http::request(server.http, "GET", &later, Some(&key), None).map(|reply| reply.0), Some(404));
    assert!(server.file(&key, &ended) == sound);
    let cut = server.wait_for_recording(&key, &running, "ended");
    assert_eq!(cut["cause"], "the server restarted");
    assert!(server.file(&key, &running).starts_with(b"RIFF"));
    let types = receive(receiver, 2);
    assert_eq!(types, ["conference_created", "conference_updated"], "what nobody was told before");
}

#[test]
fn what_would_overwrite_or_is_damaged_is_refused() {
    let folder = Folder::new();
    let (data, saved, elsewhere) = (folder.at("data"), folder.at("saved"), folder.at("elsewhere"));
    assert_refused(&backup(&data, &saved), "holds no database of confab");
    Server::start(&data).kill();
    fs::write(data.join("recordings/a.wav"), b"sound").expect("the folder is ours");
    assert_done(&backup(&data, &saved));
    assert_refused(&restore(&saved, &data), "is not empty");
    for wrong in ["confab.db", "recordings/a.wav"] {
        let path = saved.join(wrong);
        let good = fs::read(&path).expect("it is there");
        let mut bad = good.clone();
        *bad.last_mut().expect("it is not empty") ^= 1;
        fs::write(&path, bad).expect("ours");
        assert_refused(&restore(&saved, &elsewhere), "is not as it was backed up");
        assert!(!elsewhere.exists(), "nothing was restored");
        fs::write(&path, good).expect("ours");
    }
    let manifest = saved.join("backup.json");
    let text = fs::read_to_string(&manifest).expect("it is there");
    fs::write(&manifest, text.replace("recordings/a.wav", "recordings/../../x")).expect("ours");
    assert_refused(&restore(&saved, &elsewhere), "cannot be read");
    fs::write(&manifest, text).expect("ours");
    assert_done(&restore(&saved, &elsewhere));
    assert_eq!(fs::read(elsewhere.join("recordings/a.wav")).expect("it is there"), b"sound");
}
