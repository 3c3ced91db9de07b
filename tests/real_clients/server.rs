//! A server of our own, driven by its REST API.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::Request;

use crate::http;
use crate::process::{Folder, Program, command, free_ports, wait_for};

/// The domain direct URIs are under.
pub const DOMAIN: &str = "sip.voipbin.net";
/// The access key of the first customer.
const ACCESS_KEY: &str = "vb_RealClientsRealClientsRealClient";
const ADMIN_KEY: &str = "RealClientsAdminKeyRealClientsAdmin";
/// How long a server may take to start, on a machine that does other things as well.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a change may take until the API shows it.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// What has a server take the packets of 127.0.0.1 by the express path; it has one queue, for one
/// thread.
const ON_THE_EXPRESS_PATH: [(&str, &str); 2] = [("CONFAB_RTP_EXPRESS", "lo"), ("CONFAB_MEDIA_THREADS", "1")];

/// A running `confab serve`.
pub struct Server {
    /// Where SIP is spoken, over UDP and TCP.
    pub sip: SocketAddr,
    http: SocketAddr,
    /// The first RTP port and how many.
    rtp: (u16, u16),
    /// None only while it is started anew.
    program: Option<Program>,
    folder: Folder,
    /// Further variables of its environment.
    env: Vec<(&'static str, String)>,
    /// The address of the database, where it is not the embedded one.
    database: Option<String>,
}

impl Server {
    /// Starts one on 127.0.0.1 with RTP ports for 15 calls.
    pub fn start() -> Server {
        Self::start_at(IpAddr::V4(Ipv4Addr::LOCALHOST), 32)
    }

    /// Starts one at `address` with that many RTP ports.
    pub fn start_at(address: IpAddr, rtp_ports: u16) -> Server {
        Self::start_with(address, rtp_ports, Vec::new())
    }

    /// Starts one whose flows may ask servers on this machine.
    pub fn start_for_flows() -> Server {
        Self::start_set(vec![("CONFAB_FLOW_ALLOW_PRIVATE", "true".to_owned())])
    }

    /// Starts one that takes the packets of 127.0.0.1 by the express path, in a network of the
    /// test's own.
    pub fn start_on_the_express_path() -> Server {
        Self::start_with(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            32,
            ON_THE_EXPRESS_PATH.map(|(key, value)| (key, value.to_owned())).to_vec(),
        )
    }

