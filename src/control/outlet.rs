//! The way from the control task to the media threads: a bounded queue each, with a bounded
//! overflow on this side, so that a state change is late but never lost.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{SyncSender, TrySendError};

use crate::id::{LegId, RoomId};
use crate::net::media::{PortPair, Waker};
use crate::net::thread::{Moving, ShardOrder};
use crate::plane::{ShardCommand, ShardIndex, ShardReport};
use crate::time::{Duration, Instant};

/// Orders kept here when a media thread's queue is full; beyond it new legs are refused.
const OVERFLOW_MAX: usize = 4096;
/// Orders of one leg that wait while it goes from thread to thread; one more gives it up.
const HELD_MAX: usize = 64;
/// How soon a full queue is tried again: one slot of a media thread.
const RETRY_AFTER: Duration = Duration::from_millis(2);

/// The sending end of one media thread's queue.
#[derive(Debug)]
pub struct ShardInlet {
    /// The queue.
    pub orders: SyncSender<ShardOrder>,
    /// Wakes the thread when it idles.
    pub waker: Waker,
}

/// All media threads' inlets.
#[derive(Debug)]
pub(super) struct Outlets {
    shards: Vec<(ShardInlet, VecDeque<ShardOrder>)>,
    /// Legs that one thread was told to let go and that have not come to the next. Bounded by the calls.
    moving: HashMap<LegId, Transit>,
}

/// A leg on its way.
#[derive(Debug)]
struct Transit {
    shard: ShardIndex,
    room: RoomId,
    /// What was ordered of it since, in order; `None` once that was too much and it was given up.
    held: Option<Vec<(ShardIndex, ShardCommand)>>,
}

impl Outlets {
    pub(super) fn new(shards: Vec<ShardInlet>) -> Self {
        let shards = shards.into_iter().map(|inlet| (inlet, VecDeque::new())).collect();
        Self { shards, moving: HashMap::new() }
    }

    /// Sends a command. A refusal comes back as the report the bridge would have got.
    pub(super) fn send(
        &mut self,
        shard: ShardIndex,
        command: ShardCommand,
        sockets: Option<PortPair>,
    ) -> Option<ShardReport> {
        if let Some(transit) = command.leg().and_then(|leg| self.moving.get_mut(&leg)) {
            return transit.hold(shard, command);
        }
        if let ShardCommand::MoveLeg { leg, room, from } = command
            && from != shard
        {
            self.moving.insert(leg, Transit { shard, room, held: Some(Vec::new()) });
            self.order(from, ShardOrder::Release(leg));
            return None;
        }
        let waiting = self.shards.get(usize::from(shard.0)).map(|(_, overflow)| overflow.len());
        if waiting.is_none_or(|waiting| waiting >= OVERFLOW_MAX)
            && let refusal @ Some(_) = refuse(&command)
        {
            return refusal;
        }
        self.order(shard, ShardOrder::Command(command, sockets));
        None
    }

    /// A leg was let go: it goes to its new thread, and what was ordered of it meanwhile after it. One
    /// that did not come through is told as its shard would tell it.
    pub(super) fn arrived(&mut self, moving: Moving) -> Option<ShardReport> {
        let transit = self.moving.remove(&moving.id)?;
        let (Some(leg), Some(held)) = (moving.leg, transit.held) else {
            return Some(ShardReport::LegFailed { leg: moving.id });
        };
        self.order(transit.shard, ShardOrder::Adopt(transit.room, leg));
        for (shard, command) in held {
            let refused = self.send(shard, command, None);
            debug_assert!(refused.is_none(), "only a new leg is refused");
        }
        None
    }

    fn order(&mut self, shard: ShardIndex, order: ShardOrder) {
        if let Some((inlet, overflow)) = self.shards.get_mut(usize::from(shard.0)) {
            overflow.push_back(order);
            push(inlet, overflow);
        }
    }

    /// Tries again what was refused.
    pub(super) fn retry(&mut self) {
        for (inlet, overflow) in &mut self.shards {
            push(inlet, overflow);
        }
    }

