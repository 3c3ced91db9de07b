//! The conferencecalls the bridge holds, found by id, by SIP call and by leg.

use std::collections::{BTreeMap, HashMap};

use super::conferencecall::LiveCall;
use crate::id::{ConferencecallId, LegId};
use crate::sip::CallKey;

/// The owner of all conferencecalls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    by_id: BTreeMap<ConferencecallId, LiveCall>,
    by_key: HashMap<CallKey, ConferencecallId>,
    by_leg: HashMap<LegId, ConferencecallId>,
    /// Those that are not `leaved`.
    open: usize,
}

impl Calls {
    /// Takes in a new one, in `joining`.
    pub(super) fn insert(&mut self, call: LiveCall) {
        self.by_key.insert(call.key, call.resource.id);
        self.open += 1;
        self.by_id.insert(call.resource.id, call);
    }

    pub(super) fn get(&self, id: &ConferencecallId) -> Option<&LiveCall> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: ConferencecallId) -> Option<&mut LiveCall> {
        self.by_id.get_mut(&id)
    }

    /// The one whose SIP call this is.
    pub(super) fn by_key(&self, key: CallKey) -> Option<ConferencecallId> {
        self.by_key.get(&key).copied()
    }

    /// The one whose leg this is.
    pub(super) fn by_leg(&self, leg: LegId) -> Option<ConferencecallId> {
        self.by_leg.get(&leg).copied()
    }

    /// The SIP call is gone.
    pub(super) fn drop_key(&mut self, key: CallKey) {
        self.by_key.remove(&key);
    }

    /// The leg is this one's.
    pub(super) fn name_leg(&mut self, leg: LegId, id: ConferencecallId) {
        self.by_leg.insert(leg, id);
    }

    /// The leg is gone.
    pub(super) fn drop_leg(&mut self, leg: LegId) {
        self.by_leg.remove(&leg);
    }

    /// One more is `leaved`; it stays readable until [`Calls::forget`].
    pub(super) fn count_closed(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Forgets one that is `leaved`.
    pub(super) fn forget(&mut self, id: ConferencecallId) {
        self.by_id.remove(&id);
    }

    /// How many are not `leaved`.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// All, in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LiveCall> {
        self.by_id.values()
    }

    /// Whether nothing is left but what is `leaved`.
    pub(super) fn is_quiet(&self) -> bool {
        self.open == 0 && self.by_key.is_empty() && self.by_leg.is_empty()
    }
}
