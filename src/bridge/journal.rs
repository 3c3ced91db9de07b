//! What leaves the bridge, in order: bytes, orders, changes, answers and notes.

use std::collections::{BTreeSet, VecDeque};

use super::event::{Change, Event};
use super::exchange::{Level, Note, Output};
use super::resource::Conferencecall;
use super::settings::REFUSAL_NOTES_PER_S;
use crate::id::{ConferenceId, ConferencecallId, CustomerId};
use crate::time::{Duration, Instant};

/// The outputs of one input. Bounded by what one input can touch: at worst every call once.
#[derive(Debug, Default)]
pub(super) struct Journal {
    outputs: VecDeque<Output>,
    /// Conferences that changed and are to be kept when the input is dealt with.
    touched: BTreeSet<ConferenceId>,
    refusals: RefusalNotes,
}

impl Journal {
    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The conference changed.
    pub(super) fn touch(&mut self, conference: ConferenceId) {
        self.touched.insert(conference);
    }

    /// The next conference that changed since it was kept last.
    pub(super) fn next_touched(&mut self) -> Option<ConferenceId> {
        self.touched.pop_first()
    }

    /// Keeps a conferencecall.
    pub(super) fn keep_call(&mut self, call: &Conferencecall) {
        self.push(Output::Persist(Change::Conferencecall(Box::new(call.clone()))));
    }

    /// Keeps an event. The conference's `seq` is kept after it: what restarts takes the greater.
    pub(super) fn keep_event(&mut self, customer: CustomerId, conference: ConferenceId, event: Event) {
        self.push(Output::Persist(Change::Event { customer, conference, event: Box::new(event) }));
        self.touch(conference);
    }

    /// A note about a conference.
    pub(super) fn note(&mut self, level: Level, conference: ConferenceId, text: String) {
        self.note_call(level, "", conference, ConferencecallId::NIL, text);
    }

    /// A note about a call.
    pub(super) fn note_call(
        &mut self,
        level: Level,
        call_id: &str,
        conference: ConferenceId,
        conferencecall: ConferencecallId,
        text: String,
    ) {
        self.push(Output::Note(Note {
            level,
            call_id: call_id.to_owned(),
            conference,
            conferencecall,
            text,
        }));
    }

    /// A note about a refused call, unless there were too many in this second.
    pub(super) fn note_refusal(&mut self, now: Instant, level: Level, call_id: &str, text: String) {
        let Some(hidden) = self.refusals.admit(now) else { return };
        let text =
            if hidden == 0 { text } else { format!("{text} ({hidden} more refusals before it not shown)") };
        self.note_call(level, call_id, ConferenceId::NIL, ConferencecallId::NIL, text);
    }
}

/// Keeps a flood of refused calls from flooding the log.
#[derive(Debug, Default)]
struct RefusalNotes {
    second: Instant,
    shown: u32,
    hidden: u64,
}

impl RefusalNotes {
    /// Whether one more may be shown, and how many were not since the last.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.shown = 0;
        }
        if self.shown >= REFUSAL_NOTES_PER_S {
            self.hidden += 1;
            return None;
        }
        self.shown += 1;
        Some(std::mem::take(&mut self.hidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_beyond_the_limit_of_a_second_are_only_counted() {
        let mut notes = RefusalNotes::default();
        let now = Instant::from_millis(10_000);
        for _ in 0..REFUSAL_NOTES_PER_S {
            assert_eq!(notes.admit(now), Some(0));
        }
        assert_eq!(notes.admit(now), None);
        assert_eq!(notes.admit(Instant::from_millis(10_999)), None);
        assert_eq!(notes.admit(Instant::from_millis(11_000)), Some(2));
        assert_eq!(notes.admit(Instant::from_millis(11_000)), Some(0));
    }
}
