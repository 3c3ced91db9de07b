//! A shard: the rooms and legs of one media thread, and the wheel of slots they tick in.
//!
//! Rooms are spread over [`SLOTS`] slots of one tick, so that the work of a shard is even over
//! time. The thread calls [`Shard::tick`] for each slot at its deadline.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use slab::Slab;

use super::leg::{Leg, LegSettings};
use super::room::{Room, Scratch};
use crate::id::{LegId, RoomId, TapId};
use crate::plane::tap::{Tap, TapMark};
use crate::plane::{ShardCommand, ShardReport};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// Milliseconds between two ticks of a room.
pub const TICK_MS: u64 = 20;
/// Slots that rooms are spread over within a tick.
pub const SLOTS: usize = 20;
/// From one slot to the next.
pub const SLOT: Duration = Duration::from_millis(TICK_MS / SLOTS as u64);
/// Digits that may wait for the control plane; more are dropped and counted.
const DIGITS_MAX: usize = 1024;

/// A leg's place in its shard. Reused after the leg is gone; the I/O driver keeps generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegKey(pub u32);

impl LegKey {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which of a leg's two streams a datagram belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The RTP port (and RTCP when multiplexed).
    Rtp,
    /// The RTCP port.
    Rtcp,
}

/// Where a shard's packets go. Calls only queue; the thread submits them after the tick.
pub trait Outbound {
    /// Queues one datagram on the leg's socket of that channel.
    fn send(&mut self, leg: LegKey, channel: Channel, to: SocketAddr, datagram: &[u8]);
    /// From now on the leg's RTP socket takes packets from `peer` only, or, with `None`, from all.
    fn connect(&mut self, leg: LegKey, peer: Option<SocketAddr>);
}

/// What a command means for the leg's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing.
    Done,
    /// The leg's sockets belong to this key now.
    Added(LegKey),
    /// The leg is gone; close the sockets of this key.
    Removed(LegKey),
    /// The leg could not be added; close the sockets that came with it.
    Refused,
}

/// Counts of what a shard did, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounters {
    /// Datagrams for legs that were gone.
    pub stray: u64,
    /// Digits dropped because the control plane did not take them.
    pub digits_dropped: u64,
    /// Commands for legs, rooms or taps that do not exist.
    pub unknown: u64,
    /// Taps refused because the room had too many.
    pub taps_refused: u64,
    /// Marks of taps dropped because nobody read them.
    pub marks_dropped: u64,
}

/// The data plane's owner of rooms and legs.
#[derive(Debug)]
pub struct Shard {
    settings: LegSettings,
    rng: Rng,
    legs: Slab<Leg>,
    leg_keys: HashMap<LegId, LegKey>,
    rooms: Slab<Room>,
    room_keys: HashMap<RoomId, usize>,
    slots: [Slot; SLOTS],
    scratch: Scratch,
    /// What must reach the control plane, in order.
    news: VecDeque<ShardReport>,
    /// Digits within `news`.
    digits: usize,
    /// Legs with new statistics; each is in here at most once.
    stats_due: VecDeque<LegKey>,
    counters: ShardCounters,
}

/// The rooms that tick together.
#[derive(Debug, Default)]
struct Slot {
    rooms: Vec<usize>,
    legs: usize,
    taps: usize,
}

impl Shard {
    /// An empty shard.
    pub fn new(settings: LegSettings, rng: Rng) -> Self {
        Self {
            settings,
            rng,
            legs: Slab::new(),
            leg_keys: HashMap::new(),
            rooms: Slab::new(),
            room_keys: HashMap::new(),
            slots: Default::default(),
            scratch: Scratch::new(),
            news: VecDeque::new(),
            digits: 0,
            stats_due: VecDeque::new(),
            counters: ShardCounters::default(),
        }
    }

    /// Legs in the shard.
    pub fn leg_count(&self) -> usize {
        self.legs.len()
    }

    /// Rooms in the shard.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// Whether a tick of `slot` would do anything.
    pub fn has_work_in(&self, slot: usize) -> bool {
        let slot = &self.slots[slot % SLOTS];
        slot.legs > 0 || slot.taps > 0
    }

    /// Whether a tick of any slot would do anything.
    pub fn has_work(&self) -> bool {
        !self.legs.is_empty() || self.slots.iter().any(|slot| slot.taps > 0)
    }

    /// The shard's counters.
    pub fn counters(&self) -> ShardCounters {
        self.counters
    }

