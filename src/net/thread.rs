//! The media thread: drives one shard by the clock. It never wakes per packet; at each slot it
//! applies what the control plane ordered, takes what has come, ticks, and sends, in batches.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::id::{LegId, RoomId};
use crate::media::leg::{Leg, LegSettings};
use crate::media::shard::{Applied, Channel, LANES, LegKey, Outbound, SLOT, SLOTS, Shard, TICK_MS};
use crate::net::clock::{self, Clock, Priority};
use crate::net::media::{Backend, Interface, MediaIo, PortPair, SWEEPS, SocketKey, Waker};
use crate::obs::Histogram;
use crate::plane::{ShardCommand, ShardReport};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// Orders that may wait for a media thread.
pub const ORDERS_MAX: usize = 1024;
/// How long a slot goes on applying orders (it applies one at least), so that a burst of calls, or of
/// sockets to close, does not delay the audio of the others.
const ORDERS_FOR: Duration = Duration::from_micros(250);
/// Beyond so many legs, a leg's socket is looked at once a tick, right before it, instead of in every
/// slot: cheaper, but the times of arrival, and with them the RTCP jitter, are then known to a tick
/// only.
const SWEEP_FROM_LEGS: usize = 200;
/// Below so many legs, sockets are looked at in every slot again.
const SWEEP_TO_LEGS: usize = 100;
const _: () = assert!(SLOTS * LANES <= SWEEPS);
/// Reports handed to the control plane in one slot.
const REPORTS_PER_SLOT: usize = 256;
/// Slots missed by more than this are skipped rather than caught up: 200 ms.
const CATCH_UP_SLOTS: u64 = 10 * SLOTS as u64;
/// A tick is overrun when it is done later than this after its deadline.
const OVERRUN: Duration = Duration::from_millis(TICK_MS);
/// What a media thread is told to do.
#[derive(Debug)]
pub enum ShardOrder {
    /// A command, with the sockets of an `AddLeg`.
    Command(ShardCommand, Option<PortPair>),
    /// Let a leg go; it comes out as [`Moving`].
    Release(LegId),
    /// Take in a leg that another thread let go.
    Adopt(RoomId, Box<MovingLeg>),
}

/// A leg on its way from thread to thread, with its sockets.
#[derive(Debug)]
pub struct MovingLeg {
    leg: Box<Leg>,
    sockets: PortPair,
}

/// What came of [`ShardOrder::Release`].
#[derive(Debug)]
pub struct Moving {
    /// Which leg.
    pub id: LegId,
    /// It; `None` when it is not there, or its sockets could not be had.
    pub leg: Option<Box<MovingLeg>>,
}

/// Where a media thread's reports go; gives back what cannot be taken now.
pub type ReportOutlet = Box<dyn FnMut(ShardReport) -> Result<(), ShardReport> + Send>;
/// Where the legs go that a media thread lets go; gives back what cannot be taken now.
pub type MovingOutlet = Box<dyn FnMut(Moving) -> Result<(), Moving> + Send>;

/// What a media thread tells of itself, written by it alone and read by anyone.
#[derive(Debug, Default)]
pub struct ThreadGauges {
    /// Slots ticked.
    pub ticks: AtomicU64,
    /// Slots done more than a tick after their deadline.
    pub overruns: AtomicU64,
    /// Slots given up because the thread was stopped for too long.
    pub skipped: AtomicU64,
    /// Legs in the shard.
    pub legs: AtomicU64,
    /// Rooms in the shard.
    pub rooms: AtomicU64,
    /// How long after its deadline each slot was done.
    pub done: Histogram,
    /// Datagrams received.
    pub received: AtomicU64,
    /// Datagrams sent.
    pub sent: AtomicU64,
    /// Datagrams not sent, for whatever reason.
    pub send_failed: AtomicU64,
    /// Datagrams dropped on receipt: too long, of third parties, or for legs that are gone.
    pub receive_dropped: AtomicU64,
    /// Digits dropped because the control plane was too slow.
    pub digits_dropped: AtomicU64,
    /// Of the datagrams received, those by the express path.
    pub express_received: AtomicU64,
    /// Of the datagrams sent, those by the express path.
    pub express_sent: AtomicU64,
    /// Datagrams lost because the express path had no frame left.
    pub express_lost: AtomicU64,
    /// Taps and sources refused because their room had too many.
    pub taps_refused: AtomicU64,
    /// Marks of taps (who joined, spoke, left) dropped because nobody read them.
    pub marks_dropped: AtomicU64,
}

