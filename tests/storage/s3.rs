//! Storage as it is met: a server that speaks S3, signatures included, and in front of it a line that
//! stops, breaks off, or answers what it likes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;

use crate::world::Folder;

pub const ID: &str = "recordings-test-id";
pub const SECRET: &str = "Recordings/Test+Secret";
pub const BUCKET: &str = "calls";
/// How long a slow line takes for what it passes at once: 4 MB a second.
const SLOW_EACH: Duration = Duration::from_millis(4);
/// How often a line that is silent looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A server that speaks S3.
pub struct S3 {
    root: Folder,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl S3 {
    pub fn start() -> S3 {
        let root = Folder::new("s3");
        fs::create_dir_all(root.path().join(BUCKET)).expect("the folder is ours");
        let mut service = S3ServiceBuilder::new(FileSystem::new(root.path()).expect("a folder"));
        service.set_auth(SimpleAuth::from_single(ID, SECRET));
        let service = service.build();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a socket");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
                tokio::spawn(served);
            }
        });
        S3 { root, address, _runtime: runtime }
    }

    /// Every object, by its key.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let mut objects = BTreeMap::new();
        let bucket = self.root.path().join(BUCKET);
        collect(&bucket, &bucket, &mut objects);
        objects
    }

    /// Uploads in parts that were begun, and neither completed nor given up.
    pub fn begun_uploads(&self) -> usize {
        let names = fs::read_dir(self.root.path()).expect("a folder").map_while(Result::ok);
        names.filter(|entry| entry.file_name().to_string_lossy().starts_with(".upload_id-")).count()
    }
}

fn collect(bucket: &Path, folder: &Path, objects: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder").map_while(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            collect(bucket, &path, objects);
        } else if let Ok(bytes) = fs::read(&path) {
            let key = path.strip_prefix(bucket).expect("it is in there").to_string_lossy().into_owned();
            objects.insert(key, bytes);
        }
    }
}

/// What the line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Passes all.
    Good,
    /// Breaks every connection off at once.
    Broken,
    /// Answers every request with this code itself.
    Answers(u16),
    /// Passes some bytes every few milliseconds.
    Slow,
    /// Passes so many bytes towards the server, then nothing more either way.
    StopsAfter(u64),
    /// Passes the order to make one object of all parts, and then no answer.
    DeafToCompletion,
}

struct State {
    line: Line,
    /// Grows with every change: connections of before break off.
    generation: u64,
    /// Bytes towards the server since the last change.
    up: u64,
    /// The order to make one object of all parts was passed.
    completes: bool,
    stopped: bool,
}

struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

/// The line to a server.
pub struct Proxy {
    pub address: SocketAddr,
    gate: Arc<Gate>,
}

impl Proxy {
    pub fn to(server: &S3) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address");
        let state = State { line: Line::Good, generation: 0, up: 0, completes: false, stopped: false };
        let gate = Arc::new(Gate { state: Mutex::new(state), changed: Condvar::new() });
        let (its_gate, server) = (gate.clone(), server.address);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let gate = its_gate.clone();
                std::thread::spawn(move || connect(&client, server, &gate));
            }
        });
        Proxy { address, gate }
    }

    pub fn set(&self, line: Line) {
        let mut state = self.gate.state.lock().expect("the gate");
        state.line = line;
        state.generation += 1;
        (state.up, state.completes, state.stopped) = (0, false, false);
        self.gate.changed.notify_all();
    }

    /// Waits until the line has stopped.
    pub fn wait_until_stopped(&self, limit: Duration) {
        let state = self.gate.state.lock().expect("the gate");
        let waited = self.gate.changed.wait_timeout_while(state, limit, |state| !state.stopped);
        assert!(!waited.expect("the gate").1.timed_out(), "nothing came as far as that");
    }
}

impl Gate {
    /// Whether bytes of a connection of this generation may pass; waits while they may not.
    fn passes(&self, generation: u64, is_up: bool, bytes: &[u8]) -> bool {
        let mut state = self.state.lock().expect("the gate");
        if is_up {
            state.up += bytes.len() as u64;
            state.completes |= bytes.starts_with(b"POST ") && bytes.windows(9).any(|at| at == b"uploadId=");
        }
        loop {
            if state.generation != generation {
                return false;
            }
            if state.line == Line::Slow {
                drop(state);
                std::thread::sleep(SLOW_EACH);
                return true;
            }
            let holds = match state.line {
                Line::StopsAfter(most) => state.up > most,
                Line::DeafToCompletion => !is_up && !bytes.is_empty() && state.completes,
                _ => false,
            };
            if !holds {
                return true;
            }
            state.stopped = true;
            self.changed.notify_all();
            state = self.changed.wait(state).expect("the gate");
        }
    }
}

fn connect(client: &TcpStream, server: SocketAddr, gate: &Arc<Gate>) {
    let (line, generation) = {
        let state = gate.state.lock().expect("the gate");
        (state.line, state.generation)
    };
    match line {
        Line::Broken => {}
        Line::Answers(code) => answer(client, code),
        _ => {
            let Ok(server) = TcpStream::connect(server) else { return };
            let up = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
            let its_gate = gate.clone();
            let other = std::thread::spawn(move || pump(&up.0, &up.1, &its_gate, generation, true));
            pump(&server, client, gate, generation, false);
            let _ = other.join();
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// Answers each request by itself, having read it.
fn answer(client: &TcpStream, code: u16) {
    let mut client = client;
    let _ = client.set_read_timeout(Some(Duration::from_secs(5)));
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            match client.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if client.read_exact(&mut body).is_err() {
            return;
        }
        let reply = format!(
            "HTTP/1.1 {code} Whatever\r\ncontent-length: 0\r\netag: \"e\"\r\nlast-modified: Tue, 01 Sep 2026 00:00:00 GMT\r\n\r\n"
        );
        if client.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

fn pump(from: &TcpStream, to: &TcpStream, gate: &Gate, generation: u64, is_up: bool) {
    let (mut from, mut to) = (from, to);
    let _ = from.set_read_timeout(Some(LOOK_EVERY));
    let mut bytes = vec![0; 16 << 10];
    loop {
        let read = match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(_) => break,
        };
        if !gate.passes(generation, is_up, &bytes[..read]) || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
