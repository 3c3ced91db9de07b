//! What flows have the outside do: HTTP requests, sounds from URLs, spoken texts. Each runs in a task
//! of its own, bounded in time, size and number, and its result goes back into the control task's
//! inbox. A customer has a share of what is done at once (`share`).

mod share;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use crate::bridge::flow::outside::{Errand, ErrandResult, Method};
use crate::id::CustomerId;
use crate::net::http::{self, Failure, HttpClient, Trust};
use crate::prompt::{FETCH_MAX_BYTES, Prompts};
use crate::speech::voice::{Engine, Voice};
use crate::time::Duration;
pub use share::{CUSTOMER_ERRANDS_MAX, CUSTOMER_REQUESTS_MAX, CUSTOMER_SPEAKERS_MAX};
use share::{Refused, Shares, Turns};

/// Errands at once, those that wait for their turn included; one more fails.
pub const ERRANDS_MAX: usize = 1024;
/// HTTP requests at once, those for sounds and to the speech engine included.
pub const REQUESTS_MAX: usize = 128;
/// Texts spoken at once by the built-in voice: each keeps a core busy.
pub const SPEAKERS_MAX: usize = 2;
/// How long an errand may take, its waiting included.
pub const ERRAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one HTTP request may take, redirects and answer included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Redirects that a request of a flow follows; the speech engine's follows none.
pub const REDIRECTS_MAX: usize = 5;
/// Bytes kept of an answer to a webhook or a `fetch`.
pub const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// How errands are done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether servers at private and local addresses may be asked.
    pub allow_private: bool,
    /// The HTTP engine that speaks texts; `None`: the embedded voice does.
    pub speech_url: Option<String>,
    /// Whose certificates are trusted.
    pub trust: Trust,
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
    /// Errands refused because too many of their customer ran.
    pub over_share: u64,
}

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    over_share: AtomicU64,
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
    limits: Arc<Limits>,
}

/// How much at once, and what was counted: whatever the settings are.
#[derive(Debug)]
struct Limits {
    shares: Arc<Shares>,
    requests: Semaphore,
    speakers: Semaphore,
    counts: Counts,
}

impl Errands {
    /// Errands of these settings.
    ///
    /// # Errors
    /// When there can be no TLS.
    pub fn new(settings: Settings) -> Result<Self, rustls::Error> {
        let limits = Limits {
            shares: Arc::default(),
            requests: Semaphore::new(REQUESTS_MAX),
            speakers: Semaphore::new(SPEAKERS_MAX),
            counts: Counts::default(),
        };
        Self::within(Arc::new(limits), settings)
    }

    /// Errands of other settings, within the same limits. No prompt is kept: what may be asked may be
    /// another now.
    ///
    /// # Errors
    /// As [`Errands::new`].
    pub fn with(&self, settings: Settings) -> Result<Self, rustls::Error> {
        Self::within(self.inner.limits.clone(), settings)
    }

