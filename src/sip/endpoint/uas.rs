//! What the owner answers to the peer's requests.

use std::net::SocketAddr;

use bytes::Bytes;

use super::table::{ALLOW, Extra, Phase, Unacked};
use super::{CallKey, Endpoint, Rejection, ServerKey};
use crate::sip::slots::Key;
use crate::sip::transaction::Repeat;
use crate::sip::write::{push_header, push_line};
use crate::time::Instant;

impl Endpoint {
    /// Sends a provisional answer, 101 to 199, with our tag and Contact: an early dialog. Does
    /// nothing once the call has its final answer.
    pub fn ring(&mut self, now: Instant, call: CallKey, status: u16) {
        let Some(state) = self.calls.get(call.0) else { return };
        let (Phase::Early, Some(server), true) = (state.phase, state.incoming, (101..200).contains(&status))
        else {
            return;
        };
        let (local, transport) = (state.flow.local, state.flow.transport);
        let lines =
            if local.ip().is_unspecified() { String::new() } else { self.contact_line(local, transport) };
        self.respond(
            now,
            server,
            status,
            Extra { record_route: true, lines: lines.as_bytes(), ..Extra::default() },
        );
    }

    /// Answers the first INVITE 200. `contact` is our advertised SIP address, `body` the SDP (the
    /// offer, when the INVITE had none). The 200 is repeated until its ACK comes (`Acked`); when
    /// none comes for 64·T1 the call is `Ended`.
    pub fn accept(&mut self, now: Instant, call: CallKey, contact: SocketAddr, body: Bytes) {
        let Some(state) = self.calls.get_mut(call.0) else { return };
        if state.phase != Phase::Early || state.is_caller || state.incoming.is_none() {
            return;
        }
        state.phase = Phase::Confirmed;
        state.dialog.contact = contact;
        self.respond_2xx(now, call.0, &body);
    }

    /// Refuses the first INVITE; the call is gone.
    pub fn reject(&mut self, now: Instant, call: CallKey, rejection: Rejection) {
        let Some(state) = self.calls.get(call.0) else { return };
        let (Phase::Early, Some(server)) = (state.phase, state.incoming) else { return };
        self.respond_rejection(now, server, &rejection);
        self.remove_call(call.0);
    }

    /// Answers a re-INVITE 200. Does nothing when the re-INVITE was cancelled meanwhile.
    pub fn accept_reinvite(&mut self, now: Instant, call: CallKey, body: Bytes) {
        if self.calls.get(call.0).is_some_and(|state| state.phase == Phase::Confirmed) {
            self.respond_2xx(now, call.0, &body);
        }
    }

    /// Refuses a re-INVITE, say with 488: the session goes on as it was.
    pub fn reject_reinvite(&mut self, now: Instant, call: CallKey, rejection: Rejection) {
        let Some(state) = self.calls.get_mut(call.0).filter(|state| state.phase == Phase::Confirmed) else {
            return;
        };
        let Some(server) = state.incoming.take() else { return };
        self.respond_rejection(now, server, &rejection);
    }

    /// Answers an OPTIONS or INFO. An empty reason is the usual one of the status; the body's
    /// type goes with `headers`. A 2xx to OPTIONS says by itself what we allow and accept.
    pub fn answer(
        &mut self,
        now: Instant,
        key: ServerKey,
        status: u16,
        reason: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) {
        let Some(server) = self.servers.get(key.0) else { return };
        let Some(request) = &server.request else { return };
        let mut lines = Vec::new();
        if *request.method() == crate::sip::Method::OPTIONS && (200..300).contains(&status) {
            push_line(&mut lines, b"Accept", b"application/sdp");
            push_line(&mut lines, b"Accept-Encoding", b"identity");
            push_line(&mut lines, b"Accept-Language", b"en");
            push_capabilities(&mut lines);
        }
        for (name, value) in headers {
            push_header(&mut lines, name, value);
        }
        self.respond(now, key.0, status, Extra { reason, lines: &lines, body: &body, ..Extra::default() });
    }

    fn respond_2xx(&mut self, now: Instant, key: Key, body: &[u8]) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(server) = call.incoming.take() else { return };
        let contact = call.dialog.contact;
        let Some(transaction) = self.servers.get(server) else { return };
        let Some(request) = transaction.request.clone() else { return };
        let mut lines = self.contact_line(contact, transaction.flow.transport).into_bytes();
        push_capabilities(&mut lines);
        push_sdp_type(&mut lines, body);
        let extra = Extra { record_route: true, lines: &lines, body, ..Extra::default() };
        let Some(response) = self.respond(now, server, 200, extra) else { return };
        let unacked = Unacked {
            cseq: request.cseq(),
            response,
            repeat: Repeat::after(now, self.timing.t1),
            expires: now + self.timing.patience(),
            offered: request.body().is_empty(),
        };
        if let Some(call) = self.calls.get_mut(key) {
            call.unacked = Some(Box::new(unacked));
        }
        self.schedule_call(key);
    }

    pub(super) fn respond_rejection(&mut self, now: Instant, server: Key, rejection: &Rejection) {
        let status = if (300..700).contains(&rejection.status) { rejection.status } else { 500 };
        let mut lines = Vec::new();
        for (name, value) in &rejection.headers {
            push_header(&mut lines, name, value);
        }
        self.respond(
            now,
            server,
            status,
            Extra { reason: &rejection.reason, lines: &lines, ..Extra::default() },
        );
    }
}

/// What we allow and support (RFC 3261 §13.3.1.4): no extensions, so Supported is empty.
pub(super) fn push_capabilities(lines: &mut Vec<u8>) {
    push_line(lines, b"Allow", ALLOW.as_bytes());
    push_line(lines, b"Supported", b"");
}

pub(super) fn push_sdp_type(lines: &mut Vec<u8>, body: &[u8]) {
    if !body.is_empty() {
        push_line(lines, b"Content-Type", b"application/sdp");
    }
}
