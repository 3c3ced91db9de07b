//! Changes that wait for the disk: the newest state of each resource, and every event.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;

use super::audit::Audit;
use super::outbox::OutboxChange;
use crate::bridge::event::{Change, ConferenceRecord, Event};
use crate::bridge::flow::{Activeflow, Flow};
use crate::bridge::resource::{Conferencecall, Recording, Transcribe, Transcript};
use crate::id::{
    ActiveflowId, ConferenceId, ConferencecallId, CustomerId, FlowId, RecordingId, TranscribeId,
};

/// Conferences, and as many of each other resource, whose newest state waits while the disk cannot be
/// written. A further one is dropped and counted.
pub const RESOURCES_PENDING_MAX: usize = 100_000;
/// Events that wait while the disk cannot be written. A further one is dropped and counted.
pub const EVENTS_PENDING_MAX: usize = 65_536;
/// Entries of the audit log that wait while the disk cannot be written. A further one is dropped and
/// counted.
pub const AUDITS_PENDING_MAX: usize = 65_536;
/// Outcomes of deliveries that wait while the disk cannot be written. A further one is dropped and
/// counted: its event is told again after a restart.
pub const OUTBOX_CHANGES_PENDING_MAX: usize = 65_536;

/// An event and whose it is.
#[derive(Clone, Debug)]
pub(super) struct PendingEvent {
    pub(super) customer: CustomerId,
    pub(super) conference: ConferenceId,
    pub(super) event: Box<Event>,
    text: OnceLock<Bytes>,
}

impl PendingEvent {
    pub(super) fn new(customer: CustomerId, conference: ConferenceId, event: Box<Event>) -> Self {
        Self { customer, conference, event, text: OnceLock::new() }
    }

    /// The event as JSON, as owners are told it; made when it is first needed.
    pub(super) fn text(&self) -> Bytes {
        let text =
            || serde_json::to_vec(&self.event).expect("an event is plain data with string keys").into();
        self.text.get_or_init(text).clone()
    }
}

/// What the next transaction will write.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) conferences: BTreeMap<ConferenceId, Box<ConferenceRecord>>,
    pub(super) conferencecalls: BTreeMap<ConferencecallId, Box<Conferencecall>>,
    pub(super) flows: BTreeMap<FlowId, Box<Flow>>,
    pub(super) activeflows: BTreeMap<ActiveflowId, Box<Activeflow>>,
    pub(super) recordings: BTreeMap<RecordingId, Box<Recording>>,
    pub(super) transcribes: BTreeMap<TranscribeId, Box<Transcribe>>,
    /// Bounded as the events are.
    pub(super) transcripts: Vec<Transcript>,
    pub(super) events: Vec<PendingEvent>,
    pub(super) outbox: Vec<OutboxChange>,
    pub(super) audits: Vec<Audit>,
    resources_max: usize,
    events_max: usize,
}

impl Pending {
    pub(super) fn new(resources_max: usize, events_max: usize) -> Self {
        Self {
            conferences: BTreeMap::new(),
            conferencecalls: BTreeMap::new(),
            flows: BTreeMap::new(),
            activeflows: BTreeMap::new(),
            recordings: BTreeMap::new(),
            transcribes: BTreeMap::new(),
            transcripts: Vec::new(),
            events: Vec::new(),
            outbox: Vec::new(),
            audits: Vec::new(),
            resources_max,
            events_max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        let calls = self.conferences.len() + self.conferencecalls.len();
        let flows = self.flows.len() + self.activeflows.len();
        let sound = self.recordings.len() + self.transcribes.len() + self.transcripts.len();
        calls + flows + sound + self.events.len() + self.outbox.len() + self.audits.len()
    }

    /// Takes a change in; a newer state of a resource takes the place of the older. Returns whether
    /// there was room.
    pub(super) fn absorb(&mut self, change: Change) -> bool {
        match change {
            Change::Conference(record) => {
                put(&mut self.conferences, record.conference.id, record, self.resources_max)
            }
            Change::Conferencecall(call) => put(&mut self.conferencecalls, call.id, call, self.resources_max),
            Change::Flow(flow) => put(&mut self.flows, flow.id, flow, self.resources_max),
            Change::Activeflow(run) => put(&mut self.activeflows, run.id, run, self.resources_max),
            Change::Recording(recording) => {
                put(&mut self.recordings, recording.id, recording, self.resources_max)
            }
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
                    self.events.push(PendingEvent::new(customer, conference, event));
                }
                fits
            }
        }
    }

    /// Takes the outcome of a delivery in. Returns whether there was room.
    pub(super) fn absorb_outbox(&mut self, change: OutboxChange) -> bool {
        let fits = self.outbox.len() < OUTBOX_CHANGES_PENDING_MAX;
        if fits {
            self.outbox.push(change);
        }
        fits
    }

    /// Takes an entry of the audit log in. Returns whether there was room.
    pub(super) fn absorb_audit(&mut self, audit: Audit) -> bool {
        let fits = self.audits.len() < AUDITS_PENDING_MAX;
        if fits {
            self.audits.push(audit);
        }
        fits
    }

    pub(super) fn clear(&mut self) {
        self.conferences.clear();
        self.conferencecalls.clear();
        self.flows.clear();
        self.activeflows.clear();
        self.recordings.clear();
        self.transcribes.clear();
        self.transcripts.clear();
        self.events.clear();
        self.outbox.clear();
        self.audits.clear();
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
