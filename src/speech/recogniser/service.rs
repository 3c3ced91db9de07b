//! The two threads of the recogniser: one hears, one recognises, or tells what a recogniser elsewhere has
//! heard. Those that compute run behind everything else (a positive niceness), so that they take what CPU
//! is left.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::counters::Counters;
use super::ear::Ear;
use super::engine::{Care, Engine, EngineError};
use super::live::{Live, REPORTS_WAITING_MAX};
use super::queue::{Closed, Job, Queue, Work};
use super::websocket::Line;
use crate::bridge::{SpeechOrder, SpeechReport};
use crate::id::TranscriptId;
use crate::net::clock::{Clock, be_nice};
use crate::rng::Rng;
use crate::time::Duration;

/// Orders that may wait for the hearing thread; one more is dropped and counted.
pub const ORDERS_MAX: usize = 8192;
/// How often taps are heard.
const HEAR_EVERY: Duration = Duration::from_millis(50);
/// How long the engine is kept without work; it is large.
const KEEP_ENGINE: Duration = Duration::from_secs(120);
/// Texts kept of utterances that are perhaps whole: one a caller who has just paused.
const AHEAD_MAX: usize = 64;
/// The niceness of the thread that hears.
const EAR_NICENESS: libc::c_int = 5;
/// The niceness of the thread that recognises, and of those that its engine makes.
const RECOGNISER_NICENESS: libc::c_int = 15;

/// How it is recognised.
pub enum Means {
    /// By an engine that takes one utterance after the other.
    Engine(Box<dyn Engines>),
    /// By one that listens along, reached by this line and this runtime.
    Line(Box<Line>, Handle),
}

/// What engines come from.
pub trait Engines: Send {
    /// Makes the engine, when there is something to recognise.
    ///
    /// # Errors
    /// When there can be none, and why.
    fn make(&mut self) -> Result<Box<dyn Engine>, String>;

    /// Whether another would be made now than the last one.
    fn has_changed(&self) -> bool {
        false
    }
}

impl<F: FnMut() -> Result<Box<dyn Engine>, String> + Send> Engines for F {
    fn make(&mut self) -> Result<Box<dyn Engine>, String> {
        self()
    }
}

/// Where reports go; may wait.
pub type ReportOutlet = Box<dyn Fn(SpeechReport) + Send>;

/// The running recogniser. Dropping it ends the threads, in their own time.
#[derive(Debug)]
pub struct Recogniser {
    /// What is counted.
    pub counters: Arc<Counters>,
    queue: Arc<Queue>,
}

impl Recogniser {
    /// Starts both threads. `rng` gives the transcripts' ids.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(means: Means, reports: ReportOutlet, rng: Rng) -> io::Result<(Recogniser, SpeechInlet)> {
        let counters = Arc::new(Counters::default());
        let queue = Arc::new(Queue::new(counters.clone()));
        let (orders, taken) = sync_channel(ORDERS_MAX);
        let speech = std::thread::Builder::new().name("confab-speech".to_owned());
        let live = match means {
            Means::Engine(engines) => {
                let worker = Worker {
                    queue: queue.clone(),
                    engines,
                    engine: None,
                    ahead: VecDeque::new(),
                    reports,
                    counters: counters.clone(),
                    clock: Clock::new(),
                };
                speech.spawn(move || worker.run())?;
                None
            }
            Means::Line(line, runtime) => {
                let (told, mut telling) = mpsc::channel(REPORTS_WAITING_MAX);
                speech.spawn(move || {
                    while let Some(report) = telling.blocking_recv() {
                        reports(report);
                    }
                })?;
                Some(Live::new(*line, runtime, told, counters.clone()))
            }
        };
        let ear = Ear::new(queue.clone(), live, counters.clone(), rng);
        std::thread::Builder::new().name("confab-ear".to_owned()).spawn(move || hear(ear, &taken))?;
        let inlet = SpeechInlet { orders, counters: counters.clone() };
        Ok((Recogniser { counters, queue }, inlet))
    }
}

