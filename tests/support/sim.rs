//! The simulator itself: a clock, a wire, and everybody on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use confab::bridge::command::{Command, ConferenceChange, NewConference, NewFlow, Reply};
use confab::bridge::flow::outside::{Errand, ErrandResult};
use confab::bridge::flow::{Flow as CallFlow, Program};
use confab::bridge::recording::RecordOrder;
use confab::bridge::resource::{
    Conference, ConferenceStatus, ConferenceType, Conferencecall, ConferencecallStatus,
};
use confab::bridge::{Bridge, Input, Note, Output, PartialTranscript, Settings, SpeechOrder, SpeechReport};
use confab::id::{ConferenceId, ConferencecallId, CustomerId, FlowId};
use confab::plane::ShardReport;
use confab::rng::Rng;
use confab::sip::{Flow, Transport};
use confab::time::{Instant, Now, Timestamp};

use super::link::Link;
use super::phone::Phone;
use super::plane::{DataPlane, Ports, Recorder};
use super::store::Kept;

/// The wall clock when the monotonic one begins: 2026-01-01 00:00 UTC.
const WALL_AT_ZERO: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// Where the bridge listens.
pub const BRIDGE: &str = "192.0.2.1:5060";

/// A phone's place in [`Sim::phones`].
pub type PhoneId = usize;

/// A message on the wire.
#[derive(Debug)]
enum Parcel {
    ToBridge(PhoneId, Bytes),
    ToPhone(PhoneId, Bytes),
}

/// The simulation. See the module above.
pub struct Sim<D: DataPlane = Recorder> {
    pub bridge: Bridge,
    pub now: Instant,
    pub plane: D,
    pub ports: Ports,
    pub phones: Vec<Phone>,
    pub link: Link,
    pub rng: Rng,
    pub kept: Kept,
    /// What the one who writes recordings was told.
    pub recorder: Vec<RecordOrder>,
    pub notes: Vec<Note>,
    /// What the recogniser was told.
    pub speech: Vec<SpeechOrder>,
    /// What was shown of sentences that went on.
    pub partials: Vec<PartialTranscript>,
    pub drained: bool,
    /// What flows asked of the outside and was not answered.
    pub errands: Vec<(u64, Errand)>,
    pub customer: CustomerId,
    settings: Settings,
    wire: BTreeMap<(Instant, u64), Parcel>,
    serial: u64,
    answer: Option<Reply>,
}

impl Sim<Recorder> {
    /// A simulation with the usual settings and a clean wire.
    pub fn new(seed: u64) -> Sim {
        Self::with(seed, Settings::default())
    }

    /// A simulation with these settings.
    pub fn with(seed: u64, settings: Settings) -> Sim {
        Self::over(seed, settings, Recorder::default())
    }
}

impl<D: DataPlane> Sim<D> {
    /// A simulation over this data plane.
    pub fn over(seed: u64, settings: Settings, plane: D) -> Sim<D> {
        let mut rng = Rng::from_number(seed);
        Sim {
            bridge: Bridge::new(settings.clone(), rng.fork()),
            now: Instant::from_millis(1000),
            plane,
            ports: Ports::default(),
            phones: Vec::new(),
            link: Link::CLEAN,
            kept: Kept::default(),
            recorder: Vec::new(),
            notes: Vec::new(),
            speech: Vec::new(),
            partials: Vec::new(),
            drained: false,
            errands: Vec::new(),
            customer: CustomerId::random(&mut rng),
            rng,
            settings,
            wire: BTreeMap::new(),
            serial: 0,
            answer: None,
        }
    }

    /// The wall clock.
    pub fn wall(&self) -> Timestamp {
        WALL_AT_ZERO.plus(self.now.since(Instant::ZERO))
    }

    fn both(&self) -> Now {
        Now { instant: self.now, wall: self.wall() }
    }

    /// One more phone.
    pub fn phone(&mut self) -> PhoneId {
        let id = self.phones.len();
        let host = u8::try_from(id % 200 + 20).expect("below 256");
        let port = 5060 + u16::try_from(id).expect("few phones");
        self.phones.push(Phone::new(SocketAddr::from(([192, 0, 2, host], port)), id as u64 + 1));
        id
    }

    /// One more phone, which calls `uri`.
    pub fn dial(&mut self, uri: &str) -> PhoneId {
        let id = self.phone();
        self.phones[id].dial(self.now, uri);
        self.flush();
        id
    }

    /// One more phone, which calls `uri` with this body.
    pub fn dial_with(&mut self, uri: &str, body: &str) -> PhoneId {
        let id = self.phone();
        self.phones[id].dial_with(self.now, uri, body, "");
        self.flush();
        id
    }

    /// Has a phone do something now.
    pub fn at_phone(&mut self, id: PhoneId, act: impl FnOnce(&mut Phone, Instant)) {
        act(&mut self.phones[id], self.now);
        self.flush();
    }

