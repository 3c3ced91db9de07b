//! `GET /v1.0/ws`: events as they are committed, over a WebSocket (RFC 6455).
//!
//! A client subscribes to topics and may resume after a `seq`. What it does not take in time is not
//! kept for it: it is closed with 1013 and comes back with `after_seq`. Partial transcripts are of the
//! moment: those that it does not take in time are left out.

mod session;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use dashmap::DashMap;
use serde_json::json;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::auth::{Holder, charge_key};
use super::error::{ApiError, Reason};
use super::openapi::ReadErrors;
use super::{Shared, SharedState};
use crate::id::ConferenceId;
use crate::store::{KeyOwner, Listening, Shown, Told};
use crate::time::Timestamp;
pub use session::TOPICS_MAX;
use session::{Fault, Request, Session};

/// The longest message of a client, in bytes.
pub const MESSAGE_MAX_BYTES: usize = 128 * 1024;
/// What a socket's reads are buffered in; clients say little.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// How long one message may take to be sent; who takes longer is too slow.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to close after we did.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Events replayed in one read of the store.
const REPLAY_PAGE: u32 = 256;
/// Pings without any sign of life after which a socket counts as dead.
const PINGS_UNANSWERED_MAX: u32 = 3;

/// Why a socket ended, in the order of its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client closed it, or is gone.
    Client,
    /// It did not take its events in time.
    Slow,
    /// It gave no sign of life.
    Idle,
    /// Its key does not work any more.
    Key,
    /// The server is ending.
    Server,
    /// The store could not be read.
    Store,
}

impl End {
    const ALL: [(End, &str); 6] = [
        (End::Client, "client"),
        (End::Slow, "slow"),
        (End::Idle, "idle"),
        (End::Key, "key"),
        (End::Server, "server"),
        (End::Store, "store"),
    ];

    /// The close code (RFC 6455 §7.4) and reason; `None` where there is nobody to tell.
    fn frame(self) -> Option<(u16, &'static str)> {
        match self {
            End::Client => None,
            End::Slow => Some((close_code::AGAIN, "too slow: come back with after_seq")),
            End::Idle => Some((close_code::POLICY, "no sign of life")),
            End::Key => Some((close_code::POLICY, "the access key does not work any more")),
            End::Server => Some((close_code::AWAY, "the server is ending")),
            End::Store => {
                Some((close_code::ERROR, "the events cannot be read now: come back with after_seq"))
            }
        }
    }
}

/// The sockets of this server.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    by_key: DashMap<Uuid, usize>,
    open: AtomicU64,
    refused: AtomicU64,
    told: AtomicU64,
    shown: AtomicU64,
    partials_skipped: AtomicU64,
    ended: [AtomicU64; 6],
}

impl Sockets {
    /// Counts one more socket of a key, unless it has enough.
    fn admit(self: &Arc<Self>, key: Uuid, max: usize) -> Option<Admitted> {
        let mut own = self.by_key.entry(key).or_default();
        if *own >= max {
            drop(own);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *own += 1;
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Admitted { sockets: self.clone(), key })
    }

    /// The counts in Prometheus' text form.
    pub(super) fn write(&self, text: &mut String) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP confab_ws_clients WebSockets that are open.\n# TYPE confab_ws_clients gauge\nconfab_ws_clients {}\n\
             # HELP confab_ws_refused_total WebSockets refused since their key had enough.\n\
             # TYPE confab_ws_refused_total counter\nconfab_ws_refused_total {}\n\
             # HELP confab_ws_events_total Events told over WebSockets.\n\
             # TYPE confab_ws_events_total counter\nconfab_ws_events_total {}\n\
             # HELP confab_ws_partials_total Partial transcripts shown over WebSockets.\n\
             # TYPE confab_ws_partials_total counter\nconfab_ws_partials_total {}\n\
             # HELP confab_ws_partials_skipped_total Partial transcripts left out since a WebSocket was too slow.\n\
             # TYPE confab_ws_partials_skipped_total counter\nconfab_ws_partials_skipped_total {}\n\
             # HELP confab_ws_ended_total WebSockets that ended, by why.\n# TYPE confab_ws_ended_total counter",
            read(&self.open),
            read(&self.refused),
            read(&self.told),
            read(&self.shown),
            read(&self.partials_skipped),
        );
        for ((_, why), counter) in End::ALL.iter().zip(&self.ended) {
            let _ = writeln!(text, "confab_ws_ended_total{{reason=\"{why}\"}} {}", read(counter));
        }
    }
}

/// A socket's place among its key's; given back when it is dropped.
#[derive(Debug)]
struct Admitted {
    sockets: Arc<Sockets>,
    key: Uuid,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.sockets.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(mut own) = self.sockets.by_key.get_mut(&self.key) {
            *own = own.saturating_sub(1);
        }
        self.sockets.by_key.remove_if(&self.key, |_, own| *own == 0);
    }
}

