//! The store's side: keeps what the bridge persists, and holds each change against the rules that
//! hold at all times.

use std::collections::BTreeMap;

use confab::bridge::event::{Change, ConferenceRecord, Event};
use confab::bridge::flow::{Activeflow, Flow};
use confab::bridge::resource::{
    ConferenceStatus, Conferencecall, ConferencecallStatus, Recording, RecordingStatus, Transcribe,
    TranscribeStatus, Transcript,
};
use confab::id::{ActiveflowId, ConferenceId, ConferencecallId, FlowId, RecordingId, TranscribeId};
use confab::time::Timestamp;

/// What would be on disk.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub conferences: BTreeMap<ConferenceId, ConferenceRecord>,
    pub calls: BTreeMap<ConferencecallId, Conferencecall>,
    pub recordings: BTreeMap<RecordingId, Recording>,
    pub events: BTreeMap<ConferenceId, Vec<Event>>,
    pub flows: BTreeMap<FlowId, Flow>,
    pub activeflows: BTreeMap<ActiveflowId, Activeflow>,
    pub transcribes: BTreeMap<TranscribeId, Transcribe>,
    pub transcripts: Vec<Transcript>,
}

impl Kept {
    /// Keeps one change.
    pub fn keep(&mut self, change: Change) {
        match change {
            Change::Conference(record) => {
                let id = record.conference.id;
                if let Some(before) = self.conferences.get(&id) {
                    assert!(
                        before.conference.status <= record.conference.status,
                        "{id} went back: {before:?} {record:?}"
                    );
                    assert!(before.event_seq <= record.event_seq);
                }
                let told = self.events.get(&id).map_or(0, Vec::len) as u64;
                assert_eq!(record.event_seq, told, "{id}: the record's seq is not that of its last event");
                self.conferences.insert(id, *record);
            }
            Change::Conferencecall(call) => {
                if let Some(before) = self.calls.get(&call.id) {
                    assert!(before.status <= call.status, "{} went back: {before:?} {call:?}", call.id);
                    assert_eq!(before.tm_create, call.tm_create);
                }
                self.calls.insert(call.id, *call);
            }
            Change::Flow(flow) => drop(self.flows.insert(flow.id, *flow)),
            Change::Activeflow(run) => {
                if let Some(before) = self.activeflows.get(&run.id) {
                    assert!(before.tm_end.is_none(), "{} was over and went on: {run:?}", run.id);
                    assert!(before.steps.len() <= run.steps.len());
                }
                self.activeflows.insert(run.id, *run);
            }
            Change::Recording(recording) => {
                if let Some(before) = self.recordings.get(&recording.id) {
                    assert!(before.status <= recording.status, "{before:?} went back to {recording:?}");
                }
                self.recordings.insert(recording.id, *recording);
            }
            Change::Transcribe(transcribe) => {
                if let Some(before) = self.transcribes.get(&transcribe.id) {
                    assert!(before.status <= transcribe.status, "{} went back", transcribe.id);
                }
                self.transcribes.insert(transcribe.id, *transcribe);
            }
            Change::Transcript(transcript) => self.transcripts.push(*transcript),
            Change::Event { conference, event, .. } => {
                let events = self.events.entry(conference).or_default();
                assert_eq!(event.seq, events.len() as u64 + 1, "{conference}: a gap in seq before {event:?}");
                events.push(*event);
            }
        }
    }

    /// What a restart gets: everything that had not ended, and ended conferences with a hash.
    pub fn restored(&self) -> (Vec<ConferenceRecord>, Vec<Conferencecall>) {
        let goes_on = |record: &&ConferenceRecord| {
            record.conference.status != ConferenceStatus::Terminated
                || !record.conference.direct_hash.is_empty()
        };
        let conferences = self.conferences.values().filter(goes_on).cloned().collect();
        let open = self.calls.values().filter(|call| call.status != ConferencecallStatus::Leaved);
        (conferences, open.cloned().collect())
    }

    /// The flows a restart gets, and the activeflows that ran.
    pub fn restored_flows(&self) -> (Vec<Flow>, Vec<Activeflow>) {
        let flows = self.flows.values().filter(|flow| flow.tm_delete == Timestamp::NEVER);
        let running = self.activeflows.values().filter(|run| run.tm_end.is_none());
        (flows.cloned().collect(), running.cloned().collect())
    }

    /// The recordings that had not ended, as a restart gets them.
    pub fn open_recordings(&self) -> Vec<Recording> {
        self.recordings.values().filter(|of| of.status != RecordingStatus::Ended).cloned().collect()
    }

    /// The transcriptions that were not done.
    pub fn open_transcribes(&self) -> Vec<Transcribe> {
        let open = self.transcribes.values().filter(|of| of.status != TranscribeStatus::Done);
        open.cloned().collect()
    }

    /// The types of a conference's events, in order.
    pub fn told(&self, conference: ConferenceId) -> Vec<&str> {
        self.events.get(&conference).into_iter().flatten().map(|event| event.r#type.as_str()).collect()
    }

    /// The conferencecalls of a conference in this status.
    pub fn calls_in(&self, conference: ConferenceId, status: ConferencecallStatus) -> Vec<ConferencecallId> {
        let of = self.calls.values().filter(|call| call.conference_id == conference && call.status == status);
        of.map(|call| call.id).collect()
    }
}
