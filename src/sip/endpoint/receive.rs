//! What comes in from the peer: requests that repeat, acknowledge or cancel others, and new ones
//! out of any dialog, checked in the order of RFC 3261 §8.2.

use std::sync::Arc;

use super::table::{ALLOW, Call, Extra, Phase, ServerMachine};
use super::{CallKey, Endpoint, Event, ServerKey};
use crate::sip::dialog::Dialog;
use crate::sip::lexer::{Fault, Lexed};
use crate::sip::message::DropReason;
use crate::sip::name::Name;
use crate::sip::slots::Key;
use crate::sip::transaction::{AckOf, Server, ServerInvite};
use crate::sip::write::{Reply, push_header, write_response};
use crate::sip::{Flow, Method, Request, Scheme, scan};
use crate::time::Instant;

/// Hex digits of our tags: 64 random bits.
pub(super) const TAG_DIGITS: usize = 16;
/// The one body type of INVITE.
const SDP: &str = "application/sdp";

/// A refusal the endpoint gives by itself: status, and ready header lines.
type Refusal = (u16, Vec<u8>);

impl Endpoint {
    pub(super) fn handle_request(&mut self, now: Instant, flow: Flow, request: Request) {
        if *request.method() == Method::ACK {
            return self.handle_ack(now, flow, &request);
        }
        let id = request.transaction_id(request.method());
        if let Some(key) = self.server_ids.get(&*id).copied() {
            return self.handle_repeat(key);
        }
        if *request.method() == Method::CANCEL {
            return self.handle_cancel(now, flow, &request);
        }
        if let Some((status, lines)) = self.check_method(&request) {
            return self.refuse(flow, &request, status, &lines);
        }
        if let Some(tag) = request.tag_of_to() {
            let known = std::str::from_utf8(tag).ok().and_then(|tag| self.tags.get(tag).copied());
            let key =
                known.filter(|key| self.calls.get(*key).is_some_and(|call| call.dialog.matches(&request)));
            return match key {
                // RFC 3261 §12.2.2: a dialog that we do not know (any more).
                None => self.refuse(flow, &request, 481, b""),
                Some(key) => self.handle_within(now, flow, key, request),
            };
        }
        let refusal = self.check_new(&request).or_else(|| self.check_limits(flow, &request));
        match refusal {
            Some((status, lines)) => self.refuse(flow, &request, status, &lines),
            None if *request.method() == Method::INVITE => self.handle_invite(now, flow, request),
            None => self.handle_options(now, flow, request, None),
        }
    }

    fn handle_repeat(&mut self, key: Key) {
        self.counters.absorbed += 1;
        let Some(server) = self.servers.get(key) else { return };
        let response = match &server.machine {
            ServerMachine::Invite(machine) => machine.handle_repeat(),
            ServerMachine::Other(machine) => machine.handle_repeat(),
        };
        if let Some(response) = response {
            self.counters.retransmissions += 1;
            self.send(server.flow, response);
        }
    }

    fn handle_ack(&mut self, now: Instant, flow: Flow, ack: &Request) {
        let id = ack.transaction_id(&Method::INVITE);
        if let Some(key) = self.server_ids.get(&*id).copied()
            && let Some(server) = self.servers.get_mut(key)
            && let ServerMachine::Invite(machine) = &mut server.machine
            && machine.handle_ack(now, &self.timing) == AckOf::Transaction
        {
            return self.schedule_server(key);
        }
        if !self.handle_dialog_ack(now, flow, ack) {
            self.counters.count_drop(DropReason::StrayAck);
        }
    }

