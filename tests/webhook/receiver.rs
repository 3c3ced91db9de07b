//! A customer's server, on a real socket, which can be told to misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

/// How long anything may take on a machine that does other things as well.
pub const LIMIT: Duration = Duration::from_secs(60);

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    pub path: String,
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub json: Value,
}

impl Heard {
    pub fn seq(&self) -> u64 {
        self.json["seq"].as_u64().expect("a seq")
    }

    pub fn conference(&self) -> String {
        self.json["data"]["id"].as_str().expect("an id").to_owned()
    }
}

/// How a path answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Code(u16),
    /// Never, until the test ends.
    Hang,
    /// A redirect to the path `elsewhere`.
    Elsewhere,
}

#[derive(Default)]
struct Inner {
    heard: Mutex<Vec<Heard>>,
    answers: Mutex<BTreeMap<String, Answer>>,
    /// Requests being answered, by path, and the most there were at once.
    open: Mutex<BTreeMap<String, (usize, usize)>>,
    news: Notify,
}

/// The server. Its handle outlives its socket, so that it can be down for a while.
#[derive(Clone)]
pub struct Receiver {
    inner: Arc<Inner>,
    pub address: SocketAddr,
    down: Arc<watch::Sender<bool>>,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let receiver = Receiver { inner: Arc::default(), address, down: Arc::new(watch::channel(false).0) };
        receiver.serve(listener);
        receiver
    }

    fn serve(&self, listener: TcpListener) {
        let router = Router::new().route("/{path}", axum::routing::any(take)).with_state(self.inner.clone());
        let mut down = self.down.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                done = axum::serve(listener, router).into_future() => done.expect("it serves"),
                _ = down.wait_for(|down| *down) => {}
            }
        });
    }

    pub fn uri(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// From now on `path` answers so.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.inner.answers.lock().expect("answers").insert(path.to_owned(), answer);
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.inner.heard.lock().expect("heard").clone()
    }

    /// What came at this path.
    pub fn heard_at(&self, path: &str) -> Vec<Heard> {
        self.heard().into_iter().filter(|one| one.path == path).collect()
    }

    /// The most requests at once at this path.
    pub fn most_at_once(&self, path: &str) -> usize {
        self.inner.open.lock().expect("open").get(path).map_or(0, |(_, most)| *most)
    }

    /// Waits until what was heard satisfies `enough`.
    pub async fn wait(&self, what: &str, enough: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        let wait = async {
            loop {
                let news = self.inner.news.notified();
                let heard = self.heard();
                if enough(&heard) {
                    return heard;
                }
                news.await;
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(heard) => heard,
            Err(_) => panic!("no {what}; {} requests came", self.heard().len()),
        }
    }
}

async fn take(
    State(inner): State<Arc<Inner>>,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    {
        let mut open = inner.open.lock().expect("open");
        let (now, most) = open.entry(path.clone()).or_default();
        *now += 1;
        *most = (*most).max(*now);
    }
    inner.heard.lock().expect("heard").push(Heard { path: path.clone(), method, headers, body, json });
    inner.news.notify_waiters();
    let answer = inner.answers.lock().expect("answers").get(&path).copied().unwrap_or(Answer::Code(200));
    let response = match answer {
        Answer::Code(code) => StatusCode::from_u16(code).expect("a code").into_response(),
        Answer::Hang => std::future::pending().await,
        Answer::Elsewhere => (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
    };
    inner.open.lock().expect("open").entry(path).or_default().0 -= 1;
    response
}

/// Holds what one receiver heard against the promise: of each conference every event from the first,
/// each for the first time only after the one before it. Returns how many were heard more than once.
pub fn assert_whole_and_in_order(heard: &[Heard], last: &BTreeMap<String, u64>) -> usize {
    let mut highest: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen: BTreeSet<(String, u64)> = BTreeSet::new();
    for one in heard {
        let conference = one.conference();
        let so_far = highest.entry(conference.clone()).or_default();
        let seq = one.seq();
        assert!(seq <= *so_far + 1, "{conference}: {seq} came when {so_far} was the highest so far");
        *so_far = (*so_far).max(seq);
        seen.insert((conference, seq));
    }
    for (conference, last) in last {
        assert_eq!(highest.get(conference), Some(last), "{conference}: the last event");
    }
    heard.len() - seen.len()
}
