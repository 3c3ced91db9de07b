//! How a caller joins: INVITE → admitted → `joining` → its leg in the room → 200 → `joined`.
//!
//! A flow before the mix (`pre_flow_id`) runs in `joining`, from the ACK on: its leg is in the room
//! but neither hears nor is heard; the end of the flow joins it.

use std::net::SocketAddr;

use super::admission::Refused;
use super::conferencecall::{Leg, LiveCall, Parties};
use super::direct_hash;
use super::media::{LegState, Negotiation, media_address, preview, rtp_identity};
use super::resource::Address;
use super::settings::ADDRESS_TEXT_MAX;
use super::{Bridge, Level, Output};
use crate::id::{ConferenceId, ConferencecallId};
use crate::plane::{Hears, LegMedia, LegStats, MediaPort, PortSource, ShardCommand};
use crate::sip::{CallKey, Cause, Flow, Request, Uri};
use crate::time::Now;

impl Bridge {
    /// Takes a caller in, or says why not.
    pub(super) fn handle_invite(
        &mut self,
        now: Now,
        key: CallKey,
        request: &Request,
        flow: Flow,
        ports: &mut dyn PortSource,
    ) {
        let admitted = self.admit(request.uri(), &flow);
        let taken = admitted.and_then(|conference| self.take_in(now, key, request, flow, conference, ports));
        if let Err(refused) = taken {
            self.refuse(now, key, request, flow, &refused);
        }
    }

    fn take_in(
        &mut self,
        now: Now,
        key: CallKey,
        request: &Request,
        flow: Flow,
        conference: ConferenceId,
        ports: &mut dyn PortSource,
    ) -> Result<(), Refused> {
        let body = request.body();
        let offer = if body.is_empty() { None } else { Some(preview(&body).map_err(Refused::Sdp)?) };
        let advertise = self.settings.advertise;
        let peer = offer.as_ref().and_then(|(_, preview)| preview.address);
        let address = media_address(advertise, flow.local.ip(), peer);
        let rtcp_mux = offer.as_ref().is_some_and(|(_, preview)| preview.rtcp_mux);
        let port = ports.bind(address, rtcp_mux).map_err(|_| Refused::Ports)?;
        let mut negotiation = Negotiation::new(address, port, &mut self.rng);
        let (body, media) = match offer {
            Some((offer, _)) => match negotiation.answer(&offer) {
                Ok((answer, media)) => (answer, Some(media)),
                Err(refusal) => {
                    ports.release(port);
                    return Err(Refused::Sdp(refusal.into()));
                }
            },
            // RFC 3261 §13.3.1: no offer in the INVITE, so the 200 makes one; the ACK answers it.
            None => (negotiation.offer(), None),
        };
        let id = self.open_call(now, key, request, conference, negotiation, port);
        let contact = SocketAddr::new(media_address(advertise, flow.local.ip(), None), flow.local.port());
        if let Some(media) = media {
            self.add_leg(id, port, media);
            self.sip.accept(now.instant, key, contact, body);
            if self.calls.get(&id).is_some_and(|call| call.pre_flow.is_none()) {
                self.join(now, id);
            }
        } else {
            self.sip.accept(now.instant, key, contact, body);
        }
        Ok(())
    }

    fn refuse(&mut self, now: Now, key: CallKey, request: &Request, flow: Flow, refused: &Refused) {
        let rejection = refused.rejection(self.settings.retry_after_s);
        let level = if rejection.status == 503 { Level::Warn } else { Level::Info };
        let from = request.from_uri().map_or_else(|_| String::new(), |uri| shown(&uri));
        let text = format!(
            "call refused with {} ({}{}): {from} to {}, from {}",
            rejection.status,
            refused.name(),
            refused.advice(),
            shown(request.uri()),
            flow.remote,
        );
        self.tally.count_refused(refused);
        self.journal.note_refusal(now.instant, level, &clip(request.call_id()), text);
        self.sip.reject(now.instant, key, rejection);
    }

    /// A conferencecall in `joining`, its port bound.
    fn open_call(
        &mut self,
        now: Now,
        key: CallKey,
        request: &Request,
        conference: ConferenceId,
        negotiation: Negotiation,
        port: MediaPort,
    ) -> ConferencecallId {
        let of = self.conferences.get_mut(&conference).expect("the caller was admitted to it");
        let id = ConferencecallId::random(&mut self.rng);
        let ids = (id, self.rng.uuid());
        let resource =
            LiveCall::resource(ids, (of.resource.customer_id, conference), parties(request), now.wall);
        of.enter(id);
        let pre_flow = Some(of.resource.pre_flow_id).filter(|flow| !flow.is_nil());
        self.tally.conferencecalls_total += 1;
        self.calls.insert(LiveCall {
            resource,
            key,
            call_id: clip(request.call_id()),
            negotiation: Some(Box::new(negotiation)),
            leg: LegState::Waiting(port),
            telephone_event: false,
            pre_flow,
            stats: LegStats::default(),
            began: now.instant,
            cause: None,
            was_in: Vec::new(),
        });
        self.tell_call(now, id, "conferencecall_joining");
        id
    }

