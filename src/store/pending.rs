//! Changes that wait for the disk: the newest state of each resource, and every event.

use std::collections::BTreeMap;

use crate::bridge::event::{Change, ConferenceRecord, Event};
use crate::bridge::resource::{Conferencecall, Transcribe, Transcript};
use crate::id::{ConferenceId, ConferencecallId, CustomerId, TranscribeId};

/// Conferences, and as many conferencecalls, whose newest state waits while the disk cannot be
/// written. A further one is dropped and counted.
pub const RESOURCES_PENDING_MAX: usize = 100_000;
/// Events that wait while the disk cannot be written. A further one is dropped and counted.
pub const EVENTS_PENDING_MAX: usize = 65_536;

/// An event and whose it is.
#[derive(Clone, Debug)]
pub(super) struct PendingEvent {
    pub(super) customer: CustomerId,
    pub(super) conference: ConferenceId,
    pub(super) event: Box<Event>,
}

/// What the next transaction will write.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) conferences: BTreeMap<ConferenceId, Box<ConferenceRecord>>,
    pub(super) conferencecalls: BTreeMap<ConferencecallId, Box<Conferencecall>>,
    pub(super) transcribes: BTreeMap<TranscribeId, Box<Transcribe>>,
    /// Bounded as the events are.
    pub(super) transcripts: Vec<Transcript>,
    pub(super) events: Vec<PendingEvent>,
    resources_max: usize,
    events_max: usize,
}

impl Pending {
    pub(super) fn new(resources_max: usize, events_max: usize) -> Self {
        Self {
            conferences: BTreeMap::new(),
            conferencecalls: BTreeMap::new(),
            transcribes: BTreeMap::new(),
            transcripts: Vec::new(),
            events: Vec::new(),
            resources_max,
            events_max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        let transcripts = self.transcribes.len() + self.transcripts.len();
        self.conferences.len() + self.conferencecalls.len() + transcripts + self.events.len()
    }

    /// Takes a change in; a newer state of a resource takes the place of the older. Returns whether
    /// there was room.
    pub(super) fn absorb(&mut self, change: Change) -> bool {
        match change {
            Change::Conference(record) => {
                put(&mut self.conferences, record.conference.id, record, self.resources_max)
            }
            Change::Conferencecall(call) => put(&mut self.conferencecalls, call.id, call, self.resources_max),
            Change::Transcribe(transcribe) => {
                put(&mut self.transcribes, transcribe.id, transcribe, self.resources_max)
            }
            Change::Transcript(transcript) => {
                let fits = self.transcripts.len() < self.events_max;
                if fits {
                    self.transcripts.push(*transcript);
                }
                fits
            }
            Change::Event { customer, conference, event } => {
                let fits = self.events.len() < self.events_max;
                if fits {
                    self.events.push(PendingEvent { customer, conference, event });
                }
                fits
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.conferences.clear();
        self.conferencecalls.clear();
        self.transcribes.clear();
        self.transcripts.clear();
        self.events.clear();
    }
}

/// Inserts or replaces; refuses a new key when `max` are there.
fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V, max: usize) -> bool {
    let fits = map.len() < max || map.contains_key(&key);
    if fits {
        map.insert(key, value);
    }
    fits
}
