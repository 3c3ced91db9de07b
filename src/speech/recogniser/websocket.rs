//! A recogniser reached by WebSocket (RFC 6455), which listens along. What is spoken is the protocol of
//! Vosk's server, a connection for each talk:
//!
//! | we say | it says |
//! |---|---|
//! | text `{"config":{"sample_rate":8000,…}}`, once | |
//! | binary: 16-bit little-endian mono, about 100 ms each | text `{"partial":"…"}`: what was said so far |
//! | | text `{"text":"…"}`: what was said since the last of these |
//! | text `{"eof" : 1}`, letter by letter: the voice is silent | `{"text":"…"}`, and it closes |
//!
//! A connection that is not made or breaks is made anew after a while, longer each time, and told again
//! what it has not answered. All that waits is bounded, and so is the time that a talk may take.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tracing::{debug, warn};

use super::counters::Counters;
use super::live::{Chunk, Talker};
use crate::bridge::SpeechReport;
use crate::id::TranscriptId;
use crate::net::clock::Clock;
use crate::net::http::{Dialer, Dialled, Trust};
use crate::rng::Rng;
use crate::time::{Duration, Timestamp};

/// The name of this engine, as transcriptions show it.
pub const PROVIDER: &str = "websocket";
/// The longest message that is taken of it, in bytes.
const MESSAGE_MAX: usize = 64 << 10;
/// The longest text that is taken of it, in characters.
const TEXT_MAX: usize = 4096;
/// The sound of one message, as a share of a second.
const MESSAGES_PER_S: usize = 10;
/// Seconds of sound that are kept until they are answered, to be told again; the oldest goes first.
const UNANSWERED_MAX_S: usize = 20;
/// Connections that are tried for one talk.
const ATTEMPTS_MAX: u32 = 5;
/// How long after the first failure the next connection is tried; doubles up to [`RETRY_LAST`].
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// The longest wait between two connections.
const RETRY_LAST: Duration = Duration::from_secs(30);
/// The least time between two partial texts of one talk.
const PARTIAL_EVERY: Duration = Duration::from_millis(250);
/// How long another text may follow the first after the end; a server that closes is not awaited.
const LINGER: Duration = Duration::from_millis(300);
/// What ends a talk, as Vosk's server compares it.
const EOF: &str = "{\"eof\" : 1}";

/// Where it is and how it is asked.
#[derive(Clone, PartialEq)]
pub struct WebSocketSettings {
    /// The URL, `ws://` or `wss://`; the operator's choice, so it may be a private address.
    pub url: String,
    /// Sent as a bearer token, when there is one.
    pub key: Option<String>,
    /// How long a connection, a message's way out, and the last text may take, each.
    pub timeout: Duration,
    /// Whose certificates are trusted.
    pub trust: Trust,
}

/// Why there can be no line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The URL is none.
    #[error("transcribe.url is no WebSocket URL: {0}")]
    Url(String),
    /// The key is none for a header.
    #[error("keys.transcribe cannot be sent in a header")]
    Key,
    /// The TLS library has no protocol in common with itself, which no build has.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// The way to the recogniser.
#[derive(Debug)]
pub struct Line {
    request: Request,
    /// The same place for [`Dialer`].
    place: Uri,
    dialer: Dialer,
    timeout: Duration,
    /// Failures in a row, and when it may be tried again.
    outage: Mutex<(u32, Option<Instant>)>,
}

impl Line {
    /// A line that is used as `settings` say.
    ///
    /// # Errors
    /// When the URL is none, the key cannot be sent in a header, or there can be no TLS.
    pub fn new(settings: &WebSocketSettings) -> Result<Self, LineError> {
        let no_url = || LineError::Url(settings.url.clone());
        let place = settings.url.strip_prefix("ws").map(|rest| format!("http{rest}"));
        let place: Uri = place.and_then(|place| place.parse().ok()).ok_or_else(no_url)?;
        let mut request = settings.url.as_str().into_client_request().map_err(|_| no_url())?;
        if let Some(key) = &settings.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| LineError::Key)?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let dialer = Dialer::new(settings.timeout, &settings.trust)?;
        Ok(Self { request, place, dialer, timeout: settings.timeout, outage: Mutex::default() })
    }

    async fn connect(&self) -> Result<WebSocketStream<Dialled>, String> {
        let stream = self.dialer.dial(self.place.clone()).await.map_err(|failure| failure.to_string())?;
        let limits = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX));
        let shake = tokio_tungstenite::client_async_with_config(self.request.clone(), stream, Some(limits));
        match timeout(self.timeout, shake).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        }
    }

    /// When it may be tried.
    fn opens(&self) -> Option<Instant> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn worked(&self) {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = (0, None);
    }

    fn failed(&self) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = RETRY_FIRST.saturating_mul(1 << outage.0.min(10)).min(RETRY_LAST);
        *outage = (outage.0 + 1, Some(Instant::now() + wait));
    }
}

