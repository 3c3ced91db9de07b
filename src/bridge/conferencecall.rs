//! One conferencecall: its status, which only moves forward, its SIP call and its media.

use super::media::{LegState, Negotiation};
use super::resource::{Address, Conferencecall, ConferencecallStatus};
use crate::id::{ConferenceId, ConferencecallId, CustomerId, FlowId, LegId};
use crate::plane::{LegStats, ShardIndex};
use crate::sip::{CallKey, Cause};
use crate::time::{Instant, Timestamp};

/// A leg in the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    pub(super) id: LegId,
    pub(super) shard: ShardIndex,
}

/// A conferencecall the bridge holds: open, or gone a moment ago.
#[derive(Debug)]
pub(super) struct LiveCall {
    /// As the API shows it.
    pub(super) resource: Conferencecall,
    /// Its call in the SIP endpoint; dead from `leaving` on.
    pub(super) key: CallKey,
    /// The Call-ID header, for logs.
    pub(super) call_id: String,
    /// Offer and answer; gone from `leaving` on.
    pub(super) negotiation: Option<Box<Negotiation>>,
    /// Its media.
    pub(super) leg: LegState,
    /// The peer sends and takes RFC 4733 events.
    pub(super) telephone_event: bool,
    /// The flow before the mix, until it begins.
    pub(super) pre_flow: Option<FlowId>,
    /// What is known of its media quality.
    pub(super) stats: LegStats,
    /// When it came, for the length of the call.
    pub(super) began: Instant,
    /// Why it ended.
    pub(super) cause: Option<Cause>,
    /// The conferences that its call was in before this one.
    pub(super) was_in: Vec<ConferenceId>,
}

/// Who calls whom, for a new conferencecall.
#[derive(Debug)]
pub(super) struct Parties {
    pub(super) source: Address,
    pub(super) destination: Address,
}

impl LiveCall {
    /// A resource in `joining`.
    pub(super) fn resource(
        (id, reference): (ConferencecallId, uuid::Uuid),
        (customer, conference): (CustomerId, ConferenceId),
        parties: Parties,
        now: Timestamp,
    ) -> Conferencecall {
        Conferencecall {
            id,
            customer_id: customer,
            activeflow_id: uuid::Uuid::nil(),
            conference_id: conference,
            reference_type: "call".to_owned(),
            reference_id: reference,
            status: ConferencecallStatus::Joining,
            direction: "incoming".to_owned(),
            source: parties.source,
            destination: parties.destination,
            codec: String::new(),
            hangup_cause: String::new(),
            tm_joined: None,
            tm_leaved: None,
            tm_create: now,
            tm_update: Timestamp::NEVER,
            tm_delete: Timestamp::NEVER,
        }
    }

    /// Hands the call over to a new conferencecall, of another conference, in `joining`. This one is left
    /// without SIP call and media.
    pub(super) fn hand_over(&mut self, id: ConferencecallId, to: ConferenceId, now: Timestamp) -> LiveCall {
        let of = &self.resource;
        let parties = Parties { source: of.source.clone(), destination: of.destination.clone() };
        let mut resource = Self::resource((id, of.reference_id), (of.customer_id, to), parties, now);
        resource.codec.clone_from(&of.codec);
        resource.activeflow_id = of.activeflow_id;
        let mut was_in = std::mem::take(&mut self.was_in);
        was_in.push(of.conference_id);
        LiveCall {
            resource,
            key: self.key,
            call_id: self.call_id.clone(),
            negotiation: self.negotiation.take(),
            leg: std::mem::replace(&mut self.leg, LegState::None),
            telephone_event: self.telephone_event,
            pre_flow: None,
            stats: std::mem::take(&mut self.stats),
            began: self.began,
            cause: None,
            was_in,
        }
    }

    /// Whether it is neither gone nor on the way out.
    pub(super) fn is_in(&self) -> bool {
        self.resource.status < ConferencecallStatus::Leaving
    }

    /// `joining` → `joined`.
    pub(super) fn join(&mut self, now: Timestamp) {
        self.resource.tm_joined = Some(now);
        self.advance(ConferencecallStatus::Joined, now);
    }

    /// → `leaving`.
    pub(super) fn leave(&mut self, cause: Cause, now: Timestamp) {
        begin_leaving(&mut self.resource, &cause, now);
        self.cause = Some(cause);
        self.negotiation = None;
    }

    /// `leaving` → `leaved`.
    pub(super) fn close(&mut self, now: Timestamp) {
        close(&mut self.resource, now);
        self.leg = LegState::None;
    }

    fn advance(&mut self, to: ConferencecallStatus, now: Timestamp) {
        advance(&mut self.resource, to, now);
    }
}

/// Statuses only move forward.
fn advance(call: &mut Conferencecall, to: ConferencecallStatus, now: Timestamp) {
    debug_assert!(call.status < to, "a status never goes back");
    call.status = call.status.max(to);
    call.tm_update = now;
}

/// → `leaving`, of the bare resource.
pub(super) fn begin_leaving(call: &mut Conferencecall, cause: &Cause, now: Timestamp) {
    call.hangup_cause = match cause.text.as_str() {
        "" => format!("Q.850 cause {}", cause.q850),
        text => text.to_owned(),
    };
    advance(call, ConferencecallStatus::Leaving, now);
}

/// `leaving` → `leaved`, of the bare resource.
pub(super) fn close(call: &mut Conferencecall, now: Timestamp) {
    advance(call, ConferencecallStatus::Leaved, now);
    call.tm_leaved = Some(now);
}
