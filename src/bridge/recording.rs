//! Recordings: started and stopped by the conference's owner, by their limit or by the conference's
//! end; written by the shell, which reads the room's sound from a tap.
//!
//! `initiating` until the first sound is on its way to the file, then `recording`; `stopping` from
//! the order to stop until the file is finished, then `ended`. A conference terminates only when its
//! recordings have ended.

use std::collections::BTreeMap;

use super::command::{NewRecording, RECORDING_MAX_S, Refusal, Reply};
use super::event::Change;
use super::flow::resource::FlowStage;
use super::media::LegState;
use super::resource::{ConferenceStatus, Recording, RecordingFormat, RecordingStatus};
use super::rooms::OpenRoom;
use super::timers::Timer;
use super::{Bridge, Level, Output, as_json};
use crate::id::{ConferenceId, ConferencecallId, CustomerId, FlowId, LegId, RecordingId, TapId};
use crate::plane::tap::{LegSound, Tap, TapParts, tick_number};
use crate::plane::{PortSource, ShardCommand};
use crate::time::{Duration, Now, Timestamp};

/// Recordings of one conference, ended ones included.
pub const RECORDINGS_PER_CONFERENCE_MAX: usize = 1000;
/// Words of a mix's tap: seven seconds of it at 8 kHz.
const MIX_WORDS: usize = 1 << 15;
/// Words of a tap with tracks: four seconds in which as many speak as can at once.
const TRACKS_WORDS: usize = 1 << 18;

/// What the one who writes recordings is told.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordOrder {
    /// Write what comes by the tap until it closes; answered by [`RecordReport::Started`] and
    /// [`RecordReport::Ended`], or by the latter alone.
    Start {
        /// The recording.
        recording: RecordingId,
        /// How the mix is written.
        format: RecordingFormat,
        /// Whether each caller gets a track of its own.
        tracks: bool,
        /// Where the sound comes from.
        tap: Tap,
    },
    /// Whose leg this is. Comes before the leg's sound.
    Name {
        /// The recording.
        recording: RecordingId,
        /// A leg of its room.
        leg: LegId,
        /// The caller.
        conferencecall: ConferencecallId,
    },
    /// Write silence from this tick on.
    Pause {
        /// The recording.
        recording: RecordingId,
        /// The first tick that is not heard.
        tick: u64,
    },
    /// Write sound again from this tick on.
    Resume {
        /// The recording.
        recording: RecordingId,
        /// The first tick that is heard.
        tick: u64,
    },
    /// Nobody waits for it any more: finish the file with what there is.
    Abandon {
        /// The recording.
        recording: RecordingId,
    },
}

/// What the one who writes recordings tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordReport {
    /// The first sound has come and the file is open.
    Started {
        /// The recording.
        recording: RecordingId,
    },
    /// The file is finished.
    Ended {
        /// The recording.
        recording: RecordingId,
        /// Why it ended by itself; empty when it was stopped.
        fault: String,
        /// What was written.
        written: Written,
    },
}

/// How much a recording holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of all its files.
    pub bytes: u64,
    /// Length of the mix, in milliseconds.
    pub duration_ms: u64,
    /// Milliseconds of silence in it that stand for sound that was lost.
    pub lost_ms: u64,
}

/// A recording that has not ended.
#[derive(Debug)]
struct LiveRecording {
    resource: Recording,
    /// Its tap, until it is stopped.
    tap: Option<(OpenRoom, TapId)>,
}

/// The owner of all recordings that have not ended.
#[derive(Debug, Default)]
pub(super) struct Recordings {
    live: BTreeMap<RecordingId, LiveRecording>,
    /// Recordings that a restart found open; closed once their conferences are there.
    cut_off: Vec<Recording>,
    /// Flows to run since their recording has ended: customer, conference, flow.
    flows_due: Vec<(CustomerId, ConferenceId, FlowId)>,
    started_total: u64,
    given_up_total: u64,
}

impl Recordings {
    /// Recordings that have not ended.
    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    /// Recordings since the start, and those that were given up.
    pub(super) fn totals(&self) -> [u64; 2] {
        [self.started_total, self.given_up_total]
    }

    /// A recording has ended: the flow it names is to run.
    fn flow_is_due(&mut self, ended: &Recording) {
        if !ended.on_end_flow_id.is_nil() {
            self.flows_due.push((ended.customer_id, ended.reference_id, ended.on_end_flow_id));
        }
    }

    /// The recordings of a conference that have not ended.
    fn of(&self, conference: ConferenceId) -> impl Iterator<Item = &LiveRecording> {
        self.live.values().filter(move |of| of.resource.reference_id == conference)
    }
}

