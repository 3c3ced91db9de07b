//! The way from the control task to the media threads: a bounded queue each, with a bounded
//! overflow on this side, so that a state change is late but never lost.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, TrySendError};

use crate::net::media::{PortPair, Waker};
use crate::net::thread::ShardOrder;
use crate::plane::{ShardCommand, ShardIndex, ShardReport};
use crate::time::{Duration, Instant};

/// Orders kept here when a media thread's queue is full; beyond it new legs are refused.
const OVERFLOW_MAX: usize = 4096;
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
}

impl Outlets {
    pub(super) fn new(shards: Vec<ShardInlet>) -> Self {
        Self { shards: shards.into_iter().map(|inlet| (inlet, VecDeque::new())).collect() }
    }

    /// Sends a command. A refusal comes back as the report the bridge would have got.
    pub(super) fn send(
        &mut self,
        shard: ShardIndex,
        command: ShardCommand,
        sockets: Option<PortPair>,
    ) -> Option<ShardReport> {
        let Some((inlet, overflow)) = self.shards.get_mut(usize::from(shard.0)) else {
            return refuse(&command);
        };
        if overflow.len() >= OVERFLOW_MAX
            && let refusal @ Some(_) = refuse(&command)
        {
            return refusal;
        }
        overflow.push_back(ShardOrder { command, sockets });
        push(inlet, overflow);
        None
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
