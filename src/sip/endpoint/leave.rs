//! How calls end: by us, by the peer, or because there is no way to it any more.

use super::table::{Call, Extra, Phase, Purpose};
use super::{CallKey, Endpoint, Event, Rejection};
use crate::sip::slots::Key;
use crate::sip::write::{push_header, write_companion};
use crate::sip::{Cause, Flow};
use crate::time::Instant;

impl Endpoint {
    /// Ends a call, whatever its state: a refusal, CANCEL or BYE, with `cause` as its Reason. For
    /// the owner the call is gone at once, and no more events come of it. A BYE waits for the ACK
    /// of our 2xx (RFC 3261 §15), a CANCEL for the first provisional answer (§9.1).
    pub fn hang_up(&mut self, now: Instant, call: CallKey, cause: Cause) {
        let key = call.0;
        let Some(state) = self.calls.get_mut(key) else { return };
        match state.phase {
            Phase::Early if state.is_caller => {
                state.phase = Phase::Leaving;
                state.cause = Some(Box::new(cause));
                self.cancel_when_allowed(now, key);
            }
            Phase::Early => {
                let status = cause.sip.filter(|status| (400..700).contains(status)).unwrap_or(480);
                self.reject(now, call, Rejection::new(status).header("Reason", cause.to_string()));
            }
            Phase::Confirmed => {
                let incoming = state.incoming.take();
                state.retry_at = None;
                state.cause.get_or_insert(Box::new(cause));
                if let Some(server) = incoming {
                    self.respond(now, server, 487, Extra::default());
                }
                self.schedule_call(key);
                self.leave_when_allowed(now, key);
            }
            Phase::Leaving => {}
        }
    }

    /// Sends the BYE that `hang_up` asked for, once no 2xx awaits its ACK.
    pub(super) fn leave_when_allowed(&mut self, now: Instant, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.phase == Phase::Confirmed
            && call.unacked.is_none()
            && let Some(cause) = call.cause.take()
        {
            self.send_bye(now, key, &cause);
        }
    }

    /// Sends the CANCEL of an INVITE that its owner gave up, once it has a provisional answer.
    pub(super) fn cancel_when_allowed(&mut self, now: Instant, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(invite) = call.outgoing.filter(|_| call.phase == Phase::Leaving) else { return };
        let Some(cause) = call.cause.take() else { return };
        let timing = self.timing;
        let request =
            self.client_invite(invite).filter(|machine| machine.is_proceeding()).and_then(|machine| {
                let request = machine.request().cloned();
                machine.cancelled(now, &timing);
                request
            });
        let (Some(request), Some(client)) = (request, self.clients.get(invite)) else {
            if let Some(call) = self.calls.get_mut(key) {
                call.cause = Some(cause);
            }
            return;
        };
        let (flow, branch) = (client.flow, client.branch);
        let mut lines = Vec::new();
        push_header(&mut lines, "Reason", &cause.to_string());
        let cancel = write_companion(&request, "CANCEL", None, &lines);
        self.open_client(now, flow, branch, None, Purpose::Cancel, cancel);
        self.schedule_client(invite);
    }

    /// Sends BYE; the call stays, silent, until that is answered.
    pub(super) fn send_bye(&mut self, now: Instant, key: Key, cause: &Cause) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.phase = Phase::Leaving;
        call.unacked = None;
        call.retry_at = None;
        let (flow, contact, cseq) = (call.flow, call.dialog.contact, call.dialog.next_cseq());
        let (via, branch) = self.new_via(flow.transport, contact);
        let mut lines = Vec::new();
        push_header(&mut lines, "Reason", &cause.to_string());
        let Some(call) = self.calls.get(key) else { return };
        let bye = call.dialog.write("BYE", cseq, &via, &lines, b"", &self.settings.server_name);
        self.open_client(now, flow, branch, Some(key), Purpose::Bye, bye);
        self.schedule_call(key);
    }

    /// Takes a call away, refuses what its peer still asks for, and tells the owner unless it
    /// gave the call up itself.
    pub(super) fn end(&mut self, now: Instant, key: Key, cause: Option<Cause>) {
        let Some(call) = self.remove_call(key) else { return };
        if let Some(server) = call.incoming {
            self.respond(now, server, 487, Extra::default());
        }
        if let (true, Some(cause)) = (is_watched(&call), cause) {
            self.events.push_back(Event::Ended { call: CallKey(key), cause });
        }
    }

    /// The connection of a flow is closed, or for an [`Flow::ANY`] flow: none could be opened.
    /// Calls go on over any other connection to the same peer; those that have no other end.
    pub fn handle_flow_closed(&mut self, now: Instant, flow: Flow) {
        let servers: Vec<Key> = self.servers.keys().collect();
        for key in servers {
            if let Some(server) = self.servers.get_mut(key).filter(|server| server.flow == flow) {
                server.flow = flow.any();
            }
        }
        let clients: Vec<Key> = self.clients.keys().collect();
        for key in clients {
            if self.clients.get(key).is_some_and(|client| client.flow == flow) {
                // RFC 3261 §8.1.3.1: a transport error is a 503.
                self.fail_client(now, key, 503);
            }
        }
        let calls: Vec<Key> = self.calls.keys().collect();
        for key in calls {
            let Some(call) = self.calls.get_mut(key).filter(|call| call.flow == flow) else { continue };
            if flow.id == Flow::ANY {
                self.end(now, key, Some(Cause::transport_failure()));
            } else {
                call.flow = flow.any();
            }
        }
    }
}

/// Whether the owner still wants to hear of the call.
pub(super) fn is_watched(call: &Call) -> bool {
    call.phase != Phase::Leaving && call.cause.is_none()
}
