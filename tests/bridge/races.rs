//! Joins, leaves, holds, cancels, deletes, timeouts and failures at random times over random bad
//! links, thousands of times. Whatever the order: nothing is left over, statuses only go forward,
//! `seq` has no gaps (the store checks each step), and both sides know how it ended.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use confab::bridge::Settings;
use confab::bridge::command::{Command, NewConference};
use confab::bridge::flow::outside::ErrandResult;
use confab::bridge::resource::{Conference, ConferenceType};
use confab::id::FlowId;
use confab::plane::{Clip, ShardCommand, ShardReport};
use confab::rng::Rng;
use serde_json::json;

use crate::scenes::{LATER, direct_access, timeout_of, uri_of};
use crate::support::message::sdp;
use crate::support::{Link, Sim};
use crate::truth::{assert_events_tell_all, assert_nothing_left};

const SEEDS: u64 = 2400;
const ACTS: u64 = 24;
const PHONES_MAX: usize = 6;

/// Runs `play` with each seed and names the one that failed.
fn for_each_seed(seeds: std::ops::Range<u64>, play: impl Fn(u64)) {
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| play(seed)));
        assert!(outcome.is_ok(), "seed {seed} failed");
    }
}

/// A few actions of those that wait, and of those that end something.
fn random_actions(rng: &mut Rng) -> serde_json::Value {
    let actions: Vec<_> = (0..rng.below(4))
        .map(|_| match rng.below(8) {
            0 => json!({"type": "beep"}),
            1 => json!({"type": "sleep", "option": {"duration": rng.below(4000)}}),
            2 => json!({"type": "echo", "option": {"duration": rng.below(4000)}}),
            3 => json!({"type": "digits_receive", "option": {"duration": rng.below(4000), "length": 1}}),
            4 => json!({"type": "talk", "option": {"text": "hello"}}),
            5 => json!({"type": "digits_send", "option": {"digits": "12"}}),
            6 if rng.below(3) == 0 => json!({"type": "hangup"}),
            _ => {
                json!({"type": "play", "option": {"stream_urls": ["http://a.example/", "http://b.example/"]}})
            }
        })
        .collect();
    json!(actions)
}

struct Play {
    sim: Sim,
    rng: Rng,
    conferences: Vec<Conference>,
}

