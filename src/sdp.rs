//! Session descriptions (RFC 8866) and the offer/answer exchange (RFC 3264): bytes in, a
//! [`MediaPlan`] out. Text from the wire is read leniently into a [`SessionDescription`]; what we
//! write ourselves is strict.
//!
//! The usual path of a call that brings an offer: [`parse()`] it, [`preview`] it (refuse before any
//! port is bound), bind ports, [`answer()`] it, pass the answer through [`Session::next`] and send it.
//! A call without an offer gets one by [`offer()`], and its answer is read by [`accept_answer`].

mod answer;
mod description;
mod formats;
mod offer;
mod parse;
mod plan;
mod session;

#[cfg(test)]
mod tests;

pub use answer::{Preview, answer, preview};
pub use description::{Address, Attribute, Connection, Direction, Media, Origin, SessionDescription, Timing};
pub use offer::{accept_answer, offer};
pub use parse::{MAX_ATTRIBUTES, MAX_BYTES, MAX_FORMATS, MAX_MEDIA, MAX_TIMINGS, SdpError, parse};
pub use plan::{CodecOrder, MAX_PTIME_MS, MIN_PTIME_MS, MediaPlan, Policy, Refusal, Warning};
pub use session::Session;