impl Bridge {
    /// The recordings that were open when the process before this one was killed, their files mended
    /// and measured. Before [`Bridge::restore`], which ends them.
    pub fn restore_recordings(&mut self, recordings: Vec<Recording>) {
        self.recordings.cut_off = recordings;
    }

    /// Ends what a restart found open.
    pub(super) fn close_cut_off_recordings(&mut self, now: Now) {
        for mut recording in std::mem::take(&mut self.recordings.cut_off) {
            recording.status = RecordingStatus::Ended;
            "the server restarted".clone_into(&mut recording.cause);
            let length = Duration::from_millis(recording.duration_ms);
            recording.tm_end = Some(recording.tm_start.map_or(now.wall, |start| start.plus(length)));
            recording.tm_update = now.wall;
            self.keep_and_tell_recording(now, &recording, Some("recording_finished"));
            self.recordings.flow_is_due(&recording);
        }
        for conference in self.conferences.values_mut() {
            if !conference.resource.recording_id.is_nil() {
                conference.resource.recording_id = uuid::Uuid::nil();
                self.journal.touch(conference.resource.id);
            }
        }
    }

    pub(super) fn start_recording(
        &mut self,
        now: Now,
        whose: (CustomerId, ConferenceId),
        new: NewRecording,
    ) -> Result<Reply, Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        self.check_flow(whose.0, "on_end_flow_id", new.on_end_flow_id)?;
        let conference = self.owned(whose)?;
        if conference.resource.status != ConferenceStatus::Progressing {
            return Err(Refusal::WrongStatus(conference.status_name()));
        }
        if !conference.resource.recording_id.is_nil() {
            return Err(Refusal::Conflict("the conference is being recorded already"));
        }
        if conference.resource.recording_ids.len() >= RECORDINGS_PER_CONFERENCE_MAX {
            return Err(Refusal::Limit("recordings of one conference"));
        }
        if self.recordings.live() >= self.settings.max_recordings {
            return Err(Refusal::Limit("recordings at once"));
        }
        let (customer, id) = whose;
        let recording = RecordingId::random(&mut self.rng);
        let resource = new_recording(recording, (customer, id), new, now.wall);
        self.recordings.started_total += 1;
        self.record_conference(now, id, |of| {
            of.recording_id = recording.0;
            of.recording_ids.push(recording.0);
        });
        self.order_recording(id, &resource);
        self.journal.push(Output::Persist(Change::Recording(Box::new(resource.clone()))));
        let limit = if resource.duration == 0 { RECORDING_MAX_S } else { resource.duration };
        self.timers.set(Timer::Recording(recording), now.instant + Duration::from_secs(limit));
        self.journal.note(Level::Info, id, format!("recording {recording} starts"));
        self.reply_conference(id)
    }

    /// Opens the tap and orders what comes by it written.
    fn order_recording(&mut self, conference: ConferenceId, resource: &Recording) {
        let recording = resource.id;
        let max_speakers = self.settings.max_speakers;
        let Some(of) = self.conferences.get_mut(&conference) else { return };
        let room = of.open_room(&mut self.shards, &mut self.journal, max_speakers);
        let tap_id = self.shards.add_tap(room);
        let room = *room;
        let legs = if resource.tracks { LegSound::Spoken } else { LegSound::None };
        let words = if resource.tracks { TRACKS_WORDS } else { MIX_WORDS };
        let tap = Tap::new(tap_id, TapParts { mix: true, sum: false, legs }, words);
        let (format, tracks) = (resource.format, resource.tracks);
        self.journal.push(Output::Record(RecordOrder::Start { recording, format, tracks, tap: tap.clone() }));
        for call in self.calls.iter().filter(|call| call.resource.conference_id == conference) {
            if let LegState::Active(leg) = call.leg {
                let (leg, conferencecall) = (leg.id, call.resource.id);
                self.journal.push(Output::Record(RecordOrder::Name { recording, leg, conferencecall }));
            }
        }
        let command = ShardCommand::StartTap { room: room.room, tap };
        self.journal.push(Output::Shard { shard: room.shard, command });
        let live = LiveRecording { resource: resource.clone(), tap: Some((room, tap_id)) };
        self.recordings.live.insert(recording, live);
    }

    /// Tells a conference's recordings whose leg this is, before it is added.
    pub(super) fn name_leg_to_recordings(
        &mut self,
        conference: ConferenceId,
        leg: LegId,
        conferencecall: ConferencecallId,
    ) {
        for recording in self.recordings.of(conference).filter(|of| of.tap.is_some()) {
            let recording = recording.resource.id;
            self.journal.push(Output::Record(RecordOrder::Name { recording, leg, conferencecall }));
        }
    }

    pub(super) fn stop_recording(
        &mut self,
        now: Now,
        whose: (CustomerId, ConferenceId),
    ) -> Result<Reply, Refusal> {
        let recording = self.running_recording(whose)?;
        self.end_recording(now, recording, "");
        self.reply_conference(whose.1)
    }

    pub(super) fn pause_recording(
        &mut self,
        now: Now,
        whose: (CustomerId, ConferenceId),
        pause: bool,
    ) -> Result<Reply, Refusal> {
        let recording = self.running_recording(whose)?;
        let live = self.recordings.live.get_mut(&recording).ok_or(Refusal::NotFound)?;
        if live.resource.paused == pause {
            let already =
                if pause { "the recording is paused already" } else { "the recording is not paused" };
            return Err(Refusal::Conflict(already));
        }
        live.resource.paused = pause;
        live.resource.tm_update = now.wall;
        // The tick that runs now is not heard either way.
        let tick = tick_number(now.instant) + u64::from(!pause);
        let order = if pause {
            RecordOrder::Pause { recording, tick }
        } else {
            RecordOrder::Resume { recording, tick }
        };
        let resource = live.resource.clone();
        self.journal.push(Output::Record(order));
        self.journal.push(Output::Persist(Change::Recording(Box::new(resource))));
        self.reply_conference(whose.1)
    }

    pub(super) fn read_recordings(&self, customer: CustomerId, ids: &[RecordingId]) -> Reply {
        let held = ids.iter().filter_map(|id| self.recordings.live.get(id)).map(|live| &live.resource);
        Reply::Recordings(held.filter(|resource| resource.customer_id == customer).cloned().collect())
    }

    /// The recording of this conference that runs.
    fn running_recording(&mut self, whose: (CustomerId, ConferenceId)) -> Result<RecordingId, Refusal> {
        let conference = self.owned(whose)?;
        match conference.resource.recording_id {
            id if id.is_nil() => Err(Refusal::Conflict("the conference is not being recorded")),
            id => Ok(RecordingId(id)),
        }
    }

    /// News of the one who writes.
    pub(super) fn handle_record_report(&mut self, now: Now, report: RecordReport) {
        match report {
            RecordReport::Started { recording } => {
                let Some(live) = self.recordings.live.get_mut(&recording) else { return };
                if live.resource.status == RecordingStatus::Initiating {
                    live.resource.status = RecordingStatus::Recording;
                }
                live.resource.tm_start = Some(now.wall);
                live.resource.tm_update = now.wall;
                let resource = live.resource.clone();
                self.keep_and_tell_recording(now, &resource, Some("recording_started"));
            }
            RecordReport::Ended { recording, fault, written } => {
                self.recording_ended(now, recording, &fault, written);
            }
        }
    }

    /// A recording's timer: its limit, or the end of the wait for its file.
    pub(super) fn recording_timer(&mut self, now: Now, id: RecordingId) {
        let Some(live) = self.recordings.live.get(&id) else { return };
        if live.resource.status == RecordingStatus::Stopping {
            self.give_up_recording(now, id);
        } else {
            self.end_recording(now, id, "its duration limit was reached");
        }
    }

    /// Stops every recording of a conference.
    pub(super) fn end_recordings_of(&mut self, now: Now, conference: ConferenceId, cause: &str) {
        let ids: Vec<RecordingId> = self.recordings.of(conference).map(|live| live.resource.id).collect();
        for id in ids {
            self.end_recording(now, id, cause);
        }
    }

    /// Stops every recording there is.
    pub(super) fn end_all_recordings(&mut self, now: Now, cause: &str) {
        let ids: Vec<RecordingId> = self.recordings.live.keys().copied().collect();
        for id in ids {
            self.end_recording(now, id, cause);
        }
    }

    /// Waits no longer for the files of a conference, or of all.
    pub(super) fn give_up_recordings(&mut self, now: Now, conference: Option<ConferenceId>) {
        let is_meant = |live: &&LiveRecording| conference.is_none_or(|id| live.resource.reference_id == id);
        let ids: Vec<RecordingId> =
            self.recordings.live.values().filter(is_meant).map(|live| live.resource.id).collect();
        for id in ids {
            self.give_up_recording(now, id);
        }
    }

    /// Whether a conference's recordings have all ended.
    pub(super) fn recordings_have_ended(&self, conference: ConferenceId) -> bool {
        self.recordings.of(conference).next().is_none()
    }

    /// → `stopping`: the tap closes, and the file is finished with what has come by it.
    fn end_recording(&mut self, now: Now, id: RecordingId, cause: &str) {
        let Some(live) = self.recordings.live.get_mut(&id) else { return };
        let Some((room, tap)) = live.tap.take() else { return };
        live.resource.status = RecordingStatus::Stopping;
        live.resource.paused = false;
        cause.clone_into(&mut live.resource.cause);
        live.resource.tm_update = now.wall;
        let resource = live.resource.clone();
        let conference = resource.reference_id;
        let command = ShardCommand::StopTap { room: room.room, tap };
        self.journal.push(Output::Shard { shard: room.shard, command });
        if let Some(room) = self.conferences.get_mut(&conference).and_then(|of| of.room.as_mut()) {
            self.shards.remove_tap(room);
        }
        self.close_room_if_unused(conference);
        self.timers.set(Timer::Recording(id), now.instant + self.settings.drain_timeout);
        self.keep_and_tell_recording(now, &resource, None);
        self.record_conference(now, conference, |of| of.recording_id = uuid::Uuid::nil());
    }

    /// `stopping` → `ended`.
    fn recording_ended(&mut self, now: Now, id: RecordingId, fault: &str, written: Written) {
        // One that failed was not told to stop.
        self.end_recording(now, id, fault);
        let Some(LiveRecording { mut resource, .. }) = self.recordings.live.remove(&id) else { return };
        self.timers.cancel(Timer::Recording(id));
        resource.status = RecordingStatus::Ended;
        if !fault.is_empty() {
            fault.clone_into(&mut resource.cause);
        }
        resource.size_bytes = written.bytes;
        resource.duration_ms = written.duration_ms;
        resource.lost_ms = written.lost_ms;
        resource.tm_end = Some(now.wall);
        resource.tm_update = now.wall;
        let level = if fault.is_empty() { Level::Info } else { Level::Error };
        let why = if resource.cause.is_empty() { String::new() } else { format!(": {}", resource.cause) };
        let text = format!("recording {id} ended after {} ms{why}", resource.duration_ms);
        let conference = resource.reference_id;
        self.journal.note(level, conference, text);
        self.keep_and_tell_recording(now, &resource, Some("recording_finished"));
        self.recordings.flow_is_due(&resource);
        self.end_if_empty(now, conference);
    }

    /// Runs the flows of the recordings that have ended, without a call.
    pub(super) fn start_recording_end_flows(&mut self, now: Now, ports: &mut dyn PortSource) {
        for (customer, conference, flow) in std::mem::take(&mut self.recordings.flows_due) {
            self.start_lone_flow(now, (customer, conference), flow, FlowStage::RecordingEnd, ports);
        }
    }

    fn give_up_recording(&mut self, now: Now, id: RecordingId) {
        self.end_recording(now, id, "");
        self.recordings.given_up_total += 1;
        self.journal.push(Output::Record(RecordOrder::Abandon { recording: id }));
        self.recording_ended(now, id, "the recorder did not finish the file in time", Written::default());
    }

    fn keep_and_tell_recording(&mut self, now: Now, recording: &Recording, r#type: Option<&str>) {
        self.journal.push(Output::Persist(Change::Recording(Box::new(recording.clone()))));
        if let Some(r#type) = r#type {
            self.tell(now, recording.reference_id, r#type, as_json(recording));
        }
    }

    /// Changes what a conference says of its recordings.
    fn record_conference(
        &mut self,
        now: Now,
        id: ConferenceId,
        change: impl FnOnce(&mut super::resource::Conference),
    ) {
        if let Some(conference) = self.conferences.get_mut(&id) {
            change(&mut conference.resource);
            conference.resource.tm_update = now.wall;
            self.tell_conference(now, id, "conference_updated");
        }
    }
}

/// A recording in `initiating`.
fn new_recording(
    id: RecordingId,
    (customer, conference): (CustomerId, ConferenceId),
    new: NewRecording,
    now: Timestamp,
) -> Recording {
    Recording {
        id,
        customer_id: customer,
        owner_type: String::new(),
        owner_id: uuid::Uuid::nil(),
        activeflow_id: uuid::Uuid::nil(),
        reference_type: "conference".to_owned(),
        reference_id: conference,
        status: RecordingStatus::Initiating,
        format: new.format,
        on_end_flow_id: new.on_end_flow_id,
        duration: new.duration_s,
        tracks: new.tracks,
        paused: false,
        cause: String::new(),
        duration_ms: 0,
        lost_ms: 0,
        size_bytes: 0,
        tm_start: None,
        tm_end: None,
        tm_create: now,
        tm_update: Timestamp::NEVER,
        tm_delete: Timestamp::NEVER,
    }
}
