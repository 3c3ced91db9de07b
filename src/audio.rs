//! The names of the audio codecs, shared by every layer that must agree on one.

/// An audio codec as negotiated in SDP and spoken in RTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AudioCodec {
    /// G.711 µ-law, RFC 3551 static payload type 0.
    Pcmu,
    /// G.711 A-law, RFC 3551 static payload type 8.
    Pcma,
}

impl AudioCodec {
    /// Every codec, in the order we prefer them when we make the offer.
    pub const ALL: [AudioCodec; 2] = [AudioCodec::Pcmu, AudioCodec::Pcma];

    /// The encoding name of the `rtpmap` attribute (RFC 3551 §6), compared without regard to case.
    pub const fn encoding_name(self) -> &'static str {
        match self {
            AudioCodec::Pcmu => "PCMU",
            AudioCodec::Pcma => "PCMA",
        }
    }

    /// The static payload type, for codecs that have one.
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            AudioCodec::Pcmu => Some(0),
            AudioCodec::Pcma => Some(8),
        }
    }

    /// RTP timestamp units per second.
    pub const fn clock_rate_hz(self) -> u32 {
        8000
    }
}
