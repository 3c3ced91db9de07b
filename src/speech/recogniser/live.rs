//! Callers' voices on their way to a recogniser that listens along: while a caller speaks, its sound goes
//! out as it comes, in a talk of its own. The thread that hears opens and ends talks and never waits for
//! one; each is a task that is done with in bounded time ([`websocket`](super::websocket)).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::counters::Counters;
use super::utterance::{Cutter, Piece};
use super::websocket::{Conversation, Line};
use crate::bridge::SpeechReport;
use crate::id::{ConferencecallId, TranscribeId};
use crate::rng::Rng;
use crate::time::Timestamp;

/// Talks at once; a voice beyond them is not heard.
pub const TALKS_MAX: usize = 128;
/// Frames that wait for a talk's connection (10 s); the talk of one more ends there.
pub const FRAMES_WAITING_MAX: usize = 500;
/// Reports that wait for the control task; then partial ones are left out, and others wait.
pub const REPORTS_WAITING_MAX: usize = 256;
/// The longest talk, in frames (60 s): one that goes on does so in a talk of its own.
pub const TALK_FRAMES_MAX: usize = 3000;

/// The recogniser that listens along; clones are the same.
#[derive(Clone)]
pub struct Live {
    line: Arc<Line>,
    runtime: Handle,
    reports: mpsc::Sender<SpeechReport>,
    open: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

/// Whose talk it is.
#[derive(Clone, Debug)]
pub(super) struct Talker {
    pub(super) transcribe: TranscribeId,
    pub(super) conferencecall: ConferencecallId,
    pub(super) language: Arc<str>,
    pub(super) begins: Timestamp,
    pub(super) rate_hz: u32,
}

/// What a talk is made of.
#[derive(Debug)]
pub(super) enum Chunk {
    /// A voice, 16-bit.
    Sound(Vec<i16>),
    /// It was silent since.
    Over(Timestamp),
}

impl Live {
    /// One that talks by `line` and tells by `reports`.
    pub fn new(
        line: Line,
        runtime: Handle,
        reports: mpsc::Sender<SpeechReport>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { line: Arc::new(line), runtime, reports, open: Arc::default(), counters }
    }

    /// The talks of a transcription.
    pub(super) fn talks(&self, transcribe: TranscribeId, language: Arc<str>) -> Talks {
        let (held, over) = mpsc::channel(1);
        Talks { live: self.clone(), transcribe, language, held, over }
    }
}

/// The talks of one transcription.
pub(super) struct Talks {
    live: Live,
    transcribe: TranscribeId,
    language: Arc<str>,
    /// Held by every talk, so that `over` ends with the last.
    held: mpsc::Sender<()>,
    over: mpsc::Receiver<()>,
}

impl Talks {
    /// Tells that the transcription is finished, once its talks are.
    pub(super) fn finish(self) {
        let Talks { live, transcribe, held, mut over, .. } = self;
        drop(held);
        live.runtime.spawn(async move {
            // Nothing is ever sent: it ends when nobody can.
            let _ = over.recv().await;
            // A receiver that is gone has no use for it.
            let _ = live.reports.send(SpeechReport::Finished { transcribe }).await;
        });
    }

    /// Opens a talk, unless there are too many.
    fn open(
        &self,
        conferencecall: ConferencecallId,
        (begins, rate_hz): (Timestamp, u32),
        after: Option<oneshot::Receiver<()>>,
        rng: &mut Rng,
    ) -> Option<Talk> {
        let live = &self.live;
        if live.open.load(Relaxed) >= TALKS_MAX {
            live.counters.utterances_dropped.fetch_add(1, Relaxed);
            return None;
        }
        live.counters.talks.store(live.open.fetch_add(1, Relaxed) as u64 + 1, Relaxed);
        let (chunks, taken) = mpsc::channel(FRAMES_WAITING_MAX);
        let (done, is_done) = oneshot::channel();
        let talker = Talker {
            transcribe: self.transcribe,
            conferencecall,
            language: self.language.clone(),
            begins,
            rate_hz,
        };
        let conversation = Conversation::new(
            live.line.clone(),
            talker,
            taken,
            live.reports.clone(),
            live.counters.clone(),
            rng.fork(),
        );
        let (held, open, counters) = (self.held.clone(), live.open.clone(), live.counters.clone());
        live.runtime.spawn(async move {
            conversation.run(after).await;
            counters.talks.store(open.fetch_sub(1, Relaxed) as u64 - 1, Relaxed);
            drop((done, held));
        });
        Some(Talk { chunks: Some(chunks), frames: 0, is_done })
    }
}

/// A talk that is open.
#[derive(Debug)]
struct Talk {
    /// None when its connection did not take it in time, or is given up.
    chunks: Option<mpsc::Sender<Chunk>>,
    frames: usize,
    is_done: oneshot::Receiver<()>,
}

impl Talk {
    fn say(&mut self, chunk: Chunk, counters: &Counters) {
        self.frames += 1;
        let Some(chunks) = &self.chunks else { return };
        match chunks.try_send(chunk) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                counters.utterances_dropped.fetch_add(1, Relaxed);
                self.chunks = None;
            }
            // Given up, and counted as a failure.
            Err(mpsc::error::TrySendError::Closed(_)) => self.chunks = None,
        }
    }
}

/// One caller's voice: at most one talk at a time, and each tells its texts after the one before.
#[derive(Debug, Default)]
pub(super) struct Voice {
    talk: Option<Talk>,
    /// There was no room for what is being said.
    unheard: bool,
    before: Option<oneshot::Receiver<()>>,
}

impl Voice {
    /// Follows the cutter, which has taken a frame heard at `heard` and given `piece`.
    pub(super) fn follow(
        &mut self,
        cutter: &Cutter,
        (heard, piece): (Timestamp, Option<&Piece>),
        (talks, conferencecall): (&Talks, ConferencecallId),
        rng: &mut Rng,
    ) {
        let counters = &talks.live.counters;
        if !cutter.is_speaking() {
            let ends = if let Some(Piece::Whole(utterance)) = piece { utterance.ends() } else { heard };
            self.end(ends, counters);
            return;
        }
        if self.talk.as_ref().is_some_and(|talk| talk.frames >= TALK_FRAMES_MAX) {
            self.end(heard, counters);
            self.begin(cutter, (heard, cutter.last_frame()), (talks, conferencecall), rng);
        } else if let Some(talk) = &mut self.talk {
            talk.say(Chunk::Sound(cutter.last_frame().to_vec()), counters);
        } else if let Some(voice) = cutter.voice().filter(|_| !self.unheard) {
            self.begin(cutter, voice, (talks, conferencecall), rng);
        }
    }

    fn begin(
        &mut self,
        cutter: &Cutter,
        (begins, samples): (Timestamp, &[i16]),
        (talks, conferencecall): (&Talks, ConferencecallId),
        rng: &mut Rng,
    ) {
        let talk = talks.open(conferencecall, (begins, cutter.rate_hz()), self.before.take(), rng);
        self.unheard = talk.is_none();
        self.talk = talk;
        if let Some(talk) = &mut self.talk {
            talk.say(Chunk::Sound(samples.to_vec()), &talks.live.counters);
        }
    }

    /// The voice has been silent since `ends`.
    pub(super) fn end(&mut self, ends: Timestamp, counters: &Counters) {
        self.unheard = false;
        if let Some(mut talk) = self.talk.take() {
            talk.say(Chunk::Over(ends), counters);
            self.before = Some(talk.is_done);
        }
    }
}

#[cfg(test)]
mod tests;