impl Play {
    fn new(seed: u64) -> Play {
        let mut rng = Rng::from_number(seed);
        let settings = Settings {
            shards: 1 + rng.below(3) as u16,
            max_members: 2 + rng.below(3) as usize,
            max_calls: 3 + rng.below(4) as usize,
            drain_timeout: Duration::from_secs(1 + rng.below(40)),
            ..Settings::default()
        };
        let mut sim = Sim::with(seed, settings);
        // A data plane that has stopped answering must not hold up anything for ever.
        sim.plane.silent = rng.below(12) == 0;
        sim.link = if rng.below(4) == 0 { Link::CLEAN } else { Link::bad(&mut rng) };
        // Half of the plays have flows, of a stream of their own.
        let mut flows = (seed % 2 == 1).then(|| Rng::from_number(!seed));
        let conferences = (0..1 + rng.below(2))
            .map(|_| {
                let mut flow =
                    || flows.as_mut().map_or(FlowId::NIL, |rng| sim.create_flow(random_actions(rng)).id);
                let (pre_flow_id, post_flow_id) = (flow(), flow());
                let r#type =
                    if rng.below(2) == 0 { ConferenceType::Connect } else { ConferenceType::Conference };
                let timeout_s = if rng.below(3) == 0 { 1 + rng.below(20) } else { 0 };
                sim.create_with(NewConference {
                    r#type,
                    timeout_s,
                    pre_flow_id,
                    post_flow_id,
                    direct_access: true,
                    ..NewConference::default()
                })
            })
            .collect();
        Play { sim, rng, conferences }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    fn conference(&mut self) -> Conference {
        let place = self.below(self.conferences.len());
        self.conferences[place].clone()
    }

    /// How one dials one of the conferences: mostly as it is now, sometimes as it was at first.
    fn uri(&mut self) -> String {
        let first = self.conference();
        let now = self.sim.conference(first.id).filter(|now| !now.direct_hash.is_empty());
        uri_of(&now.filter(|_| self.rng.below(8) > 0).unwrap_or(first))
    }

    fn act(&mut self) {
        if !self.sim.errands.is_empty() && self.rng.below(3) > 0 {
            let clip = Arc::new(Clip::new(8000, vec![0; 8 * self.below(3000)]));
            let failed = ErrandResult::Failed("as the play wants it".to_owned());
            let result = if self.rng.below(4) == 0 { failed } else { ErrandResult::Clip(clip) };
            self.sim.answer_errand(result);
        }
        match self.rng.below(20) {
            0..6 => self.dial(),
            6..9 => self.at_some_phone(|phone, now, _| phone.hang_up(now)),
            9..11 => self.at_some_phone(|phone, now, _| phone.cancel(now)),
            11..14 => self.at_some_phone(|phone, now, rng| {
                let direction = ["sendonly", "inactive", "sendrecv", "recvonly"][rng.below(4) as usize];
                let body = if rng.below(6) == 0 {
                    String::new()
                } else {
                    sdp("192.0.2.20", 4000, "0 8", &[direction])
                };
                phone.reinvite(now, &body);
            }),
            14 => self.eject(),
            15 => self.trouble(),
            16 => {
                let conference = self.conference();
                let change = if self.rng.below(2) == 0 {
                    timeout_of(1 + self.rng.below(90))
                } else {
                    direct_access(self.rng.below(3) > 0)
                };
                let customer = self.sim.customer;
                self.sim.command(Command::UpdateConference { customer, id: conference.id, change });
            }
            17 if self.rng.below(4) == 0 => self.delete(),
            18 if self.rng.below(2) == 0 => self.sim.plane.failing += 1,
            _ => {}
        }
    }

    fn dial(&mut self) {
        if self.sim.phones.len() >= PHONES_MAX {
            return;
        }
        let uri = self.uri();
        let phone = self.sim.phone();
        let body = if self.rng.below(4) == 0 { String::new() } else { self.sim.phones[phone].offer() };
        let answers_offers = self.rng.below(4) > 0;
        let acknowledges = self.rng.below(12) > 0;
        self.sim.at_phone(phone, |phone, now| {
            if answers_offers {
                phone.late_answer = sdp("192.0.2.20", 4004, "8", &[]);
            }
            phone.acknowledges = acknowledges;
            phone.dial_with(now, &uri, &body, "");
        });
    }

    fn at_some_phone(
        &mut self,
        act: impl FnOnce(&mut crate::support::Phone, confab::time::Instant, &mut Rng),
    ) {
        if self.sim.phones.is_empty() {
            return;
        }
        let phone = self.below(self.sim.phones.len());
        let mut rng = self.rng.fork();
        self.sim.at_phone(phone, |phone, now| act(phone, now, &mut rng));
    }

    fn eject(&mut self) {
        let ids: Vec<_> = self.sim.kept.calls.keys().copied().collect();
        if !ids.is_empty() {
            let (id, customer) = (ids[self.below(ids.len())], self.sim.customer);
            self.sim.command(Command::EjectConferencecall { customer, id });
        }
    }

    /// A shard loses a leg, or hears nothing of it.
    fn trouble(&mut self) {
        let legs: Vec<_> = self.sim.plane.legs.keys().copied().collect();
        if legs.is_empty() {
            return;
        }
        let leg = legs[self.below(legs.len())];
        self.sim.report(ShardReport::Digit { leg, digit: '1', duration_ms: 100 });
        self.sim.report(ShardReport::PlayDone { leg, play: 3, whole: false, clip: None });
        self.sim.report(ShardReport::MediaTimeout { leg });
    }

    fn delete(&mut self) {
        let (id, customer) = (self.conference().id, self.sim.customer);
        self.sim.command(Command::DeleteConference { customer, id });
    }

    /// A third of the plays end by drain, a third by deletion, a third by everybody hanging up.
    fn end(&mut self, seed: u64) {
        match seed % 3 {
            0 => self.sim.drain(),
            1 => {
                for conference in self.conferences.clone() {
                    let customer = self.sim.customer;
                    self.sim.command(Command::DeleteConference { customer, id: conference.id });
                }
            }
            // Beyond 64·T1, so that calls never acknowledged end by themselves.
            _ => self.sim.run(Duration::from_secs(40)),
        }
        for _ in 0..3 {
            for phone in 0..self.sim.phones.len() {
                self.sim.at_phone(phone, |phone, now| phone.cancel(now));
            }
            self.sim.run(Duration::from_secs(70));
        }
        self.sim.run(LATER);
    }
}

/// What all plays together came to: plays that reach nothing would prove nothing.
#[derive(Debug, Default)]
struct Reached {
    joined: u64,
    retransmissions: u64,
    absorbed: u64,
    never_joined: u64,
    updates: u64,
    ended_by_force: u64,
    refused: BTreeMap<&'static str, u64>,
    causes: BTreeMap<String, u64>,
    statuses: BTreeMap<(String, u16), u64>,
}

impl Reached {
    fn add(&mut self, sim: &Sim) {
        let gauges = sim.bridge.gauges();
        self.joined += gauges.joined_total;
        self.retransmissions += gauges.sip.retransmissions;
        self.absorbed += gauges.sip.absorbed;
        self.never_joined += gauges.conferencecalls_total - gauges.joined_total;
        self.ended_by_force += gauges.legs_given_up_total;
        let is_update = |order: &&ShardCommand| matches!(order, ShardCommand::UpdateLeg { .. });
        self.updates += sim.plane.orders.iter().filter(is_update).count() as u64;
        for (reason, count) in gauges.refused_total {
            *self.refused.entry(reason).or_default() += count;
        }
        for call in sim.kept.calls.values() {
            *self.causes.entry(call.hangup_cause.clone()).or_default() += 1;
        }
        for (status, method) in sim.phones.iter().flat_map(|phone| &phone.heard) {
            *self.statuses.entry((method.clone(), *status)).or_default() += 1;
        }
    }

