//! `GET /v1.0/conferences/{id}/media_stream`: the mix out and audio in, over a WebSocket (RFC 6455), in
//! binary messages of 20 ms at 8 kHz.
//!
//! A client that takes too little misses whole pieces of 20 ms, which are counted; one that sends faster
//! than time passes is not read until there is room. Nothing piles up either way.

mod wire;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use tokio::time::MissedTickBehavior;

use super::auth::Owner;
use super::error::{ApiError, Reason};
use super::openapi::ActErrors;
use super::page::{Params, PathId};
use super::{Answer, Shared, SharedState, unexpected};
use crate::bridge::command::{Command, Reply};
use crate::bridge::stream::StreamEnds;
use crate::control::ControlError;
use crate::id::{ConferenceId, CustomerId};
use crate::plane::feed::FeedWriter;
use crate::plane::tap::{TapReader, TapTick};
use wire::{Encapsulation, Wire};

/// The longest message of a client: two seconds of sound.
const MESSAGE_MAX_BYTES: usize = 32 * 1024;
/// How often it is looked for sound, either way: half of what a message holds.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long one message may take to be sent; who takes longer is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to close after we did.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// From one try to tell the bridge that a stream is over to the next.
const CLOSE_AGAIN: Duration = Duration::from_millis(100);

/// What streams count.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: AtomicU64,
    total: AtomicU64,
    missed: AtomicU64,
}

/// Streams the conference: its mix comes in binary messages of 20 ms (8 kHz, 16 bits, little-endian,
/// mono), and what is sent likewise is heard in it. `rtp`: each message is an RTP packet of payload type
/// 96 whose timestamp counts samples. `audiosocket`: frames of kind, big-endian length and payload; 0x10
/// is sound, 0x00 hangs up. Only in a conference that is `progressing` (409), only so many in one (429), and
/// only by a WebSocket handshake (400).
#[utoipa::path(get, path = "/v1.0/conferences/{id}/media_stream", tag = "conferences", params(
    ("id" = Uuid, Path, description = "The conference"),
    ("encapsulation" = inline(Encapsulation), Query, description = "What is around the samples"),
), responses((status = 101, description = "Sound follows"), ActErrors))]
pub(super) async fn open(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
    params: Params,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let encapsulation = params.text("encapsulation").and_then(Encapsulation::named).ok_or_else(|| {
        ApiError::field(Reason::InvalidQuery, "encapsulation", "must be one of sln, rtp, audiosocket")
    })?;
    let conference = ConferenceId(id);
    shared.find_conference(customer, conference).await?;
    let upgrade = upgrade.map_err(|rejection| {
        ApiError::new(Reason::InvalidQuery, format!("this is opened as a WebSocket (RFC 6455): {rejection}"))
    })?;
    // Asked for in a task of its own: if the client goes meanwhile, the stream is given back all the same.
    let asking = tokio::spawn(Opened::ask(shared.clone(), customer, conference));
    let opened = asking.await.map_err(|_| ApiError::new(Reason::Internal, "internal error"))??;
    let ssrc = shared.uuid().as_u128() as u32;
    let upgrade = upgrade.max_message_size(MESSAGE_MAX_BYTES).max_frame_size(MESSAGE_MAX_BYTES);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let ends = opened.ends.as_ref();
        let ends = ends.and_then(|ends| Some((ends.feed.take_writer()?, ends.tap.take_reader()?)));
        if let Some((feed, tap)) = ends {
            let wire = Wire::new(encapsulation, ssrc);
            let client = Client { streams: shared.streams.clone(), socket, wire, feed, tap, next: None };
            client.serve().await;
        }
        drop(opened);
    }))
}

/// A stream that is open; given back when it is dropped.
struct Opened {
    shared: SharedState,
    customer: CustomerId,
    conference: ConferenceId,
    ends: Option<Box<StreamEnds>>,
}

