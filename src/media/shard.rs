//! A shard: the rooms and legs of one media thread, and the wheel of slots they tick in.
//!
//! Rooms are spread over [`SLOTS`] slots of one tick, so that the work of a shard is even over
//! time, and within a slot over [`LANES`]: the thread receives, ticks and sends lane by lane, so
//! that what a leg touches, here and in the kernel, is touched once while it is in the cache.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;

use slab::Slab;

use super::leg::{Leg, LegSettings};
use super::room::{Room, Scratch};
use super::source::{SOURCES_MAX, Source};
use crate::id::{LegId, RoomId, TapId};
use crate::plane::feed::Feed;
use crate::plane::tap::{Tap, TapMark};
use crate::plane::{ShardCommand, ShardReport};
use crate::prefetch::prefetch;
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// Milliseconds between two ticks of a room.
pub const TICK_MS: u64 = 20;
/// Slots that rooms are spread over within a tick.
pub const SLOTS: usize = 20;
/// Parts of a slot, one after the other: with 2000 legs some 25 a lane, a few hundred kilobytes of
/// theirs and their sockets'.
pub const LANES: usize = 4;
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
    /// The leg is in another room, which may tick in another lane.
    Moved(LegKey),
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
    /// Taps and sources refused because the room had too many.
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
    /// [`LANES`] of each slot, slot after slot.
    lanes: Vec<Lane>,
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
#[derive(Clone, Debug, Default)]
struct Lane {
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
            lanes: vec![Lane::default(); SLOTS * LANES],
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

    /// The lanes of a slot, for [`Shard::tick_lane`].
    pub fn lanes_of(slot: usize) -> Range<usize> {
        let first = slot % SLOTS * LANES;
        first..first + LANES
    }

    /// Whether a tick of the lane would do anything.
    pub fn has_work_in(&self, lane: usize) -> bool {
        self.lanes[lane].legs > 0 || self.lanes[lane].taps > 0
    }

    /// Whether a tick of any lane would do anything.
    pub fn has_work(&self) -> bool {
        !self.legs.is_empty() || self.lanes.iter().any(|lane| lane.taps > 0)
    }