    /// Applies a command, between ticks. May allocate.
    pub fn command(&mut self, now: Instant, command: ShardCommand, out: &mut impl Outbound) -> Applied {
        match command {
            ShardCommand::OpenRoom { room, shape } => self.open_room(room, shape),
            ShardCommand::CloseRoom { room } => self.close_room(room),
            ShardCommand::AddLeg { leg, room, media, hears, identity, .. } => {
                let Some(&room_key) = self.room_keys.get(&room) else {
                    self.counters.unknown += 1;
                    self.news.push_back(ShardReport::LegFailed { leg });
                    return Applied::Refused;
                };
                let made =
                    Leg::new(now, leg, room_key, media, hears, identity, &self.settings, &mut self.rng);
                return Applied::Added(self.add_leg(room_key, made));
            }
            ShardCommand::UpdateLeg { leg, media } => {
                self.change_leg(leg, |leg| leg.update(now, media));
            }
            ShardCommand::SetHears { leg, hears } => {
                self.change_leg(leg, |leg| leg.set_hears(hears));
            }
            ShardCommand::RemoveLeg { leg } => return self.remove_leg(now, leg, out),
            ShardCommand::StartTap { room, tap } => self.start_tap(room, &tap),
            ShardCommand::StopTap { room, tap } => self.stop_tap(room, tap),
        }
        Applied::Done
    }

    /// The slot that the leg's room ticks in.
    pub fn slot_of(&self, key: LegKey) -> usize {
        self.legs.get(key.index()).map_or(0, |leg| self.rooms[leg.room_key()].slot)
    }

    /// The sockets of a leg just added could not be had: it is gone, and the control plane hears so.
    pub fn fail_leg(&mut self, key: LegKey) {
        let Some(leg) = self.legs.get(key.index()).map(Leg::id) else { return };
        self.forget_leg(leg);
        self.news.push_back(ShardReport::LegFailed { leg });
    }

    /// Takes a datagram of a leg. `from` is `None` on a connected socket.
    pub fn receive(
        &mut self,
        now: Instant,
        key: LegKey,
        channel: Channel,
        from: Option<SocketAddr>,
        datagram: &[u8],
    ) {
        let Some(leg) = self.legs.get_mut(key.index()) else {
            self.counters.stray += 1;
            return;
        };
        let Some(digit) = leg.receive(now, channel, from, datagram) else { return };
        report_digit(&mut self.news, &mut self.digits, &mut self.counters, digit);
    }

    /// Ticks the rooms of one slot. Allocates nothing, blocks on nothing, logs nothing.
    pub fn tick(&mut self, now: Instant, slot: usize, out: &mut impl Outbound) {
        for &room_key in &self.slots[slot % SLOTS].rooms {
            let room = &mut self.rooms[room_key];
            room.tick(now, &mut self.legs, &mut self.scratch, out);
            for &key in &room.legs {
                let leg = &mut self.legs[key.index()];
                let due = leg.keep_up(now, key, &mut self.rng, out);
                if due.stats {
                    self.stats_due.push_back(key);
                }
                if due.media_timeout {
                    self.news.push_back(ShardReport::MediaTimeout { leg: leg.id() });
                }
                if let Some(digit) = due.digit {
                    report_digit(&mut self.news, &mut self.digits, &mut self.counters, digit);
                }
            }
        }
    }

    /// The next report, if any. A report that cannot be delivered is given back by
    /// [`Shard::unpoll_report`].
    pub fn poll_report(&mut self) -> Option<ShardReport> {
        if let Some(news) = self.news.pop_front() {
            self.digits -= usize::from(matches!(news, ShardReport::Digit { .. }));
            return Some(news);
        }
        while let Some(key) = self.stats_due.pop_front() {
            if let Some(leg) = self.legs.get_mut(key.index()) {
                return Some(ShardReport::Stats { leg: leg.id(), stats: leg.take_stats() });
            }
        }
        None
    }

    /// Puts a report that the control plane's queue had no room for back to the front. Statistics
    /// are not kept: the next ones say more.
    pub fn unpoll_report(&mut self, report: ShardReport) {
        if !matches!(report, ShardReport::Stats { .. }) {
            self.digits += usize::from(matches!(report, ShardReport::Digit { .. }));
            self.news.push_front(report);
        }
    }

    fn open_room(&mut self, id: RoomId, shape: crate::plane::RoomShape) {
        // The emptiest slot by legs, then by rooms: rooms of unknown size are spread evenly.
        let slot =
            (0..SLOTS).min_by_key(|&slot| (self.slots[slot].legs, self.slots[slot].rooms.len())).unwrap_or(0);
        let key = self.rooms.insert(Room::new(shape, slot));
        self.slots[slot].rooms.push(key);
        self.room_keys.insert(id, key);
    }

