//! The endpoint's tables: calls, transactions of both sides and their timers, and how they are
//! opened, answered and closed.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::Endpoint;
use crate::sip::dialog::Dialog;
use crate::sip::header::host_port;
use crate::sip::slots::Key;
use crate::sip::transaction::{Client, ClientInvite, Fired, Repeat, Server, ServerInvite};
use crate::sip::write::{Reply, write_response};
use crate::sip::{Cause, Flow, Request, Transmit, Transport};
use crate::time::Instant;

/// Methods we answer with something better than 405.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO";

/// Whose timer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Call(Key),
    Server(Key),
    Client(Key),
}

/// All timers, earliest first. Each owner has at most one entry.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, Owner)>);

impl Timers {
    /// Moves an owner's entry from where it `was`.
    fn set(&mut self, owner: Owner, was: &mut Option<Instant>, at: Option<Instant>) {
        if *was == at {
            return;
        }
        if let Some(was) = was.take() {
            self.0.remove(&(was, owner));
        }
        if let Some(at) = at {
            self.0.insert((at, owner));
        }
        *was = at;
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(super) fn due(&self, now: Instant) -> Option<Owner> {
        self.0.first().filter(|(at, _)| *at <= now).map(|(_, owner)| *owner)
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first INVITE has no final response.
    Early,
    /// It has a 2xx.
    Confirmed,
    /// Our owner gave the call up; what remains is to be ended properly and in silence.
    Leaving,
}

/// A 2xx of ours that awaits its ACK (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(super) struct Unacked {
    pub(super) cseq: u32,
    pub(super) response: Bytes,
    pub(super) repeat: Repeat,
    pub(super) expires: Instant,
    /// The INVITE had no offer, so the 2xx carries it and the ACK the answer.
    pub(super) offered: bool,
}

/// One call: an INVITE and the dialog it forms.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) dialog: Dialog,
    /// By which the peer's latest request came.
    pub(super) flow: Flow,
    pub(super) phase: Phase,
    /// We sent the first INVITE.
    pub(super) is_caller: bool,
    /// The peer's INVITE that our owner has to answer.
    pub(super) incoming: Option<Key>,
    pub(super) unacked: Option<Box<Unacked>>,
    /// Our INVITE that the peer has to answer.
    pub(super) outgoing: Option<Key>,
    /// The offer of our re-INVITE, while it may have to be made again after 491.
    pub(super) offer: Bytes,
    pub(super) retry_at: Option<Instant>,
    /// What BYE is to say when it may be sent.
    pub(super) cause: Option<Box<Cause>>,
    pub(super) scheduled: Option<Instant>,
}

impl Call {
    pub(super) fn new(dialog: Dialog, flow: Flow, is_caller: bool) -> Self {
        Self {
            dialog,
            flow,
            phase: Phase::Early,
            is_caller,
            incoming: None,
            unacked: None,
            outgoing: None,
            offer: Bytes::new(),
            retry_at: None,
            cause: None,
            scheduled: None,
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let unacked = self.unacked.as_ref().map(|unacked| unacked.repeat.at.min(unacked.expires));
        unacked.into_iter().chain(self.retry_at).min()
    }
}

/// A transaction of the peer.
#[derive(Debug)]
pub(super) struct ServerTransaction {
    pub(super) machine: ServerMachine,
    pub(super) flow: Flow,
    id: Arc<[u8]>,
    merge_id: Option<u64>,
    pub(super) call: Option<Key>,
    /// Until the final response.
    pub(super) request: Option<Arc<Request>>,
    pub(super) to_tag: Box<str>,
    scheduled: Option<Instant>,
}

#[derive(Debug)]
pub(super) enum ServerMachine {
    Invite(ServerInvite),
    Other(Server),
}

/// A transaction of ours.
#[derive(Debug)]
pub(super) struct ClientTransaction {
    pub(super) machine: ClientMachine,
    pub(super) flow: Flow,
    pub(super) branch: u64,
    pub(super) call: Option<Key>,
    pub(super) purpose: Purpose,
    scheduled: Option<Instant>,
}

/// What a request of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Invite,
    Reinvite,
    Bye,
    Cancel,
}

