//! The control core: the one owner of all signalling and conference state, without I/O. SIP
//! messages, commands, the shards' reports and time go in; messages, orders, changes, answers and
//! notes come out.
//!
//! [`Bridge::handle`] takes one input; then [`Bridge::poll_output`] is drained, and
//! [`Bridge::next_timeout`] tells when [`Input::Timeout`] is due.
//!
//! Each rule has its room: who gets in (`admission`), how a caller joins (`joining`) and leaves
//! (`leaving`) or goes over to another conference (`moving`), how a conference and the server end (`ending`), what a customer may ask
//! (`execute`), what flows do (`flow`, `flows`, `activeflows`), what a restart goes on with (`restore`).

mod activeflows;
mod admission;
mod calls;
pub mod command;
mod conference;
mod conferencecall;
mod direct_hash;
mod ending;
pub mod event;
mod exchange;
mod execute;
pub mod flow;
mod flows;
mod gauges;
mod info;
mod joining;
mod journal;
mod leaving;
mod media;
mod moving;
pub mod recording;
pub mod resource;
mod restore;
mod rooms;
mod settings;
mod signalling;
pub mod stream;
mod timers;
mod transcribing;

use std::collections::BTreeMap;

use crate::id::{ConferenceId, ConferencecallId};
use crate::plane::PortSource;
use crate::rng::Rng;
use crate::sip::Endpoint;
use crate::time::{Instant, Now};
use activeflows::Executions;
use calls::Calls;
use conference::LiveConference;
use direct_hash::DirectHashes;
use event::{Change, Event};
use flows::Flows;
use gauges::Tally;
use journal::Journal;
use recording::Recordings;
use rooms::Shards;
use timers::{Fading, Timer, Timers};
use transcribing::Transcribes;

pub use exchange::{Input, Level, Note, Output};
pub use gauges::{Gauges, LegQuality, MediaTotals, ShardLoad};
pub use settings::{
    ADDRESS_TEXT_MAX, ENDED_HASHES_MAX, ENDED_KEPT, ENDED_KEPT_MAX, LEAVED_KEPT, LEAVED_KEPT_MAX,
    REFUSAL_NOTES_PER_S, Settings, TRANSCRIBE_FINISH, TRANSCRIBES_PER_CONFERENCE_MAX, Transcriber,
};
pub use transcribing::{PartialTranscript, SpeechOrder, SpeechReport};

/// The control core. See the module.
#[derive(Debug)]
pub struct Bridge {
    settings: Settings,
    rng: Rng,
    sip: Endpoint,
    conferences: BTreeMap<ConferenceId, LiveConference>,
    calls: Calls,
    hashes: DirectHashes,
    shards: Shards,
    timers: Timers,
    flows: Flows,
    executions: Executions,
    /// Conferences that ended a moment ago.
    ended: Fading<ConferenceId>,
    /// Conferencecalls that left a moment ago.
    leaved: Fading<ConferencecallId>,
    recordings: Recordings,
    transcribes: Transcribes,
    journal: Journal,
    tally: Tally,
    draining: bool,
    /// `Drained` is yet to be reported.
    drain_due: bool,
    /// `Drained` is to be reported after what else this input did.
    drained: bool,
}

impl Bridge {
    /// A bridge without conferences.
    pub fn new(mut settings: Settings, mut rng: Rng) -> Self {
        // Calls that await the answer to their BYE must not keep new ones out.
        let dialogs = settings.max_calls.saturating_add(settings.max_calls / 4).saturating_add(64);
        settings.sip.max_dialogs = settings.sip.max_dialogs.max(dialogs);
        settings.sip.retry_after_s = settings.retry_after_s;
        Self {
            sip: Endpoint::new(settings.sip.clone(), rng.fork()),
            shards: Shards::new(settings.shards),
            settings,
            rng,
            conferences: BTreeMap::new(),
            calls: Calls::default(),
            hashes: DirectHashes::default(),
            timers: Timers::default(),
            flows: Flows::default(),
            executions: Executions::default(),
            ended: Fading::new(settings::ENDED_KEPT, settings::ENDED_KEPT_MAX),
            leaved: Fading::new(settings::LEAVED_KEPT, settings::LEAVED_KEPT_MAX),
            recordings: Recordings::default(),
            transcribes: Transcribes::default(),
            journal: Journal::default(),
            tally: Tally::default(),
            draining: false,
            drain_due: false,
            drained: false,
        }
    }