    /// Puts the caller's leg into the room, which opens with its first.
    pub(super) fn add_leg(&mut self, id: ConferencecallId, port: MediaPort, media: LegMedia) {
        let call = self.calls.get_mut(id).expect("only a call that is in gets a leg");
        let conference =
            self.conferences.get_mut(&call.resource.conference_id).expect("a call has a conference");
        let alone = call.pre_flow.is_some();
        let hears = if alone { Hears::Nothing } else { conference.newcomer_hears(self.settings.ring) };
        let room = conference.open_room(&mut self.shards, &mut self.journal, self.settings.max_speakers);
        let leg = Leg { id: self.shards.add_leg(room), shard: room.shard };
        let room = room.room;
        media.codec.encoding_name().clone_into(&mut call.resource.codec);
        call.leg = LegState::Active(leg);
        call.telephone_event = media.telephone_event.is_some();
        let conference = call.resource.conference_id;
        self.calls.name_leg(leg.id, id);
        self.name_leg_to_recordings(conference, leg.id, id);
        self.name_leg_to_transcribe(conference, leg.id, id);
        let identity = rtp_identity(&mut self.rng);
        let command = ShardCommand::AddLeg { leg: leg.id, room, port, media, hears, identity };
        self.journal.push(Output::Shard { shard: leg.shard, command });
    }

    /// The peer has acknowledged the answer: the flow before the mix begins, if there is one.
    pub(super) fn begin_pre_flow(&mut self, now: Now, id: ConferencecallId, ports: &mut dyn PortSource) {
        let flow = self.calls.get_mut(id).filter(|call| call.is_in()).and_then(|call| call.pre_flow.take());
        let Some(flow) = flow else { return };
        if !self.start_pre_flow(now, id, flow, ports) {
            self.join_after_flow(now, id, ports);
        }
    }

    /// The flow before the mix is over: the caller is let into the room.
    pub(super) fn join_after_flow(&mut self, now: Now, id: ConferencecallId, ports: &mut dyn PortSource) {
        let Some(call) = self.calls.get(&id).filter(|call| call.is_in()) else { return };
        let (leg, conference) = (call.leg, call.resource.conference_id);
        let live = self.conferences.get(&conference).filter(|conference| conference.is_live());
        let (Some(conference), LegState::Active(leg)) = (live, leg) else {
            return self.eject(now, id, Cause::conference_ended(), ports);
        };
        let hears = conference.newcomer_hears(self.settings.ring);
        let command = ShardCommand::SetHears { leg: leg.id, hears };
        self.journal.push(Output::Shard { shard: leg.shard, command });
        self.join(now, id);
    }

    /// `joining` → `joined`: the caller is in the mix, and in the conference's list.
    pub(super) fn join(&mut self, now: Now, id: ConferencecallId) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.join(now.wall);
        let Some(conference) = self.conferences.get_mut(&call.resource.conference_id) else { return };
        let waiting = conference.join(id, now.wall);
        let inside = conference.resource.conferencecall_ids.len();
        let text = format!("joined: {} ({}), {inside} in", call.resource.source.target, call.resource.codec);
        self.tally.joined_total += 1;
        self.tell_call(now, id, "conferencecall_joined");
        self.note_of(id, Level::Info, text);
        if let Some(first) = waiting {
            self.end_ringback(first);
        }
    }

    /// The first caller of a `connect` is no longer alone.
    fn end_ringback(&mut self, first: ConferencecallId) {
        if let Some(LegState::Active(leg)) = self.calls.get(&first).map(|call| call.leg) {
            let command = ShardCommand::SetHears { leg: leg.id, hears: Hears::Room };
            self.journal.push(Output::Shard { shard: leg.shard, command });
        }
    }

    /// A note about a conferencecall.
    pub(super) fn note_of(&mut self, id: ConferencecallId, level: Level, text: String) {
        if let Some(call) = self.calls.get(&id) {
            self.journal.note_call(level, &call.call_id, call.resource.conference_id, id, text);
        }
    }
}

/// Who calls, by the From header, and what was dialled.
fn parties(request: &Request) -> Parties {
    let address =
        |target: String, target_name: String| Address { r#type: "sip".to_owned(), target, target_name };
    let from = request.from_uri().map_or_else(|_| String::new(), |uri| shown(&uri));
    let name = request.from_display_name().unwrap_or_default();
    Parties {
        source: address(from, direct_hash::mask(&clip(&name))),
        destination: address(shown(request.uri()), String::new()),
    }
}

/// A URI as people may see it: without parameters, no hash whole, not too long.
fn shown(uri: &Uri) -> String {
    clip(&direct_hash::mask(&uri.address()))
}

/// `text` cut at [`ADDRESS_TEXT_MAX`] characters, without control characters.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(ADDRESS_TEXT_MAX).collect()
}