#[derive(Debug)]
pub(super) enum ClientMachine {
    Invite(ClientInvite),
    Other(Client),
}

/// A response's parts beyond status and reason.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extra<'a> {
    pub(super) reason: &'a str,
    pub(super) record_route: bool,
    pub(super) lines: &'a [u8],
    pub(super) body: &'a [u8],
}

impl Endpoint {
    pub(super) fn send(&mut self, flow: Flow, bytes: Bytes) {
        self.transmits.push_back(Transmit { flow, bytes });
    }

    /// A number that only this endpoint can make of `parts`.
    fn keyed_hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        self.secret.hash(&mut hasher);
        parts.hash(&mut hasher);
        hasher.finish()
    }

    /// The To tag of answers without state: the same for each repeat (RFC 3261 §8.2.7).
    pub(super) fn stateless_tag(&self, call_id: &[u8], from: &[u8], cseq: &[u8]) -> String {
        format!("{:016x}", self.keyed_hash(&[call_id, from, cseq]))
    }

    /// What the copies of one request that came by different ways have in common (§8.2.2.2).
    pub(super) fn merge_id(&self, request: &Request) -> Option<u64> {
        if request.tag_of_to().is_some() {
            return None;
        }
        let (cseq, method) = (request.cseq().to_string(), request.method().to_string());
        let from_tag = request.tag_of_from().unwrap_or_default();
        Some(self.keyed_hash(&[from_tag, request.call_id().as_bytes(), cseq.as_bytes(), method.as_bytes()]))
    }

    /// Opens a server transaction. The limits have been checked.
    pub(super) fn open_server(
        &mut self,
        flow: Flow,
        machine: ServerMachine,
        request: Arc<Request>,
        to_tag: &str,
    ) -> Key {
        let id: Arc<[u8]> = request.transaction_id(request.method()).into();
        let merge_id = self.merge_id(&request);
        *self.sources.entry(flow.remote.ip()).or_insert(0) += 1;
        let key = self.servers.insert(ServerTransaction {
            machine,
            flow,
            id: id.clone(),
            merge_id,
            call: None,
            request: Some(request),
            to_tag: to_tag.into(),
            scheduled: None,
        });
        self.server_ids.insert(id, key);
        if let Some(merge_id) = merge_id {
            self.merge_ids.insert(merge_id, key);
        }
        self.schedule_server(key);
        key
    }

    /// Answers a request that has a transaction; nothing happens when it has a final answer. The
    /// bytes sent are given back.
    pub(super) fn respond(&mut self, now: Instant, key: Key, status: u16, extra: Extra<'_>) -> Option<Bytes> {
        let server = self.servers.get_mut(key)?;
        let request = server.request.clone()?;
        let Extra { reason, record_route, lines, body } = extra;
        let reply = Reply { status, reason, to_tag: &server.to_tag, record_route, lines, body };
        let bytes = write_response(request.lexed(), server.flow.remote, &self.settings.server_name, reply);
        let taken = match &mut server.machine {
            ServerMachine::Invite(machine) => machine.respond(now, &self.timing, status, bytes.clone()),
            ServerMachine::Other(machine) => machine.respond(now, &self.timing, status, bytes.clone()),
        };
        if !taken {
            return None;
        }
        if status >= 200 {
            server.request = None;
        }
        let flow = server.flow;
        self.send(flow, bytes.clone());
        self.schedule_server(key);
        Some(bytes)
    }

    pub(super) fn close_server(&mut self, key: Key) {
        let Some(mut server) = self.servers.remove(key) else { return };
        self.timers.set(Owner::Server(key), &mut server.scheduled, None);
        self.server_ids.remove(&server.id);
        if let Some(merge_id) = server.merge_id
            && self.merge_ids.get(&merge_id) == Some(&key)
        {
            self.merge_ids.remove(&merge_id);
        }
        let source = server.flow.remote.ip();
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }

    pub(super) fn schedule_server(&mut self, key: Key) {
        let Some(server) = self.servers.get_mut(key) else { return };
        let at = match &server.machine {
            ServerMachine::Invite(machine) => machine.next_timeout(),
            ServerMachine::Other(machine) => machine.next_timeout(),
        };
        self.timers.set(Owner::Server(key), &mut server.scheduled, at);
    }

    /// Sends a request of ours and opens its transaction.
    pub(super) fn open_client(
        &mut self,
        now: Instant,
        flow: Flow,
        branch: u64,
        call: Option<Key>,
        purpose: Purpose,
        request: Bytes,
    ) -> Key {
        self.send(flow, request.clone());
        let reliable = flow.transport.is_reliable();
        let machine = match purpose {
            Purpose::Invite | Purpose::Reinvite => {
                ClientMachine::Invite(ClientInvite::new(now, &self.timing, reliable, request))
            }
            Purpose::Bye | Purpose::Cancel => {
                ClientMachine::Other(Client::new(now, &self.timing, reliable, request))
            }
        };
        let client = ClientTransaction { machine, flow, branch, call, purpose, scheduled: None };
        let key = self.clients.insert(client);
        self.branches.insert((branch, purpose == Purpose::Cancel), key);
        self.schedule_client(key);
        key
    }

    pub(super) fn close_client(&mut self, key: Key) {
        let Some(mut client) = self.clients.remove(key) else { return };
        self.timers.set(Owner::Client(key), &mut client.scheduled, None);
        self.branches.remove(&(client.branch, client.purpose == Purpose::Cancel));
    }

    pub(super) fn schedule_client(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let at = match &client.machine {
            ClientMachine::Invite(machine) => machine.next_timeout(),
            ClientMachine::Other(machine) => machine.next_timeout(),
        };
        self.timers.set(Owner::Client(key), &mut client.scheduled, at);
    }

    /// The client INVITE transaction of a key, if it is one.
    pub(super) fn client_invite(&mut self, key: Key) -> Option<&mut ClientInvite> {
        match &mut self.clients.get_mut(key)?.machine {
            ClientMachine::Invite(machine) => Some(machine),
            ClientMachine::Other(_) => None,
        }
    }

    pub(super) fn insert_call(&mut self, call: Call) -> Key {
        let tag = call.dialog.local_tag.clone();
        let key = self.calls.insert(call);
        self.tags.insert(tag, key);
        key
    }

    /// Takes a call out of all tables. Its transactions end by their own timers.
    pub(super) fn remove_call(&mut self, key: Key) -> Option<Call> {
        let mut call = self.calls.remove(key)?;
        self.timers.set(Owner::Call(key), &mut call.scheduled, None);
        self.tags.remove(&call.dialog.local_tag);
        Some(call)
    }

    pub(super) fn schedule_call(&mut self, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let at = call.next_timeout();
        self.timers.set(Owner::Call(key), &mut call.scheduled, at);
    }

    /// The Contact line for an address of ours and the transport it is to be reached by.
    pub(super) fn contact_line(&self, contact: SocketAddr, transport: Transport) -> String {
        let user = &self.settings.contact_user;
        let at = if user.is_empty() { "" } else { "@" };
        let transport = match transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
        };
        format!("Contact: <sip:{user}{at}{}{transport}>\r\n", host_port(contact))
    }

    /// A Via value of ours, and the number in its branch.
    pub(super) fn new_via(&mut self, transport: Transport, contact: SocketAddr) -> (String, u64) {
        let branch = self.rng.next_u64();
        let transport = transport.as_str();
        (format!("SIP/2.0/{transport} {};branch=z9hG4bK{branch:016x};rport", host_port(contact)), branch)
    }

    /// Counts and sends what a timer wants sent again.
    pub(super) fn resend(&mut self, flow: Flow, fired: &Fired) {
        if let Some(bytes) = &fired.resend {
            self.counters.retransmissions += 1;
            self.send(flow, bytes.clone());
        }
    }
}

/// The number in a branch of ours.
pub(super) fn branch_number(branch: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(branch.get(7..)?).ok().filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}
