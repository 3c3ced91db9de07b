//! What the schedule knows of one conference and of one receiver.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{ConferenceId, CustomerId};
use crate::time::{Instant, Timestamp};

/// Where a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In its receiver's line, with this number.
    Ready(u64),
    /// Being told.
    InFlight,
    /// Waits after a failure.
    Waiting(Instant),
}

/// The undelivered events of one conference: told one after another.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) customer: CustomerId,
    /// The last position that is dealt with.
    pub(super) after: i64,
    /// When the first one that is not was queued.
    pub(super) queued: Timestamp,
    /// Failures since something of it was told.
    pub(super) failures: u32,
    pub(super) state: State,
    /// The first event that came while it was in flight: it may not have been seen.
    pub(super) arrived: Option<Timestamp>,
}

/// One customer's server.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// Lanes that can be told now, by their number in the line.
    pub(super) ready: BTreeMap<u64, ConferenceId>,
    /// Lanes that wait after a failure.
    pub(super) waiting: BTreeSet<ConferenceId>,
    pub(super) in_flight: usize,
    /// Failures in a row, over all lanes.
    pub(super) failures: u32,
    /// Not asked before this.
    pub(super) not_before: Instant,
    /// Whether it stands in the round.
    pub(super) in_round: bool,
}

impl Receiver {
    /// Whether nothing is left that speaks of it.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.waiting.is_empty() && self.in_flight == 0
    }
}
