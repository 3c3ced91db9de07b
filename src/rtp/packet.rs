//! The RTP data packet (RFC 3550 §5.1): a checked view of received bytes, and the header we send.

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 12;
/// The only RTP version there is.
const VERSION: u8 = 2;
/// RTCP packet types seen as the second byte of a datagram (RFC 5761 §4).
const RTCP_TYPES: std::ops::RangeInclusive<u8> = 192..=223;

/// The fields of the fixed header that a bridge uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtpHeader {
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Marker: for audio, the first packet after silence (RFC 3551 §4.1).
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Media timestamp, in units of the codec's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

/// A valid RTP packet: header fields and the payload between header and padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// The fixed header.
    pub header: RtpHeader,
    /// The payload, without CSRCs, extension and padding. May be empty.
    pub payload: &'a [u8],
}

/// Why bytes are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Shorter than the header it announces.
    #[error("the packet ends within its header")]
    Short,
    /// Not version 2.
    #[error("the version is not 2")]
    Version,
    /// The padding count is zero or larger than what follows the header.
    #[error("the padding does not fit the packet")]
    Padding,
}

impl<'a> RtpPacket<'a> {
    /// Checks `bytes` and views them as a packet. The errors tell what does not hold.
    pub fn parse(bytes: &'a [u8]) -> Result<RtpPacket<'a>, RtpError> {
        let (fixed, mut rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(RtpError::Short)?;
        let [first, second, seq_high, seq_low, ts @ .., s0, s1, s2, s3] = *fixed;
        if first >> 6 != VERSION {
            return Err(RtpError::Version);
        }
        let csrc_bytes = usize::from(first & 0x0f) * 4;
        rest = rest.get(csrc_bytes..).ok_or(RtpError::Short)?;
        if first & 0x10 != 0 {
            rest = skip_extension(rest)?;
        }
        if first & 0x20 != 0 {
            rest = strip_padding(rest)?;
        }
        let header = RtpHeader {
            payload_type: second & 0x7f,
            marker: second & 0x80 != 0,
            sequence: u16::from_be_bytes([seq_high, seq_low]),
            timestamp: u32::from_be_bytes(ts),
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
        };
        Ok(RtpPacket { header, payload: rest })
    }
}

/// What follows the header extension (RFC 3550 §5.3.1): its length counts 32-bit words.
fn skip_extension(bytes: &[u8]) -> Result<&[u8], RtpError> {
    let ([_, _, high, low], rest) = bytes.split_first_chunk::<4>().ok_or(RtpError::Short)?;
    let words = usize::from(u16::from_be_bytes([*high, *low]));
    rest.get(words * 4..).ok_or(RtpError::Short)
}

/// The payload without its padding, whose last byte counts it, itself included (RFC 3550 §5.1).
fn strip_padding(bytes: &[u8]) -> Result<&[u8], RtpError> {
    let count = usize::from(*bytes.last().ok_or(RtpError::Padding)?);
    if count == 0 {
        return Err(RtpError::Padding);
    }
    let kept = bytes.len().checked_sub(count).ok_or(RtpError::Padding)?;
    bytes.get(..kept).ok_or(RtpError::Padding)
}

/// Writes a header without CSRCs, extension or padding. The payload type's top bit is ignored.
pub fn write_header(header: &RtpHeader, out: &mut [u8; HEADER_LEN]) {
    let [s0, s1] = header.sequence.to_be_bytes();
    let [t0, t1, t2, t3] = header.timestamp.to_be_bytes();
    let [c0, c1, c2, c3] = header.ssrc.to_be_bytes();
    let second = u8::from(header.marker) << 7 | header.payload_type & 0x7f;
    *out = [VERSION << 6, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
}

/// Whether a datagram on a shared port is RTCP and not RTP (RFC 5761 §4).
pub fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes, [first, second, ..] if first >> 6 == VERSION && RTCP_TYPES.contains(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn header() -> RtpHeader {
        RtpHeader {
            payload_type: 101,
            marker: true,
            sequence: 0xfffe,
            timestamp: 0x8000_0001,
            ssrc: 0xdead_beef,
        }
    }

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut fixed = [0; HEADER_LEN];
        write_header(&header(), &mut fixed);
        fixed[0] = first;
        [fixed.as_slice(), rest].concat()
    }

    #[test]
    fn reads_what_it_writes() {
        let bytes = packet(0x80, &[1, 2, 3]);
        let read = RtpPacket::parse(&bytes).expect("a valid packet");
        assert_eq!(read.header, header());
        assert_eq!(read.payload, [1, 2, 3]);
    }

    #[test]
    fn a_bare_header_is_a_packet_without_payload() {
        let bytes = packet(0x80, &[]);
        assert_eq!(RtpPacket::parse(&bytes).map(|p| p.payload.len()), Ok(0));
    }

    #[test]
    fn skips_contributing_sources_extension_and_padding() {
        let csrcs = [7; 8];
        let extension = [0xbe, 0xde, 0, 1, 9, 9, 9, 9];
        let bytes = packet(0xb2, &[&csrcs[..], &extension, &[1, 2, 3, 0, 0, 3]].concat());
        assert_eq!(RtpPacket::parse(&bytes).expect("valid").payload, [1, 2, 3]);
    }

    #[test]
    fn refuses_a_header_that_is_not_all_there() {
        for length in 0..HEADER_LEN {
            assert_eq!(RtpPacket::parse(&packet(0x80, &[])[..length]), Err(RtpError::Short));
        }
        assert_eq!(RtpPacket::parse(&packet(0x81, &[1, 2, 3])), Err(RtpError::Short));
        assert_eq!(RtpPacket::parse(&packet(0x90, &[0, 0, 0])), Err(RtpError::Short));
        assert_eq!(RtpPacket::parse(&packet(0x90, &[0, 0, 0xff, 0xff, 1])), Err(RtpError::Short));
    }

    #[test]
    fn refuses_other_versions_and_impossible_padding() {
        for first in [0x00, 0x40, 0xc0] {
            assert_eq!(RtpPacket::parse(&packet(first, &[1])), Err(RtpError::Version));
        }
        assert_eq!(RtpPacket::parse(&packet(0xa0, &[])), Err(RtpError::Padding));
        assert_eq!(RtpPacket::parse(&packet(0xa0, &[1, 0])), Err(RtpError::Padding));
        assert_eq!(RtpPacket::parse(&packet(0xa0, &[1, 3])), Err(RtpError::Padding));
        assert_eq!(RtpPacket::parse(&packet(0xa0, &[1, 2])).map(|p| p.payload.len()), Ok(0));
    }

    #[test]
    fn tells_rtcp_from_rtp_on_one_port() {
        assert!(is_rtcp(&[0x81, 200]));
        assert!(is_rtcp(&[0x80, 192]));
        assert!(is_rtcp(&[0x80, 223]));
        assert!(!is_rtcp(&[0x80, 0x80]), "marker and payload type 0");
        assert!(!is_rtcp(&[0x80, 0x80 | 101]));
        assert!(!is_rtcp(&[0x00, 200]), "STUN is no RTCP");
        assert!(!is_rtcp(&[0x80]));
        assert!(!is_rtcp(&[]));
    }

    #[test]
    fn noise_never_panics_and_payload_stays_inside() {
        let mut rng = Rng::from_number(4);
        let mut valid = 0;
        for _ in 0..50_000 {
            let mut bytes = vec![0; rng.below(48) as usize];
            rng.fill(&mut bytes);
            if let Some(first) = bytes.first_mut() {
                *first = *first & 0x3f | 0x80;
            }
            is_rtcp(&bytes);
            if let Ok(read) = RtpPacket::parse(&bytes) {
                valid += 1;
                assert!(read.payload.len() + HEADER_LEN <= bytes.len());
            }
        }
        assert!(valid > 1000, "noise reaches past the first checks: {valid}");
    }
}