impl Opened {
    async fn ask(
        shared: SharedState,
        customer: CustomerId,
        conference: ConferenceId,
    ) -> Result<Opened, ApiError> {
        match shared.ask(Command::OpenStream { customer, id: conference }).await? {
            Answer::Reply(Reply::Stream(ends)) => {
                shared.streams.open.fetch_add(1, Ordering::Relaxed);
                shared.streams.total.fetch_add(1, Ordering::Relaxed);
                Ok(Opened { shared, customer, conference, ends: Some(ends) })
            }
            Answer::Reply(other) => Err(unexpected(&other)),
            // Only the store knows it: it has ended.
            Answer::NotHeld => Err(ApiError::new(Reason::WrongStatus, "the conference has ended")),
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        self.shared.streams.open.fetch_sub(1, Ordering::Relaxed);
        let (shared, customer, id, leg) = (self.shared.clone(), self.customer, self.conference, ends.leg);
        tokio::spawn(async move {
            let close = || (shared.state.control)(Command::CloseStream { customer, id, leg });
            while let Err(ControlError::Busy) = close().await {
                tokio::time::sleep(CLOSE_AGAIN).await;
            }
        });
    }
}

/// Why a stream ended.
enum End {
    /// The client closed it, hung up, or is gone.
    Client,
    /// The conference is over.
    Conference,
}

/// One open stream.
struct Client {
    streams: Arc<Streams>,
    socket: WebSocket,
    wire: Wire,
    feed: FeedWriter,
    tap: TapReader,
    /// The number of the tick that is to be sent next.
    next: Option<u64>,
}

impl Client {
    async fn serve(mut self) {
        let mut tick = TapTick::default();
        let end = match self.converse(&mut tick).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if let End::Conference = end {
            let close = async {
                if let Some(bytes) = self.wire.hang_up() {
                    let _ = self.socket.send(Message::Binary(bytes.into())).await;
                }
                let reason = Utf8Bytes::from_static("the conference has ended");
                let frame = CloseFrame { code: close_code::NORMAL, reason };
                if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                    // Read to the client's own close (RFC 6455 §7.1.1).
                    while let Some(Ok(_)) = self.socket.recv().await {}
                }
            };
            // Who is gone never sees it.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
        }
    }

    /// Carries sound both ways until the stream ends.
    async fn converse(&mut self, tick: &mut TapTick) -> Result<std::convert::Infallible, End> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Sound that the feed had no room for yet; while there is some, the client is not read.
        let mut waiting: Vec<i16> = Vec::new();
        loop {
            tokio::select! {
                message = self.socket.recv(), if waiting.is_empty() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        if self.wire.unpack(&bytes, &mut waiting) {
                            return Err(End::Client);
                        }
                    }
                    Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Client),
                },
                _ = look.tick() => self.relay(tick).await?,
            }
            let taken = self.feed.write(&waiting);
            waiting.drain(..taken);
        }
    }

    /// Sends what the room was heard to say.
    async fn relay(&mut self, tick: &mut TapTick) -> Result<(), End> {
        // Asked first: then what is read is all there was.
        let closed = self.tap.is_closed();
        while self.tap.read(tick) {
            let missed = self.next.map_or(0, |next| tick.number.saturating_sub(next));
            self.next = Some(tick.number + 1);
            self.streams.missed.fetch_add(missed, Ordering::Relaxed);
            self.wire.skip(missed);
            let message = Message::Binary(self.wire.pack(tick.mix()).into());
            match tokio::time::timeout(SEND_TIMEOUT, self.socket.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(End::Client),
            }
        }
        if closed { Err(End::Conference) } else { Ok(()) }
    }
}

impl Shared {
    /// The streams' metrics.
    pub(super) fn write_stream_metrics(&self, text: &mut String) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Streams { open, total, missed } = &*self.streams;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP confab_media_streams Media streams that are open.\n# TYPE confab_media_streams gauge\nconfab_media_streams {}\n\
             # HELP confab_media_streams_total Media streams that were opened.\n# TYPE confab_media_streams_total counter\n\
             confab_media_streams_total {}\n\
             # HELP confab_media_streams_missed_ticks_total Pieces of 20 ms that clients were too slow to take.\n\
             # TYPE confab_media_streams_missed_ticks_total counter\nconfab_media_streams_missed_ticks_total {}",
            read(open),
            read(total),
            read(missed),
        );
    }
}