    /// RFC 3261 §9.2: 200 to the CANCEL whenever its INVITE is known, and 487 to the INVITE
    /// unless it has its final answer.
    fn handle_cancel(&mut self, now: Instant, flow: Flow, cancel: &Request) {
        let id = cancel.transaction_id(&Method::INVITE);
        let Some(key) = self.server_ids.get(&*id).copied() else {
            return self.refuse(flow, cancel, 481, b"");
        };
        let Some(server) = self.servers.get(key) else { return };
        let (to_tag, call) = (server.to_tag.clone(), server.call);
        let open = matches!(&server.machine, ServerMachine::Invite(machine) if machine.is_proceeding());
        let reply = Reply { status: 200, to_tag: &to_tag, ..Reply::default() };
        let bytes = write_response(cancel.lexed(), flow.remote, &self.settings.server_name, reply);
        self.send(flow, bytes);
        if !open {
            return;
        }
        self.respond(now, key, 487, Extra::default());
        let Some(call_key) = call else { return };
        let Some(call) = self.calls.get_mut(call_key) else { return };
        call.incoming = None;
        if call.phase == Phase::Early {
            self.remove_call(call_key);
            self.events.push_back(Event::Cancelled { call: CallKey(call_key) });
        }
    }

    /// RFC 3261 §8.2.1.
    fn check_method(&self, request: &Request) -> Option<Refusal> {
        match request.method() {
            Method::Known(
                rsip::Method::Invite | rsip::Method::Bye | rsip::Method::Options | rsip::Method::Info,
            ) => None,
            Method::Known(_) => Some((405, line("Allow", ALLOW))),
            Method::Other(_) => Some((501, line("Allow", ALLOW))),
        }
    }

    /// RFC 3261 §8.2.2 and §8.2.3, for requests out of any dialog.
    fn check_new(&mut self, request: &Request) -> Option<Refusal> {
        let is_invite = *request.method() == Method::INVITE;
        if !is_invite && *request.method() != Method::OPTIONS {
            return Some((481, Vec::new())); // BYE and INFO live in dialogs only
        }
        if !matches!(request.uri().scheme(), Scheme::Sip | Scheme::Sips) {
            return Some((416, Vec::new()));
        }
        if self.merge_id(request).is_some_and(|id| self.merge_ids.contains_key(&id)) {
            self.counters.merged += 1;
            return Some((482, Vec::new()));
        }
        if request.max_forwards() == Some(0) && is_invite {
            return Some((483, Vec::new()));
        }
        check_require(request).or_else(|| if is_invite { check_invite(request) } else { None })
    }

    /// 503 with Retry-After when something is used up or the owner sheds load.
    pub(super) fn check_limits(&mut self, flow: Flow, request: &Request) -> Option<Refusal> {
        let is_new_invite = *request.method() == Method::INVITE && request.tag_of_to().is_none();
        let of_source = self.sources.get(&flow.remote.ip()).copied().unwrap_or(0);
        let mut retry_after_s = self.settings.retry_after_s;
        let counters = &mut self.counters;
        let count = if self.servers.len() + self.clients.len() >= self.settings.max_transactions {
            &mut counters.limit_transactions
        } else if of_source >= self.settings.max_transactions_per_source {
            &mut counters.limit_source
        } else if is_new_invite && self.calls.len() >= self.settings.max_dialogs {
            &mut counters.limit_dialogs
        } else if let (true, Some(shed)) = (is_new_invite, self.shed_retry_after_s) {
            retry_after_s = shed;
            &mut counters.shed
        } else {
            return None;
        };
        *count += 1;
        Some((503, line("Retry-After", &retry_after_s.to_string())))
    }

    fn handle_invite(&mut self, now: Instant, flow: Flow, request: Request) {
        let request = Arc::new(request);
        let tag = self.rng.hex(TAG_DIGITS);
        let dialog = Dialog::of_invite(&request, &tag, flow.local);
        let machine = ServerMachine::Invite(ServerInvite::new(flow.transport.is_reliable()));
        let server = self.open_server(flow, machine, request.clone(), &tag);
        let mut call = Call::new(dialog, flow, false);
        call.incoming = Some(server);
        let key = self.insert_call(call);
        if let Some(server) = self.servers.get_mut(server) {
            server.call = Some(key);
        }
        self.respond(now, server, 100, Extra::default());
        self.events.push_back(Event::Invite { call: CallKey(key), request, flow });
    }