    /// Sends bytes to the bridge as this phone, as they are.
    pub fn send_raw(&mut self, phone: PhoneId, text: &str) {
        self.serial += 1;
        let parcel = Parcel::ToBridge(phone, Bytes::from(text.to_owned()));
        self.wire.insert((self.now + self.link.delay, self.serial), parcel);
    }

    /// Asks the bridge for something.
    pub fn command(&mut self, command: Command) -> Reply {
        self.input(Input::Command { ticket: 77, command });
        self.answer.take().expect("every command is answered at once")
    }

    /// Makes a conference of this type.
    pub fn create(&mut self, r#type: ConferenceType) -> Conference {
        self.create_with(NewConference { r#type, direct_access: true, ..NewConference::default() })
    }

    /// Makes a conference as asked.
    pub fn create_with(&mut self, new: NewConference) -> Conference {
        let customer = self.customer;
        self.expect_conference(Command::CreateConference { customer, new })
    }

    /// Changes a conference.
    pub fn update(&mut self, id: ConferenceId, change: ConferenceChange) -> Conference {
        let customer = self.customer;
        self.expect_conference(Command::UpdateConference { customer, id, change })
    }

    /// Deletes a conference.
    pub fn delete(&mut self, id: ConferenceId) -> Conference {
        let customer = self.customer;
        self.expect_conference(Command::DeleteConference { customer, id })
    }

    /// Makes a conference and deletes it, by the bridge alone: nothing is kept or checked.
    pub fn bridge_only_create_and_delete(&mut self) -> ConferenceId {
        self.bridge_only_end_with(FlowId::NIL)
    }

    /// The same, with this flow at the end.
    pub fn bridge_only_end_with(&mut self, post_flow_id: FlowId) -> ConferenceId {
        let id = ConferenceId::random(&mut self.rng);
        let (customer, now) = (self.customer, self.both());
        let new = NewConference { id: Some(id), post_flow_id, ..NewConference::default() };
        for command in
            [Command::CreateConference { customer, new }, Command::DeleteConference { customer, id }]
        {
            self.bridge.handle(now, Input::Command { ticket: 1, command }, &mut self.ports);
        }
        while self.bridge.poll_output().is_some() {}
        id
    }

    /// Makes a flow of these actions.
    pub fn create_flow(&mut self, actions: serde_json::Value) -> CallFlow {
        let program = Program::parse(&actions, &mut self.rng).expect("actions");
        let new = NewFlow { program: Arc::new(program), ..NewFlow::default() };
        match self.command(Command::CreateFlow { customer: self.customer, new }) {
            Reply::Flow(flow) => *flow,
            other => panic!("not a flow: {other:?}"),
        }
    }

    /// Answers the oldest errand.
    pub fn answer_errand(&mut self, result: ErrandResult) -> Errand {
        let (ticket, errand) = self.errands.remove(0);
        self.input(Input::Errand { ticket, result });
        errand
    }

    /// A new direct hash.
    pub fn regenerate(&mut self, id: ConferenceId) -> Conference {
        let customer = self.customer;
        self.expect_conference(Command::RegenerateDirectHash { customer, id })
    }

    fn expect_conference(&mut self, command: Command) -> Conference {
        match self.command(command) {
            Reply::Conference(conference) => *conference,
            other => panic!("not a conference: {other:?}"),
        }
    }

    /// A conference as the bridge holds it.
    pub fn conference(&mut self, id: ConferenceId) -> Option<Conference> {
        let customer = self.customer;
        match self.command(Command::ReadConferences { customer, ids: vec![id] }) {
            Reply::Conferences(mut held) => held.pop(),
            other => panic!("not conferences: {other:?}"),
        }
    }

    /// A conferencecall as the bridge holds it.
    pub fn call(&mut self, id: ConferencecallId) -> Option<Conferencecall> {
        let customer = self.customer;
        match self.command(Command::ReadConferencecalls { customer, ids: vec![id] }) {
            Reply::Conferencecalls(mut held) => held.pop(),
            other => panic!("not conferencecalls: {other:?}"),
        }
    }

    /// Reports as a shard.
    pub fn report(&mut self, report: ShardReport) {
        self.input(Input::Report(report));
    }

    /// Reports as the recogniser.
    pub fn speak(&mut self, report: SpeechReport) {
        self.input(Input::Speech(report));
    }

    /// Starts the drain.
    pub fn drain(&mut self) {
        self.input(Input::Drain);
    }

    /// Kills the process and starts a new one from what was kept, `down` later. Phones go on.
    pub fn restart(&mut self, down: Duration, plane: D) {
        self.now += down;
        self.bridge = Bridge::new(self.settings.clone(), self.rng.fork());
        self.plane = plane;
        self.ports = Ports::default();
        let (conferences, open) = self.kept.restored();
        let (flows, running) = self.kept.restored_flows();
        self.bridge.restore_flows(self.both(), flows, running);
        self.errands.clear();
        self.bridge.restore_recordings(self.kept.open_recordings());
        self.bridge.restore(self.both(), conferences, open);
        self.bridge.restore_transcribes(self.both(), self.kept.open_transcribes());
        self.carry_outputs();
    }

    /// The flow between the bridge and a phone.
    pub fn flow(&self, phone: PhoneId) -> Flow {
        let local = BRIDGE.parse().expect("an address");
        Flow { transport: Transport::Udp, id: 1, local, remote: self.phones[phone].address }
    }

    /// Hands one input to the bridge and carries what comes out.
    pub fn input(&mut self, input: Input) {
        self.bridge.handle(self.both(), input, &mut self.ports);
        self.carry_outputs();
        self.check();
    }

    fn carry_outputs(&mut self) {
        while let Some(output) = self.bridge.poll_output() {
            match output {
                Output::Send(transmit) => {
                    let to = self.phones.iter().position(|phone| phone.address == transmit.flow.remote);
                    let to = to.expect("the bridge sends to phones only");
                    self.put_on_wire(|bytes| Parcel::ToPhone(to, bytes), &transmit.bytes);
                }
                Output::Shard { shard, command } => {
                    self.ports.follow(&command);
                    self.plane.command(self.now, shard, &command);
                }
                Output::Record(order) => self.recorder.push(order),
                Output::Speech(order) => self.speech.push(order),
                Output::Partial(partial) => self.partials.push(*partial),
                Output::Persist(change) => self.kept.keep(change),
                Output::Reply { ticket, reply } => {
                    assert_eq!(ticket, 77);
                    self.answer = Some(reply);
                }
                Output::Errand { ticket, errand, .. } => self.errands.push((ticket, errand)),
                Output::Note(note) => self.notes.push(note),
                Output::Drained => {
                    assert!(!self.drained, "drained twice");
                    self.drained = true;
                }
            }
        }
    }

    fn put_on_wire(&mut self, parcel: impl Fn(Bytes) -> Parcel, bytes: &Bytes) {
        for after in self.link.arrivals(&mut self.rng) {
            self.serial += 1;
            self.wire.insert((self.now + after, self.serial), parcel(bytes.clone()));
        }
    }

    /// Puts on the wire what the phones have to send.
    fn flush(&mut self) {
        for id in 0..self.phones.len() {
            while let Some(text) = self.phones[id].poll() {
                self.put_on_wire(|bytes| Parcel::ToBridge(id, bytes), &Bytes::from(text));
            }
        }
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Instant> {
        let wire = self.wire.keys().next().map(|(at, _)| *at);
        let phones = self.phones.iter().filter_map(Phone::next_timeout).min();
        [wire, phones, self.bridge.next_timeout(), self.plane.next_timeout()].into_iter().flatten().min()
    }

    /// Lets `time` go by.
    pub fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Lets time go by until `end`.
    pub fn run_until(&mut self, end: Instant) {
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            match entry.remove() {
                Parcel::ToBridge(from, bytes) => self.input(Input::Sip { flow: self.flow(from), bytes }),
                Parcel::ToPhone(to, bytes) => self.phones[to].receive(self.now, &bytes),
            }
            self.flush();
        }
        for phone in &mut self.phones {
            phone.expire(self.now);
        }
        self.flush();
        while let Some(report) = self.plane.poll_report(self.now) {
            if let ShardReport::LegFailed { leg } = &report {
                self.ports.carried.remove(leg);
            }
            self.input(Input::Report(report));
        }
        if self.bridge.next_timeout().is_some_and(|at| at <= self.now) {
            self.input(Input::Timeout);
            assert!(self.bridge.next_timeout().is_none_or(|at| at > self.now), "a timer did not fire");
        }
    }

    /// What holds at all times: who is `joined` is exactly who is listed.
    fn check(&mut self) {
        let mut joined: BTreeMap<ConferenceId, Vec<ConferencecallId>> = BTreeMap::new();
        for call in self.kept.calls.values().filter(|call| call.status == ConferencecallStatus::Joined) {
            joined.entry(call.conference_id).or_default().push(call.id);
        }
        let live: Vec<ConferenceId> = self.kept.conferences.keys().copied().collect();
        let command = Command::ReadConferences { customer: self.customer, ids: live };
        self.bridge.handle(self.both(), Input::Command { ticket: 1, command }, &mut self.ports);
        while let Some(output) = self.bridge.poll_output() {
            let Output::Reply { reply: Reply::Conferences(held), .. } = output else {
                panic!("reading did something: {output:?}")
            };
            for conference in held {
                let mut listed = conference.conferencecall_ids.clone();
                listed.sort_unstable();
                assert_eq!(listed, joined.remove(&conference.id).unwrap_or_default(), "{conference:?}");
                let record = &self.kept.conferences[&conference.id].conference;
                assert_eq!(record.status, conference.status, "a status that was not kept");
                assert!(
                    conference.status != ConferenceStatus::Terminated
                        || conference.conferencecall_ids.is_empty()
                );
            }
        }
        assert!(joined.is_empty(), "joined in conferences that the bridge does not hold: {joined:?}");
    }
}
