//! One conference: its status, which only moves forward, and who is in it.

use std::collections::BTreeSet;

use super::command::{ConferenceChange, NewConference};
use super::event::ConferenceRecord;
use super::exchange::Output;
use super::journal::Journal;
use super::resource::{Conference, ConferenceStatus, ConferenceType};
use super::rooms::{OpenRoom, Shards};
use crate::id::{ConferenceId, ConferencecallId, CustomerId, LegId};
use crate::plane::{Hears, RingCadence, RoomShape, ShardCommand};
use crate::time::{Duration, Timestamp};

/// Callers a `connect` holds.
pub(super) const CONNECT_MEMBERS: usize = 2;

/// A conference the bridge holds: live, or ended a moment ago.
#[derive(Debug)]
pub(super) struct LiveConference {
    /// As the API shows it.
    pub(super) resource: Conference,
    /// The `seq` of its last event.
    pub(super) event_seq: u64,
    /// The hash that still leads to it. Outlives `resource.direct_hash` while a deleted conference
    /// is terminating, so that its callers hear 480.
    pub(super) dialled_by: String,
    /// Every conferencecall of it that is not yet `leaved`.
    pub(super) present: BTreeSet<ConferencecallId>,
    /// How many of them are neither gone nor on the way out.
    pub(super) members: usize,
    /// Its room in the data plane, while anybody has a leg.
    pub(super) room: Option<OpenRoom>,
    /// Its media streams.
    pub(super) streams: BTreeSet<LegId>,
    /// A `connect` in which two have been joined at once.
    pub(super) paired: bool,
}

impl LiveConference {
    /// A conference in `starting`.
    pub(super) fn new(id: ConferenceId, customer: CustomerId, new: NewConference, now: Timestamp) -> Self {
        Self::from_record(ConferenceRecord {
            conference: Conference {
                id,
                customer_id: customer,
                r#type: new.r#type,
                status: ConferenceStatus::Starting,
                name: new.name,
                detail: new.detail,
                data: new.data,
                timeout: new.timeout_s,
                pre_flow_id: new.pre_flow_id,
                post_flow_id: new.post_flow_id,
                conferencecall_ids: Vec::new(),
                recording_id: uuid::Uuid::nil(),
                recording_ids: Vec::new(),
                transcribe_id: uuid::Uuid::nil(),
                transcribe_ids: Vec::new(),
                direct_hash: String::new(),
                tm_end: None,
                tm_create: now,
                tm_update: Timestamp::NEVER,
                tm_delete: Timestamp::NEVER,
            },
            event_seq: 0,
        })
    }

    /// A conference from the store. Nobody is in it: calls do not outlive the process.
    pub(super) fn from_record(record: ConferenceRecord) -> Self {
        let ConferenceRecord { mut conference, event_seq } = record;
        conference.conferencecall_ids.clear();
        Self {
            dialled_by: conference.direct_hash.clone(),
            resource: conference,
            event_seq,
            present: BTreeSet::new(),
            members: 0,
            room: None,
            streams: BTreeSet::new(),
            paired: false,
        }
    }

    /// As the store keeps it: without who is in, which is only known live.
    pub(super) fn record(&self) -> ConferenceRecord {
        let of = &self.resource;
        let conference = Conference {
            conferencecall_ids: Vec::new(),
            recording_ids: of.recording_ids.clone(),
            transcribe_ids: of.transcribe_ids.clone(),
            name: of.name.clone(),
            detail: of.detail.clone(),
            data: of.data.clone(),
            direct_hash: of.direct_hash.clone(),
            ..*of
        };
        ConferenceRecord { conference, event_seq: self.event_seq }
    }

