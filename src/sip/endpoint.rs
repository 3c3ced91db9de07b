//! The endpoint: all transactions and dialogs of one user agent, under one owner. Every input is
//! one method call; then `poll_transmit` and `poll_event` are to be drained, and `next_timeout` tells when
//! `handle_timeout` is due.
//!
//! By itself it answers what needs no thought: 100 at once; 400 with the fault named; 405, 406, 415,
//! 416, 420, 481, 482, 483, 491, 500, 501, 503 and 505. Refusals of new requests keep no state
//! (RFC 3261 §8.2.7), so a flood of them costs no memory.

mod counters;
mod event;
mod leave;
mod receive;
mod settings;
mod table;
mod timeouts;
mod uac;
mod uas;
mod within;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::framer::PING;
use super::message::{self, Message};
use super::slots::{Key, Slots};
use super::transaction::Timing;
use super::{Flow, Transmit, Transport};
use crate::rng::Rng;
use crate::time::Instant;
use table::{Call, ClientTransaction, ServerTransaction, Timers};

pub use counters::Counters;
pub use event::{CallKey, Event, Rejection, ServerKey};
pub use settings::Settings;
pub use uac::InviteError;

/// One SIP user agent without its sockets.
#[derive(Debug)]
pub struct Endpoint {
    settings: Settings,
    timing: Timing,
    rng: Rng,
    /// Keeps peers from foreseeing our hashes.
    secret: u64,
    calls: Slots<Call>,
    /// Calls by our tag.
    tags: HashMap<Box<str>, Key>,
    servers: Slots<ServerTransaction>,
    server_ids: HashMap<Arc<[u8]>, Key>,
    merge_ids: HashMap<u64, Key>,
    /// Server transactions per source.
    sources: HashMap<IpAddr, usize>,
    clients: Slots<ClientTransaction>,
    /// Client transactions by the number in their branch, and whether they are a CANCEL.
    branches: HashMap<(u64, bool), Key>,
    timers: Timers,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
    shed_retry_after_s: Option<u32>,
}

impl Endpoint {
    /// An endpoint with nothing going on. `rng` makes its tags, branches and Call-IDs.
    pub fn new(settings: Settings, mut rng: Rng) -> Self {
        Self {
            timing: settings.timing(),
            settings,
            secret: rng.next_u64(),
            rng,
            calls: Slots::new(),
            tags: HashMap::new(),
            servers: Slots::new(),
            server_ids: HashMap::new(),
            merge_ids: HashMap::new(),
            sources: HashMap::new(),
            clients: Slots::new(),
            branches: HashMap::new(),
            timers: Timers::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            shed_retry_after_s: None,
        }
    }

    /// Takes one datagram, or one message cut out by [`crate::sip::Framer`].
    pub fn handle_message(&mut self, now: Instant, flow: Flow, bytes: Bytes) {
        let stream = flow.transport == Transport::Tcp;
        let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        if blank == bytes.len() {
            self.counters.keep_alives += 1;
            if stream && &bytes[..] == PING {
                self.send(flow, Bytes::from_static(b"\r\n")); // the pong, RFC 5626 §4.4.1
            }
            return;
        }
        // RFC 3261 §7.5: line ends before the start line are overlooked.
        match message::parse(bytes.slice(blank..), stream) {
            Ok(Message::Request(request)) => {
                self.counters.requests += 1;
                self.handle_request(now, flow, request);
            }
            Ok(Message::Response(response)) => {
                self.counters.responses += 1;
                self.handle_response(now, flow, response);
            }
            Ok(Message::Malformed(lexed, status, fault)) => {
                self.counters.malformed += 1;
                self.refuse_lexed(flow, &lexed, status, fault, b"");
            }
            Err(reason) => self.counters.count_drop(reason),
        }
    }

    /// When `handle_timeout` is due next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// While `Some`, every new INVITE is answered 503 with this Retry-After. Calls go on.
    pub fn shed(&mut self, retry_after_s: Option<u32>) {
        self.shed_retry_after_s = retry_after_s;
    }

    /// How many calls there are, those on their way out included.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// How many transactions there are on both sides, lingering ones included.
    pub fn transactions(&self) -> usize {
        self.servers.len() + self.clients.len()
    }
}