    /// When to call [`Outlets::retry`], if there is a reason to.
    pub(super) fn retry_at(&self, now: Instant) -> Option<Instant> {
        self.shards.iter().any(|(_, overflow)| !overflow.is_empty()).then_some(now + RETRY_AFTER)
    }
}

impl Transit {
    /// Keeps an order until the leg has come. A leg of which too much is ordered is given up.
    fn hold(&mut self, shard: ShardIndex, command: ShardCommand) -> Option<ShardReport> {
        let held = self.held.as_mut()?;
        if held.len() < HELD_MAX {
            held.push((shard, command));
            return None;
        }
        self.held = None;
        command.leg().map(|leg| ShardReport::LegFailed { leg })
    }
}

/// Only a new leg can be refused; every other command ends something and must arrive.
fn refuse(command: &ShardCommand) -> Option<ShardReport> {
    match command {
        ShardCommand::AddLeg { leg, .. } => Some(ShardReport::LegFailed { leg: *leg }),
        _ => None,
    }
}

/// Moves as much of the overflow into the queue as fits, in order, and wakes the thread.
fn push(inlet: &ShardInlet, overflow: &mut VecDeque<ShardOrder>) {
    let mut pushed = false;
    while let Some(order) = overflow.pop_front() {
        match inlet.orders.try_send(order) {
            Ok(()) => pushed = true,
            Err(TrySendError::Full(order)) => {
                overflow.push_front(order);
                break;
            }
            // The thread has stopped: so has every leg it had.
            Err(TrySendError::Disconnected(_)) => overflow.clear(),
        }
    }
    if pushed {
        inlet.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::plane::Hears;

    const LEG: LegId = LegId(7);
    const OLD: ShardIndex = ShardIndex(0);
    const NEW: ShardIndex = ShardIndex(1);

    /// The outlets of two threads, and what each is told.
    fn outlets() -> (Outlets, [Receiver<ShardOrder>; 2]) {
        let inlet = || {
            let (orders, told) = sync_channel(100);
            (ShardInlet { orders, waker: Waker::new().expect("an eventfd") }, told)
        };
        let ((one, told_one), (other, told_other)) = (inlet(), inlet());
        (Outlets::new(vec![one, other]), [told_one, told_other])
    }

    fn begin(outlets: &mut Outlets) {
        let command = ShardCommand::MoveLeg { leg: LEG, room: RoomId(3), from: OLD };
        assert_eq!(outlets.send(NEW, command, None), None);
    }

    fn hears() -> ShardCommand {
        ShardCommand::SetHears { leg: LEG, hears: Hears::Room }
    }

    #[test]
    fn what_is_ordered_of_a_leg_on_its_way_waits_and_all_else_does_not() {
        let (mut outlets, [old, new]) = outlets();
        begin(&mut outlets);
        assert!(matches!(old.try_recv(), Ok(ShardOrder::Release(LEG))));
        assert_eq!(outlets.send(NEW, hears(), None), None);
        assert_eq!(outlets.send(NEW, ShardCommand::CloseRoom { room: RoomId(9) }, None), None);
        assert!(matches!(new.try_recv(), Ok(ShardOrder::Command(ShardCommand::CloseRoom { .. }, None))));
        assert!(new.try_recv().is_err(), "the rest waits for the leg");
        let failed = outlets.arrived(Moving { id: LEG, leg: None });
        assert_eq!(failed, Some(ShardReport::LegFailed { leg: LEG }), "it was not there");
        assert_eq!(outlets.send(NEW, hears(), None), None);
        assert!(matches!(new.try_recv(), Ok(ShardOrder::Command(ShardCommand::SetHears { .. }, None))));
    }

    #[test]
    fn a_leg_of_which_too_much_is_ordered_on_its_way_is_given_up_once() {
        let (mut outlets, [_, new]) = outlets();
        begin(&mut outlets);
        for _ in 0..HELD_MAX {
            assert_eq!(outlets.send(NEW, hears(), None), None);
        }
        assert_eq!(outlets.send(NEW, hears(), None), Some(ShardReport::LegFailed { leg: LEG }));
        assert_eq!(outlets.send(NEW, hears(), None), None, "told once");
        assert!(new.try_recv().is_err());
        assert!(outlets.moving.contains_key(&LEG), "until its thread has let it go");
    }
}
