//! Two endpoints over a link that loses, repeats and reorders, with owners that do everything at
//! random: whatever happens, both end with nothing left and in agreement.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::support::{SDP, address};
use crate::rng::Rng;
use crate::sip::{CallKey, Cause, Endpoint, Event, Flow, Rejection, Settings, Transport};
use crate::time::{Duration, Instant};

/// How many seeds are played.
const SEEDS: u64 = 3000;
/// When the owners end every call.
const CURTAIN_MS: u64 = 100_000;
/// Within which the owners act.
const ACT_MS: u64 = 20_000;
/// When everything has to be over: every timer has run out.
const END_MS: u64 = 600_000;

#[derive(Default)]
struct Owner {
    /// Calls it has, and whether they were up.
    calls: BTreeMap<CallKey, bool>,
    answered: u32,
}

struct World {
    rng: Rng,
    now: Instant,
    sides: [Endpoint; 2],
    owners: [Owner; 2],
    flows: [Flow; 2],
    /// What is under way: when it arrives, a number that keeps the order, where to, what.
    wire: BTreeMap<(Instant, u64), (usize, Bytes)>,
    sent: u64,
    loss_percent: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::from_number(seed);
        let transport = if rng.below(4) == 0 { Transport::Tcp } else { Transport::Udp };
        let (a, b) = (address("192.0.2.1:5060"), address("192.0.2.2:5060"));
        let flow = |local, remote| Flow { transport, id: 1, local, remote };
        let sides = [0, 1].map(|_| Endpoint::new(Settings::default(), rng.fork()));
        let loss_percent =
            if transport == Transport::Udp { [0, 10, 30, 60][rng.below(4) as usize] } else { 0 };
        Self {
            rng,
            now: Instant::from_millis(1),
            sides,
            owners: Default::default(),
            flows: [flow(a, b), flow(b, a)],
            wire: BTreeMap::new(),
            sent: 0,
            loss_percent,
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }

    /// Puts on the wire what a side sent.
    fn carry(&mut self, side: usize) {
        while let Some(transmit) = self.sides[side].poll_transmit() {
            let lossy = self.flows[side].transport == Transport::Udp;
            let copies = if lossy && self.chance(self.loss_percent) {
                0
            } else {
                1 + u64::from(lossy && self.chance(10))
            };
            for _ in 0..copies {
                let delay_ms = if lossy { 1 + self.rng.below(300) } else { 20 };
                self.sent += 1;
                let at = self.now + Duration::from_millis(delay_ms);
                self.wire.insert((at, self.sent), (1 - side, transmit.bytes.clone()));
            }
        }
    }

    fn hear(&mut self, side: usize) {
        while let Some(event) = self.sides[side].poll_event() {
            let now = self.now;
            let dice = self.rng.below(10);
            let (endpoint, owner) = (&mut self.sides[side], &mut self.owners[side]);
            match event {
                Event::Invite { call, flow, .. } => {
                    owner.calls.insert(call, false);
                    match dice {
                        0 => {
                            endpoint.reject(now, call, Rejection::new(486));
                            owner.calls.remove(&call);
                        }
                        1..4 => endpoint.ring(now, call, 180),
                        _ => endpoint.accept(now, call, flow.local, SDP.into()),
                    }
                }
                Event::Reinvite { call, .. } => {
                    assert!(owner.calls.contains_key(&call), "an event of a call that is gone");
                    match dice {
                        0 => endpoint.reject_reinvite(now, call, Rejection::new(488)),
                        1 => {} // later, or never
                        _ => endpoint.accept_reinvite(now, call, SDP.into()),
                    }
                }
                Event::Acked { call, .. } | Event::Answered { call, .. } => {
                    let up = owner.calls.get_mut(&call).expect("an event of a call that is gone");
                    owner.answered += u32::from(!*up);
                    *up = true;
                }
                Event::Cancelled { call } | Event::Ended { call, .. } | Event::Rejected { call, .. } => {
                    assert!(owner.calls.remove(&call).is_some(), "a call ended twice");
                }
                Event::Progress { call, .. }
                | Event::ReinviteRejected { call, .. }
                | Event::Info { call, .. } => {
                    assert!(owner.calls.contains_key(&call), "an event of a call that is gone");
                }
                Event::Options { key, .. } => endpoint.answer(now, key, 200, "", &[], Bytes::new()),
            }
        }
    }