    /// Starts one with these variables in its environment.
    pub fn start_set(env: Vec<(&'static str, String)>) -> Server {
        Self::start_with(IpAddr::V4(Ipv4Addr::LOCALHOST), 32, env)
    }

    /// Starts one with two media threads, so that two conferences live in different ones.
    pub fn start_in_two_shards() -> Server {
        Self::start_set(vec![("CONFAB_MEDIA_THREADS", "2".to_owned())])
    }

    /// Starts one whose flows and webhooks may ask servers on this machine.
    pub fn start_for_webhooks() -> Server {
        let allowed = ["CONFAB_FLOW_ALLOW_PRIVATE", "CONFAB_WEBHOOK_ALLOW_PRIVATE"];
        Self::start_set(allowed.map(|key| (key, "true".to_owned())).to_vec())
    }

    /// Starts one on this database.
    pub fn start_on(database: String) -> Server {
        let mut server = Self::made(IpAddr::V4(Ipv4Addr::LOCALHOST), 32, Vec::new());
        server.database = Some(database);
        server.launch();
        server
    }

    fn start_with(address: IpAddr, rtp_ports: u16, env: Vec<(&'static str, String)>) -> Server {
        let mut server = Self::made(address, rtp_ports, env);
        server.launch();
        server
    }

    fn made(address: IpAddr, rtp_ports: u16, env: Vec<(&'static str, String)>) -> Server {
        let port = free_ports(2);
        let sip = SocketAddr::new(address, port);
        let http = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port + 1);
        let rtp = (free_ports(rtp_ports), rtp_ports);
        Server { sip, http, rtp, program: None, folder: Folder::new("server"), env, database: None }
    }

    /// Kills it and starts it anew on the same data.
    pub fn restart(&mut self) {
        // Killed as it is dropped.
        self.program = None;
        self.launch();
    }

    /// Starts the program and waits until it is ready.
    fn launch(&mut self) {
        let data = self.folder.path().join("data");
        fs::create_dir_all(&data).expect("the folder is ours");
        let (http, (rtp, rtp_ports)) = (self.http, self.rtp);
        let mut serve = command(env!("CARGO_BIN_EXE_confab"));
        serve.args(["serve", "--domain", DOMAIN]);
        serve.args(["--sip", &self.sip.to_string(), "--http", &http.to_string()]);
        serve.args(["--rtp-ports", &format!("{rtp}-{}", rtp + rtp_ports - 1)]);
        serve.arg("--data").arg(data);
        serve.arg("--set").arg(concat!("transcribe.models=", env!("CARGO_MANIFEST_DIR"), "/models"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CONFAB_") {
                serve.env_remove(name);
            }
        }
        serve
            .envs(self.env.iter().cloned())
            .envs(self.database.iter().map(|address| ("CONFAB_DATABASE", address)))
            .env("CONFAB_ACCESSKEY", ACCESS_KEY)
            .env("CONFAB_ADMIN_KEY", ADMIN_KEY);
        let mut program = Program::start("confab", "none: cargo builds it", self.folder.path(), &mut serve);
        wait_for("the server to be ready", START_LIMIT, || {
            assert!(program.runs(), "the server ended:\n{}", program.said());
            http::request(http, "GET", "/health", None, None).filter(|(status, _)| *status == 200)
        });
        self.program = Some(program);
    }

    /// What the API answers, as JSON.
    ///
    /// # Panics
    /// When it is not a 200.
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.ask_as(ACCESS_KEY, method, path, body)
    }

    /// Has the first customer told of its events at this URI.
    pub fn tell_events_to(&self, uri: &str) {
        let customers = self.ask_as(ADMIN_KEY, "GET", "/customers", None);
        let id = text(&customers["result"][0], "id");
        self.ask_as(ADMIN_KEY, "PUT", &format!("/customers/{id}"), Some(&json!({ "webhook_uri": uri })));
    }

    fn ask_as(&self, key: &str, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, text) = http::request(self.http, method, &format!("/v1.0{path}"), Some(key), body)
            .expect("the server answers HTTP");
        assert_eq!(status, 200, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}"))
    }

    /// What the API answers, whatever it is.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        http::request(self.http, method, &format!("/v1.0{path}"), Some(ACCESS_KEY), body)
            .expect("the server answers HTTP")
    }

    /// All it has logged since it was started last.
    pub fn said(&self) -> String {
        self.program.as_ref().map(Program::said_in_full).unwrap_or_default()
    }

    /// The value of a metric, named with its labels.
    ///
    /// # Panics
    /// When there is no such metric.
    pub fn metric(&self, name: &str) -> f64 {
        let (status, text) =
            http::request(self.http, "GET", "/metrics", None, None).expect("it answers HTTP");
        assert_eq!(status, 200, "{text}");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
    }

    /// Where it serves HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// All it has said.
    pub fn log(&self) -> String {
        self.program.as_ref().map(Program::said_in_full).unwrap_or_default()
    }

    /// A WebSocket request.
    pub fn socket(&self, path: &str) -> Request<()> {
        let mut request = format!("ws://{}/v1.0{path}", self.http).into_client_request().expect("a request");
        let key = format!("Bearer {ACCESS_KEY}").parse().expect("a value");
        request.headers_mut().insert("authorization", key);
        request
    }

    /// A file of a recording.
    pub fn file(&self, recording: &str) -> Vec<u8> {
        let path = format!("/v1.0/recordingfiles/{recording}");
        let (status, bytes) =
            http::exchange(self.http, "GET", &path, Some(ACCESS_KEY), None).expect("the server answers HTTP");
        assert_eq!(status, 200, "{recording}: {}", String::from_utf8_lossy(&bytes));
        bytes
    }

    /// Waits until a recording has this status.
    pub fn wait_for_recording(&self, recording: &str, status: &str) -> Value {
        wait_for(format!("{recording} to be {status}"), CHANGE_LIMIT, || {
            let shown = self.api("GET", &format!("/recordings/{recording}"), None);
            Some(shown).filter(|shown| shown["status"] == status)
        })
    }

