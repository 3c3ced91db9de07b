//! A server whose recordings go to storage, and recordings that it finds when it starts.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use confab::bridge::event::Change;
use confab::bridge::resource::{Recording, RecordingFormat, RecordingStatus};
use confab::id::{ConferenceId, FlowId, RecordingId};
use confab::record::{Folder as Recordings, Part};
use confab::rng::Rng;
use confab::store::{Store, Write, spawn_writer};
use confab::time::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::s3::{BUCKET, ID, Proxy, S3, SECRET};

pub const ACCESS_KEY: &str = "vb_StorageStorageStorageStorageStor";
/// How long anything may take on a machine that does other things as well.
pub const LIMIT: Duration = Duration::from_secs(120);
/// What the keys of objects begin with.
const PREFIX: &str = "eu/node-1";

/// A folder that goes when the test does.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Folder(std::env::temp_dir().join(format!("confab-{name}-{}-{number}", std::process::id())))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until there is something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes that no others are like.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng::from_number(seed);
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        bytes.extend(rng.uuid().as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// All of it.
pub struct World {
    pub s3: S3,
    pub line: Proxy,
    data: Folder,
    http: SocketAddr,
    program: Option<Child>,
}

impl World {
    /// Storage, and a data folder with these ended recordings: number, bytes of the mix.
    pub fn with(recordings: &[(u64, Vec<u8>)]) -> World {
        let s3 = S3::start();
        let line = Proxy::to(&s3);
        let data = Folder::new("storage");
        prepare(data.path(), recordings);
        World { s3, line, data, http: SocketAddr::from(([127, 0, 0, 1], 0)), program: None }
    }

    /// Starts the server.
    pub fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log()).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_confab"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CONFAB_") {
                command.env_remove(name);
            }
        }
        let mut program = command
            .args(["serve", "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0", "--media-threads", "1"])
            .arg("--data")
            .arg(self.data.path())
            .env("CONFAB_ACCESSKEY", ACCESS_KEY)
            .env("CONFAB_RECORD_STORAGE", format!("s3://{BUCKET}/{PREFIX}"))
            .env("CONFAB_RECORD_S3_ENDPOINT", format!("http://{}", self.line.address))
            .env("CONFAB_S3_ACCESS_KEY_ID", ID)
            .env("CONFAB_S3_SECRET_ACCESS_KEY", SECRET)
            .env("CONFAB_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("a server");
        let lines = BufReader::new(program.stdout.take().expect("its output")).lines();
        let place = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("http://")?.1.split(' ').next()?.to_owned()));
        self.http = place.and_then(|place| place.parse().ok()).expect("it says where it is");
        self.program = Some(program);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut program = self.program.take().expect("it runs");
        program.kill().expect("ours");
        program.wait().expect("ours");
    }

    fn log(&self) -> PathBuf {
        self.data.path().join("log")
    }

    /// What all servers here have logged.
    pub fn logged(&self) -> String {
        fs::read_to_string(self.log()).expect("a log")
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        let mut stream = TcpStream::connect(self.http).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: confab\r\nConnection: close\r\nAuthorization: Bearer {ACCESS_KEY}\r\n"
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).expect("it listens");
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("an answer");
        let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
        let body = reply.split_off(end + 4);
        let head = String::from_utf8(reply).expect("text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head, body }
    }

    pub fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.ask("POST", &format!("/v1.0{path}"), &[], Some(&body));
        assert_eq!(answer.status, 200, "{path}: {}", answer.json());
        answer.json()
    }

    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &[], None).json()
    }

    /// The file of a recording.
    pub fn file(&self, id: RecordingId, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", &format!("/v1.0/recordingfiles/{id}"), headers, None)
    }

    pub fn delete(&self, id: RecordingId) -> u16 {
        self.ask("DELETE", &format!("/v1.0/recordings/{id}"), &[], None).status
    }

    pub fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.ask("GET", "/metrics", &[], None).body).expect("text");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
    }

    /// Names of the files that are in the data folder.
    pub fn local(&self) -> Vec<String> {
        let folder = fs::read_dir(self.data.path().join("recordings")).expect("a folder");
        let mut names: Vec<String> = folder
            .map_while(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Waits until nothing is left to be moved.
    pub fn wait_until_moved(&self) {
        wait_for("all to be moved", || {
            let idle = self.metric("confab_storage_files_waiting ") == 0.0
                && self.metric("confab_storage_deletions_waiting ") == 0.0
                && self.metric("confab_storage_files_under_way ") == 0.0;
            (idle && self.local().is_empty()).then_some(())
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut program) = self.program.take() {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// The id of a recording of [`World::with`].
pub fn id(number: u64) -> RecordingId {
    RecordingId(Uuid::from_u128(0x4000_8000_0000_0000_0000 + u128::from(number)))
}

/// The key of a recording's mix in the bucket.
pub fn key(id: RecordingId) -> String {
    format!("{PREFIX}/{id}.wav")
}

/// Makes a data folder with recordings that have ended.
fn prepare(data: &Path, recordings: &[(u64, Vec<u8>)]) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = Recordings::open(data).expect("a folder");
    runtime.block_on(async {
        let store = Store::open(data).await.expect("a new store");
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let mut rng = Rng::from_number(1);
        let made =
            store.bootstrap(Some(ACCESS_KEY.to_owned()), None, now, &mut rng).await.expect("bootstrap");
        let (writer, done) = spawn_writer(store.clone());
        for (number, bytes) in recordings {
            let id = id(*number);
            fs::write(folder.path(id, Part::Mix(RecordingFormat::Wav)), bytes).expect("the folder is ours");
            let recording = Recording {
                id,
                customer_id: made.customer_id,
                owner_type: String::new(),
                owner_id: Uuid::nil(),
                activeflow_id: Uuid::nil(),
                reference_type: "conference".to_owned(),
                reference_id: ConferenceId(Uuid::from_u128(7)),
                status: RecordingStatus::Ended,
                format: RecordingFormat::Wav,
                on_end_flow_id: FlowId::NIL,
                duration: 0,
                tracks: false,
                paused: false,
                cause: String::new(),
                duration_ms: 0,
                lost_ms: 0,
                size_bytes: bytes.len() as u64,
                tm_start: Some(now),
                tm_end: Some(now),
                tm_create: now,
                tm_update: now,
                tm_delete: Timestamp::NEVER,
            };
            writer
                .send(Write::Change(Change::Recording(Box::new(recording))))
                .await
                .expect("the writer runs");
        }
        drop(writer);
        done.await.expect("it ends");
        store.close().await;
    });
}

/// Records an empty room for a moment: its id, once it has ended.
pub fn record(world: &World) -> RecordingId {
    let conference = world.post("/conferences", json!({}))["id"].as_str().expect("an id").to_owned();
    let path = |action: &str| format!("/conferences/{conference}/recording_{action}");
    let started = world.post(&path("start"), json!({}));
    let id: RecordingId = started["recording_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let shown = || world.get(&format!("/v1.0/recordings/{id}"))["status"].clone();
    wait_for("sound", || (shown() == "recording").then_some(()));
    world.post(&path("stop"), json!({}));
    wait_for("its end", || (shown() == "ended").then_some(()));
    id
}
