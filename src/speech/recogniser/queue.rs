//! What waits for the recogniser. Whole utterances and those that may be whole (early ones) go first, in
//! order; what is still being said waits in one place a caller, the newest instead of the one before. When
//! the recogniser lags, partial utterances are left out first, then early ones, then the oldest whole ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::counters::Counters;
use super::utterance::Utterance;
use crate::id::{ConferencecallId, TranscribeId, TranscriptId};
use crate::time::Duration;

/// Whole utterances that may wait (24 MB at most at 8 kHz); then the oldest is dropped.
pub const WHOLE_MAX: usize = 128;
/// Partial utterances that may wait.
pub const PARTIAL_MAX: usize = 64;
/// With so many whole or early utterances waiting no partial one is taken.
pub const PARTIAL_UNTIL: usize = 1;
/// With so many whole or early utterances waiting no early one is taken: its whole would be there first.
pub const EARLY_UNTIL: usize = 16;

/// An utterance and whose it is.
#[derive(Clone, Debug)]
pub struct Job {
    /// The transcription.
    pub transcribe: TranscribeId,
    /// Who speaks.
    pub conferencecall: ConferencecallId,
    /// Which transcript this becomes: the same in part and whole.
    pub transcript: TranscriptId,
    /// In which language.
    pub language: Arc<str>,
    /// What.
    pub utterance: Utterance,
}

/// What there is to do.
#[derive(Clone, Debug)]
pub enum Work {
    /// Recognise a whole utterance.
    Whole(Job),
    /// Recognise an utterance that may be whole.
    Early(Job),
    /// Recognise an utterance that goes on.
    Partial(Job),
    /// Say that a transcription is finished: all before it has been dealt with.
    Finish(TranscribeId),
}

