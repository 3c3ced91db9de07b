//! Our own INVITEs, and the responses to all requests of ours.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::leave::is_watched;
use super::receive::TAG_DIGITS;
use super::table::{Call, ClientMachine, Phase, Purpose, branch_number};
use super::uas::{push_capabilities, push_sdp_type};
use super::{CallKey, Endpoint, Event};
use crate::sip::dialog::Dialog;
use crate::sip::header::NameAddr;
use crate::sip::message::DropReason;
use crate::sip::name::Name;
use crate::sip::slots::Key;
use crate::sip::transaction::Heard;
use crate::sip::write::write_companion;
use crate::sip::{Cause, Flow, Response, Scheme, Uri};
use crate::time::Instant;

/// Hex digits of our Call-IDs.
const CALL_ID_DIGITS: usize = 32;
/// When a re-INVITE is made again after 491 (RFC 3261 §14.1), in steps of 10 ms: the owner of the
/// Call-ID waits 2.1 to 4 s, the other side 0 to 2 s.
const GLARE_STEP_MS: u64 = 10;
const GLARE_CALLER_STEPS: (u64, u64) = (210, 190);
const GLARE_CALLEE_STEPS: (u64, u64) = (0, 200);

/// Why no INVITE was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// The target is no SIP URI, or one with headers.
    #[error("the target is no SIP URI that can be dialled")]
    Target,
    /// `from` is no URI or name-addr, or has a tag.
    #[error("the caller is no SIP address")]
    From,
    /// All calls or transactions are in use.
    #[error("too many calls or transactions")]
    TooMany,
}

impl Endpoint {
    /// Sends an INVITE to `target` over `flow`. `from` is a URI or name-addr; `contact` our
    /// advertised SIP address; `body` the SDP offer. `Progress` may follow, then `Answered` or `Rejected`.
    pub fn invite(
        &mut self,
        now: Instant,
        flow: Flow,
        target: &str,
        from: &str,
        contact: SocketAddr,
        body: Bytes,
    ) -> Result<CallKey, InviteError> {
        let target: Uri = target.parse().map_err(|_| InviteError::Target)?;
        if !matches!(target.scheme(), Scheme::Sip | Scheme::Sips) || target.headers().is_some() {
            return Err(InviteError::Target);
        }
        let party = NameAddr::parse(from.as_bytes(), "").map_err(|_| InviteError::From)?;
        if party.uri().is_err() || party.tag().is_some() || from.contains(['\r', '\n']) {
            return Err(InviteError::From);
        }
        if self.calls.len() >= self.settings.max_dialogs
            || self.transactions() >= self.settings.max_transactions
        {
            return Err(InviteError::TooMany);
        }
        let from = if from.contains('<') { from.trim().to_owned() } else { format!("<{}>", from.trim()) };
        let (call_id, tag) = (self.rng.hex(CALL_ID_DIGITS), self.rng.hex(TAG_DIGITS));
        let dialog = Dialog::to_be(&call_id, &tag, &from, &target, contact);
        let mut call = Call::new(dialog, flow, true);
        call.offer = body;
        let key = self.insert_call(call);
        self.send_invite(now, key, Purpose::Invite);
        Ok(CallKey(key))
    }

    /// Offers a new session within a call by a re-INVITE. `Answered` or `ReinviteRejected`
    /// follows; 491 is overcome by trying again (RFC 3261 §14.1). False, and nothing is sent,
    /// while an INVITE is under way in either direction or the call is not up.
    pub fn reinvite(&mut self, now: Instant, call: CallKey, body: Bytes) -> bool {
        let Some(state) = self.calls.get_mut(call.0) else { return false };
        let busy = state.incoming.is_some() || state.outgoing.is_some() || state.unacked.is_some();
        if busy || state.retry_at.is_some() || state.phase != Phase::Confirmed || state.cause.is_some() {
            return false;
        }
        state.offer = body;
        self.send_invite(now, call.0, Purpose::Reinvite);
        true
    }

    /// Makes the re-INVITE again that 491 refused; it waits while the peer's is under way.
    pub(super) fn send_reinvite(&mut self, now: Instant, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.incoming.is_some() || call.unacked.is_some() {
            call.retry_at = Some(now + self.timing.t1);
            return;
        }
        self.send_invite(now, key, Purpose::Reinvite);
    }

