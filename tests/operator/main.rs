//! The operator's commands against a real server, which tells the same story by webhook.

#[path = "../real_clients/http.rs"]
mod http;
mod recordings;
mod reload;
#[path = "../support/webhook.rs"]
mod webhook;

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

const ACCESS_KEY: &str = "vb_OperatorsOperatorsOperatorsOpera";
const ADMIN_KEY: &str = "OperatorsAdminKeyOperatorsAdmin";
/// How long anything may take on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(60);

/// `confab` with a clean environment.
fn confab() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confab"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONFAB_") {
            command.env_remove(name);
        }
    }
    command.env("CONFAB_ACCESSKEY", ACCESS_KEY).stdin(Stdio::null());
    command
}

struct Server {
    http: SocketAddr,
    child: Child,
    data: PathBuf,
}

impl Server {
    fn start(name: &str) -> Server {
        let data = std::env::temp_dir().join(format!("confab-operator-{name}-{}", std::process::id()));
        let mut child = confab()
            .args(["serve", "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0", "--media-threads", "1"])
            .args(["--log", "warn", "--set", "webhook.allow_private=true"])
            .arg("--data")
            .arg(&data)
            .env("CONFAB_ADMIN_KEY", ADMIN_KEY)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let place = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("http://")?.1.split(' ').next()?.to_owned()));
        let http = place.and_then(|place| place.parse().ok()).expect("it says where it is");
        Server { http, child, data }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_at(self.http, arguments)
    }

    /// The same, for a server that is reached at another place.
    fn run_at(&self, place: SocketAddr, arguments: &[&str]) -> Output {
        let mut command = confab();
        command.args(arguments).args(["--http", &place.to_string()]);
        command.output().expect("it runs")
    }

    /// What a command that goes well prints.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.said(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = http::request(self.http, method, &format!("/v1.0{path}"), Some(ADMIN_KEY), Some(body));
        let (status, text) = reply.expect("it answers");
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// A webhook's receiver; gives each body.
fn receiver() -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let uri = format!("http://{}/events", listener.local_addr().expect("an address"));
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if tell.send(webhook::take(&stream)).is_err() {
                break;
            }
        }
    });
    (uri, told)
}

#[test]
fn a_conference_is_made_watched_and_ended_and_the_webhook_tells_the_same() {
    let server = Server::start("conference");
    let (uri, told) = receiver();
    let customers = server.admin("GET", "/customers", &json!({}));
    let customer = customers["result"][0]["id"].as_str().expect("an id").to_owned();
    server.admin("PUT", &format!("/customers/{customer}"), &json!({"webhook_uri": uri}));

    let made = server.json(&["conference", "create", "--name", "stand\u{1b}up", "--timeout", "3600"]);
    let id = made["id"].as_str().expect("an id");
    assert_eq!((&made["timeout"], &made["status"]), (&json!(3600), &json!("progressing")));
    assert_eq!(server.json(&["conference", "list"])[0]["id"], id);
    let listed = server.said(&["conference", "list", "--type", "conference"]);
    assert!(listed.starts_with("ID ") && listed.contains("stand up") && listed.contains(id), "{listed}");
    assert_eq!(server.json(&["conference", "list", "--status", "terminated"]), json!([]));
    let shown = server.said(&["conference", "show", id]);
    assert!(shown.contains(made["direct_hash"].as_str().expect("a hash")), "{shown}");

    let watch = confab()
        .args([
            "conference",
            "watch",
            id,
            "--after",
            "0",
            "--output",
            "json",
            "--http",
            &server.http.to_string(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    assert_eq!(server.json(&["conference", "end", id])["status"], "terminated");
    let watched = watch.wait_with_output().expect("it ends with the conference");
    assert!(watched.status.success());
    let watched: Vec<Value> = String::from_utf8(watched.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let seqs: Vec<u64> = watched.iter().map(|event| event["seq"].as_u64().expect("a seq")).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert_eq!(watched[0]["type"], "conference_created");
    let by_webhook: Vec<Value> =
        watched.iter().map(|_| told.recv_timeout(LIMIT).expect("a webhook")).collect();
    assert_eq!(by_webhook, watched);
    let again = server.said(&["conference", "watch", id, "--after", "0"]);
    assert_eq!(again.lines().count(), watched.len(), "{again}");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let says = |mut command: Command, expected: &[&str]| {
        let output = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        for part in expected {
            assert!(text.contains(part), "{part} in {text}");
        }
    };
    let mut no_key = confab();
    no_key.args(["conference", "list"]).env_remove("CONFAB_ACCESSKEY");
    says(no_key, &["an access key is needed", "CONFAB_ACCESSKEY"]);
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let mut nobody = confab();
    nobody.args(["conference", "list", "--http", &closed.to_string()]);
    says(nobody, &["no server answers at http://127.0.0.1:", "confab serve"]);
}
