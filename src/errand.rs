//! What flows have the outside do: HTTP requests, sounds from URLs, spoken texts. Each runs in a task
//! of its own, bounded in time, size and number, and its result goes back into the control task's
//! inbox.

pub mod http;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Semaphore;

use crate::bridge::flow::outside::{Errand, ErrandResult};
use crate::prompt::Prompts;
use crate::speech::voice::Voice;
use crate::time::Duration;
use http::{HttpClient, HttpError};

/// Errands at once, those that wait for their turn included; one more fails.
pub const ERRANDS_MAX: usize = 1024;
/// HTTP requests at once, sounds included.
pub const REQUESTS_MAX: usize = 128;
/// Texts spoken at once: each keeps a core busy.
pub const SPEAKERS_MAX: usize = 2;
/// How long an errand may take, its waiting included.
pub const ERRAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes kept of an answer to a webhook or a `fetch`.
pub const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// How errands are done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether servers at private and local addresses may be asked.
    pub allow_private: bool,
    /// The HTTP engine that speaks texts; `None`: the embedded voice does.
    pub speech_url: Option<String>,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Errands that were done.
    pub done: u64,
    /// Errands that failed.
    pub failed: u64,
    /// Errands refused because too many ran.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
}

/// Does errands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Errands {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: HttpClient,
    prompts: Prompts,
    voice: Voice,
    admitted: Arc<Semaphore>,
    requests: Semaphore,
    speakers: Semaphore,
    counts: Counts,
}

impl Errands {
    /// Errands of these settings.
    pub fn new(settings: Settings) -> Self {
        let http = HttpClient::new(settings.allow_private);
        let inner = Inner {
            prompts: Prompts::new(http.clone()),
            voice: Voice::new(http.clone(), settings.speech_url),
            http,
            admitted: Arc::new(Semaphore::new(ERRANDS_MAX)),
            requests: Semaphore::new(REQUESTS_MAX),
            speakers: Semaphore::new(SPEAKERS_MAX),
            counts: Counts::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Starts an errand, whose result `deliver` takes; or gives its result at once when too many run.
    pub fn start<D, F>(&self, errand: Errand, deliver: D) -> Option<ErrandResult>
    where
        D: FnOnce(ErrandResult) -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let Ok(admitted) = self.inner.admitted.clone().try_acquire_owned() else {
            self.inner.counts.refused.fetch_add(1, Relaxed);
            return Some(ErrandResult::Failed("the server does too much at once; try again".to_owned()));
        };
        let inner = self.inner.clone();
        tokio::spawn(async move {
            let result = tokio::time::timeout(ERRAND_TIMEOUT, inner.run(errand)).await;
            let result = result.unwrap_or_else(|_| {
                ErrandResult::Failed(format!("it took longer than {} s", ERRAND_TIMEOUT.as_secs()))
            });
            let counter = match &result {
                ErrandResult::Failed(_) => &inner.counts.failed,
                _ => &inner.counts.done,
            };
            counter.fetch_add(1, Relaxed);
            deliver(result).await;
            drop(admitted);
        });
        None
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        let counts = &self.inner.counts;
        Counters {
            done: counts.done.load(Relaxed),
            failed: counts.failed.load(Relaxed),
            refused: counts.refused.load(Relaxed),
        }
    }
}

impl Inner {
    async fn run(&self, errand: Errand) -> ErrandResult {
        let closed = || ErrandResult::Failed("the server stops".to_owned());
        match errand {
            Errand::Http { method, url, content_type, body } => {
                let Ok(_turn) = self.requests.acquire().await else { return closed() };
                let sent = self.http.send(method, &url, &content_type, body, ANSWER_MAX_BYTES);
                match sent.await {
                    Ok(answer) => ErrandResult::Http { status: answer.status, body: answer.body },
                    Err(HttpError(why)) => ErrandResult::Failed(why),
                }
            }
            Errand::Sound { url } => {
                let Ok(_turn) = self.requests.acquire().await else { return closed() };
                self.prompts.clip(&url).await.map_or_else(ErrandResult::Failed, ErrandResult::Clip)
            }
            Errand::Speech { text, language } => {
                let Ok(_turn) = self.speakers.acquire().await else { return closed() };
                self.voice.speak(&text, &language).await.map_or_else(ErrandResult::Failed, ErrandResult::Clip)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::flow::outside::Method;

    fn request(url: String) -> Errand {
        Errand::Http {
            method: Method::Post,
            url,
            content_type: "text/plain".to_owned(),
            body: "x".to_owned(),
        }
    }

    async fn result(errands: &Errands, errand: Errand) -> ErrandResult {
        let (tell, told) = tokio::sync::oneshot::channel();
        let refused = errands.start(errand, move |result| async move { drop(tell.send(result)) });
        assert_eq!(refused, None);
        told.await.expect("every errand has a result")
    }

    #[tokio::test]
    async fn private_addresses_are_asked_only_where_allowed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let guarded = Errands::new(Settings::default());
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
            let ErrandResult::Failed(why) = result(&guarded, request(format!("http://{host}:{port}/"))).await
            else {
                panic!("{host} was asked")
            };
            assert!(why.contains("private"), "{host}: {why}");
        }
        let open = Errands::new(Settings { allow_private: true, ..Settings::default() });
        let answering = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.expect("a request");
            let long = "y".repeat(ANSWER_MAX_BYTES + 1);
            let answer = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{long}", long.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let ErrandResult::Http { status, body } =
            result(&open, request(format!("http://127.0.0.1:{port}/path"))).await
        else {
            panic!("no answer")
        };
        assert_eq!((status, body.len()), (404, ANSWER_MAX_BYTES), "cut at the limit");
        let sent = answering.await.expect("it answered");
        assert!(sent.starts_with("POST /path HTTP/1.1\r\n") && sent.contains("text/plain"), "{sent}");
        assert_eq!((guarded.counters().failed, open.counters().done), (3, 1));
    }

    #[tokio::test]
    async fn no_more_than_so_many_run_at_once() {
        // Nobody accepts: the requests wait.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let errands = Errands::new(Settings { allow_private: true, ..Settings::default() });
        let start = || errands.start(request(url.clone()), |_| async {});
        for _ in 0..ERRANDS_MAX {
            assert_eq!(start(), None);
        }
        assert!(matches!(start(), Some(ErrandResult::Failed(_))));
        assert_eq!(errands.counters().refused, 1);
    }
}
