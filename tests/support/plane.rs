//! The data plane's side: ports, and what shards do with their orders.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use confab::id::{LegId, RoomId, TapId};
use confab::plane::tap::Tap;
use confab::plane::{
    Clip, Hears, LegMedia, LegStats, MediaPort, PortSource, RangeExhausted, RoomShape, ShardCommand,
    ShardIndex, ShardReport,
};
use confab::time::Instant;

/// What the simulator drives as the data plane.
pub trait DataPlane {
    /// An order for a shard.
    fn command(&mut self, now: Instant, shard: ShardIndex, command: &ShardCommand);
    /// The next report that is due at `now`.
    fn poll_report(&mut self, now: Instant) -> Option<ShardReport>;
    /// When the next report is due.
    fn next_timeout(&self) -> Option<Instant>;
}

/// A leg as the recorder knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedLeg {
    pub shard: ShardIndex,
    pub room: RoomId,
    pub port: MediaPort,
    pub media: LegMedia,
    pub hears: Hears,
}

/// A data plane without sound: it holds every order against the rules and answers as shards do.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    pub rooms: BTreeMap<RoomId, (ShardIndex, RoomShape)>,
    pub legs: BTreeMap<LegId, RecordedLeg>,
    /// The taps that run, and of which room.
    pub taps: BTreeMap<TapId, (RoomId, Tap)>,
    /// The sources, and of which room.
    pub sources: BTreeMap<LegId, (RoomId, Tap)>,
    pub added: u64,
    /// Every order, in order.
    pub orders: Vec<ShardCommand>,
    /// The next legs fail.
    pub failing: usize,
    /// Removed legs are never reported closed.
    pub silent: bool,
    /// Legs that listen for tones.
    pub listening: BTreeSet<LegId>,
    /// What is played: until when, which, and the clip.
    pub plays: BTreeMap<LegId, (Instant, u64, Option<Arc<Clip>>)>,
    /// Plays never end.
    pub endless: bool,
    ids: BTreeSet<LegId>,
    reports: VecDeque<(Instant, ShardReport)>,
}

/// From an order to its report: a tick.
pub const TICK: Duration = Duration::from_millis(20);

impl Recorder {
    /// What is played to a leg is over, whole if its time has come.
    fn end_play(&mut self, now: Instant, leg: LegId) {
        if let Some((until, play, clip)) = self.plays.remove(&leg) {
            let report = ShardReport::PlayDone { leg, play, whole: until <= now, clip };
            self.reports.push_back((now + TICK, report));
        }
    }

    fn next_play(&self) -> Option<(Instant, LegId)> {
        let ends = self.plays.iter().map(|(leg, (until, ..))| (*until, *leg));
        ends.min().filter(|_| !self.endless)
    }
}