impl Drop for Recogniser {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The control task's way to the recogniser.
#[derive(Clone, Debug)]
pub struct SpeechInlet {
    orders: SyncSender<SpeechOrder>,
    counters: Arc<Counters>,
}

impl SpeechInlet {
    /// Sends an order, unless too many wait. Never waits.
    pub fn order(&self, order: SpeechOrder) {
        match self.orders.try_send(order) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.counters.orders_dropped.fetch_add(1, Relaxed);
            }
            // The server is ending.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

/// The hearing thread: orders as they come, taps as often as [`HEAR_EVERY`].
fn hear(mut ear: Ear, orders: &Receiver<SpeechOrder>) {
    be_nice(EAR_NICENESS);
    let clock = Clock::new();
    let mut due = clock.now();
    loop {
        let order = if ear.is_idle() {
            orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            orders.recv_timeout(due.since(clock.now()))
        };
        match order {
            Ok(order) => ear.order(clock.both(), order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if clock.now() >= due {
            ear.hear(clock.both());
            due = clock.now() + HEAR_EVERY;
        }
    }
}

/// The recognising thread.
struct Worker {
    queue: Arc<Queue>,
    engines: Box<dyn Engines>,
    engine: Option<Box<dyn Engine>>,
    /// What was heard of utterances that were perhaps whole, until they are; the oldest first.
    ahead: VecDeque<(TranscriptId, Duration, String)>,
    reports: ReportOutlet,
    counters: Arc<Counters>,
    clock: Clock,
}

/// How much of an utterance is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It goes on.
    Partial,
    /// It may be whole.
    Early,
    /// It is whole.
    Whole,
}

impl Worker {
    fn run(mut self) {
        be_nice(RECOGNISER_NICENESS);
        loop {
            match self.queue.pop(KEEP_ENGINE) {
                Err(Closed) => return,
                Ok(None) => {
                    if self.engine.take().is_some() {
                        info!("nothing to recognise: the speech models are unloaded");
                    }
                }
                Ok(Some(work)) => self.work(work),
            }
        }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Finish(transcribe) => (self.reports)(SpeechReport::Finished { transcribe }),
            Work::Whole(job) => self.whole(&job),
            Work::Early(job) => {
                if let Some(message) = self.recognise(&job, Kind::Early) {
                    self.keep(&job, message.clone());
                    self.show(&job, message);
                }
            }
            Work::Partial(job) => {
                if let Some(message) = self.recognise(&job, Kind::Partial) {
                    self.show(&job, message);
                }
            }
        }
    }

    /// Tells what was said. Where that is nothing, what was shown of it is taken back.
    fn whole(&mut self, job: &Job) {
        let message = self.take_kept(job).or_else(|| self.recognise(job, Kind::Whole));
        if message.is_some() {
            let delay_ms = self.clock.wall().since(job.utterance.ends()).as_millis() as u64;
            self.counters.delay_ms.store(delay_ms, Relaxed);
            self.counters.utterances.fetch_add(1, Relaxed);
            let audio_ms = job.utterance.length().as_millis() as u64;
            debug!(conferencecall = %job.conferencecall, audio_ms, delay_ms, "an utterance was recognised");
        }
        let message = message.unwrap_or_default();
        if !message.is_empty() {
            (self.reports)(heard(job, message, false));
        } else if self.engine.as_ref().is_some_and(|engine| engine.takes_partials()) {
            (self.reports)(heard(job, message, true));
        }
    }

    /// Shows what was said so far.
    fn show(&self, job: &Job, message: String) {
        if !message.is_empty() {
            (self.reports)(heard(job, message, true));
        }
    }

    /// Keeps what was heard of an utterance that is perhaps whole.
    fn keep(&mut self, job: &Job, message: String) {
        self.take_kept(job);
        if self.ahead.len() >= AHEAD_MAX {
            self.ahead.pop_front();
        }
        self.ahead.push_back((job.transcript, job.utterance.length(), message));
    }

    /// What was heard of exactly this utterance. What was heard of less of it is forgotten.
    fn take_kept(&mut self, job: &Job) -> Option<String> {
        let place = self.ahead.iter().position(|(transcript, ..)| *transcript == job.transcript)?;
        let (_, length, message) = self.ahead.remove(place)?;
        (length == job.utterance.length()).then_some(message)
    }

    /// Has the engine recognise an utterance; `None` where nothing came of it.
    fn recognise(&mut self, job: &Job, kind: Kind) -> Option<String> {
        let began = self.clock.now();
        self.engine.take_if(|_| self.engines.has_changed());
        if self.engine.is_none() {
            match self.engines.make() {
                Ok(engine) => self.engine = Some(engine),
                Err(why) => {
                    (self.reports)(SpeechReport::Failed(why));
                    return None;
                }
            }
            let took_ms = self.clock.now().since(began).as_millis() as u64;
            info!(took_ms, "the speech engine is ready");
        }
        let engine = self.engine.as_mut().filter(|engine| kind == Kind::Whole || engine.takes_partials())?;
        let queue = &self.queue;
        let care = match kind {
            Kind::Partial => Care::WhileNobodyWaits(&|| queue.is_awaited()),
            Kind::Early | Kind::Whole if queue.is_awaited() => Care::Quick,
            Kind::Early | Kind::Whole => Care::Thorough,
        };
        let began = self.clock.now();
        let result = engine.recognise(&job.utterance, &job.language, care);
        let took = self.clock.now().since(began);
        let add = |counter: &AtomicU64, by: u128| {
            counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Relaxed);
        };
        add(&self.counters.busy_ms, took.as_millis());
        add(&self.counters.audio_ms, job.utterance.length().as_millis());
        let took_ms = took.as_millis() as u64;
        debug!(conferencecall = %job.conferencecall, ?kind, took_ms, "heard");
        match result {
            Ok(message) => {
                if kind != Kind::Whole {
                    add(&self.counters.partials, 1);
                }
                Some(message)
            }
            Err(EngineError::GivenUp) => {
                add(&self.counters.partials_skipped, 1);
                None
            }
            Err(EngineError::Passing(why)) => {
                add(&self.counters.failures, 1);
                warn!(transcribe = %job.transcribe, conferencecall = %job.conferencecall, "an utterance was not recognised: {why}");
                None
            }
            Err(EngineError::Broken(why)) => {
                self.engine = None;
                (self.reports)(SpeechReport::Failed(why));
                None
            }
        }
    }
}

/// The report of what was heard in a job.
fn heard(job: &Job, message: String, partial: bool) -> SpeechReport {
    SpeechReport::Heard {
        transcribe: job.transcribe,
        transcript: job.transcript,
        conferencecall: job.conferencecall,
        message,
        begins: job.utterance.begins,
        partial,
    }
}

#[cfg(test)]
mod tests;