/// The queue between the thread that hears and the one that recognises.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Whole and early utterances and ends of transcriptions. The latter are few: one a transcription.
    ordered: VecDeque<Work>,
    whole: usize,
    early: usize,
    partial: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// An empty queue.
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { waiting: Mutex::default(), news: Condvar::new(), counters }
    }

    /// Adds a whole utterance; what was given of it so far needs no recognising any more. It takes the
    /// place of its early one.
    pub fn push_whole(&self, job: Job) {
        let mut waiting = self.lock();
        waiting.partial.retain(|other| !same_caller(other, &job));
        if let Some(place) = waiting.early_of(job.transcript) {
            waiting.ordered[place] = Work::Whole(job);
            waiting.early -= 1;
            waiting.whole += 1;
            self.publish(&waiting);
            return;
        }
        if waiting.whole >= WHOLE_MAX {
            let oldest = waiting.ordered.iter().position(|work| matches!(work, Work::Whole(_)));
            if let Some(oldest) = oldest {
                waiting.ordered.remove(oldest);
                waiting.whole -= 1;
                self.counters.utterances_dropped.fetch_add(1, Relaxed);
            }
        }
        waiting.ordered.push_back(Work::Whole(job));
        waiting.whole += 1;
        self.publish(&waiting);
        self.news.notify_one();
    }

    /// Adds an utterance that may be whole, unless the recogniser lags.
    pub fn push_early(&self, job: Job) {
        let mut waiting = self.lock();
        waiting.partial.retain(|other| !same_caller(other, &job));
        if waiting.ahead() >= EARLY_UNTIL {
            self.counters.partials_skipped.fetch_add(1, Relaxed);
            return;
        }
        waiting.ordered.push_back(Work::Early(job));
        waiting.early += 1;
        self.news.notify_one();
    }

    /// The early utterance of this transcript was not whole.
    pub fn withdraw(&self, transcript: TranscriptId) {
        let mut waiting = self.lock();
        if let Some(place) = waiting.early_of(transcript) {
            waiting.ordered.remove(place);
            waiting.early -= 1;
            self.counters.partials_skipped.fetch_add(1, Relaxed);
        }
    }

    /// Whether a whole or early utterance waits.
    pub fn is_awaited(&self) -> bool {
        self.lock().ahead() > 0
    }

    /// Adds what a caller has said so far, unless the recogniser lags.
    pub fn push_partial(&self, job: Job) {
        let mut waiting = self.lock();
        if let Some(older) = waiting.partial.iter_mut().find(|other| same_caller(other, &job)) {
            *older = job;
            self.counters.partials_skipped.fetch_add(1, Relaxed);
        } else if waiting.ahead() >= PARTIAL_UNTIL || waiting.partial.len() >= PARTIAL_MAX {
            self.counters.partials_skipped.fetch_add(1, Relaxed);
        } else {
            waiting.partial.push_back(job);
            self.news.notify_one();
        }
    }

    /// Adds the end of a transcription.
    pub fn push_finish(&self, transcribe: TranscribeId) {
        let mut waiting = self.lock();
        waiting.partial.retain(|job| job.transcribe != transcribe);
        waiting.ordered.push_back(Work::Finish(transcribe));
        self.news.notify_one();
    }

    /// Takes what is to be done next, waiting for it up to `wait`. `Err` when the queue is closed.
    pub fn pop(&self, wait: Duration) -> Result<Option<Work>, Closed> {
        let idle = |waiting: &mut Waiting| {
            waiting.ordered.is_empty() && waiting.partial.is_empty() && !waiting.closed
        };
        let (mut waiting, _) =
            self.news.wait_timeout_while(self.lock(), wait, idle).unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return Err(Closed);
        }
        let work = waiting.ordered.pop_front().or_else(|| waiting.partial.pop_front().map(Work::Partial));
        waiting.whole -= usize::from(matches!(work, Some(Work::Whole(_))));
        waiting.early -= usize::from(matches!(work, Some(Work::Early(_))));
        self.publish(&waiting);
        Ok(work)
    }

    /// Drops what waits and ends every [`Queue::pop`].
    pub fn close(&self) {
        let mut waiting = self.lock();
        *waiting = Waiting { closed: true, ..Waiting::default() };
        self.news.notify_all();
    }

    fn publish(&self, waiting: &Waiting) {
        self.counters.waiting.store(waiting.whole as u64, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A poisoned lock still holds whole values: each change is one step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Utterances that go before partial ones.
    fn ahead(&self) -> usize {
        self.whole + self.early
    }

    /// Where the early utterance of a transcript waits.
    fn early_of(&self, transcript: TranscriptId) -> Option<usize> {
        self.ordered.iter().position(|work| matches!(work, Work::Early(job) if job.transcript == transcript))
    }
}

/// The queue is closed: the server is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

fn same_caller(a: &Job, b: &Job) -> bool {
    (a.transcribe, a.conferencecall) == (b.transcribe, b.conferencecall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use uuid::Uuid;

    fn job(caller: u128, length: usize) -> Job {
        let utterance =
            Utterance { begins: Timestamp::from_micros(0), rate_hz: 8000, samples: vec![0; length] };
        Job {
            transcribe: TranscribeId(Uuid::from_u128(1)),
            conferencecall: ConferencecallId(Uuid::from_u128(caller)),
            transcript: TranscriptId(Uuid::from_u128(caller)),
            language: "en".into(),
            utterance,
        }
    }

    fn queue() -> Queue {
        Queue::new(Arc::default())
    }

    /// The kind and length of what comes next; nothing is waited for.
    fn next(queue: &Queue) -> Option<(char, usize)> {
        queue.pop(Duration::ZERO).expect("not closed").map(|work| match work {
            Work::Whole(job) => ('w', job.utterance.samples.len()),
            Work::Early(job) => ('e', job.utterance.samples.len()),
            Work::Partial(job) => ('p', job.utterance.samples.len()),
            Work::Finish(_) => ('f', 0),
        })
    }

    #[test]
    fn whole_utterances_go_first_and_the_newest_partial_stands_for_the_older() {
        let queue = queue();
        queue.push_partial(job(1, 10));
        queue.push_partial(job(2, 20));
        queue.push_partial(job(1, 11));
        queue.push_whole(job(3, 30));
        assert_eq!(next(&queue), Some(('w', 30)));
        assert_eq!(next(&queue), Some(('p', 11)));
        assert_eq!(next(&queue), Some(('p', 20)));
        assert_eq!(next(&queue), None);
        assert_eq!(queue.counters.partials_skipped.load(Relaxed), 1);
    }

    #[test]
    fn a_whole_utterance_takes_the_place_of_its_partial() {
        let queue = queue();
        queue.push_partial(job(1, 10));
        queue.push_whole(job(1, 15));
        assert_eq!(next(&queue), Some(('w', 15)));
        assert_eq!(next(&queue), None);
    }

    #[test]
    fn an_early_utterance_waits_in_order_until_it_is_whole_or_goes_on() {
        let queue = queue();
        queue.push_partial(job(1, 10));
        assert!(!queue.is_awaited());
        queue.push_early(job(1, 11));
        queue.push_early(job(2, 20));
        queue.push_whole(job(3, 30));
        queue.push_whole(job(1, 11));
        queue.withdraw(TranscriptId(Uuid::from_u128(2)));
        assert_eq!(queue.counters.waiting.load(Relaxed), 2);
        queue.push_early(job(4, 40));
        assert!(queue.is_awaited());
        for expected in [('w', 11), ('w', 30), ('e', 40)] {
            assert_eq!(next(&queue), Some(expected));
        }
        assert_eq!(next(&queue), None, "what goes on is not heard twice");
        queue.withdraw(TranscriptId(Uuid::from_u128(4)));
        assert!(!queue.is_awaited());
        for caller in 0..=EARLY_UNTIL as u128 {
            queue.push_early(job(caller, 1));
        }
        assert_eq!(queue.counters.partials_skipped.load(Relaxed), 2, "one withdrawn, one too many");
    }

    #[test]
    fn a_lag_leaves_out_partials_first_and_then_the_oldest_whole() {
        let queue = queue();
        for length in 0..PARTIAL_UNTIL {
            queue.push_whole(job(1, length));
        }
        queue.push_partial(job(2, 9));
        assert_eq!(queue.counters.partials_skipped.load(Relaxed), 1);
        for length in PARTIAL_UNTIL..WHOLE_MAX + 2 {
            queue.push_whole(job(1, length));
        }
        queue.push_finish(TranscribeId(Uuid::from_u128(1)));
        assert_eq!(queue.counters.utterances_dropped.load(Relaxed), 2);
        assert_eq!(queue.counters.waiting.load(Relaxed), WHOLE_MAX as u64);
        let mut left = Vec::new();
        while let Some(work) = next(&queue) {
            left.push(work);
        }
        assert_eq!((left.first(), left.last()), (Some(&('w', 2)), Some(&('f', 0))));
        assert_eq!(left.len(), WHOLE_MAX + 1);
        for caller in 0..=PARTIAL_MAX as u128 {
            queue.push_partial(job(caller, 1));
        }
        assert_eq!(queue.counters.partials_skipped.load(Relaxed), 2);
    }

    #[test]
    fn a_closed_queue_says_so() {
        let queue = queue();
        queue.push_whole(job(1, 1));
        queue.close();
        assert_eq!(queue.pop(Duration::from_secs(60)).expect_err("closed"), Closed);
    }
}