    fn assert_enough(&self) {
        let counts = [
            self.joined,
            self.never_joined,
            self.updates,
            self.ended_by_force,
            self.retransmissions,
            self.absorbed,
        ];
        assert!(counts.iter().all(|count| *count >= 50), "{self:#?}");
        for reason in ["hash", "ended", "terminating", "connect_full", "members", "calls"] {
            assert!(self.refused[reason] >= 20, "{reason}: {self:#?}");
        }
        for cause in [
            "ACK never came",
            "Ejected from the conference",
            "Media timeout",
            "No media resources",
            "Normal call clearing",
            "Server shutting down",
            "The conference ended",
            "The other party left",
        ] {
            assert!(self.causes.get(cause).is_some_and(|count| *count >= 20), "{cause}: {self:#?}");
        }
        // CANCELs that lose to the answer, BYEs that cross, re-INVITEs on top of one another.
        for (method, status) in [("CANCEL", 200), ("BYE", 200), ("BYE", 481), ("INVITE", 491)] {
            assert!(self.statuses.contains_key(&(method.to_owned(), status)), "{method} {status}: {self:#?}");
        }
        let odd = self.statuses.keys().find(|(_, status)| *status == 400);
        assert_eq!(odd, None, "the phones say nothing malformed: {self:#?}");
    }
}

#[test]
fn whatever_happens_in_whatever_order_nothing_is_left_over() {
    let reached = RefCell::new(Reached::default());
    for_each_seed(0..SEEDS, |seed| {
        let mut play = Play::new(seed);
        for _ in 0..ACTS {
            play.act();
            let pause = Duration::from_millis([0, 5, 40, 300, 2500][play.below(5)]);
            play.sim.run(pause);
        }
        play.end(seed);
        assert_nothing_left(&play.sim);
        assert_events_tell_all(&play.sim);
        assert_eq!(play.sim.drained, seed % 3 == 0);
        reached.borrow_mut().add(&play.sim);
    });
    reached.into_inner().assert_enough();
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut play = Play::new(seed);
        for _ in 0..ACTS {
            play.act();
            play.sim.run(Duration::from_millis(200));
        }
        (play.sim.plane.orders, play.sim.notes, play.sim.kept.events)
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

#[test]
fn a_kill_at_any_moment_loses_no_conference_and_leaves_no_call_open() {
    for_each_seed(10_000..10_300, |seed| {
        let mut play = Play::new(seed);
        for act in 0..ACTS {
            play.act();
            let pause = Duration::from_millis([0, 5, 40, 300, 2500][play.below(5)]);
            play.sim.run(pause);
            if act == seed % ACTS {
                play.sim.restart(Duration::from_millis(seed % 5000), crate::support::Recorder::default());
            }
        }
        play.end(seed);
        assert_nothing_left(&play.sim);
        assert_events_tell_all(&play.sim);
    });
}