/// What a media thread is made of.
pub struct ThreadSetup {
    /// Its number.
    pub index: u16,
    /// Which I/O it prefers.
    pub backend: Backend,
    /// The interface whose packets it takes by the express path.
    pub express: Option<Arc<Interface>>,
    /// Sockets it can hold.
    pub capacity: usize,
    /// What its legs have in common.
    pub legs: LegSettings,
    /// Its randomness.
    pub rng: Rng,
    /// Where its reports go.
    pub reports: ReportOutlet,
    /// Where the legs go that it lets go.
    pub moving: MovingOutlet,
}

/// A running media thread.
#[derive(Debug)]
pub struct MediaThread {
    /// The queue of its orders.
    pub orders: SyncSender<ShardOrder>,
    /// Wakes it when it idles.
    pub waker: Waker,
    /// Its gauges.
    pub gauges: Arc<ThreadGauges>,
    /// The I/O in use: `io_uring` or `epoll`.
    pub backend: &'static str,
    /// Why it is not io_uring although that was preferred.
    pub fallback: Option<String>,
    /// Whether it takes packets by the express path, where one was asked for.
    pub is_express: bool,
    /// How it is scheduled.
    pub priority: Priority,
    stop: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

impl MediaThread {
    /// Starts a media thread.
    ///
    /// # Errors
    /// When the I/O asked for is refused, or no thread can be had.
    pub fn start(setup: ThreadSetup) -> io::Result<Self> {
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        let waker = Waker::new()?;
        let gauges = Arc::new(ThreadGauges::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = sync_channel(1);
        let (its_waker, its_gauges, its_stop) = (waker.clone(), gauges.clone(), stop.clone());
        let handle = std::thread::Builder::new().name(format!("media-{}", setup.index)).spawn(move || {
            // io_uring wants to be opened by the one thread that uses it.
            let opened = MediaIo::open(setup.backend, setup.capacity).and_then(|mut io| {
                let express = setup.express.as_ref();
                let is_express = express.map(|interface| io.attach(interface.clone(), setup.index.into()));
                Ok((io, is_express.transpose()?.unwrap_or(false)))
            });
            let priority = clock::media_thread_priority();
            match opened {
                Ok((io, is_express)) => {
                    let fallback = io.fallback().map(str::to_owned);
                    let told = ready.send(Ok((io.name(), fallback, is_express, priority)));
                    if told.is_ok() {
                        Loop::new(setup, io, inbox, its_waker, its_gauges, its_stop).run();
                    }
                }
                // The starter is waiting for this; if it is gone there is nobody to tell.
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        let (backend, fallback, is_express, priority) =
            started.recv().map_err(|_| io::Error::other("the media thread ended before it began"))??;
        Ok(Self {
            orders,
            waker,
            gauges,
            backend,
            fallback,
            is_express,
            priority,
            stop,
            handle: Some(handle),
        })
    }
}

impl Drop for MediaThread {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.waker.wake();
        if let Some(handle) = self.handle.take() {
            // A panic of the thread was reported by the panic hook already.
            let _ = handle.join();
        }
    }
}

/// The sockets of one leg.
#[derive(Clone, Copy, Debug, Default)]
struct LegKeys {
    rtp: Option<SocketKey>,
    rtcp: Option<SocketKey>,
}

/// The I/O of a shard: its driver and which socket belongs to whom.
struct Wires {
    io: MediaIo,
    legs: Vec<LegKeys>,
}

impl Wires {
    /// The driver's token of a leg's channel.
    fn token(leg: LegKey, channel: Channel) -> u32 {
        leg.0 << 1 | u32::from(channel == Channel::Rtcp)
    }

    /// The inverse of [`Wires::token`].
    fn leg_of(token: u32) -> (LegKey, Channel) {
        (LegKey(token >> 1), if token & 1 == 1 { Channel::Rtcp } else { Channel::Rtp })
    }

    fn keys(&self, leg: LegKey) -> LegKeys {
        self.legs.get(leg.0 as usize).copied().unwrap_or_default()
    }

    fn add(&mut self, leg: LegKey, sweep: Option<usize>, sockets: PortPair) -> io::Result<()> {
        let PortPair { rtp, rtcp, .. } = sockets;
        // One that comes from another thread may be connected.
        let peer = rtp.peer_addr().ok();
        let rtp = self.io.add(rtp, Self::token(leg, Channel::Rtp))?;
        self.io.sweep(rtp, sweep);
        let mut keys = LegKeys { rtp: Some(rtp), rtcp: None };
        if let Some(socket) = rtcp {
            match self.io.add(socket, Self::token(leg, Channel::Rtcp)) {
                Ok(key) => keys.rtcp = Some(key),
                Err(error) => {
                    self.io.remove(rtp);
                    return Err(error);
                }
            }
        }
        let index = leg.0 as usize;
        if self.legs.len() <= index {
            self.legs.resize(index + 1, LegKeys::default());
        }
        self.legs[index] = keys;
        // A peer that cannot be connected to is still sent to and filtered by the latch.
        peer.into_iter().for_each(|peer| drop(self.io.connect(rtp, peer)));
        Ok(())
    }

    /// Gives a leg's sockets back.
    fn take(&mut self, leg: LegKey) -> io::Result<PortPair> {
        let keys = self.legs.get_mut(leg.0 as usize).map(std::mem::take).unwrap_or_default();
        let rtcp = keys.rtcp.map(|key| self.io.take(key)).transpose();
        let rtp = self.io.take(keys.rtp.ok_or(io::ErrorKind::NotFound)?)?;
        Ok(PortPair { port: rtp.local_addr()?.port(), rtp, rtcp: rtcp? })
    }

    fn remove(&mut self, leg: LegKey) {
        if let Some(keys) = self.legs.get_mut(leg.0 as usize).map(std::mem::take) {
            keys.rtp.into_iter().chain(keys.rtcp).for_each(|key| self.io.remove(key));
        }
    }
}

impl Outbound for Wires {
    fn send(&mut self, leg: LegKey, channel: Channel, to: SocketAddr, datagram: &[u8]) {
        let keys = self.keys(leg);
        let key = if channel == Channel::Rtcp { keys.rtcp.or(keys.rtp) } else { keys.rtp };
        if let Some(key) = key {
            self.io.send(key, to, datagram);
        }
    }

    fn connect(&mut self, leg: LegKey, peer: Option<SocketAddr>) {
        let Some(key) = self.keys(leg).rtp else { return };
        let done = match peer {
            Some(peer) => self.io.connect(key, peer),
            None => self.io.disconnect(key),
        };
        // A peer that cannot be connected to is still sent to and filtered by the latch.
        drop(done);
    }
}

/// The thread's state.
struct Loop {
    shard: Shard,
    wires: Wires,
    clock: Clock,
    orders: Receiver<ShardOrder>,
    waker: Waker,
    reports: ReportOutlet,
    moving: MovingOutlet,
    /// Legs let go that could not be handed on yet.
    leaving: VecDeque<Moving>,
    gauges: Arc<ThreadGauges>,
    stop: Arc<AtomicBool>,
    /// Whether sockets are looked at once a tick.
    is_sweeping: bool,
}

impl Loop {
    fn new(
        setup: ThreadSetup,
        io: MediaIo,
        orders: Receiver<ShardOrder>,
        waker: Waker,
        gauges: Arc<ThreadGauges>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            shard: Shard::new(setup.legs, setup.rng),
            wires: Wires { io, legs: Vec::new() },
            clock: Clock::new(),
            orders,
            waker,
            reports: setup.reports,
            moving: setup.moving,
            leaving: VecDeque::new(),
            gauges,
            stop,
            is_sweeping: false,
        }
    }

    fn run(mut self) {
        while !self.stop.load(Relaxed) {
            let undelivered = self.report();
            if !self.shard.has_work() {
                // Nothing to do by the clock: sleep until ordered to, or try the reports again.
                let retry = undelivered.then(|| self.clock.now() + SLOT);
                self.waker.wait(&self.clock, retry);
                self.apply_orders();
                self.wires.io.poll(|_, _, _| {});
                self.publish();
            } else {
                self.run_slots();
            }
        }
    }

    /// Ticks slot after slot until there is no leg and no tap left.
    fn run_slots(&mut self) {
        let mut deadline = self.clock.now();
        let mut slot = 0;
        while self.shard.has_work() && !self.stop.load(Relaxed) {
            self.clock.sleep_until(deadline);
            let late = self.clock.now().since(deadline).as_nanos() as u64 / SLOT.as_nanos() as u64;
            if late > CATCH_UP_SLOTS {
                self.gauges.skipped.fetch_add(late, Relaxed);
                deadline += SLOT * late as u32;
                slot += late as usize;
            }
            // The shard lives by the slots' own time: a thread that wakes late, or catches up, must
            // not look like a network that delivers late.
            let now = deadline;
            self.apply_orders();
            self.choose_sweeping();
            if self.run_lanes(now, slot) {
                self.measure(deadline);
            }
            self.report();
            if slot % SLOTS == 0 {
                self.publish();
            }
            deadline += SLOT;
            slot += 1;
        }
    }

    /// Receives, ticks and sends, lane by lane; tells whether there was anything to do.
    ///
    /// The sockets that anyone may send to are read as soon as something is there; those of a busy
    /// shard's settled peers when it is their lane's turn.
    fn run_lanes(&mut self, now: Instant, slot: usize) -> bool {
        let Self { shard, wires, .. } = self;
        wires.io.poll(|token, from, datagram| {
            let (leg, channel) = Wires::leg_of(token);
            shard.receive(now, leg, channel, from, datagram);
        });
        let mut has_worked = false;
        for lane in Shard::lanes_of(slot) {
            if !shard.has_work_in(lane) {
                continue;
            }
            has_worked = true;
            shard.prefetch_lane(lane);
            // What is read right before the tick came at some time since the last one. For the jitter
            // buffer it counts as having come a slot ago: in time, and not in the last moment.
            let came = now.saturating_sub(SLOT);
            wires.io.poll_sweep(lane, |token, from, datagram| {
                let (leg, channel) = Wires::leg_of(token);
                shard.receive(came, leg, channel, from, datagram);
            });
            shard.tick_lane(now, lane, wires);
            wires.io.flush();
        }
        has_worked
    }

    fn apply_orders(&mut self) {
        let began = self.clock.now();
        let mut now = began;
        while now.since(began) < ORDERS_FOR {
            let Ok(order) = self.orders.try_recv() else { break };
            match order {
                ShardOrder::Command(command, sockets) => {
                    let applied = self.shard.command(now, command, &mut self.wires);
                    self.follow(applied, sockets);
                }
                ShardOrder::Adopt(room, moving) => {
                    let MovingLeg { leg, sockets } = *moving;
                    let applied = self.shard.adopt_leg(room, leg);
                    self.follow(applied, Some(sockets));
                }
                ShardOrder::Release(leg) => self.release(leg),
            }
            now = self.clock.now();
        }
    }

    /// Has the sockets follow what became of their leg.
    fn follow(&mut self, applied: Applied, sockets: Option<PortPair>) {
        match applied {
            Applied::Added(key) => {
                let added = sockets.ok_or_else(|| io::Error::other("a leg without sockets"));
                let sweep = self.sweep_of(key);
                if added.and_then(|sockets| self.wires.add(key, sweep, sockets)).is_err() {
                    self.shard.fail_leg(key);
                }
            }
            Applied::Removed(key) => {
                // Its goodbye leaves before its socket closes.
                self.wires.io.flush();
                self.wires.remove(key);
            }
            Applied::Moved(key) => {
                if let Some(rtp) = self.wires.keys(key).rtp {
                    self.wires.io.sweep(rtp, self.sweep_of(key));
                }
            }
            Applied::Done | Applied::Refused => {}
        }
    }

    /// Lets a leg go to another thread.
    fn release(&mut self, id: LegId) {
        let leg = self.shard.release_leg(id).and_then(|(key, leg)| {
            let sockets = self.wires.take(key).ok()?;
            Some(Box::new(MovingLeg { leg, sockets }))
        });
        self.leaving.push_back(Moving { id, leg });
    }

    /// When a leg's socket is looked at, if that is once a tick.
    fn sweep_of(&self, leg: LegKey) -> Option<usize> {
        self.is_sweeping.then(|| self.shard.lane_of(leg))
    }

    /// Looks at sockets once a tick from so many legs on, and in every slot again when they are few.
    fn choose_sweeping(&mut self) {
        let legs = self.shard.leg_count();
        let bound = if self.is_sweeping { SWEEP_TO_LEGS } else { SWEEP_FROM_LEGS };
        if self.is_sweeping == (legs > bound) {
            return;
        }
        self.is_sweeping = legs > bound;
        for leg in self.shard.leg_keys() {
            if let Some(rtp) = self.wires.keys(leg).rtp {
                self.wires.io.sweep(rtp, self.sweep_of(leg));
            }
        }
    }

    /// Hands the shard's reports on, and the legs it let go; true when some are left.
    fn report(&mut self) -> bool {
        while let Some(moving) = self.leaving.pop_front() {
            if let Err(moving) = (self.moving)(moving) {
                self.leaving.push_front(moving);
                return true;
            }
        }
        for _ in 0..REPORTS_PER_SLOT {
            let Some(report) = self.shard.poll_report() else { return false };
            if let Err(report) = (self.reports)(report) {
                self.shard.unpoll_report(report);
                return true;
            }
        }
        true
    }

    fn measure(&self, deadline: Instant) {
        let took = self.clock.now().since(deadline);
        self.gauges.done.record(took);
        self.gauges.ticks.fetch_add(1, Relaxed);
        if took > OVERRUN {
            self.gauges.overruns.fetch_add(1, Relaxed);
        }
    }

    fn publish(&self) {
        let (io, shard) = (self.wires.io.counters(), self.shard.counters());
        let ThreadGauges {
            legs,
            rooms,
            received,
            sent,
            send_failed,
            receive_dropped,
            digits_dropped,
            express_received,
            express_sent,
            express_lost,
            taps_refused,
            marks_dropped,
            ..
        } = &*self.gauges;
        legs.store(self.shard.leg_count() as u64, Relaxed);
        rooms.store(self.shard.room_count() as u64, Relaxed);
        received.store(io.received, Relaxed);
        sent.store(io.sent, Relaxed);
        send_failed.store(io.send_full + io.send_refused + io.send_unreachable + io.send_failed, Relaxed);
        receive_dropped.store(io.truncated + io.foreign + io.stale + shard.stray, Relaxed);
        digits_dropped.store(shard.digits_dropped, Relaxed);
        express_received.store(io.express_received, Relaxed);
        express_sent.store(io.express_sent, Relaxed);
        express_lost.store(io.express_lost, Relaxed);
        taps_refused.store(shard.taps_refused, Relaxed);
        marks_dropped.store(shard.marks_dropped, Relaxed);
    }
}
