//! What the SIP endpoint and the shards tell, each handed to its room.

use bytes::Bytes;

use super::admission::bad_sdp;
use super::media::{BadSdp, LegState};
use super::{Bridge, Output, as_json, info};
use crate::id::ConferencecallId;
use crate::plane::{LegMedia, PortSource, ShardCommand, ShardReport};
use crate::sip::{CallKey, Cause, Event, Rejection, ServerKey};
use crate::time::Now;

impl Bridge {
    /// Deals with everything the endpoint has to tell.
    pub(super) fn handle_sip_events(&mut self, now: Now, ports: &mut dyn PortSource) {
        while let Some(event) = self.sip.poll_event() {
            self.handle_sip_event(now, event, ports);
        }
    }

    fn handle_sip_event(&mut self, now: Now, event: Event, ports: &mut dyn PortSource) {
        match event {
            Event::Invite { call, request, flow } => self.handle_invite(now, call, &request, flow, ports),
            Event::Acked { call, body } => self.handle_ack(now, call, &body, ports),
            Event::Reinvite { call, body } => self.handle_reinvite(now, call, &body),
            Event::Cancelled { call } => {
                self.handle_call_gone(now, call, Cause::of_status(487, "Cancelled"), ports)
            }
            Event::Ended { call, cause } => self.handle_call_gone(now, call, cause, ports),
            Event::Rejected { call, status, reason } => {
                self.handle_call_gone(now, call, Cause::of_status(status, &reason), ports);
            }
            Event::Options { key, .. } => self.handle_options(now, key),
            Event::Info { call, key, content_type, body } => {
                self.handle_info(now, (call, key), &content_type, &body, ports);
            }
            // Answers to INVITEs of ours, of which there are none.
            Event::Progress { .. } | Event::Answered { .. } | Event::ReinviteRejected { .. } => {}
        }
    }

    fn handle_call_gone(&mut self, now: Now, key: CallKey, cause: Cause, ports: &mut dyn PortSource) {
        if let Some(id) = self.calls.by_key(key) {
            self.calls.drop_key(key);
            self.leave(now, id, cause, ports);
        }
    }

    /// An ACK may bring the answer to an offer of ours.
    fn handle_ack(&mut self, now: Now, key: CallKey, body: &Bytes, ports: &mut dyn PortSource) {
        let Some(id) = self.calls.by_key(key) else { return };
        self.take_acked(now, id, body, ports);
        self.begin_pre_flow(now, id, ports);
    }

