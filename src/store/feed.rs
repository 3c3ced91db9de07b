//! The live feed: what was committed, told to those who listen, in the order of the commits; and what
//! callers are saying, which is shown and kept nowhere.
//!
//! A customer's listeners share one bounded channel for each. Who does not keep up misses the oldest and
//! is told how many; nobody waits for a listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dashmap::DashMap;
use serde_json::json;
use tokio::sync::{broadcast, watch};

use super::pending::PendingEvent;
use crate::bridge::PartialTranscript;
use crate::bridge::event::Event;
use crate::id::{ConferenceId, CustomerId};

/// Events that wait for the slowest of a customer's listeners; beyond it that listener misses some.
pub const FEED_WAITING_MAX: usize = 1024;

/// Partial transcripts that wait for the slowest of a customer's listeners; beyond it that listener
/// misses the oldest.
pub const PARTIALS_WAITING_MAX: usize = 128;

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

/// Something of the moment: not stored, not numbered, not told again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The conference it happens in.
    pub conference: ConferenceId,
    /// As JSON, of the form of an event.
    pub text: Bytes,
}

/// What one listener gets.
#[derive(Debug)]
pub struct Listening {
    /// Events, each once it is committed, in order.
    pub events: broadcast::Receiver<Arc<Told>>,
    /// Partial transcripts, each before the event of its transcript.
    pub partials: broadcast::Receiver<Arc<Shown>>,
}

/// The sending ends of one customer's listeners.
#[derive(Clone, Debug)]
struct Channels {
    events: broadcast::Sender<Arc<Told>>,
    partials: broadcast::Sender<Arc<Shown>>,
}

impl Channels {
    fn new(events_max: usize, partials_max: usize) -> Self {
        Self { events: broadcast::channel(events_max).0, partials: broadcast::channel(partials_max).0 }
    }

    fn listen(&self) -> Listening {
        Listening { events: self.events.subscribe(), partials: self.partials.subscribe() }
    }
}

/// The feeds of all customers.
#[derive(Debug)]
pub(super) struct Feed {
    by_customer: DashMap<CustomerId, Channels>,
    closed: AtomicBool,
    /// Changes whenever the outbox has more rows.
    outbox: watch::Sender<()>,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self { by_customer: DashMap::new(), closed: AtomicBool::new(false), outbox: watch::channel(()).0 }
    }

    /// Listens to a customer's events from now on. A feed that was closed ends at once.
    pub(super) fn listen(&self, customer: CustomerId) -> Listening {
        if self.closed.load(Ordering::SeqCst) {
            return Channels::new(1, 1).listen();
        }
        let new = || Channels::new(FEED_WAITING_MAX, PARTIALS_WAITING_MAX);
        self.by_customer.entry(customer).or_insert_with(new).listen()
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
        let Some(channels) = self.by_customer.get(&pending.customer).map(|entry| entry.clone()) else {
            return;
        };
        let told = Told { conference: pending.conference, seq: pending.event.seq, text: pending.text() };
        // Refused when nobody listens any more; the customer's feed then goes.
        if channels.events.send(Arc::new(told)).is_err() {
            drop(channels);
            self.by_customer.remove_if(&pending.customer, |_, of| of.events.receiver_count() == 0);
        }
    }

    /// Shows what a caller is saying. Never waits.
    pub(super) fn show(&self, partial: &PartialTranscript) {
        let PartialTranscript { conference, transcript } = partial;
        let sender = self.by_customer.get(&transcript.customer_id).map(|entry| entry.partials.clone());
        let Some(sender) = sender.filter(|sender| sender.receiver_count() > 0) else { return };
        let event = Event {
            r#type: "transcript_partial".to_owned(),
            data: json!(transcript),
            seq: 0,
            tm_event: transcript.tm_create,
        };
        let text = serde_json::to_vec(&event).expect("an event is plain data with string keys").into();
        let shown = Shown { conference: *conference, text };
        // Refused when the last listener has just gone.
        let _ = sender.send(Arc::new(shown));
    }

    /// Ends every listener's feed.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.by_customer.clear();
    }
}