    /// An owner does something out of nothing.
    fn act(&mut self, side: usize) {
        let (now, flow) = (self.now, self.flows[side]);
        let calls: Vec<CallKey> = self.owners[side].calls.keys().copied().collect();
        let dice = self.rng.below(8);
        let pick = (!calls.is_empty()).then(|| calls[self.rng.below(calls.len() as u64) as usize]);
        let (endpoint, owner) = (&mut self.sides[side], &mut self.owners[side]);
        match (dice, pick) {
            (0..2, _) | (_, None) => {
                let call =
                    endpoint.invite(now, flow, "sip:b@192.0.2.2", "sip:a@192.0.2.1", flow.local, SDP.into());
                owner.calls.insert(call.expect("within limits"), false);
            }
            (2, Some(call)) => {
                endpoint.hang_up(now, call, Cause::normal());
                owner.calls.remove(&call);
            }
            (3..5, Some(call)) => {
                endpoint.reinvite(now, call, SDP.into());
            }
            (5, Some(call)) => endpoint.accept_reinvite(now, call, SDP.into()),
            (_, Some(call)) => endpoint.accept(now, call, flow.local, SDP.into()),
        }
    }

    fn settle(&mut self) {
        for side in [0, 1] {
            self.hear(side);
            self.carry(side);
        }
    }

    /// Runs everything that is due up to `end`.
    fn run_to(&mut self, end: Instant) {
        loop {
            let wire = self.wire.keys().next().map(|(at, _)| *at);
            let timers = self.sides.iter().filter_map(Endpoint::next_timeout);
            let Some(at) = timers.chain(wire).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if wire == Some(at)
                && let Some((_, (side, bytes))) = self.wire.pop_first()
            {
                self.sides[side].handle_message(self.now, self.flows[side], bytes);
            }
            for side in [0, 1] {
                self.sides[side].handle_timeout(self.now);
            }
            self.settle();
        }
        self.now = end;
    }
}

#[test]
fn whatever_the_link_does_nothing_is_left_over_and_both_sides_agree() {
    let (mut answered, mut agreed) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..12 {
            let pause_ms = world.rng.below(ACT_MS / 12) + 1;
            let until = world.now + Duration::from_millis(pause_ms);
            world.run_to(until);
            let side = world.rng.below(2) as usize;
            world.act(side);
            world.settle();
        }
        // Long enough for every retransmission and crossing to be over.
        world.run_to(Instant::from_millis(CURTAIN_MS));
        if world.loss_percent == 0 {
            let up = |owner: &Owner| owner.calls.values().filter(|up| **up).count();
            assert_eq!(world.sides[0].calls(), world.sides[1].calls(), "seed {seed}");
            assert_eq!(up(&world.owners[0]), up(&world.owners[1]), "seed {seed}");
            agreed += up(&world.owners[0]);
        }
        for side in [0, 1] {
            for call in std::mem::take(&mut world.owners[side].calls).into_keys() {
                world.sides[side].hang_up(world.now, call, Cause::shutdown());
            }
        }
        world.settle();
        world.run_to(Instant::from_millis(END_MS));
        for side in [0, 1] {
            let endpoint = &world.sides[side];
            assert_eq!((endpoint.calls(), endpoint.transactions()), (0, 0), "seed {seed}, side {side}");
            assert_eq!(endpoint.next_timeout(), None, "seed {seed}, side {side}");
            assert!(world.owners[side].calls.is_empty(), "seed {seed}, side {side}");
            assert_eq!(endpoint.counters().malformed, 0, "seed {seed}, side {side}");
        }
        answered += world.owners[0].answered;
    }
    assert!(answered > SEEDS as u32 / 2, "the calls of the test come about: {answered}");
    assert!(agreed > SEEDS as usize / 10, "there are calls to agree on: {agreed}");
}