    /// Takes one input. What is due by `now` happens before it.
    pub fn handle(&mut self, now: Now, input: Input, ports: &mut dyn PortSource) {
        self.expire(now, ports);
        let mut answer = None;
        match input {
            Input::Sip { flow, bytes } => self.sip.handle_message(now.instant, flow, bytes),
            Input::FlowClosed { flow } => self.sip.handle_flow_closed(now.instant, flow),
            Input::Command { ticket, command } => answer = Some((ticket, self.execute(now, command, ports))),
            Input::Report(report) => self.handle_report(now, report, ports),
            Input::Errand { ticket, result } => self.handle_errand(now, ticket, result, ports),
            Input::Recorded(report) => self.handle_record_report(now, report),
            Input::Speech(report) => self.handle_speech(now, report),
            Input::Settings(settings) => self.settings.change(*settings),
            Input::Timeout => {}
            Input::Drain => self.begin_drain(now, ports),
        }
        self.handle_sip_events(now, ports);
        self.start_recording_end_flows(now, ports);
        self.finish_drain();
        self.keep_touched();
        if let Some((ticket, reply)) = answer {
            self.journal.push(Output::Reply { ticket, reply });
        }
        while let Some(transmit) = self.sip.poll_transmit() {
            self.journal.push(Output::Send(transmit));
        }
        if std::mem::take(&mut self.drained) {
            self.journal.push(Output::Drained);
        }
    }

    /// The next thing to do outside.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.journal.pop()
    }

    /// When [`Input::Timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        [self.sip.next_timeout(), self.timers.next(), self.ended.next(), self.leaved.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Fires every timer that is due.
    fn expire(&mut self, now: Now, ports: &mut dyn PortSource) {
        while let Some(timer) = self.timers.pop(now.instant) {
            match timer {
                Timer::Conference(id) => self.conference_timer(now, id, ports),
                Timer::Conferencecall(id) => self.give_up_leg(now, id),
                Timer::Activeflow(id) => self.flow_timer(now, id, ports),
                Timer::Recording(id) => self.recording_timer(now, id),
                Timer::Transcribe(id) => self.finish_transcribe(now, id),
                Timer::Drain => self.force_drain(now),
            }
        }
        while let Some(id) = self.ended.pop(now.instant) {
            self.forget_conference(id);
        }
        while let Some(id) = self.leaved.pop(now.instant) {
            self.calls.forget(id);
        }
        if self.sip.next_timeout().is_some_and(|due| due <= now.instant) {
            self.sip.handle_timeout(now.instant);
            self.handle_sip_events(now, ports);
        }
    }

    /// Tells the conference's owner what happened, with the next `seq`.
    fn tell(&mut self, now: Now, conference: ConferenceId, r#type: &str, data: serde_json::Value) {
        let Some(of) = self.conferences.get_mut(&conference) else { return };
        of.event_seq += 1;
        let event = Event { r#type: r#type.to_owned(), data, seq: of.event_seq, tm_event: now.wall };
        self.journal.keep_event(of.resource.customer_id, conference, event);
    }

    /// Tells of a conference as it is now.
    fn tell_conference(&mut self, now: Now, id: ConferenceId, r#type: &str) {
        if let Some(conference) = self.conferences.get(&id) {
            let data = as_json(&conference.resource);
            self.tell(now, id, r#type, data);
        }
    }

    /// Keeps a conferencecall as it is now, and tells of it.
    fn tell_call(&mut self, now: Now, id: ConferencecallId, r#type: &str) {
        let Some(call) = self.calls.get(&id) else { return };
        self.journal.keep_call(&call.resource);
        let (conference, data) = (call.resource.conference_id, as_json(&call.resource));
        self.tell(now, conference, r#type, data);
    }

    /// Keeps every conference that changed.
    fn keep_touched(&mut self) {
        while let Some(id) = self.journal.next_touched() {
            if let Some(conference) = self.conferences.get(&id) {
                let record = Box::new(conference.record());
                self.journal.push(Output::Persist(Change::Conference(record)));
            }
        }
    }
}

fn as_json(resource: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(resource).expect("a resource is plain data with string keys")
}