/// What it says; an object without either is passed over.
#[derive(Deserialize)]
struct Answer {
    partial: Option<String>,
    text: Option<String>,
}

/// One talk.
pub(super) struct Conversation {
    line: Arc<Line>,
    talker: Talker,
    chunks: mpsc::Receiver<Chunk>,
    reports: mpsc::Sender<SpeechReport>,
    counters: Arc<Counters>,
    rng: Rng,
    clock: Clock,
    /// What is said now becomes this transcript.
    transcript: TranscriptId,
    /// The sound that no text has come for yet, as bytes; so many of them, the last, were not sent.
    unanswered: Vec<u8>,
    unsent: usize,
    /// Samples taken, and samples for which texts have come.
    taken: u64,
    answered: u64,
    /// The voice is silent: since when, and by when its last text must be there.
    over: Option<(Timestamp, Instant)>,
    /// The last partial text of this transcript, and when the next may be shown.
    shown: Option<(String, Instant)>,
    /// The talk before this one; its texts come first.
    after: Option<oneshot::Receiver<()>>,
}

impl Conversation {
    pub(super) fn new(
        line: Arc<Line>,
        talker: Talker,
        chunks: mpsc::Receiver<Chunk>,
        reports: mpsc::Sender<SpeechReport>,
        counters: Arc<Counters>,
        mut rng: Rng,
    ) -> Self {
        Self {
            line,
            talker,
            chunks,
            reports,
            counters,
            transcript: TranscriptId::random(&mut rng),
            rng,
            clock: Clock::new(),
            unanswered: Vec::new(),
            unsent: 0,
            taken: 0,
            answered: 0,
            over: None,
            shown: None,
            after: None,
        }
    }

    /// Has it, to its end: answered, or given up.
    pub(super) async fn run(mut self, after: Option<oneshot::Receiver<()>>) {
        self.after = after;
        for attempt in 1..=ATTEMPTS_MAX {
            let Err(why) = self.converse().await else { return };
            self.line.failed();
            self.counters.connection_failures.fetch_add(1, Relaxed);
            let Talker { transcribe, conferencecall, .. } = &self.talker;
            warn!(%transcribe, %conferencecall, attempt, "the WebSocket recogniser: {why}");
            while let Ok(chunk) = self.chunks.try_recv() {
                self.take(Some(chunk));
            }
            if self.is_late() {
                break;
            }
        }
        self.counters.failures.fetch_add(1, Relaxed);
        self.take_back().await;
    }

    /// Whether another connection would be too late.
    fn is_late(&self) -> bool {
        let next = self.line.opens().map_or_else(Instant::now, |opens| opens.max(Instant::now()));
        self.over.is_some_and(|(_, by)| next >= by)
    }

    /// One connection, until all is answered.
    async fn converse(&mut self) -> Result<(), String> {
        if let Some(opens) = self.line.opens() {
            sleep_until(opens).await;
        }
        let (mut say, mut hear) = self.line.connect().await?.split();
        self.greet(&mut say).await?;
        let message_len = self.talker.rate_hz as usize * 2 / MESSAGES_PER_S;
        while self.over.is_none() {
            tokio::select! {
                chunk = self.chunks.recv() => {
                    self.take(chunk);
                    if self.unsent >= message_len || self.over.is_some() {
                        self.send_sound(&mut say).await?;
                    }
                }
                message = hear.next() => drop(self.answer(message).await?),
            }
        }
        self.send(&mut say, Message::text(EOF)).await?;
        self.hear_out(&mut hear).await?;
        // It may be gone already.
        let _ = timeout(LINGER, say.close()).await;
        Ok(())
    }

    /// Says what sound comes, and what an earlier connection has not answered.
    async fn greet(&mut self, say: &mut Say) -> Result<(), String> {
        let Talker { language, rate_hz, .. } = &self.talker;
        let config = json!({"config": {"sample_rate": rate_hz, "words": false, "language": &**language}});
        self.send(say, Message::text(config.to_string())).await?;
        self.unsent = self.unanswered.len();
        self.send_sound(say).await
    }

    /// Takes the voice's next sound, or its end.
    fn take(&mut self, chunk: Option<Chunk>) {
        match chunk {
            Some(Chunk::Sound(samples)) => {
                self.taken += samples.len() as u64;
                self.unanswered.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
                let most = UNANSWERED_MAX_S * self.talker.rate_hz as usize * 2;
                let beyond = self.unanswered.len().saturating_sub(most);
                self.unanswered.drain(..beyond);
                self.unsent = (self.unsent + samples.len() * 2).min(self.unanswered.len());
            }
            Some(Chunk::Over(ends)) => self.over = Some((ends, Instant::now() + self.line.timeout)),
            // It was not taken in time: what was, is answered.
            None => self.over = Some((self.clock.wall(), Instant::now() + self.line.timeout)),
        }
    }

