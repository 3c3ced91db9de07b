//! Requests of the peer within a call: ACK, BYE, re-INVITE, INFO, OPTIONS (RFC 3261 §12.2.2, §14.2,
//! §15.1.2).

use std::sync::Arc;

use super::receive::{check_body, check_require, line};
use super::table::{Extra, Phase, ServerMachine};
use super::{CallKey, Endpoint, Event};
use crate::sip::slots::Key;
use crate::sip::transaction::{Server, ServerInvite};
use crate::sip::{Cause, Flow, Method, Request};
use crate::time::Instant;

/// The longest Retry-After for a re-INVITE that came too early, in seconds (RFC 3261 §14.2).
const RETRY_AFTER_MAX_S: u64 = 10;

impl Endpoint {
    /// A request of a dialog that is known.
    pub(super) fn handle_within(&mut self, now: Instant, flow: Flow, key: Key, request: Request) {
        let is_bye = *request.method() == Method::BYE;
        if let Some((status, lines)) = self.check_limits(flow, &request).filter(|_| !is_bye) {
            return self.refuse(flow, &request, status, &lines);
        }
        let Some(call) = self.calls.get_mut(key) else { return };
        if !call.dialog.take_cseq(request.cseq()) {
            return self.refuse(flow, &request, 500, b"");
        }
        call.flow = flow;
        let leaving = call.phase == Phase::Leaving || call.cause.is_some();
        if let Some((status, lines)) = check_require(&request) {
            return self.refuse(flow, &request, status, &lines);
        }
        match request.method() {
            Method::Known(rsip::Method::Bye) => self.handle_bye(now, flow, key, request),
            // We said BYE, or will: for our part the dialog is over.
            _ if leaving => self.refuse(flow, &request, 481, b""),
            Method::Known(rsip::Method::Invite) => self.handle_reinvite(now, flow, key, request),
            _ => self.handle_options(now, flow, request, Some(key)),
        }
    }

    /// The ACK of a 2xx; false when none awaits it.
    pub(super) fn handle_dialog_ack(&mut self, now: Instant, flow: Flow, ack: &Request) -> bool {
        let tag = ack.tag_of_to().and_then(|tag| std::str::from_utf8(tag).ok());
        let Some(key) = tag.and_then(|tag| self.tags.get(tag).copied()) else { return false };
        let Some(call) = self.calls.get_mut(key).filter(|call| call.dialog.matches(ack)) else {
            return false;
        };
        let Some(unacked) = call.unacked.take_if(|unacked| unacked.cseq == ack.cseq()) else {
            // One of its repeats, after each repeated 2xx.
            self.counters.absorbed += 1;
            return true;
        };
        call.flow = flow;
        if call.phase != Phase::Leaving && call.cause.is_none() {
            let body = if unacked.offered { ack.body() } else { bytes::Bytes::new() };
            self.events.push_back(Event::Acked { call: CallKey(key), body });
        }
        self.schedule_call(key);
        // A BYE that had to wait for the ACK (RFC 3261 §15).
        self.leave_when_allowed(now, key);
        true
    }

    fn handle_bye(&mut self, now: Instant, flow: Flow, key: Key, request: Request) {
        let cause = request.cause().unwrap_or_else(Cause::normal);
        let request = Arc::new(request);
        let machine = ServerMachine::Other(Server::new(now, &self.timing, flow.transport.is_reliable()));
        let server = self.open_server(flow, machine, request, "");
        self.respond(now, server, 200, Extra::default());
        self.end(now, key, Some(cause));
    }

    /// A new offer within the call. Two INVITEs at once are refused: 500 when the first is the
    /// peer's too, 491 when it is ours (RFC 3261 §14.2).
    fn handle_reinvite(&mut self, now: Instant, flow: Flow, key: Key, request: Request) {
        let retry_after_s = self.rng.below(RETRY_AFTER_MAX_S + 1);
        let Some(call) = self.calls.get_mut(key) else { return };
        let our_offer_is_open = call.unacked.as_ref().is_some_and(|unacked| unacked.offered);
        let refusal = if call.incoming.is_some() {
            Some((500, line("Retry-After", &retry_after_s.to_string())))
        } else if call.outgoing.is_some() || our_offer_is_open {
            Some((491, Vec::new()))
        } else {
            check_body(&request)
        };
        let implied_ack = refusal.is_none() && call.unacked.take().is_some();
        if refusal.is_none() {
            call.dialog.refresh_target(request.lexed());
        }
        let tag = call.dialog.local_tag.clone();
        let body = request.body();
        let machine = ServerMachine::Invite(ServerInvite::new(flow.transport.is_reliable()));
        let server = self.open_server(flow, machine, Arc::new(request), &tag);
        if let Some((status, lines)) = refusal {
            self.counters.refused += 1;
            self.respond(now, server, status, Extra { lines: &lines, ..Extra::default() });
            return;
        }
        if let (Some(transaction), Some(call)) = (self.servers.get_mut(server), self.calls.get_mut(key)) {
            transaction.call = Some(key);
            call.incoming = Some(server);
        }
        self.respond(now, server, 100, Extra::default());
        if implied_ack {
            // The peer goes on, so it has our 2xx: the ACK was lost or is late (RFC 5407 §3.1.5).
            self.events.push_back(Event::Acked { call: CallKey(key), body: bytes::Bytes::new() });
        }
        self.schedule_call(key);
        self.events.push_back(Event::Reinvite { call: CallKey(key), body });
    }
}
