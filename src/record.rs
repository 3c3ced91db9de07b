//! The recorder: one thread that reads the taps of all recordings ten times a second and writes their
//! files, which are whole again every second. It is told by [`RecordInlet`] and tells by its outlet;
//! the media threads know nothing of it but the rings it reads.

mod folder;
mod ogg;
pub mod retention;
mod session;
pub mod storage;
#[cfg(test)]
mod tests;
mod wav;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tracing::{error, info, warn};

use crate::bridge::recording::{RecordOrder, RecordReport, Written};
use crate::bridge::resource::Recording;
use crate::id::RecordingId;
use crate::net::clock::Clock;
use crate::time::{Duration, Instant};
pub use folder::{FOLDER, Folder, Part, media_type};
use session::Session;
pub use session::TRACKS_MAX;

/// Orders that may wait for the recorder.
pub const ORDERS_MAX: usize = 4096;
/// Orders kept on the other side when that queue is full; beyond it names are dropped and counted, and
/// no recording starts.
pub const OVERFLOW_MAX: usize = 4096;
/// How often taps are read: a tenth of what the smallest holds, many times over.
const READ_EVERY: Duration = Duration::from_millis(100);
/// How often files are made whole.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// What the recorder counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Recordings being written.
    pub active: AtomicU64,
    /// Bytes of recordings that are finished.
    pub bytes: AtomicU64,
    /// Ticks of 20 ms that were lost before they were read.
    pub lost_ticks: AtomicU64,
    /// Recordings that ended because a file could not be written.
    pub write_failures: AtomicU64,
    /// Callers without a track because there were too many.
    pub tracks_refused: AtomicU64,
    /// Orders dropped because the recorder was too slow.
    pub orders_dropped: AtomicU64,
    /// Reports that could not be delivered at once.
    pub reports_waiting: AtomicU64,
}

/// Where reports go; gives back what cannot be taken now.
pub type RecordOutlet = Box<dyn FnMut(RecordReport) -> Result<(), RecordReport> + Send>;

/// The way to the recorder. Whoever drops it ends the recorder.
#[derive(Debug)]
pub struct RecordInlet {
    orders: SyncSender<RecordOrder>,
    overflow: VecDeque<RecordOrder>,
    counters: Arc<Counters>,
}

impl RecordInlet {
    /// Hands an order on. A refusal comes back as the report the bridge would have got.
    pub fn order(&mut self, order: RecordOrder) -> Option<RecordReport> {
        self.retry();
        if self.overflow.len() >= OVERFLOW_MAX {
            self.counters.orders_dropped.fetch_add(1, Ordering::Relaxed);
            return refusal(&order, "the recorder is overloaded");
        }
        self.overflow.push_back(order);
        self.retry()
    }

    /// Tries again what was refused.
    pub fn retry(&mut self) -> Option<RecordReport> {
        while let Some(order) = self.overflow.pop_front() {
            match self.orders.try_send(order) {
                Ok(()) => {}
                Err(TrySendError::Full(order)) => {
                    self.overflow.push_front(order);
                    return None;
                }
                Err(TrySendError::Disconnected(order)) => {
                    if let refused @ Some(_) = refusal(&order, "the recorder has stopped") {
                        return refused;
                    }
                }
            }
        }
        None
    }
}

/// Only a recording's start can be refused; of the rest nothing is waited for.
fn refusal(order: &RecordOrder, fault: &str) -> Option<RecordReport> {
    let RecordOrder::Start { recording, .. } = *order else { return None };
    Some(RecordReport::Ended { recording, fault: fault.to_owned(), written: Written::default() })
}

/// The running recorder.
#[derive(Debug)]
pub struct Recorder {
    /// What it counts.
    pub counters: Arc<Counters>,
    handle: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts it. It stops, having finished every file, when its inlet is dropped.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(folder: Folder, outlet: RecordOutlet) -> io::Result<(Self, RecordInlet)> {
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        let counters = Arc::new(Counters::default());
        let worker = Worker::new(folder, outlet, counters.clone());
        let handle =
            std::thread::Builder::new().name("record".to_owned()).spawn(move || worker.run(&inbox))?;
        let inlet = RecordInlet { orders, overflow: VecDeque::new(), counters: counters.clone() };
        Ok((Self { counters, handle: Some(handle) }, inlet))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            // A panic of the thread was reported by the panic hook already.
            let _ = handle.join();
        }
    }
}

/// What the thread works with. Also driven by tests, without the thread.
struct Worker {
    folder: Folder,
    outlet: RecordOutlet,
    counters: Arc<Counters>,
    sessions: BTreeMap<RecordingId, Session>,
    /// Reports that nobody took yet.
    reports: VecDeque<RecordReport>,
    flushed: Instant,
}