    fn close_room(&mut self, id: RoomId) {
        // The control plane empties a room before it closes it.
        let key = self.room_keys.get(&id).copied().filter(|&key| self.rooms[key].legs.is_empty());
        let Some(key) = key else {
            self.counters.unknown += 1;
            return;
        };
        self.room_keys.remove(&id);
        let room = self.rooms.remove(key);
        let slot = &mut self.slots[room.slot];
        slot.rooms.retain(|&other| other != key);
        slot.taps -= usize::from(!room.taps.is_empty());
        self.counters.marks_dropped += room.taps.marks_dropped();
    }

    fn start_tap(&mut self, room: RoomId, tap: &Tap) {
        let Some(room) = self.room_keys.get(&room).map(|&key| &mut self.rooms[key]) else {
            self.counters.unknown += 1;
            tap.close();
            return;
        };
        let was_tapped = !room.taps.is_empty();
        let legs = room.legs.iter().map(|key| &self.legs[key.index()]);
        if !room.taps.start(tap, legs.map(|leg| (leg.id(), leg.is_heard()))) {
            self.counters.taps_refused += 1;
            return;
        }
        self.slots[room.slot].taps += usize::from(!was_tapped);
    }

    fn stop_tap(&mut self, room: RoomId, tap: TapId) {
        let room = self.room_keys.get(&room).map(|&key| &mut self.rooms[key]);
        let Some(room) = room.filter(|room| !room.taps.is_empty()) else {
            self.counters.unknown += 1;
            return;
        };
        self.counters.unknown += u64::from(!room.taps.stop(tap));
        self.slots[room.slot].taps -= usize::from(room.taps.is_empty());
    }

    fn add_leg(&mut self, room_key: usize, leg: Leg) -> LegKey {
        let id = leg.id();
        let key = LegKey(self.legs.insert(leg) as u32);
        self.leg_keys.insert(id, key);
        let room = &mut self.rooms[room_key];
        room.legs.push(key);
        room.taps.mark(TapMark::Joined(id));
        if !self.legs[key.index()].is_heard() {
            room.taps.mark(TapMark::Muted(id));
        }
        self.slots[room.slot].legs += 1;
        self.scratch.reserve(room.legs.len());
        let more = self.legs.len().saturating_sub(self.stats_due.len());
        self.stats_due.reserve(more);
        // Each leg can add one timeout and one failure; digits have their own limit.
        self.news.reserve(2 * self.legs.len() + 16);
        key
    }

    fn remove_leg(&mut self, now: Instant, id: LegId, out: &mut impl Outbound) -> Applied {
        let Some((key, mut leg)) = self.forget_leg(id) else {
            self.counters.unknown += 1;
            return Applied::Done;
        };
        self.news.push_back(ShardReport::LegClosed { leg: id, stats: leg.close(now, key, out) });
        Applied::Removed(key)
    }

    fn forget_leg(&mut self, id: LegId) -> Option<(LegKey, Leg)> {
        let key = self.leg_keys.remove(&id)?;
        let leg = self.legs.remove(key.index());
        let room = &mut self.rooms[leg.room_key()];
        room.legs.retain(|&other| other != key);
        room.taps.mark(TapMark::Left(id));
        self.slots[room.slot].legs -= 1;
        self.stats_due.retain(|&other| other != key);
        Some((key, leg))
    }

    /// Changes a leg; its room's taps hear when that lets it in or out of the mix.
    fn change_leg(&mut self, id: LegId, change: impl FnOnce(&mut Leg)) {
        let Some(leg) = self.leg_keys.get(&id).and_then(|key| self.legs.get_mut(key.index())) else {
            self.counters.unknown += 1;
            return;
        };
        let was_heard = leg.is_heard();
        change(leg);
        let taps = &mut self.rooms[leg.room_key()].taps;
        match (was_heard, leg.is_heard()) {
            (true, false) => taps.mark(TapMark::Muted(id)),
            (false, true) => taps.mark(TapMark::Unmuted(id)),
            _ => {}
        }
    }
}

/// Keeps a digit for the control plane, or counts it when too many wait. Takes the shard's parts,
/// since a tick has its rooms and legs in hand.
fn report_digit(
    news: &mut VecDeque<ShardReport>,
    digits: &mut usize,
    counters: &mut ShardCounters,
    digit: ShardReport,
) {
    if *digits >= DIGITS_MAX {
        counters.digits_dropped += 1;
        return;
    }
    *digits += 1;
    news.push_back(digit);
}
