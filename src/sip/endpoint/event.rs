//! What the endpoint tells its owner, and the handles it tells it with.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::sip::slots::Key;
use crate::sip::{Cause, Flow, Request};

/// The handle of a call: one INVITE and the dialog it forms, on either side. It is never reused,
/// and a method given the key of a call that is gone does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey(pub(in crate::sip) Key);

impl CallKey {
    /// A number unique to this call within its endpoint, for logs and maps.
    pub const fn as_u64(self) -> u64 {
        self.0.as_u64()
    }
}

/// The handle of a request other than INVITE that awaits [`crate::sip::Endpoint::answer`].
/// An answer given later than 64·T1 after the request is not sent: the peer has given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey(pub(in crate::sip) Key);

/// A final refusal of an INVITE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// 300 to 699; anything else is sent as 500.
    pub status: u16,
    /// The reason phrase; empty for the usual one of the status.
    pub reason: Cow<'static, str>,
    /// More headers, such as Warning, Retry-After or Allow.
    pub headers: Vec<(&'static str, String)>,
}

impl Rejection {
    /// A refusal by `status` with its usual reason phrase.
    pub fn new(status: u16) -> Self {
        Self { status, reason: Cow::Borrowed(""), headers: Vec::new() }
    }

    /// The same with another reason phrase.
    pub fn reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = reason.into();
        self
    }

    /// The same with one more header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new INVITE, checked; 100 is sent already. Awaits `ring`, `accept`, `reject`.
    Invite {
        /// The new call.
        call: CallKey,
        /// The INVITE.
        request: Arc<Request>,
        /// By which it came.
        flow: Flow,
    },
    /// The first ACK of our 2xx (to the INVITE or to a re-INVITE).
    Acked {
        /// The call.
        call: CallKey,
        /// The SDP answer when our 2xx carried the offer, else empty.
        body: Bytes,
    },
    /// A re-INVITE. Awaits `accept_reinvite` or `reject_reinvite`.
    Reinvite {
        /// The call.
        call: CallKey,
        /// The offer; empty when our 2xx is to carry one, and then `Acked` brings the answer.
        body: Bytes,
    },
    /// The caller cancelled before we answered: 200 and 487 are sent, the call is gone.
    Cancelled {
        /// The call, gone.
        call: CallKey,
    },
    /// The call is gone and the owner did not do it: BYE came (200 is sent), our 2xx was never
    /// acknowledged (BYE is sent), the peer forgot the dialog, or there is no way to the peer.
    Ended {
        /// The call, gone.
        call: CallKey,
        /// Why.
        cause: Cause,
    },
    /// An OPTIONS, in or out of a dialog. Awaits `answer`.
    Options {
        /// To answer by.
        key: ServerKey,
        /// The OPTIONS.
        request: Arc<Request>,
    },
    /// An INFO within a call (RFC 6086, or a DTMF relay of old). Awaits `answer`.
    Info {
        /// The call.
        call: CallKey,
        /// To answer by.
        key: ServerKey,
        /// Media type as sent; empty when there is none.
        content_type: String,
        /// Its body.
        body: Bytes,
    },
    /// A provisional answer above 100 to our INVITE.
    Progress {
        /// The call.
        call: CallKey,
        /// 101 to 199.
        status: u16,
        /// Early SDP, may be empty.
        body: Bytes,
    },
    /// A 2xx to our INVITE or re-INVITE; the ACK is sent already.
    Answered {
        /// The call.
        call: CallKey,
        /// The SDP answer.
        body: Bytes,
    },
    /// Our INVITE was refused or never answered (408): the call is gone.
    Rejected {
        /// The call, gone.
        call: CallKey,
        /// 300 to 699.
        status: u16,
        /// The peer's reason phrase.
        reason: String,
    },
    /// Our re-INVITE was refused; the call goes on as it was (RFC 3261 §14.1).
    ReinviteRejected {
        /// The call, alive.
        call: CallKey,
        /// 300 to 699.
        status: u16,
    },
}