/// Opens a WebSocket that tells events. The client sends
/// `{"type":"subscribe","topics":["customer_id:<id>:conference:<conference id>"],"after_seq":0}`; a
/// topic may be any prefix of that which begins with the own customer, and `after_seq`, which may be
/// left out, replays what happened after that `seq`. `{"type":"unsubscribe","topics":[…]}` ends it. The
/// server answers `{"type":"subscribed"|"unsubscribed","topics":[…]}` or
/// `{"type":"error","reason":"…","message":"…"}`, and tells events as webhooks do:
/// `{"type","data","seq","tm_event"}`.
///
/// While a caller of a transcribed conference speaks, `transcript_partial` shows what it said so far. Its
/// `data` is a transcript, with the `id` and the `tm_transcript` that the `transcript_created` of the same
/// words will have; a later one of the same `id` takes its place, and an empty `message` takes it back. It
/// is of the moment: it goes to no webhook, is not stored or replayed, has `seq` 0, and is left out where a
/// client or the recogniser is too slow.
#[utoipa::path(get, path = "/v1.0/ws", tag = "events",
    responses((status = 101, description = "Events follow"), ReadErrors))]
pub(super) async fn open(
    State(shared): State<SharedState>,
    Holder(key): Holder,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|rejection| {
        ApiError::new(Reason::InvalidQuery, format!("this is opened as a WebSocket (RFC 6455): {rejection}"))
    })?;
    let max = shared.settings().sockets_per_key;
    let admitted = shared.sockets.admit(key.accesskey, max).ok_or_else(|| {
        ApiError::new(Reason::LimitReached, format!("this access key has {max} WebSockets open already"))
            .retry_after(Duration::from_secs(1))
    })?;
    let upgrade = upgrade
        .max_message_size(MESSAGE_MAX_BYTES)
        .max_frame_size(MESSAGE_MAX_BYTES)
        .read_buffer_size(READ_BUFFER_BYTES);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let Listening { events, partials } = shared.state.store.listen(key.customer);
        let client = Client {
            feed: events,
            partials,
            keys: shared.state.store.keys_change(),
            session: Session::new(key.customer),
            shared,
            key,
            socket,
        };
        client.serve().await;
        drop(admitted);
    }))
}

/// One open socket.
struct Client {
    shared: SharedState,
    key: KeyOwner,
    socket: WebSocket,
    session: Session,
    feed: broadcast::Receiver<Arc<Told>>,
    partials: broadcast::Receiver<Arc<Shown>>,
    keys: watch::Receiver<()>,
}