    fn take_acked(&mut self, now: Now, id: ConferencecallId, body: &Bytes, ports: &mut dyn PortSource) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let alone = call.pre_flow.is_some();
        let Some(negotiation) = call.negotiation.as_mut().filter(|ours| ours.awaits_answer()) else { return };
        match (negotiation.take_answer(body), call.leg) {
            (Ok(media), LegState::Waiting(port)) => {
                self.add_leg(id, port, media);
                if !alone {
                    self.join(now, id);
                }
            }
            (Ok(media), _) => self.update_leg(now, id, media),
            (Err(bad), LegState::Waiting(_)) => {
                let cause = Cause::of_status(488, &format!("The ACK brought no usable answer: {bad}"));
                self.eject(now, id, cause, ports);
            }
            // The session goes on as it was (RFC 3264 §8): nothing new was agreed on.
            (Err(_), _) => {}
        }
    }

    fn handle_reinvite(&mut self, now: Now, key: CallKey, body: &Bytes) {
        let known = self.calls.by_key(key);
        let call = known.and_then(|id| self.calls.get_mut(id));
        let (Some(id), Some(negotiation)) = (known, call.and_then(|call| call.negotiation.as_mut())) else {
            return self.sip.reject_reinvite(now.instant, key, Rejection::new(481));
        };
        if body.is_empty() {
            let offer = negotiation.offer();
            return self.sip.accept_reinvite(now.instant, key, offer);
        }
        match negotiation.answer_bytes(body) {
            Ok((answer, media)) => {
                self.update_leg(now, id, media);
                self.sip.accept_reinvite(now.instant, key, answer);
            }
            Err(bad) => self.refuse_reinvite(now, key, id, &bad),
        }
    }

    /// The old session goes on (RFC 3261 §14.2).
    fn refuse_reinvite(&mut self, now: Now, key: CallKey, id: ConferencecallId, bad: &BadSdp) {
        self.note_of(id, super::Level::Info, format!("re-INVITE refused, the call goes on as it was: {bad}"));
        self.sip.reject_reinvite(now.instant, key, bad_sdp(bad));
    }

    fn update_leg(&mut self, now: Now, id: ConferencecallId, media: LegMedia) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let LegState::Active(leg) = call.leg else { return };
        let codec = media.codec.encoding_name();
        call.telephone_event = media.telephone_event.is_some();
        self.journal.push(Output::Shard {
            shard: leg.shard,
            command: ShardCommand::UpdateLeg { leg: leg.id, media },
        });
        if call.resource.codec != codec {
            codec.clone_into(&mut call.resource.codec);
            call.resource.tm_update = now.wall;
            self.journal.keep_call(&call.resource);
        }
    }

    /// RFC 3261 §11.2: what an INVITE would have been told, as far as it depends on us alone.
    fn handle_options(&mut self, now: Now, key: ServerKey) {
        let retry_after = self.settings.retry_after_s.to_string();
        let (status, headers): (u16, &[(&str, &str)]) =
            if self.draining { (503, &[("Retry-After", &retry_after)]) } else { (200, &[]) };
        self.sip.answer(now.instant, key, status, "", headers, Bytes::new());
    }

    fn handle_info(
        &mut self,
        now: Now,
        (call, key): (CallKey, ServerKey),
        content_type: &str,
        body: &[u8],
        ports: &mut dyn PortSource,
    ) {
        let Some(id) = self.calls.by_key(call) else {
            return self.sip.answer(now.instant, key, 481, "", &[], Bytes::new());
        };
        match info::read(content_type, body) {
            info::Info::Digit { digit, duration_ms } => {
                self.sip.answer(now.instant, key, 200, "", &[], Bytes::new());
                self.handle_digit(now, id, (digit, duration_ms), ports);
            }
            info::Info::Empty => self.sip.answer(now.instant, key, 200, "", &[], Bytes::new()),
            info::Info::Malformed => {
                self.sip.answer(now.instant, key, 400, "Bad DTMF Body", &[], Bytes::new())
            }
            info::Info::Unknown => {
                self.sip.answer(now.instant, key, 415, "", &[("Accept", info::ACCEPT)], Bytes::new());
            }
        }
    }

    fn handle_digit(
        &mut self,
        now: Now,
        id: ConferencecallId,
        (digit, duration_ms): (char, u32),
        ports: &mut dyn PortSource,
    ) {
        let Some(call) = self.calls.get(&id).filter(|call| call.is_in()) else { return };
        self.tally.digits_total += 1;
        let conference = call.resource.conference_id;
        let data = serde_json::json!({
            "conferencecall": as_json(&call.resource),
            "digit": digit.to_string(),
            "duration": duration_ms,
        });
        self.tell(now, conference, "dtmf_received", data);
        self.flow_digit(now, id, digit, ports);
    }

    /// Deals with news of a shard.
    pub(super) fn handle_report(&mut self, now: Now, report: ShardReport, ports: &mut dyn PortSource) {
        let leg = match &report {
            ShardReport::Digit { leg, .. }
            | ShardReport::MediaTimeout { leg }
            | ShardReport::Stats { leg, .. }
            | ShardReport::LegFailed { leg }
            | ShardReport::PlayDone { leg, .. }
            | ShardReport::LegClosed { leg, .. } => *leg,
        };
        let Some(id) = self.calls.by_leg(leg) else { return };
        match report {
            ShardReport::Digit { digit, duration_ms, .. } => {
                self.handle_digit(now, id, (digit, duration_ms), ports);
            }
            ShardReport::PlayDone { play, whole, .. } => self.flow_played(now, (id, play), whole, ports),
            ShardReport::MediaTimeout { .. } => self.eject(now, id, Cause::media_timeout(), ports),
            ShardReport::Stats { stats, .. } => {
                if let Some(call) = self.calls.get_mut(id) {
                    call.stats = stats;
                }
            }
            ShardReport::LegFailed { .. } => self.leg_gone(now, id, None, ports),
            ShardReport::LegClosed { stats, .. } => self.leg_gone(now, id, Some(stats), ports),
        }
    }
}
