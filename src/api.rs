//! The REST API under `/v1.0`, with the probes, the OpenAPI document and a page to try it.
//!
//! A handler parses its request into values, asks the bridge or the store, and returns the resource
//! or an [`ApiError`]. The edge around all handlers gives every request an id, a
//! deadline, a log line and, where it failed, its error body.

mod accesskey;
mod activeflow;
mod audit;
mod auth;
mod body;
mod conference;
mod conferencecall;
mod customer;
mod edge;
mod error;
mod flow;
mod limit;
mod openapi;
mod page;
mod probe;
mod recording;
mod recordingfile;
pub mod schema;
mod stream;
mod transcribe;
mod webhook;
mod ws;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::sync::{mpsc, watch};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_swagger_ui::SwaggerUi;
use uuid::Uuid;

use crate::bridge::command::{Command, Refusal, Reply};
use crate::control::ControlError;
use crate::record::Folder;
use crate::record::storage::{Counters, Remote};
use crate::rng::Rng;
use crate::store::{Store, Write};
use crate::time::{Now, Timestamp};
pub use edge::REQUEST_TIMEOUT;
use error::{ApiError, Reason};
pub use limit::BUCKETS_MAX;
use limit::{Buckets, Rate, SourceKey};
pub use ws::{MESSAGE_MAX_BYTES, TOPICS_MAX};

/// The longest request body, in bytes.
pub const BODY_MAX_BYTES: usize = 64 * 1024;

/// An answer of the bridge that is on its way.
pub type ControlAnswer = Pin<Box<dyn Future<Output = Result<Reply, ControlError>> + Send>>;
/// How the API asks the bridge: `Control::call`, boxed.
pub type ControlCall = Arc<dyn Fn(Command) -> ControlAnswer + Send + Sync>;

/// What the API stands on.
#[derive(Clone)]
pub struct ApiState {
    /// Asks the bridge.
    pub control: ControlCall,
    /// What was before, and whose keys are whose.
    pub store: Store,
    /// The store's writer, for the audit log; weak, so that it ends when the bridge has ended.
    pub writer: mpsc::WeakSender<Write>,
    /// Whether the server is ready; asked at every `/health`.
    pub health: Arc<dyn Fn() -> Health + Send + Sync>,
    /// The server's metrics in Prometheus' text form; the API adds its own and the store's.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Both clocks.
    pub clock: Arc<dyn Fn() -> Now + Send + Sync>,
    /// Where keys, ids and request ids come from.
    pub rng: Rng,
    /// Where the files of recordings are.
    pub recordings: Folder,
    /// The storage that they are moved to, if any.
    pub storage: Option<RecordingStorage>,
    /// Limits; they may change while it runs.
    pub settings: watch::Receiver<ApiSettings>,
}

/// The storage that recordings are moved to.
#[derive(Clone, Debug)]
pub struct RecordingStorage {
    /// Where files are read.
    pub remote: Remote,
    /// What is yet to be moved.
    pub counters: Arc<Counters>,
}

/// The API's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// Steady requests per second of one access key.
    pub requests_per_s_per_key: u32,
    /// Requests of one access key that may come at once.
    pub burst_per_key: u32,
    /// Steady requests per second from one address (IPv6: one /64) without a valid key.
    pub requests_per_s_per_source: u32,
    /// Requests from one address without a valid key that may come at once.
    pub burst_per_source: u32,
    /// Whether `/metrics` needs no key; else the admin key opens it. Meant for a listener that only
    /// this machine reaches.
    pub metrics_open: bool,
    /// WebSockets that one access key may have open.
    pub sockets_per_key: usize,
    /// How often a WebSocket is pinged; one that is silent for three of these is closed.
    pub ping_every: Duration,
}

impl ApiSettings {
    /// What one access key may ask.
    fn rate_per_key(&self) -> Rate {
        Rate { per_s: self.requests_per_s_per_key, burst: self.burst_per_key }
    }

    /// What one address may ask.
    fn rate_per_source(&self) -> Rate {
        Rate { per_s: self.requests_per_s_per_source, burst: self.burst_per_source }
    }
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            requests_per_s_per_key: 1000,
            burst_per_key: 2000,
            requests_per_s_per_source: 100,
            burst_per_source: 200,
            metrics_open: false,
            sockets_per_key: 100,
            ping_every: Duration::from_secs(20),
        }
    }
}

/// Whether the server is ready, and if not, why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why it is not ready, each in a sentence for people; empty when it is.
    pub reasons: Vec<String>,
}

/// What every handler shares.
struct Shared {
    state: ApiState,
    rng: Mutex<Rng>,
    sources: Buckets<SourceKey>,
    keys: Buckets<Uuid>,
    counts: edge::Counts,
    sockets: Arc<ws::Sockets>,
    streams: Arc<stream::Streams>,
}

/// The shared state as handlers get it.
type SharedState = Arc<Shared>;

/// The whole HTTP surface. Serve it with connect info (`SocketAddr`), by which the limits per
/// address go.
pub fn router(state: ApiState) -> Router {
    let shared = Arc::new(Shared {
        rng: Mutex::new(state.rng.clone()),
        sources: Buckets::new(),
        keys: Buckets::new(),
        counts: edge::Counts::default(),
        sockets: Arc::default(),
        streams: Arc::default(),
        state,
    });
    Router::new()
        .route("/ping", get(probe::ping))
        .route("/health", get(probe::health))
        .route("/metrics", get(probe::metrics))
        .nest("/v1.0", resources())
        .merge(SwaggerUi::new("/docs").url("/openapi.json", openapi::document()))
        .fallback(|| async {
            ApiError::new(Reason::NotFound, "there is nothing at this path; see /openapi.json")
        })
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(CatchPanicLayer::custom(edge::answer_panic))
        .layer(axum::middleware::from_fn_with_state(shared.clone(), edge::edge))
        .with_state(shared)
}