    /// An OPTIONS or INFO, which the owner answers.
    pub(super) fn handle_options(&mut self, now: Instant, flow: Flow, request: Request, call: Option<Key>) {
        let request = Arc::new(request);
        let tag = if request.tag_of_to().is_some() { String::new() } else { self.rng.hex(TAG_DIGITS) };
        let machine = ServerMachine::Other(Server::new(now, &self.timing, flow.transport.is_reliable()));
        let key = ServerKey(self.open_server(flow, machine, request.clone(), &tag));
        let event = match call {
            Some(call) if *request.method() == Method::INFO => Event::Info {
                call: CallKey(call),
                key,
                content_type: request.content_type().unwrap_or_default().into_owned(),
                body: request.body(),
            },
            _ => Event::Options { key, request },
        };
        self.events.push_back(event);
    }

    /// Refuses a request without keeping state (RFC 3261 §8.2.7).
    pub(super) fn refuse(&mut self, flow: Flow, request: &Request, status: u16, lines: &[u8]) {
        self.counters.refused += 1;
        self.refuse_lexed(flow, request.lexed(), status, "", lines);
    }

    pub(super) fn refuse_lexed(
        &mut self,
        flow: Flow,
        lexed: &Lexed,
        status: u16,
        reason: Fault,
        lines: &[u8],
    ) {
        let value = |name| lexed.value(name).unwrap_or_default();
        let to_tag = self.stateless_tag(value(Name::CallId), value(Name::From), value(Name::CSeq));
        let reply = Reply { status, reason, to_tag: &to_tag, lines, ..Reply::default() };
        let bytes = write_response(lexed, flow.remote, &self.settings.server_name, reply);
        self.send(flow, bytes);
    }
}

/// One header line.
pub(super) fn line(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + value.len() + 4);
    push_header(&mut out, name, value);
    out
}

/// RFC 3261 §8.2.2.3: we have no extensions, so whatever is required is unsupported.
pub(super) fn check_require(request: &Request) -> Option<Refusal> {
    let mut required =
        request.lexed().values(Name::Require).flat_map(scan::split_list).filter(|tag| !tag.is_empty());
    let mut unsupported = String::from_utf8_lossy(required.next()?).into_owned();
    for tag in required {
        unsupported.push_str(", ");
        unsupported.push_str(&String::from_utf8_lossy(tag));
    }
    Some((420, line("Unsupported", &unsupported)))
}

/// RFC 3261 §8.2.3: the body has to be one we read, and the answer one the peer reads.
fn check_invite(request: &Request) -> Option<Refusal> {
    check_body(request).or_else(|| {
        let lexed = request.lexed();
        let mut ranges = lexed.values(Name::Accept).flat_map(scan::split_list).map(media_type).peekable();
        let fits = |range: &[u8]| {
            [&b"application/sdp"[..], b"application/*", b"*/*"]
                .iter()
                .any(|fit| range.eq_ignore_ascii_case(fit))
        };
        (ranges.peek().is_some() && !ranges.any(fits)).then(|| (406, line("Accept", SDP)))
    })
}

/// RFC 3261 §8.2.3.
pub(super) fn check_body(request: &Request) -> Option<Refusal> {
    if request.body().is_empty() {
        return None;
    }
    let lexed = request.lexed();
    let mut codings = lexed.values(Name::ContentEncoding).flat_map(scan::split_list);
    if codings.any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")) {
        return Some((415, line("Accept-Encoding", "identity")));
    }
    let known = lexed
        .value(Name::ContentType)
        .is_some_and(|value| media_type(value).eq_ignore_ascii_case(SDP.as_bytes()));
    (!known).then(|| (415, line("Accept", SDP)))
}

/// A media type without parameters and without blanks around its slash being minded.
fn media_type(value: &[u8]) -> &[u8] {
    scan::split_params(value).next().unwrap_or_default().0
}