    /// Whether it has neither ended nor begun to end.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.resource.status, ConferenceStatus::Starting | ConferenceStatus::Progressing)
    }

    /// `starting` → `progressing`.
    pub(super) fn begin(&mut self) {
        self.advance(ConferenceStatus::Progressing);
    }

    /// → `terminating`.
    pub(super) fn begin_end(&mut self, now: Timestamp) {
        self.advance(ConferenceStatus::Terminating);
        self.resource.tm_update = now;
    }

    /// `terminating` → `terminated`.
    pub(super) fn end(&mut self, now: Timestamp) {
        self.advance(ConferenceStatus::Terminated);
        self.resource.tm_end = Some(now);
        self.resource.tm_update = now;
    }

    /// Deleted by its owner: the hash is nobody's any more.
    pub(super) fn delete(&mut self, now: Timestamp) {
        self.resource.direct_hash.clear();
        self.resource.tm_delete = now;
        self.resource.tm_update = now;
    }

    /// Whether its owner deleted it.
    pub(super) fn is_deleted(&self) -> bool {
        self.resource.tm_delete != Timestamp::NEVER
    }

    /// Statuses only move forward.
    fn advance(&mut self, to: ConferenceStatus) {
        debug_assert!(self.resource.status < to, "a status never goes back");
        self.resource.status = self.resource.status.max(to);
    }

    /// Takes over the keys that were sent, but for direct access.
    pub(super) fn change(&mut self, change: ConferenceChange, now: Timestamp) {
        let of = &mut self.resource;
        of.name = change.name.unwrap_or_else(|| std::mem::take(&mut of.name));
        of.detail = change.detail.unwrap_or_else(|| std::mem::take(&mut of.detail));
        of.data = change.data.unwrap_or_else(|| std::mem::take(&mut of.data));
        of.timeout = change.timeout_s.unwrap_or(of.timeout);
        of.pre_flow_id = change.pre_flow_id.unwrap_or(of.pre_flow_id);
        of.post_flow_id = change.post_flow_id.unwrap_or(of.post_flow_id);
        of.tm_update = now;
    }

    /// When its timeout ends it; `None` without one.
    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        (self.resource.timeout > 0)
            .then(|| self.resource.tm_create.plus(Duration::from_secs(self.resource.timeout)))
    }

    /// Callers it may hold.
    pub(super) fn capacity(&self, max_members: usize) -> usize {
        match self.resource.r#type {
            ConferenceType::Conference => max_members,
            ConferenceType::Connect => CONNECT_MEMBERS.min(max_members),
        }
    }

    /// What a caller hears who joins now.
    pub(super) fn newcomer_hears(&self, ring: RingCadence) -> Hears {
        match self.resource.r#type {
            ConferenceType::Connect if self.resource.conferencecall_ids.is_empty() => Hears::Ringback(ring),
            _ => Hears::Room,
        }
    }

    /// Somebody was let in and is `joining`.
    pub(super) fn enter(&mut self, call: ConferencecallId) {
        self.present.insert(call);
        self.members += 1;
    }

    /// Somebody is in the mix. Returns whom that ends the waiting of: the first of a `connect`.
    pub(super) fn join(&mut self, call: ConferencecallId, now: Timestamp) -> Option<ConferencecallId> {
        self.resource.conferencecall_ids.push(call);
        self.resource.tm_update = now;
        match (self.resource.r#type, self.resource.conferencecall_ids.as_slice()) {
            (ConferenceType::Connect, [first, _]) => {
                self.paired = true;
                Some(*first)
            }
            _ => None,
        }
    }

    /// Somebody is on the way out.
    pub(super) fn leave(&mut self, call: ConferencecallId, now: Timestamp) {
        self.members = self.members.saturating_sub(1);
        let joined = &mut self.resource.conferencecall_ids;
        if let Some(place) = joined.iter().position(|other| *other == call) {
            joined.remove(place);
            self.resource.tm_update = now;
        }
    }

    /// How its room mixes. Two people need no gate: each hears the other as is.
    pub(super) fn room_shape(&self, max_speakers: u16) -> RoomShape {
        RoomShape { max_speakers, gate: self.resource.r#type == ConferenceType::Conference }
    }

    /// Its room in the data plane, opened if it is not.
    pub(super) fn open_room(
        &mut self,
        shards: &mut Shards,
        journal: &mut Journal,
        max_speakers: u16,
    ) -> &mut OpenRoom {
        let shape = self.room_shape(max_speakers);
        self.room.get_or_insert_with(|| {
            let opened = shards.open_room();
            let command = ShardCommand::OpenRoom { room: opened.room, shape };
            journal.push(Output::Shard { shard: opened.shard, command });
            opened
        })
    }

    /// The status in words.
    pub(super) fn status_name(&self) -> &'static str {
        match self.resource.status {
            ConferenceStatus::Starting => "starting",
            ConferenceStatus::Progressing => "progressing",
            ConferenceStatus::Terminating => "terminating",
            ConferenceStatus::Terminated => "terminated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect() -> LiveConference {
        let new =
            NewConference { r#type: ConferenceType::Connect, timeout_s: 60, ..NewConference::default() };
        LiveConference::new(ConferenceId::NIL, CustomerId::NIL, new, Timestamp::from_micros(5))
    }

    #[test]
    fn the_deadline_counts_from_the_creation() {
        let mut conference = connect();
        assert_eq!(conference.ends_at(), Some(Timestamp::from_micros(60_000_005)));
        let change = ConferenceChange { timeout_s: Some(0), ..ConferenceChange::default() };
        conference.change(change, Timestamp::from_micros(9));
        assert_eq!((conference.ends_at(), conference.resource.tm_update), (None, Timestamp::from_micros(9)));
    }

    #[test]
    fn the_second_of_a_connect_ends_the_waiting_of_the_first() {
        let mut conference = connect();
        let mut rng = crate::rng::Rng::from_number(1);
        let (a, b) = (ConferencecallId::random(&mut rng), ConferencecallId::random(&mut rng));
        let ring = RingCadence { tones_hz: [425, 0], on_off_ms: [1000, 4000, 0, 0] };
        let now = Timestamp::from_micros(1);
        assert_eq!(conference.newcomer_hears(ring), Hears::Ringback(ring));
        assert_eq!(conference.join(a, now), None);
        assert_eq!(conference.newcomer_hears(ring), Hears::Room);
        assert!(!conference.paired);
        assert_eq!(conference.join(b, now), Some(a));
        assert!(conference.paired);
    }

    #[test]
    fn the_record_leaves_out_who_is_in() {
        let mut conference = connect();
        conference.join(ConferencecallId::NIL, Timestamp::from_micros(1));
        let record = conference.record();
        assert!(record.conference.conferencecall_ids.is_empty());
        let mut shown = conference.resource.clone();
        shown.conferencecall_ids.clear();
        assert_eq!(record.conference, shown);
    }
}