    /// Makes a conference of this type.
    pub fn conference(&self, r#type: &str) -> Conference<'_> {
        self.conference_of(&json!({ "name": "real clients", "type": r#type }))
    }

    /// Makes a conference as `body` has it.
    pub fn conference_of(&self, body: &Value) -> Conference<'_> {
        let made = self.api("POST", "/conferences", Some(body));
        Conference { server: self, id: text(&made, "id"), hash: text(&made, "direct_hash") }
    }
}

/// A conference on a server.
pub struct Conference<'a> {
    server: &'a Server,
    pub id: String,
    pub hash: String,
}

impl Conference<'_> {
    /// The user part of its direct URI.
    pub fn user(&self) -> String {
        format!("direct.{}", self.hash)
    }

    /// Its direct URI, at the server's address.
    pub fn uri(&self) -> String {
        format!("sip:{}@{}", self.user(), self.server.sip)
    }

    /// It, as the API has it now.
    pub fn now(&self) -> Value {
        self.server.api("GET", &format!("/conferences/{}", self.id), None)
    }

    /// Starts a recording; gives its id once sound comes.
    pub fn record(&self, body: &Value) -> String {
        let path = format!("/conferences/{}/recording_start", self.id);
        let id = text(&self.server.api("POST", &path, Some(body)), "recording_id");
        self.server.wait_for_recording(&id, "recording");
        id
    }

    /// Stops, pauses or resumes the recording that runs.
    pub fn recording(&self, action: &str) -> Value {
        self.server.api("POST", &format!("/conferences/{}/recording_{action}", self.id), None)
    }

    /// DELETE.
    pub fn delete(&self) -> Value {
        self.server.api("DELETE", &format!("/conferences/{}", self.id), None)
    }

    /// Gives it a new direct hash; returns the old one's user part.
    pub fn regenerate(&mut self) -> String {
        let old = self.user();
        let path = format!("/conferences/{}/direct-hash-regenerate", self.id);
        self.hash = text(&self.server.api("POST", &path, None), "direct_hash");
        old
    }

    /// All its conferencecalls, newest first.
    pub fn calls(&self) -> Vec<Value> {
        let path = format!("/conferencecalls?conference_id={}", self.id);
        let page = self.server.api("GET", &path, None);
        page["result"].as_array().expect("a list").clone()
    }

    /// Ejects a caller.
    pub fn eject(&self, call: &Value) -> Value {
        self.server.api("DELETE", &format!("/conferencecalls/{}", text(call, "id")), None)
    }

    /// Waits until exactly `count` callers are joined, in both views of the API.
    pub fn wait_for_joined(&self, count: usize) -> Vec<Value> {
        let calls = wait_for(format!("{count} joined in {}", self.id), CHANGE_LIMIT, || {
            let joined: Vec<Value> =
                self.calls().into_iter().filter(|call| call["status"] == "joined").collect();
            (joined.len() == count).then_some(joined)
        });
        let ids = self.now()["conferencecall_ids"].as_array().expect("a list").len();
        assert_eq!(ids, count, "conferencecall_ids of {:#}", self.now());
        calls
    }

    /// Waits until all of `count` calls there ever were have left; each has a cause and times.
    pub fn wait_for_all_left(&self, count: usize) -> Vec<Value> {
        let calls = wait_for(format!("{count} calls to have left"), CHANGE_LIMIT, || {
            let calls = self.calls();
            (calls.len() == count && calls.iter().all(|call| call["status"] == "leaved")).then_some(calls)
        });
        for call in &calls {
            assert!(!text(call, "hangup_cause").is_empty(), "no cause: {call:#}");
            assert!(call["tm_leaved"].is_string(), "no time: {call:#}");
        }
        calls
    }

    /// Waits until it is `terminated`; it has a time of ending then, and nobody in it.
    pub fn wait_for_end(&self) -> Value {
        let ended = wait_for("the conference to end", CHANGE_LIMIT, || {
            Some(self.now()).filter(|now| now["status"] == "terminated")
        });
        assert!(ended["tm_end"].is_string(), "no tm_end: {ended:#}");
        assert_eq!(ended["conferencecall_ids"], json!([]), "{ended:#}");
        ended
    }
}

/// A text field of a resource.
pub fn text(resource: &Value, field: &str) -> String {
    resource[field].as_str().unwrap_or_else(|| panic!("no text {field:?} in {resource:#}")).to_owned()
}