impl Client {
    /// Serves the socket to its end.
    async fn serve(mut self) {
        let end = match self.converse().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if let Some(counter) = End::ALL.iter().position(|(one, _)| *one == end) {
            self.shared.sockets.ended[counter].fetch_add(1, Ordering::Relaxed);
        }
        let Some((code, reason)) = end.frame() else { return };
        let close = async {
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                // Read to the client's own close (RFC 6455 §7.1.1): what it sent and nobody read would
                // reset the connection, and the code would be lost with it.
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        // Who is too slow may never see it.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
    }

    async fn converse(&mut self) -> Result<std::convert::Infallible, End> {
        let mut ping = tokio::time::interval(self.shared.settings().ping_every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered = 0;
        let mut expires = Box::pin(tokio::time::sleep_until(self.expiry()));
        loop {
            tokio::select! {
                message = self.socket.recv() => {
                    unanswered = 0;
                    match message {
                        Some(Ok(Message::Text(text))) => self.handle(text.as_str()).await?,
                        Some(Ok(Message::Binary(_))) => {
                            self.refuse(&Fault { reason: "INVALID_BODY", message: "messages must be text".to_owned() }).await?;
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Client),
                    }
                }
                told = self.feed.recv() => self.relay(told).await?,
                shown = self.partials.recv() => self.show(shown).await?,
                _ = ping.tick() => {
                    if unanswered >= PINGS_UNANSWERED_MAX {
                        return Err(End::Idle);
                    }
                    unanswered += 1;
                    self.send(Message::Ping(axum::body::Bytes::new())).await?;
                }
                _ = self.keys.changed() => {
                    self.check_key().await?;
                    expires.as_mut().reset(self.expiry());
                }
                () = &mut expires => return Err(End::Key),
            }
        }
    }

    /// When the key stops working, by the async runtime's clock.
    fn expiry(&self) -> Instant {
        // No socket lives that long, and the runtime's clock ends somewhere.
        const FAR: Duration = Duration::from_secs(365 * 86_400);
        Instant::now() + self.key.tm_expire.since(self.shared.wall()).min(FAR)
    }

    /// Ends the socket if its key was deleted or has expired.
    async fn check_key(&mut self) -> Result<(), End> {
        let key = self.shared.state.store.accesskey(self.key.accesskey).await.map_err(|_| End::Store)?;
        match key {
            Some(key) if key.tm_delete == Timestamp::NEVER && key.tm_expire > self.shared.wall() => {
                self.key.tm_expire = key.tm_expire;
                Ok(())
            }
            _ => Err(End::Key),
        }
    }

    /// Does what a message asks.
    async fn handle(&mut self, text: &str) -> Result<(), End> {
        if let Err(error) = charge_key(self.key.accesskey, &self.shared) {
            return self.refuse(&Fault { reason: "RATE_LIMITED", message: error.message }).await;
        }
        match session::parse(text) {
            Err(fault) => self.refuse(&fault).await,
            Ok(Request::Unsubscribe { topics }) => {
                self.session.unsubscribe(&topics);
                self.answer(&json!({"type": "unsubscribed", "topics": topics})).await
            }
            Ok(Request::Subscribe { topics, after_seq }) => {
                let answer = json!({"type": "subscribed", "topics": topics});
                match self.session.subscribe(topics, after_seq) {
                    Err(fault) => self.refuse(&fault).await,
                    Ok(conferences) => {
                        self.answer(&answer).await?;
                        for conference in conferences {
                            self.replay(conference, after_seq.unwrap_or(0)).await?;
                        }
                        Ok(())
                    }
                }
            }
        }
    }

    /// Tells what the store has of a conference after `seq`; then the live feed goes on from there.
    async fn replay(&mut self, conference: ConferenceId, mut seq: u64) -> Result<(), End> {
        let mut first = true;
        loop {
            let store = &self.shared.state.store;
            let page = store
                .events_told(self.key.customer, conference, seq, REPLAY_PAGE)
                .await
                .map_err(|_| End::Store)?;
            if first && page.first().is_some_and(|event| event.seq > seq + 1) {
                let message = format!("events before {} of {conference} are no longer kept", page[0].seq);
                self.refuse(&Fault { reason: "EVENTS_TRIMMED", message }).await?;
            }
            first = false;
            let is_last = page.len() < REPLAY_PAGE as usize;
            for event in page {
                seq = event.seq;
                self.tell(event.text).await?;
            }
            if is_last {
                self.session.caught_up(conference, seq);
                return Ok(());
            }
            // What happens elsewhere meanwhile must not pile up.
            loop {
                match self.feed.try_recv() {
                    Ok(told) => self.relay(Ok(told)).await?,
                    Err(broadcast::error::TryRecvError::Lagged(_)) => return Err(End::Slow),
                    Err(_) => break,
                }
            }
        }
    }

    /// Tells what was just committed, if it is asked for.
    async fn relay(&mut self, told: Result<Arc<Told>, broadcast::error::RecvError>) -> Result<(), End> {
        match told {
            Ok(told) if self.session.wants(told.conference, told.seq) => self.tell(told.text.clone()).await,
            Ok(_) => Ok(()),
            Err(broadcast::error::RecvError::Lagged(_)) => Err(End::Slow),
            Err(broadcast::error::RecvError::Closed) => Err(End::Server),
        }
    }

    /// Shows what a caller is saying, if its conference is asked for.
    async fn show(&mut self, shown: Result<Arc<Shown>, broadcast::error::RecvError>) -> Result<(), End> {
        match shown {
            Ok(shown) if self.session.watches(shown.conference) => {
                let Ok(text) = Utf8Bytes::try_from(shown.text.clone()) else { return Ok(()) };
                self.shared.sockets.shown.fetch_add(1, Ordering::Relaxed);
                self.send(Message::Text(text)).await
            }
            Ok(_) => Ok(()),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                self.shared.sockets.partials_skipped.fetch_add(missed, Ordering::Relaxed);
                Ok(())
            }
            Err(broadcast::error::RecvError::Closed) => Err(End::Server),
        }
    }

    /// Tells an event, after what was shown before it: a partial transcript never follows its whole.
    async fn tell(&mut self, text: axum::body::Bytes) -> Result<(), End> {
        loop {
            let shown = match self.partials.try_recv() {
                Ok(shown) => Ok(shown),
                Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                    Err(broadcast::error::RecvError::Lagged(missed))
                }
                Err(_) => break,
            };
            self.show(shown).await?;
        }
        let Ok(text) = Utf8Bytes::try_from(text) else { return Ok(()) };
        self.shared.sockets.told.fetch_add(1, Ordering::Relaxed);
        self.send(Message::Text(text)).await
    }

    async fn refuse(&mut self, fault: &Fault) -> Result<(), End> {
        self.answer(&json!({"type": "error", "reason": fault.reason, "message": fault.message})).await
    }

    async fn answer(&mut self, answer: &serde_json::Value) -> Result<(), End> {
        self.send(Message::Text(answer.to_string().into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Client),
            Err(_) => Err(End::Slow),
        }
    }
}

impl Shared {
    /// The WebSockets' metrics.
    pub(super) fn write_socket_metrics(&self, text: &mut String) {
        self.sockets.write(text);
    }
}