    /// Sends the sound that was not sent.
    async fn send_sound(&mut self, say: &mut Say) -> Result<(), String> {
        let from = self.unanswered.len() - self.unsent;
        for part in self.unanswered[from..].chunks(MESSAGE_MAX) {
            self.send(say, Message::binary(Bytes::copy_from_slice(part))).await?;
        }
        self.unsent = 0;
        Ok(())
    }

    async fn send(&self, say: &mut Say, message: Message) -> Result<(), String> {
        match timeout(self.line.timeout, say.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it takes nothing for {:?}", self.line.timeout)),
        }
    }

    /// Hears the last texts: until it closes, or nothing more comes.
    async fn hear_out(&mut self, hear: &mut Hear) -> Result<(), String> {
        let Some((ends, mut by)) = self.over else { return Ok(()) };
        let mut answered = false;
        loop {
            tokio::select! {
                message = hear.next() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None if answered => return Ok(()),
                    message => if self.answer(message).await? && !answered {
                        answered = true;
                        by = Instant::now() + LINGER;
                        self.measure(ends);
                    }
                },
                () = sleep_until(by) => {
                    return if answered { Ok(()) } else { Err("it has not answered in time".to_owned()) };
                }
            }
        }
    }

    fn measure(&self, ends: Timestamp) {
        let delay_ms = self.clock.wall().since(ends).as_millis() as u64;
        self.counters.delay_ms.store(delay_ms, Relaxed);
        self.counters.utterances.fetch_add(1, Relaxed);
        let audio_ms = self.taken * 1000 / u64::from(self.talker.rate_hz.max(1));
        self.counters.audio_ms.fetch_add(audio_ms, Relaxed);
        debug!(conferencecall = %self.talker.conferencecall, audio_ms, delay_ms, "an utterance was recognised");
    }

    /// Takes a message; tells whether it was a text.
    async fn answer(&mut self, message: Heard) -> Result<bool, String> {
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(_))) => return Err("it sent a binary message".to_owned()),
            Some(Ok(Message::Close(_))) | None => return Err("it closed the connection".to_owned()),
            Some(Ok(_)) => return Ok(false),
            Some(Err(error)) => return Err(error.to_string()),
        };
        let answer: Answer =
            serde_json::from_str(&text).map_err(|error| format!("its answer cannot be read: {error}"))?;
        self.line.worked();
        let plain = |text: String| text.trim().chars().take(TEXT_MAX).collect::<String>();
        if let Some(text) = answer.text {
            self.tell(plain(text)).await;
            return Ok(true);
        }
        if let Some(partial) = answer.partial {
            self.show(plain(partial));
        }
        Ok(false)
    }

    /// Tells a text; what comes then is another transcript.
    async fn tell(&mut self, text: String) {
        if text.is_empty() {
            self.take_back().await;
        } else {
            if let Some(after) = self.after.take() {
                // Dropped when that talk has ended.
                let _ = after.await;
            }
            // A receiver that is gone has no use for it.
            let _ = self.reports.send(self.heard(text, false)).await;
        }
        self.shown = None;
        self.transcript = TranscriptId::random(&mut self.rng);
        self.answered = self.taken - self.unsent as u64 / 2;
        self.unanswered.drain(..self.unanswered.len() - self.unsent);
    }

    /// Shows what was said so far, unless that is the same, or too soon.
    fn show(&mut self, text: String) {
        let now = Instant::now();
        if text.is_empty() || self.shown.as_ref().is_some_and(|(shown, next)| *shown == text || now < *next) {
            return;
        }
        if self.reports.try_send(self.heard(text.clone(), true)).is_ok() {
            self.counters.partials.fetch_add(1, Relaxed);
            self.shown = Some((text, now + PARTIAL_EVERY));
        } else {
            self.counters.partials_skipped.fetch_add(1, Relaxed);
        }
    }

    /// What was shown comes to nothing.
    async fn take_back(&mut self) {
        if self.shown.take().is_some() {
            let _ = self.reports.send(self.heard(String::new(), true)).await;
        }
    }

    fn heard(&self, message: String, partial: bool) -> SpeechReport {
        let answered =
            Duration::from_micros(self.answered * 1_000_000 / u64::from(self.talker.rate_hz.max(1)));
        SpeechReport::Heard {
            transcribe: self.talker.transcribe,
            transcript: self.transcript,
            conferencecall: self.talker.conferencecall,
            message,
            begins: self.talker.begins.plus(answered),
            partial,
        }
    }
}

type Say = SplitSink<WebSocketStream<Dialled>, Message>;
type Hear = SplitStream<WebSocketStream<Dialled>>;
type Heard = Option<Result<Message, tokio_tungstenite::tungstenite::Error>>;
