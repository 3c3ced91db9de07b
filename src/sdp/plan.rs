//! What goes into a negotiation and what comes out of it.

use std::net::{IpAddr, SocketAddr};

use crate::audio::AudioCodec;

/// The least audio in one packet, in milliseconds.
pub const MIN_PTIME_MS: u16 = 10;
/// The most audio in one packet, in milliseconds.
pub const MAX_PTIME_MS: u16 = 60;
/// Audio per packet when the peer states no wish, in milliseconds (RFC 3551 §4.2).
pub(super) const DEFAULT_PTIME_MS: u16 = 20;

/// Whose order of codecs decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CodecOrder {
    /// The offer's: its first codec that we speak (RFC 3264 §6.1 recommends it).
    #[default]
    Offer,
    /// Ours: the first of [`Policy::codecs`] that the offer has.
    Ours,
}

/// What we bring to a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy<'a> {
    /// The address we receive media on, as the peer must see it.
    pub address: IpAddr,
    /// The UDP port we receive RTP on.
    pub rtp_port: u16,
    /// The UDP port we receive RTCP on when it is not multiplexed; `None` has no such port.
    pub rtcp_port: Option<u16>,
    /// Whether we offer, and answer, RTP and RTCP on one port (RFC 5761).
    pub rtcp_mux: bool,
    /// The codecs we speak, most wanted first.
    pub codecs: &'a [AudioCodec],
    /// Whose order of codecs decides.
    pub codec_order: CodecOrder,
    /// Whether we take and offer RFC 4733 key presses.
    pub telephone_event: bool,
    /// Milliseconds of audio per packet when the peer states no wish.
    pub ptime_ms: u16,
    /// `o=`'s session id. [`Session::next`](super::Session::next) writes its own over it.
    pub session_id: u64,
    /// `o=`'s session version. [`Session::next`](super::Session::next) writes its own over it.
    pub session_version: u64,
}

impl<'a> Policy<'a> {
    /// The usual policy: RTCP beside RTP or multiplexed as the peer likes, every codec in the
    /// offer's order, key presses, 20 ms.
    pub fn new(address: IpAddr, rtp_port: u16) -> Policy<'a> {
        Policy {
            address,
            rtp_port,
            rtcp_port: rtp_port.checked_add(1),
            rtcp_mux: true,
            codecs: &AudioCodec::ALL,
            codec_order: CodecOrder::Offer,
            telephone_event: true,
            ptime_ms: DEFAULT_PTIME_MS,
            session_id: 0,
            session_version: 0,
        }
    }

    /// The RTCP port, where a peer would not guess it: RFC 3605 has a line for that.
    pub(super) fn unusual_rtcp_port(&self) -> Option<u16> {
        self.rtcp_port.filter(|port| Some(*port) != self.rtp_port.checked_add(1))
    }
}

/// How the one audio stream of a call flows: what offer and answer settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPlan {
    /// Where the peer wants RTP; `None` when its description names no address one can send to
    /// (`0.0.0.0`, `::` or a host name).
    pub remote_rtp: Option<SocketAddr>,
    /// Where the peer wants RTCP; the RTP address when multiplexed.
    pub remote_rtcp: Option<SocketAddr>,
    /// RTP and RTCP share one port (RFC 5761).
    pub rtcp_mux: bool,
    /// The codec, in both directions.
    pub codec: AudioCodec,
    /// The RTP payload type the peer sends the codec with.
    pub payload_type_in: u8,
    /// The RTP payload type we send the codec with.
    pub payload_type_out: u8,
    /// The payload type the peer sends RFC 4733 events with, if both sides have them.
    pub telephone_event: Option<u8>,
    /// The payload type we send RFC 4733 events with; differs from `telephone_event` only when an
    /// answer to our offer renumbered it.
    pub telephone_event_out: Option<u8>,
    /// Milliseconds of audio per packet we send: a multiple of 10, 10 to 60.
    pub ptime_ms: u16,
    /// Whether we send RTP.
    pub send: bool,
    /// Whether the peer may send RTP.
    pub receive: bool,
    /// The peer put us on hold: `sendonly`, `inactive` or `c=0.0.0.0`. What it sends meanwhile, if
    /// anything, is music for the one held, not its own voice.
    pub on_hold: bool,
}

/// Why a description has no common ground with ours, as a warning code of RFC 3261 §20.43.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Warning {
    /// 301: our address families do not meet.
    IncompatibleAddressFormat = 301,
    /// 302: the transport is not plain RTP.
    IncompatibleTransport = 302,
    /// 304: no audio stream.
    MediaTypeNotAvailable = 304,
    /// 305: no codec in common.
    IncompatibleMediaFormat = 305,
    /// 307: the description lacks what it needs, or contradicts itself.
    ParameterNotUnderstood = 307,
    /// 330: multicast.
    MulticastNotAvailable = 330,
}

/// The description cannot be accepted: 488 with a Warning header (RFC 3261 §20.43).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{warning_code} {text}")]
pub struct Refusal {
    /// The three-digit warning code, 301 to 330.
    pub warning_code: u16,
    /// What is wrong, for a person; no quotes or backslashes.
    pub text: &'static str,
}

impl Refusal {
    /// A refusal for `warning`.
    pub(super) const fn new(warning: Warning, text: &'static str) -> Refusal {
        Refusal { warning_code: warning as u16, text }
    }

    /// The value of the Warning header, spoken by `agent` (a host name or pseudonym).
    pub fn warning_value(&self, agent: &str) -> String {
        format!("{} {agent} \"{}\"", self.warning_code, self.text)
    }
}
