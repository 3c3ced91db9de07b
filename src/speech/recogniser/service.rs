//! The two threads of the recogniser: one hears, one recognises. Both run behind everything else (a
//! positive niceness), so that they take what CPU is left.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};

use tracing::{debug, info, warn};

use super::counters::Counters;
use super::ear::Ear;
use super::engine::{Care, Engine, EngineError};
use super::queue::{Closed, Job, Queue, Work};
use crate::bridge::{SpeechOrder, SpeechReport};
use crate::net::clock::Clock;
use crate::time::Duration;

/// Orders that may wait for the hearing thread; one more is dropped and counted.
pub const ORDERS_MAX: usize = 8192;
/// How often taps are heard.
const HEAR_EVERY: Duration = Duration::from_millis(50);
/// How long the engine is kept without work; it is large.
const KEEP_ENGINE: Duration = Duration::from_secs(120);
/// The niceness of the thread that hears.
const EAR_NICENESS: libc::c_int = 5;
/// The niceness of the thread that recognises, and of those that its engine makes.
const RECOGNISER_NICENESS: libc::c_int = 15;

/// Makes the engine when there is something to recognise.
pub type MakeEngine = Box<dyn FnMut() -> Result<Box<dyn Engine>, String> + Send>;
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

impl Engines for MakeEngine {
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
    /// Starts both threads.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(
        engines: impl Engines + 'static,
        reports: ReportOutlet,
    ) -> io::Result<(Recogniser, SpeechInlet)> {
        let counters = Arc::new(Counters::default());
        let queue = Arc::new(Queue::new(counters.clone()));
        let (orders, taken) = sync_channel(ORDERS_MAX);
        let ear = Ear::new(queue.clone(), counters.clone());
        std::thread::Builder::new().name("confab-ear".to_owned()).spawn(move || hear(ear, &taken))?;
        let (engines, its_counters) = (Box::new(engines), counters.clone());
        let worker = Worker { queue: queue.clone(), engines, engine: None, reports, counters: its_counters };
        std::thread::Builder::new().name("confab-speech".to_owned()).spawn(move || worker.run())?;
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
    reports: ReportOutlet,
    counters: Arc<Counters>,
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
                Ok(Some(Work::Finish(transcribe))) => (self.reports)(SpeechReport::Finished { transcribe }),
                Ok(Some(Work::Whole(job))) => self.recognise(job, false),
                Ok(Some(Work::Partial(job))) => self.recognise(job, true),
            }
        }
    }

    fn recognise(&mut self, job: Job, partial: bool) {
        let clock = Clock::new();
        self.engine.take_if(|_| self.engines.has_changed());
        if self.engine.is_none() {
            let began = clock.now();
            match self.engines.make() {
                Ok(engine) => self.engine = Some(engine),
                Err(why) => {
                    (self.reports)(SpeechReport::Failed(why));
                    return;
                }
            }
            info!(took_ms = clock.now().since(began).as_millis() as u64, "the speech engine is ready");
        }
        let Some(engine) = self.engine.as_mut().filter(|engine| !partial || engine.takes_partials()) else {
            return;
        };
        let others_wait = self.counters.waiting.load(Relaxed) > 0;
        let care = if partial || others_wait { Care::Quick } else { Care::Thorough };
        let began = clock.now();
        let result = engine.recognise(&job.utterance, &job.language, care);
        let took = clock.now().since(began);
        let add = |counter: &std::sync::atomic::AtomicU64, by: u128| {
            counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Relaxed);
        };
        add(&self.counters.busy_ms, took.as_millis());
        add(&self.counters.audio_ms, job.utterance.length().as_millis());
        add(if partial { &self.counters.partials } else { &self.counters.utterances }, 1);
        let message = match result {
            Ok(message) => message,
            Err(EngineError::Passing(why)) => {
                add(&self.counters.failures, 1);
                warn!(transcribe = %job.transcribe, conferencecall = %job.conferencecall, "an utterance was not recognised: {why}");
                return;
            }
            Err(EngineError::Broken(why)) => {
                self.engine = None;
                (self.reports)(SpeechReport::Failed(why));
                return;
            }
        };
        if !partial {
            let delay_ms = clock.wall().since(job.utterance.ends()).as_millis() as u64;
            self.counters.delay_ms.store(delay_ms, Relaxed);
            let (audio_ms, took_ms) = (job.utterance.length().as_millis() as u64, took.as_millis() as u64);
            debug!(conferencecall = %job.conferencecall, audio_ms, took_ms, delay_ms, "an utterance was recognised");
        }
        if !message.is_empty() {
            (self.reports)(SpeechReport::Heard {
                transcribe: job.transcribe,
                conferencecall: job.conferencecall,
                message,
                begins: job.utterance.begins,
                partial,
            });
        }
    }
}

/// Lets every other thread go before this one.
fn be_nice(niceness: libc::c_int) {
    // SAFETY: takes no pointers; on Linux 0 means the calling thread. A refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
}

#[cfg(test)]
mod tests;