    fn within(limits: Arc<Limits>, settings: Settings) -> Result<Self, rustls::Error> {
        let asking = http::Settings {
            timeout: REQUEST_TIMEOUT,
            allow_private: settings.allow_private,
            answer_max: ANSWER_MAX_BYTES,
            redirects_max: REDIRECTS_MAX,
        };
        let fetching = http::Settings { answer_max: FETCH_MAX_BYTES, ..asking };
        // Whoever configures the engine may have it in his own network, and at one place.
        let speaking = http::Settings { allow_private: true, redirects_max: 0, ..fetching };
        let trust = &settings.trust;
        let engine = match settings.speech_url {
            Some(url) => Some(Engine { url, http: HttpClient::trusting(speaking, trust)? }),
            None => None,
        };
        let inner = Inner {
            http: HttpClient::trusting(asking, trust)?,
            prompts: Prompts::new(HttpClient::trusting(fetching, trust)?),
            voice: Voice::new(engine),
            limits,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Starts a customer's errand, whose result `deliver` takes; or gives its result at once when too
    /// many run. One for which the customer has no turn left waits, within [`ERRAND_TIMEOUT`].
    pub fn start<D, F>(&self, customer: CustomerId, errand: Errand, deliver: D) -> Option<ErrandResult>
    where
        D: FnOnce(ErrandResult) -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let counts = &self.inner.limits.counts;
        let place = match self.inner.limits.shares.admit(customer) {
            Ok(place) => place,
            Err(refused) => {
                let counter = match refused {
                    Refused::Full => &counts.refused,
                    Refused::Share => &counts.over_share,
                };
                counter.fetch_add(1, Relaxed);
                return Some(ErrandResult::Failed(refused.to_string()));
            }
        };
        let inner = self.inner.clone();
        tokio::spawn(async move {
            let result = tokio::time::timeout(ERRAND_TIMEOUT, inner.run(&place.turns, errand)).await;
            let result = result.unwrap_or_else(|_| {
                let seconds = ERRAND_TIMEOUT.as_secs();
                ErrandResult::Failed(format!(
                    "it took longer than {seconds} s, waiting for its turn included"
                ))
            });
            let counter = match &result {
                ErrandResult::Failed(_) => &inner.limits.counts.failed,
                _ => &inner.limits.counts.done,
            };
            counter.fetch_add(1, Relaxed);
            deliver(result).await;
            drop(place);
        });
        None
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        let counts = &self.inner.limits.counts;
        Counters {
            done: counts.done.load(Relaxed),
            failed: counts.failed.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            over_share: counts.over_share.load(Relaxed),
        }
    }
}

impl Inner {
    /// Sends a request; a GET has no body.
    async fn request(
        &self,
        method: Method,
        url: &str,
        content_type: &str,
        body: String,
    ) -> Result<http::Answer, Failure> {
        let (content_type, body) =
            if method == Method::Get { ("", String::new()) } else { (content_type, body) };
        self.http.send(http::request(wire_method(method), url, content_type, body.into())?).await
    }

    async fn run(&self, turns: &Turns, errand: Errand) -> ErrandResult {
        let Limits { requests, speakers, .. } = &*self.limits;
        let closed = || ErrandResult::Failed("the server stops".to_owned());
        match errand {
            Errand::Http { method, url, content_type, body } => {
                let Ok(_turn) = turn(&turns.requests, requests).await else { return closed() };
                match self.request(method, &url, &content_type, body).await {
                    Ok(answer) => {
                        let status = answer.status.as_u16();
                        ErrandResult::Http { status, is_cut: answer.is_cut, body: answer.body.into() }
                    }
                    Err(failure) => ErrandResult::Failed(failure.to_string()),
                }
            }
            Errand::Sound { url } => {
                let Ok(_turn) = turn(&turns.requests, requests).await else { return closed() };
                self.prompts.clip(&url).await.map_or_else(ErrandResult::Failed, ErrandResult::Clip)
            }
            Errand::Speech { text, language } => {
                // The engine is a request like others; the built-in voice keeps a core busy.
                let turn = if self.voice.is_built_in() {
                    turn(&turns.speakers, speakers).await
                } else {
                    turn(&turns.requests, requests).await
                };
                let Ok(_turn) = turn else { return closed() };
                self.voice.speak(&text, &language).await.map_or_else(ErrandResult::Failed, ErrandResult::Clip)
            }
        }
    }
}

/// A turn: first the customer's own, so that few of one customer stand in the line of all.
async fn turn<'a>(
    own: &'a Semaphore,
    of_all: &'a Semaphore,
) -> Result<(SemaphorePermit<'a>, SemaphorePermit<'a>), AcquireError> {
    Ok((own.acquire().await?, of_all.acquire().await?))
}

fn wire_method(method: Method) -> hyper::Method {
    match method {
        Method::Get => hyper::Method::GET,
        Method::Post => hyper::Method::POST,
        Method::Put => hyper::Method::PUT,
        Method::Patch => hyper::Method::PATCH,
        Method::Delete => hyper::Method::DELETE,
    }
}