    fn send_invite(&mut self, now: Instant, key: Key, purpose: Purpose) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let (flow, contact, cseq) = (call.flow, call.dialog.contact, call.dialog.next_cseq());
        let (via, branch) = self.new_via(flow.transport, contact);
        let mut lines = self.contact_line(contact, flow.transport).into_bytes();
        push_capabilities(&mut lines);
        let Some(call) = self.calls.get(key) else { return };
        push_sdp_type(&mut lines, &call.offer);
        let invite = call.dialog.write("INVITE", cseq, &via, &lines, &call.offer, &self.settings.server_name);
        let client = self.open_client(now, flow, branch, Some(key), purpose, invite);
        if let Some(call) = self.calls.get_mut(key) {
            call.outgoing = Some(client);
        }
    }

    pub(super) fn handle_response(&mut self, now: Instant, _flow: Flow, response: Response) {
        let is_cancel = response.cseq_method() == b"CANCEL";
        let number = response.branch().and_then(branch_number).filter(|_| response.vias() == 1);
        let key = number.and_then(|number| self.branches.get(&(number, is_cancel)).copied());
        let Some((key, client)) = key.and_then(|key| Some((key, self.clients.get_mut(key)?))) else {
            return self.counters.count_drop(DropReason::StrayResponse);
        };
        let fits = match client.purpose {
            Purpose::Invite | Purpose::Reinvite => response.cseq_method() == b"INVITE",
            Purpose::Bye => response.cseq_method() == b"BYE",
            Purpose::Cancel => is_cancel,
        };
        if !fits {
            return self.counters.count_drop(DropReason::StrayResponse);
        }
        match &mut client.machine {
            ClientMachine::Invite(_) => self.handle_invite_response(now, key, &response),
            ClientMachine::Other(machine) => {
                let done = machine.handle_response(now, &self.timing, response.status());
                let call = client.call.filter(|_| done && client.purpose == Purpose::Bye);
                self.schedule_client(key);
                if let Some(call) = call {
                    self.end(now, call, None); // whatever it was: BYE ends the call (§15.1.1)
                }
            }
        }
    }

    fn handle_invite_response(&mut self, now: Instant, key: Key, response: &Response) {
        let timing = self.timing;
        let Some(client) = self.clients.get_mut(key) else { return };
        let (flow, call) = (client.flow, client.call);
        let first = client.purpose == Purpose::Invite;
        let ClientMachine::Invite(machine) = &mut client.machine else { return };
        let request = machine.request().cloned();
        match machine.handle_response(now, &timing, response.status()) {
            Heard::Ignored => {}
            Heard::Again(ack) => self.send(flow, ack),
            Heard::Refused => {
                let to = response.lexed().value(Name::To);
                let ack =
                    request.map(|request| write_companion(&request, "ACK", to, b"")).unwrap_or_default();
                machine.set_ack(ack.clone());
                self.send(flow, ack);
                self.invite_refused(now, call, first, response.status(), &response.reason());
            }
            Heard::Provisional => self.handle_progress(now, call, first, response),
            Heard::Success => self.handle_success(now, key, response),
        }
        self.schedule_client(key);
    }

    fn handle_progress(&mut self, now: Instant, call: Option<Key>, first: bool, response: &Response) {
        let Some((key, call)) = call.and_then(|key| Some((key, self.calls.get(key)?))) else { return };
        if is_watched(call) && first && response.status() > 100 {
            let event =
                Event::Progress { call: CallKey(key), status: response.status(), body: response.body() };
            self.events.push_back(event);
        }
        self.cancel_when_allowed(now, key);
    }

    /// A 2xx: the first is acknowledged and confirms the dialog, its repeats are acknowledged
    /// again, and one of another branch of a fork is acknowledged and ended (RFC 3261 §13.2.2.4).
    fn handle_success(&mut self, now: Instant, key: Key, response: &Response) {
        let Some(client) = self.clients.get(key) else { return };
        let (flow, purpose) = (client.flow, client.purpose);
        let ClientMachine::Invite(machine) = &client.machine else { return };
        let earlier = machine.ack().cloned();
        let Some((call_key, call)) = client.call.and_then(|key| Some((key, self.calls.get_mut(key)?))) else {
            if let Some(ack) = earlier {
                self.send(flow, ack);
            }
            return;
        };
        let same_branch = *call.dialog.remote_tag == *response.tag_of_to().unwrap_or_default();
        match (earlier, same_branch) {
            (Some(ack), true) => return self.send(flow, ack),
            (Some(_), false) => return self.end_fork(now, flow, call_key, response),
            (None, _) => {}
        }
        match purpose {
            Purpose::Invite => call.dialog.confirm(response),
            _ => call.dialog.refresh_target(response.lexed()),
        }
        call.outgoing = None;
        call.offer = Bytes::new();
        let watched = is_watched(call);
        if call.phase == Phase::Early {
            call.phase = Phase::Confirmed;
        }
        let cseq = call.dialog.local_cseq();
        let bye_is_due = purpose == Purpose::Invite && call.phase == Phase::Leaving;
        let cause = call.cause.take();
        let ack = self.write_ack(call_key, cseq, flow);
        if let Some(machine) = self.client_invite(key) {
            machine.set_ack(ack.clone());
        }
        self.send(flow, ack);
        if watched {
            self.events.push_back(Event::Answered { call: CallKey(call_key), body: response.body() });
        } else if bye_is_due {
            // The 2xx was faster than our CANCEL.
            self.send_bye(now, call_key, &cause.map_or_else(Cause::normal, |cause| *cause));
        } else if let Some(call) = self.calls.get_mut(call_key) {
            call.cause = cause;
        }
    }

    fn write_ack(&mut self, call: Key, cseq: u32, flow: Flow) -> Bytes {
        let Some(contact) = self.calls.get(call).map(|call| call.dialog.contact) else { return Bytes::new() };
        let (via, _) = self.new_via(flow.transport, contact);
        let Some(call) = self.calls.get(call) else { return Bytes::new() };
        call.dialog.write("ACK", cseq, &via, b"", b"", &self.settings.server_name)
    }

    fn end_fork(&mut self, now: Instant, flow: Flow, key: Key, response: &Response) {
        let Some(call) = self.calls.get(key) else { return };
        let mut fork = call.dialog.clone();
        fork.confirm(response);
        let (ack_via, _) = self.new_via(flow.transport, fork.contact);
        let (bye_via, branch) = self.new_via(flow.transport, fork.contact);
        // The INVITE's number, which is 1, as nothing but its own 2xx comes before any other.
        let ack = fork.write("ACK", 1, &ack_via, b"", b"", &self.settings.server_name);
        let bye = fork.write("BYE", 2, &bye_via, b"", b"", &self.settings.server_name);
        self.send(flow, ack);
        self.open_client(now, flow, branch, None, Purpose::Bye, bye);
    }

    /// A request of ours failed without a response, as if `status` had come.
    pub(super) fn fail_client(&mut self, now: Instant, key: Key, status: u16) {
        let Some(client) = self.clients.get(key) else { return };
        let (call, purpose) = (client.call, client.purpose);
        let rings = matches!(&client.machine, ClientMachine::Invite(machine) if machine.is_proceeding());
        let settled =
            matches!(&client.machine, ClientMachine::Invite(machine) if machine.request().is_none());
        if let (Purpose::Invite, true, 408, Some(call_key)) = (purpose, rings, status, call)
            && let Some(call) = self.calls.get_mut(call_key).filter(|call| call.phase == Phase::Early)
        {
            // It rang for too long: the owner hears 408, the peer CANCEL.
            call.phase = Phase::Leaving;
            call.cause = Some(Box::new(Cause::no_answer()));
            self.events.push_back(rejected(call_key, status));
            return self.cancel_when_allowed(now, call_key);
        }
        self.close_client(key);
        match purpose {
            Purpose::Cancel => {}
            Purpose::Bye => {
                if let Some(call) = call {
                    self.end(now, call, None);
                }
            }
            Purpose::Invite | Purpose::Reinvite if settled => {}
            Purpose::Invite => self.invite_refused(now, call, true, status, ""),
            Purpose::Reinvite => self.invite_refused(now, call, false, status, ""),
        }
    }

    fn invite_refused(&mut self, now: Instant, call: Option<Key>, first: bool, status: u16, reason: &str) {
        let Some((key, call)) = call.and_then(|key| Some((key, self.calls.get_mut(key)?))) else { return };
        call.outgoing = None;
        let watched = is_watched(call);
        if first {
            self.remove_call(key);
            if watched {
                let reason = reason.to_owned();
                self.events.push_back(Event::Rejected { call: CallKey(key), status, reason });
            }
        } else if watched {
            self.reinvite_refused(now, key, status);
        }
    }

    /// RFC 3261 §12.2.1.2 and §14.1.
    fn reinvite_refused(&mut self, now: Instant, key: Key, status: u16) {
        let Some(call) = self.calls.get_mut(key) else { return };
        match status {
            491 => {
                let (least, span) = if call.is_caller { GLARE_CALLER_STEPS } else { GLARE_CALLEE_STEPS };
                let steps = least + self.rng.below(span + 1);
                call.retry_at = Some(now + Duration::from_millis(steps * GLARE_STEP_MS));
                self.schedule_call(key);
            }
            408 | 481 => {
                let cause = if status == 408 { Cause::no_answer() } else { Cause::dialog_gone() };
                self.send_bye(now, key, &cause);
                self.events.push_back(Event::Ended { call: CallKey(key), cause });
            }
            _ => {
                call.offer = Bytes::new();
                self.events.push_back(Event::ReinviteRejected { call: CallKey(key), status });
            }
        }
    }
}

fn rejected(call: Key, status: u16) -> Event {
    let reason = crate::sip::write::phrase(status).to_owned();
    Event::Rejected { call: CallKey(call), status, reason }
}