impl Worker {
    fn new(folder: Folder, outlet: RecordOutlet, counters: Arc<Counters>) -> Self {
        Self {
            folder,
            outlet,
            counters,
            sessions: BTreeMap::new(),
            reports: VecDeque::new(),
            flushed: Instant::ZERO,
        }
    }

    fn run(mut self, inbox: &Receiver<RecordOrder>) {
        let clock = Clock::new();
        let mut next = clock.now();
        loop {
            let is_idle = self.sessions.is_empty() && self.reports.is_empty();
            let order = if is_idle {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                inbox.recv_timeout(next.since(clock.now()))
            };
            match order {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {
                    // Orders that have come apply to what is read after them.
                    while let Ok(order) = inbox.try_recv() {
                        self.obey(order);
                    }
                    let now = clock.now();
                    self.poll(now);
                    next = now + READ_EVERY;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let left: Vec<RecordingId> = self.sessions.keys().copied().collect();
        for id in left {
            self.finish(id, "");
        }
    }

    fn obey(&mut self, order: RecordOrder) {
        match order {
            RecordOrder::Start { recording, format, tracks, tap } => {
                let Some(reader) = tap.take_reader() else {
                    self.report_ended(recording, "the room's sound is read by another", Written::default());
                    return;
                };
                let session = Session::new(recording, format, tracks, reader, self.counters.clone());
                self.sessions.insert(recording, session);
                self.counters.active.store(self.sessions.len() as u64, Ordering::Relaxed);
            }
            RecordOrder::Name { recording, leg, conferencecall } => {
                self.change(recording, |session| session.name(leg, conferencecall));
            }
            RecordOrder::Pause { recording, tick } => {
                self.change(recording, |session| session.pause(tick, true));
            }
            RecordOrder::Resume { recording, tick } => {
                self.change(recording, |session| session.pause(tick, false));
            }
            RecordOrder::Abandon { recording } => self.finish(recording, "nobody waits for it any more"),
        }
    }

    fn change(&mut self, recording: RecordingId, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.sessions.get_mut(&recording) {
            change(session);
        }
    }

    /// Reads every tap, makes files whole when that is due, and tells what happened.
    fn poll(&mut self, now: Instant) {
        let flush = now.since(self.flushed) >= FLUSH_EVERY;
        if flush {
            self.flushed = now;
        }
        let mut over = Vec::new();
        for (&id, session) in &mut self.sessions {
            let progress = session.poll(&self.folder);
            let progress =
                if flush { progress.and_then(|done| session.flush().map(|()| done)) } else { progress };
            match progress {
                Ok(progress) => {
                    if progress.started {
                        self.reports.push_back(RecordReport::Started { recording: id });
                    }
                    if progress.closed {
                        over.push((id, String::new()));
                    }
                }
                Err(error) => over.push((id, fault(&error))),
            }
        }
        for (id, fault) in over {
            self.finish(id, &fault);
        }
        self.tell();
    }

    fn finish(&mut self, id: RecordingId, because: &str) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        self.counters.active.store(self.sessions.len() as u64, Ordering::Relaxed);
        let (result, written) = session.finish();
        self.counters.bytes.fetch_add(written.bytes, Ordering::Relaxed);
        let because = match &result {
            Err(error) if because.is_empty() => fault(error),
            _ => because.to_owned(),
        };
        if !because.is_empty() {
            self.counters.write_failures.fetch_add(1, Ordering::Relaxed);
            error!(recording = %id, "a recording ended early: {because}");
        }
        self.report_ended(id, &because, written);
        self.tell();
    }

    fn report_ended(&mut self, recording: RecordingId, fault: &str, written: Written) {
        self.reports.push_back(RecordReport::Ended { recording, fault: fault.to_owned(), written });
    }

    /// Tells what is to be told; what cannot be taken now waits, in order. Bounded by the recordings:
    /// each is told of twice.
    fn tell(&mut self) {
        while let Some(report) = self.reports.pop_front() {
            if let Err(report) = (self.outlet)(report) {
                self.reports.push_front(report);
                break;
            }
        }
        self.counters.reports_waiting.store(self.reports.len() as u64, Ordering::Relaxed);
    }
}

/// A failed write in words for the recording's owner.
fn fault(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full".to_owned(),
        io::ErrorKind::FileTooLarge => "the file reached its largest size".to_owned(),
        _ => format!("the file could not be written: {error}"),
    }
}

/// Mends the files of recordings that a killed server left open, and notes their lengths.
pub fn mend(folder: &Folder, recordings: &mut [Recording]) {
    for recording in recordings {
        match folder.mend(recording.id, recording.format) {
            Ok(written) => {
                recording.duration_ms = written.duration_ms;
                recording.size_bytes = written.bytes;
                info!(recording = %recording.id, duration_ms = written.duration_ms, "mended a recording that was cut off");
            }
            Err(error) => {
                warn!(recording = %recording.id, %error, "a recording that was cut off could not be mended");
            }
        }
    }
}