impl DataPlane for Recorder {
    fn command(&mut self, now: Instant, shard: ShardIndex, command: &ShardCommand) {
        self.orders.push(command.clone());
        match command.clone() {
            ShardCommand::OpenRoom { room, shape } => {
                assert!(self.rooms.insert(room, (shard, shape)).is_none(), "{room:?} opened twice");
            }
            ShardCommand::CloseRoom { room } => {
                let (of, _) = self.rooms.remove(&room).expect("closed a room that is not open");
                assert_eq!(of, shard, "{room:?} closed in another shard");
                assert!(self.legs.values().all(|leg| leg.room != room), "{room:?} closed with legs in it");
                assert!(self.taps.values().all(|(of, _)| *of != room), "{room:?} closed with taps on it");
                assert!(self.sources.values().all(|(of, _)| *of != room), "{room:?} closed with sources");
            }
            ShardCommand::AddLeg { leg, room, port, media, hears, .. } => {
                assert_eq!(
                    self.rooms.get(&room).map(|(of, _)| *of),
                    Some(shard),
                    "{leg:?} added to no room of its shard"
                );
                assert!(self.ids.insert(leg), "{leg:?} used twice");
                self.added += 1;
                if self.failing > 0 {
                    self.failing -= 1;
                    self.reports.push_back((now + TICK, ShardReport::LegFailed { leg }));
                } else {
                    self.legs.insert(leg, RecordedLeg { shard, room, port, media, hears });
                }
            }
            ShardCommand::MoveLeg { leg, room, from } => {
                assert_eq!(
                    self.rooms.get(&room).map(|(of, _)| *of),
                    Some(shard),
                    "{leg:?} moved to no room of its shard"
                );
                // A leg that failed is unknown to its shard; its failure is on the way.
                let Some(of) = self.legs.get_mut(&leg) else { return };
                assert_eq!(of.shard, from, "{leg:?} moved from where it is not");
                (of.shard, of.room) = (shard, room);
            }
            ShardCommand::UpdateLeg { leg, media } => {
                if let Some(of) = self.legs.get_mut(&leg) {
                    of.media = media;
                }
            }
            ShardCommand::SetHears { leg, hears } => {
                if let Some(of) = self.legs.get_mut(&leg) {
                    of.hears = hears;
                }
            }
            ShardCommand::Play { leg, play, clip } => {
                self.end_play(now, leg);
                if self.legs.contains_key(&leg) {
                    self.plays.insert(leg, (now + clip.duration(), play, Some(clip)));
                }
            }
            ShardCommand::SendDigits { leg, play, digits, held_ms, gap_ms } => {
                self.end_play(now, leg);
                if self.legs.contains_key(&leg) {
                    let time = u64::from(held_ms + gap_ms) * digits.len() as u64;
                    self.plays.insert(leg, (now + Duration::from_millis(time), play, None));
                }
            }
            ShardCommand::StopPlay { leg } => self.end_play(now, leg),
            ShardCommand::ListenForTones { leg, on } => {
                // A leg that failed is unknown to its shard.
                if on && self.legs.contains_key(&leg) {
                    self.listening.insert(leg);
                } else {
                    self.listening.remove(&leg);
                }
            }
            ShardCommand::AddSource { room, leg, tap, .. } => {
                assert!(self.rooms.contains_key(&room), "{leg:?} in no room");
                assert!(self.ids.insert(leg), "{leg:?} used twice");
                self.sources.insert(leg, (room, tap));
            }
            ShardCommand::RemoveSource { room, leg } => {
                let (of, _) = self.sources.remove(&leg).expect("removed a source that is there");
                assert_eq!(of, room, "{leg:?} removed from another room");
            }
            ShardCommand::StartTap { room, tap } => {
                assert!(self.rooms.contains_key(&room), "{tap:?} in no room");
                assert!(self.taps.insert(tap.id(), (room, tap)).is_none(), "a tap started twice");
            }
            ShardCommand::StopTap { room, tap } => {
                let (of, _) = self.taps.remove(&tap).expect("stopped a tap that runs");
                assert_eq!(of, room, "{tap:?} stopped in another room");
            }
            ShardCommand::RemoveLeg { leg } => {
                self.end_play(now, leg);
                self.listening.remove(&leg);
                // A leg that failed is unknown to its shard; its failure is on the way.
                let Some(of) = self.legs.remove(&leg) else { return };
                assert_eq!(of.shard, shard, "{leg:?} removed in another shard");
                if !self.silent {
                    let stats = LegStats { packets_in: 50, packets_out: 50, ..LegStats::default() };
                    self.reports.push_back((now + TICK, ShardReport::LegClosed { leg, stats }));
                }
            }
        }
    }

    fn poll_report(&mut self, now: Instant) -> Option<ShardReport> {
        while let Some((_, leg)) = self.next_play().filter(|(until, _)| *until <= now) {
            self.end_play(now, leg);
        }
        self.reports.pop_front_if(|(at, _)| *at <= now).map(|(_, report)| report)
    }

    fn next_timeout(&self) -> Option<Instant> {
        let play = self.next_play().map(|(until, _)| until);
        self.reports.front().map(|(at, _)| *at).into_iter().chain(play).min()
    }
}

/// Ports by number; a port is bound until a leg carries it away or it is given back, exactly once.
#[derive(Clone, Debug)]
pub struct Ports {
    pub limit: usize,
    /// Bound, and neither carried away nor given back.
    pub held: BTreeMap<u32, MediaPort>,
    /// Carried away by legs that are not gone.
    pub carried: BTreeMap<LegId, MediaPort>,
    pub last_family_is_v6: bool,
    next: u32,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            limit: usize::MAX,
            held: BTreeMap::new(),
            carried: BTreeMap::new(),
            last_family_is_v6: false,
            next: 0,
        }
    }
}

impl Ports {
    /// Follows a port through an order.
    pub fn follow(&mut self, command: &ShardCommand) {
        match command {
            ShardCommand::AddLeg { leg, port, .. } => {
                let held = self.held.remove(&port.token);
                assert_eq!(held.as_ref(), Some(port), "a leg carries a port that is not held");
                self.carried.insert(*leg, *port);
            }
            ShardCommand::RemoveLeg { leg } => drop(self.carried.remove(leg)),
            _ => {}
        }
    }
}

impl PortSource for Ports {
    fn bind(&mut self, peer: IpAddr, rtcp_mux: bool) -> Result<MediaPort, RangeExhausted> {
        self.last_family_is_v6 = peer.is_ipv6();
        if self.held.len() + self.carried.len() >= self.limit {
            return Err(RangeExhausted);
        }
        let token = self.next;
        self.next += 1;
        let rtp = 20_000 + u16::try_from(2 * u64::from(token) % 40_000).expect("below 40000");
        let port = MediaPort { token, rtp, rtcp: (!rtcp_mux).then_some(rtp + 1) };
        self.held.insert(token, port);
        Ok(port)
    }

    fn release(&mut self, port: MediaPort) {
        assert_eq!(self.held.remove(&port.token), Some(port), "a port given back that is not held");
    }
}
