//! The bridge's own timers, and what fades away a fixed time after it ended.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::id::{ActiveflowId, ConferenceId, ConferencecallId, RecordingId, TranscribeId};
use crate::time::{Duration, Instant};

/// What a timer is about. Its owner's status says what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// A conference's timeout while it is live; the end by force while it is terminating.
    Conference(ConferenceId),
    /// The end of a conferencecall by force: its shard does not answer.
    Conferencecall(ConferencecallId),
    /// The end of what a flow waits for.
    Activeflow(ActiveflowId),
    /// A recording's limit while it runs; the end of the wait for its file while it stops.
    Recording(RecordingId),
    /// The end of a stopped transcription by force: the recogniser does not answer.
    Transcribe(TranscribeId),
    /// The end of the drain by force.
    Drain,
}

/// All timers, each with at most one deadline.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, Timer)>,
    by_timer: HashMap<Timer, Instant>,
}

impl Timers {
    /// Sets a timer, instead of the deadline it had.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.cancel(timer);
        self.by_time.insert((at, timer));
        self.by_timer.insert(timer, at);
    }

    /// Takes a timer back.
    pub(super) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The next one that is due at `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let (_, timer) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.cancel(timer);
        Some(timer)
    }
}

/// Things kept for the same time each, and no more than so many.
#[derive(Debug)]
pub(super) struct Fading<T> {
    queue: VecDeque<(Instant, T)>,
    kept: Duration,
    max: usize,
    crowded_out: u64,
}

impl<T> Fading<T> {
    pub(super) fn new(kept: Duration, max: usize) -> Self {
        Self { queue: VecDeque::new(), kept, max, crowded_out: 0 }
    }

    /// Keeps `thing`. Returns the oldest if there is no room for it any more.
    pub(super) fn push(&mut self, now: Instant, thing: T) -> Option<T> {
        self.queue.push_back((now + self.kept, thing));
        if self.queue.len() <= self.max {
            return None;
        }
        self.crowded_out += 1;
        self.queue.pop_front().map(|(_, oldest)| oldest)
    }

    /// When the next one has been kept long enough.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }

    /// The next one that has been kept long enough at `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
        self.queue.pop_front_if(|(at, _)| *at <= now).map(|(_, thing)| thing)
    }

    /// Things let go early because there were too many.
    pub(super) fn crowded_out(&self) -> u64 {
        self.crowded_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_fires_at_its_deadline_and_not_a_nanosecond_before() {
        let mut timers = Timers::default();
        let at = Instant::from_millis(5);
        timers.set(Timer::Drain, Instant::from_millis(1));
        timers.set(Timer::Drain, at);
        assert_eq!(timers.next(), Some(at));
        assert_eq!(timers.pop(Instant::from_nanos(at.as_nanos() - 1)), None);
        assert_eq!(timers.pop(at), Some(Timer::Drain));
        assert_eq!((timers.pop(at), timers.next()), (None, None));
    }

    #[test]
    fn a_cancelled_timer_never_fires() {
        let mut timers = Timers::default();
        timers.set(Timer::Conference(ConferenceId::NIL), Instant::ZERO);
        timers.cancel(Timer::Conference(ConferenceId::NIL));
        assert_eq!(timers.pop(Instant::from_millis(1)), None);
    }

    #[test]
    fn what_fades_goes_in_time_or_when_crowded_out() {
        let mut fading = Fading::new(Duration::from_secs(1), 2);
        assert_eq!(fading.push(Instant::ZERO, 'a'), None);
        assert_eq!(fading.push(Instant::ZERO, 'b'), None);
        assert_eq!(fading.push(Instant::from_millis(1), 'c'), Some('a'));
        assert_eq!(fading.pop(Instant::from_millis(999)), None);
        assert_eq!(fading.pop(Instant::from_millis(1000)), Some('b'));
        assert_eq!((fading.next(), fading.crowded_out()), (Some(Instant::from_millis(1001)), 1));
    }
}