    /// The legs in the shard.
    pub fn leg_keys(&self) -> impl Iterator<Item = LegKey> + '_ {
        self.legs.iter().map(|(index, _)| LegKey(index as u32))
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
                return Applied::Added(self.add_leg(made));
            }
            ShardCommand::UpdateLeg { leg, media } => {
                self.change_leg(leg, |leg| leg.update(now, media));
            }
            ShardCommand::SetHears { leg, hears } => {
                self.change_leg(leg, |leg| leg.set_hears(hears));
            }
            ShardCommand::Play { leg, play, clip } => {
                let shared = clip.clone();
                match self.change_leg(leg, |leg| leg.play(play, shared)) {
                    Some(over) => self.tell_over(over),
                    None => self.news.push_back(ShardReport::PlayDone {
                        leg,
                        play,
                        whole: false,
                        clip: Some(clip),
                    }),
                }
            }
            ShardCommand::SendDigits { leg, play, digits, held_ms, gap_ms } => {
                let over = self.change_leg(leg, |leg| leg.press(play, &digits, held_ms, gap_ms));
                over.into_iter().for_each(|over| self.tell_over(over));
            }
            ShardCommand::StopPlay { leg } => {
                let over = self.change_leg(leg, Leg::stop_play).flatten();
                self.tell_over([over, None]);
            }
            ShardCommand::ListenForTones { leg, on } => {
                self.change_leg(leg, |leg| leg.listen_for_tones(on));
            }
            ShardCommand::RemoveLeg { leg } => return self.remove_leg(now, leg, out),
            ShardCommand::MoveLeg { leg, room, .. } => return self.move_leg(leg, room),
            ShardCommand::StartTap { room, tap } => self.start_tap(room, &tap),
            ShardCommand::StopTap { room, tap } => self.stop_tap(room, tap),
            ShardCommand::AddSource { room, leg, feed, tap } => self.add_source(room, leg, &feed, &tap),
            ShardCommand::RemoveSource { room, leg } => self.remove_source(room, leg),
        }
        Applied::Done
    }

    /// The lane that the leg's room ticks in.
    pub fn lane_of(&self, key: LegKey) -> usize {
        self.legs.get(key.index()).map_or(0, |leg| self.rooms[leg.room_key()].lane)
    }

    /// The sockets of a leg just added could not be had: it is gone, and the control plane hears so.
    pub fn fail_leg(&mut self, key: LegKey) {
        let Some(leg) = self.legs.get(key.index()).map(Leg::id) else { return };
        self.forget_leg(leg);
        self.news.push_back(ShardReport::LegFailed { leg });
    }

    /// Lets a leg go, as it is, to another shard. It is not closed: its stream goes on there.
    pub fn release_leg(&mut self, id: LegId) -> Option<(LegKey, Box<Leg>)> {
        let (key, mut leg) = self.forget_leg(id)?;
        self.tell_over([leg.stop_play(), None]);
        Some((key, Box::new(leg)))
    }

    /// Takes in a leg that another shard let go.
    pub fn adopt_leg(&mut self, room: RoomId, mut leg: Box<Leg>) -> Applied {
        let Some(&room_key) = self.room_keys.get(&room) else {
            self.counters.unknown += 1;
            self.news.push_back(ShardReport::LegFailed { leg: leg.id() });
            return Applied::Refused;
        };
        leg.set_room_key(room_key);
        Applied::Added(self.add_leg(*leg))
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

    /// Asks for the memory that a tick of the lane needs: worth it a little before datagrams are
    /// received and the lane ticks.
    pub fn prefetch_lane(&self, lane: usize) {
        let legs = || self.lanes[lane].rooms.iter().flat_map(|&room| &self.rooms[room].legs);
        for key in legs() {
            prefetch(&self.legs[key.index()]);
        }
        for key in legs() {
            self.legs[key.index()].prefetch();
        }
    }

    /// Ticks the rooms of one slot.
    pub fn tick(&mut self, now: Instant, slot: usize, out: &mut impl Outbound) {
        Self::lanes_of(slot).for_each(|lane| self.tick_lane(now, lane, out));
    }

    /// Ticks the rooms of one lane. Allocates nothing, blocks on nothing, logs nothing.
    pub fn tick_lane(&mut self, now: Instant, lane: usize, out: &mut impl Outbound) {
        for &room_key in &self.lanes[lane].rooms {
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
                if let Some(over) = leg.poll_play_over() {
                    self.news.push_back(over);
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
        // The emptiest slot by legs, then by rooms, and of it the emptiest lane: rooms of unknown size
        // are spread evenly.
        let load = |lanes: &[Lane]| {
            lanes.iter().fold((0, 0), |(legs, rooms), lane| (legs + lane.legs, rooms + lane.rooms.len()))
        };
        let slot = (0..SLOTS).min_by_key(|&slot| load(&self.lanes[Self::lanes_of(slot)])).unwrap_or(0);
        let lane = Self::lanes_of(slot).min_by_key(|&lane| load(&self.lanes[lane..=lane])).unwrap_or(0);
        let key = self.rooms.insert(Room::new(shape, lane));
        self.lanes[lane].rooms.push(key);
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
        let lane = &mut self.lanes[room.lane];
        lane.rooms.retain(|&other| other != key);
        lane.taps -= usize::from(!room.taps.is_empty()) + room.sources.len();
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
        self.lanes[room.lane].taps += usize::from(!was_tapped);
    }

    fn stop_tap(&mut self, room: RoomId, tap: TapId) {
        let room = self.room_keys.get(&room).map(|&key| &mut self.rooms[key]);
        let Some(room) = room.filter(|room| !room.taps.is_empty()) else {
            self.counters.unknown += 1;
            return;
        };
        self.counters.unknown += u64::from(!room.taps.stop(tap));
        self.lanes[room.lane].taps -= usize::from(room.taps.is_empty());
    }

    fn add_source(&mut self, room: RoomId, leg: LegId, feed: &Feed, tap: &Tap) {
        let room = self.room_keys.get(&room).map(|&key| &mut self.rooms[key]);
        let Some(room) = room else {
            self.counters.unknown += 1;
            tap.close();
            return;
        };
        match (feed.take_reader(), tap.take_writer()) {
            (Some(feed), Some(out)) if room.sources.len() < SOURCES_MAX => {
                room.sources.push(Source::new(leg, feed, out));
                self.lanes[room.lane].taps += 1;
                self.scratch.reserve(room.legs.len() + room.sources.len());
            }
            // The writer that was taken is dropped, which closes the tap.
            _ => self.counters.taps_refused += 1,
        }
    }

    fn remove_source(&mut self, room: RoomId, leg: LegId) {
        let room = self.room_keys.get(&room).map(|&key| &mut self.rooms[key]);
        let place = room.as_ref().and_then(|room| room.sources.iter().position(|source| source.id == leg));
        let (Some(room), Some(place)) = (room, place) else {
            self.counters.unknown += 1;
            return;
        };
        room.sources.remove(place);
        self.lanes[room.lane].taps -= 1;
    }

    /// A new leg, in its room.
    fn add_leg(&mut self, leg: Leg) -> LegKey {
        let id = leg.id();
        let key = LegKey(self.legs.insert(leg) as u32);
        self.leg_keys.insert(id, key);
        self.enter_room(key);
        let more = self.legs.len().saturating_sub(self.stats_due.len());
        self.stats_due.reserve(more);
        self.reserve_news();
        key
    }

    /// The leg is in its room from now on.
    fn enter_room(&mut self, key: LegKey) {
        let leg = &self.legs[key.index()];
        let room = &mut self.rooms[leg.room_key()];
        room.legs.push(key);
        room.taps.mark(TapMark::Joined(leg.id()));
        if !leg.is_heard() {
            room.taps.mark(TapMark::Muted(leg.id()));
        }
        self.lanes[room.lane].legs += 1;
        self.scratch.reserve(room.legs.len() + room.sources.len());
    }

    /// The leg is in its room no longer.
    fn leave_room(&mut self, key: LegKey) {
        let leg = &self.legs[key.index()];
        let room = &mut self.rooms[leg.room_key()];
        room.legs.retain(|&other| other != key);
        room.taps.mark(TapMark::Left(leg.id()));
        self.lanes[room.lane].legs -= 1;
    }

    /// Each leg can add one timeout, one failure and one end of a play; digits have their own limit.
    fn reserve_news(&mut self) {
        self.news.reserve(3 * self.legs.len() + 16);
    }

    /// Tells of plays that are over by a command.
    fn tell_over(&mut self, over: [Option<ShardReport>; 2]) {
        self.news.extend(over.into_iter().flatten());
        self.reserve_news();
    }

    fn remove_leg(&mut self, now: Instant, id: LegId, out: &mut impl Outbound) -> Applied {
        let Some((key, mut leg)) = self.forget_leg(id) else {
            self.counters.unknown += 1;
            return Applied::Done;
        };
        self.news.extend(leg.stop_play());
        self.news.push_back(ShardReport::LegClosed { leg: id, stats: leg.close(now, key, out) });
        Applied::Removed(key)
    }

    /// Moves a leg from room to room. One that is not here has failed, which was told.
    fn move_leg(&mut self, id: LegId, room: RoomId) -> Applied {
        let Some(&key) = self.leg_keys.get(&id) else {
            self.counters.unknown += 1;
            return Applied::Refused;
        };
        let Some(&room_key) = self.room_keys.get(&room) else {
            self.counters.unknown += 1;
            self.fail_leg(key);
            return Applied::Removed(key);
        };
        self.leave_room(key);
        self.legs[key.index()].set_room_key(room_key);
        self.enter_room(key);
        Applied::Moved(key)
    }

    fn forget_leg(&mut self, id: LegId) -> Option<(LegKey, Leg)> {
        let key = self.leg_keys.remove(&id)?;
        self.leave_room(key);
        let leg = self.legs.remove(key.index());
        self.stats_due.retain(|&other| other != key);
        Some((key, leg))
    }

    /// Changes a leg, if it is here; its room's taps hear when that lets it in or out of the mix.
    fn change_leg<R>(&mut self, id: LegId, change: impl FnOnce(&mut Leg) -> R) -> Option<R> {
        let Some(leg) = self.leg_keys.get(&id).and_then(|key| self.legs.get_mut(key.index())) else {
            self.counters.unknown += 1;
            return None;
        };
        let was_heard = leg.is_heard();
        let changed = change(leg);
        let taps = &mut self.rooms[leg.room_key()].taps;
        match (was_heard, leg.is_heard()) {
            (true, false) => taps.mark(TapMark::Muted(id)),
            (false, true) => taps.mark(TapMark::Unmuted(id)),
            _ => {}
        }
        Some(changed)
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