/// Everything under `/v1.0`.
fn resources() -> Router<SharedState> {
    use {
        accesskey as keys, activeflow as runs, conference as conf, conferencecall as calls,
        customer as customers, flow as flows, recording as recs, transcribe as trans, webhook as hooks,
    };
    Router::new()
        .route("/conferences", get(conf::list).post(conf::create))
        .route("/conferences/{id}", get(conf::read).put(conf::update).delete(conf::delete))
        .route("/conferences/{id}/direct-hash-regenerate", post(conf::regenerate_direct_hash))
        .route("/conferences/{id}/recording_start", post(recs::start))
        .route("/conferences/{id}/recording_stop", post(recs::stop))
        .route("/conferences/{id}/recording_pause", post(recs::pause))
        .route("/conferences/{id}/recording_resume", post(recs::resume))
        .route("/recordings", get(recs::list))
        .route("/recordings/{id}", get(recs::read).delete(recs::delete))
        .route("/recordings/{id}/files", get(recordingfile::files))
        .route("/recordingfiles/{id}", get(recordingfile::file))
        .route("/conferences/{id}/transcribe_start", post(trans::start))
        .route("/conferences/{id}/transcribe_stop", post(trans::stop))
        .route("/transcribes", get(trans::list))
        .route("/transcribes/{id}", get(trans::read))
        .route("/transcribes/{id}/stop", post(trans::end))
        .route("/transcripts", get(trans::transcripts))
        .route("/conferences/{id}/media_stream", get(stream::open))
        .route("/conferencecalls", get(calls::list))
        .route("/conferencecalls/{id}", get(calls::read).delete(calls::eject))
        .route("/webhooks/failures", get(hooks::failures))
        .route("/webhooks/failures/{id}/replay", post(hooks::replay_one))
        .route("/webhooks/replay", post(hooks::replay_all))
        .route("/ws", get(ws::open))
        .route("/audits", get(audit::list))
        .route("/flows", get(flows::list).post(flows::create))
        .route("/flows/{id}", get(flows::read).put(flows::update).delete(flows::delete))
        .route("/activeflows", get(runs::list))
        .route("/activeflows/{id}", get(runs::read))
        .route("/customer", get(customers::own))
        .route("/customers", get(customers::list).post(customers::create))
        .route("/customers/{id}", get(customers::read).put(customers::update).delete(customers::delete))
        .route("/accesskeys", get(keys::list).post(keys::create))
        .route("/accesskeys/{id}/rotate", post(keys::rotate))
        .route("/accesskeys/{id}", get(keys::read).put(keys::update).delete(keys::delete))
}

/// What the bridge says to a command: an answer, or that it holds no such resource (then the store
/// may know it from before).
enum Answer {
    Reply(Reply),
    NotHeld,
}

impl Shared {
    fn settings(&self) -> watch::Ref<'_, ApiSettings> {
        self.state.settings.borrow()
    }

    fn now(&self) -> Now {
        (self.state.clock)()
    }

    fn wall(&self) -> Timestamp {
        self.now().wall
    }

    fn uuid(&self) -> Uuid {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).uuid()
    }

    fn fork_rng(&self) -> Rng {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    /// Asks the bridge.
    async fn ask(&self, command: Command) -> Result<Answer, ApiError> {
        /// When to come back after a refusal that passes.
        const RETRY_AFTER: Duration = Duration::from_secs(1);
        match (self.state.control)(command).await {
            Ok(Reply::Refused(refusal)) => match refusal {
                Refusal::NotFound => Ok(Answer::NotHeld),
                Refusal::IdTaken => Err(ApiError::new(Reason::IdTaken, refusal.to_string())),
                Refusal::WrongStatus(_) | Refusal::Conflict(_) => {
                    Err(ApiError::new(Reason::WrongStatus, refusal.to_string()))
                }
                Refusal::UnknownLanguage(_) => {
                    Err(ApiError::field(Reason::InvalidField, "language", refusal.to_string()))
                }
                Refusal::NoTranscriber(_) => Err(ApiError::new(Reason::NoTranscriber, refusal.to_string())),
                Refusal::Limit(_) => {
                    Err(ApiError::new(Reason::LimitReached, refusal.to_string()).retry_after(RETRY_AFTER))
                }
                Refusal::NoSuchFlow(key) => Err(body::wrong(key, "names a flow that does not exist")),
                Refusal::Draining => Err(ApiError::new(Reason::Draining, refusal.to_string())),
            },
            Ok(reply) => Ok(Answer::Reply(reply)),
            Err(error @ ControlError::Busy) => {
                Err(ApiError::new(Reason::Busy, error.to_string()).retry_after(RETRY_AFTER))
            }
            Err(error @ ControlError::NotDurable) => {
                Err(ApiError::new(Reason::NotDurable, error.to_string()))
            }
            Err(error @ ControlError::Stopped) => Err(ApiError::new(Reason::Draining, error.to_string())),
        }
    }
}

/// An answer that does not belong to its question: our own fault.
fn unexpected(reply: &Reply) -> ApiError {
    tracing::error!(answer = ?std::mem::discriminant(reply), "the bridge answered another question");
    ApiError::new(Reason::Internal, "internal error")
}
