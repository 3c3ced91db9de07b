//! The live feed: what was committed, told to those who listen, in the order of the commits.
//!
//! A customer's listeners share one bounded channel. Who does not keep up misses the oldest and is
//! told how many; nobody waits for a listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::{broadcast, watch};

use super::pending::PendingEvent;
use crate::id::{ConferenceId, CustomerId};

/// Events that wait for the slowest of a customer's listeners; beyond it that listener misses some.
pub const FEED_WAITING_MAX: usize = 1024;

/// A committed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The conference it happened in.
    pub conference: ConferenceId,
    /// Its number there.
    pub seq: u64,
    /// The event as JSON: `{"type","data","seq","tm_event"}`.
    pub text: Bytes,
}

/// The feeds of all customers.
#[derive(Debug)]
pub(super) struct Feed {
    by_customer: DashMap<CustomerId, broadcast::Sender<Arc<Told>>>,
    closed: AtomicBool,
    /// Changes whenever the outbox has more rows.
    outbox: watch::Sender<()>,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self { by_customer: DashMap::new(), closed: AtomicBool::new(false), outbox: watch::channel(()).0 }
    }

    /// Listens to a customer's events from now on. A feed that was closed ends at once.
    pub(super) fn listen(&self, customer: CustomerId) -> broadcast::Receiver<Arc<Told>> {
        if self.closed.load(Ordering::SeqCst) {
            return broadcast::channel(1).1;
        }
        self.by_customer.entry(customer).or_insert_with(|| broadcast::channel(FEED_WAITING_MAX).0).subscribe()
    }

    /// Wakes whenever the outbox has more rows.
    pub(super) fn outbox(&self) -> watch::Receiver<()> {
        self.outbox.subscribe()
    }

    /// Tells that the outbox has more rows.
    pub(super) fn outbox_grew(&self) {
        self.outbox.send_replace(());
    }

    /// Tells an event that is committed.
    pub(super) fn tell(&self, pending: &PendingEvent) {
        let Some(sender) = self.by_customer.get(&pending.customer).map(|entry| entry.clone()) else { return };
        let told = Told { conference: pending.conference, seq: pending.event.seq, text: pending.text() };
        // Refused when nobody listens any more; the customer's feed then goes.
        if sender.send(Arc::new(told)).is_err() {
            drop(sender);
            self.by_customer.remove_if(&pending.customer, |_, sender| sender.receiver_count() == 0);
        }
    }

    /// Ends every listener's feed.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.by_customer.clear();
    }
}
