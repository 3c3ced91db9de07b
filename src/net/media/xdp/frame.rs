//! Ethernet frames with IPv4 and UDP in them: read from bytes, and written around a payload.
//!
//! Only what the express path carries: no VLAN tag, no IP option, no fragment. The kernel gets the
//! rest.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

/// Bytes before the payload: Ethernet (14), IPv4 (20), UDP (8).
pub(super) const HEADERS: usize = 42;
/// Where the IPv4 header begins.
const IP: usize = 14;
/// Where the UDP header begins.
const UDP: usize = 34;
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// Version 4, five words of header.
const VERSION: u8 = 0x45;
/// DSCP EF (RFC 3246), as the sockets of media have it.
const TRAFFIC_CLASS: u8 = 0xB8;
/// Don't fragment; with it the identification says nothing (RFC 6864 §4.1).
const DONT_FRAGMENT: u8 = 0x40;
const TTL: u8 = 64;
const PROTOCOL_UDP: u8 = 17;

/// A frame's addresses and where its payload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) to: SocketAddrV4,
    pub(super) from: SocketAddrV4,
    pub(super) payload: Range<usize>,
}

/// Reads a frame; `None` for what the express path does not carry or what is cut off.
pub(super) fn read(frame: &[u8]) -> Option<Incoming> {
    let header: &[u8; HEADERS] = frame.first_chunk()?;
    let is_plain_udp = header[12..14] == ETHERTYPE_IPV4
        && header[IP] == VERSION
        && header[IP + 6] & 0x3F == 0
        && header[IP + 7] == 0
        && header[IP + 9] == PROTOCOL_UDP;
    // What follows the IP datagram is Ethernet's padding.
    let ip_bytes = usize::from(word(header, IP + 2));
    let udp_bytes = usize::from(word(header, UDP + 4));
    let is_whole = IP + ip_bytes <= frame.len() && udp_bytes >= UDP_BYTES && IP_BYTES + udp_bytes <= ip_bytes;
    (is_plain_udp && is_whole).then(|| Incoming {
        from: SocketAddrV4::new(ip(header, IP + 12), word(header, UDP)),
        to: SocketAddrV4::new(ip(header, IP + 16), word(header, UDP + 2)),
        payload: HEADERS..UDP + udp_bytes,
    })
}

/// Whether the UDP checksum of a frame that was read holds (RFC 768). One of this machine's own
/// stack may hold the sum of the pseudo-header only: a card would have completed it.
pub(super) fn is_intact(frame: &[u8], incoming: &Incoming) -> bool {
    let Some(header) = frame.first_chunk::<HEADERS>() else { return false };
    let Some(udp) = frame.get(UDP..incoming.payload.end) else { return false };
    let checksum = u16::from_ne_bytes([header[UDP + 6], header[UDP + 7]]);
    let pseudo = pseudo_header(header, udp.len());
    checksum == 0 || fold(pseudo + sum(udp)) == 0xFFFF || fold(pseudo) == checksum
}

/// The headers of what goes back to where a frame came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub(super) struct Route {
    headers: [u8; HEADERS],
    /// The sum of the IP header, without its length.
    ip_sum: u32,
}

impl Route {
    /// The way back of a frame that was read.
    pub(super) fn back(frame: &[u8; HEADERS]) -> Self {
        let mut headers = [0; HEADERS];
        headers[..6].copy_from_slice(&frame[6..12]);
        headers[6..12].copy_from_slice(&frame[..6]);
        headers[12..14].copy_from_slice(&ETHERTYPE_IPV4);
        headers[IP] = VERSION;
        headers[IP + 1] = TRAFFIC_CLASS;
        headers[IP + 6] = DONT_FRAGMENT;
        headers[IP + 8] = TTL;
        headers[IP + 9] = PROTOCOL_UDP;
        headers[IP + 12..IP + 16].copy_from_slice(&frame[IP + 16..IP + 20]);
        headers[IP + 16..IP + 20].copy_from_slice(&frame[IP + 12..IP + 16]);
        headers[UDP..UDP + 2].copy_from_slice(&frame[UDP + 2..UDP + 4]);
        headers[UDP + 2..UDP + 4].copy_from_slice(&frame[UDP..UDP + 2]);
        let ip_sum = u32::from(fold(sum(&headers[IP..UDP])));
        Self { headers, ip_sum }
    }

    /// Whether `frame` came the way that this leads back.
    pub(super) fn is_back_of(&self, frame: &[u8; HEADERS]) -> bool {
        let ours = &self.headers;
        ours[..6] == frame[6..12]
            && ours[6..12] == frame[..6]
            && ours[IP + 12..IP + 16] == frame[IP + 16..IP + 20]
            && ours[IP + 16..IP + 20] == frame[IP + 12..IP + 16]
            && ours[UDP..UDP + 2] == frame[UDP + 2..UDP + 4]
            && ours[UDP + 2..UDP + 4] == frame[UDP..UDP + 2]
    }

    /// Writes a frame with `payload`; gives its length, or `None` when `frame` is too small.
    pub(super) fn write(&self, frame: &mut [u8], payload: &[u8]) -> Option<usize> {
        let len = HEADERS + payload.len();
        let frame = frame.get_mut(..len)?;
        let (headers, body) = frame.split_first_chunk_mut::<HEADERS>()?;
        *headers = self.headers;
        body.copy_from_slice(payload);
        let udp_bytes = u16::try_from(UDP_BYTES + payload.len()).ok()?;
        let ip_bytes = (IP_BYTES as u16).checked_add(udp_bytes)?.to_be_bytes();
        headers[IP + 2..IP + 4].copy_from_slice(&ip_bytes);
        let ip_sum = u64::from(self.ip_sum) + u64::from(u16::from_ne_bytes(ip_bytes));
        headers[IP + 10..IP + 12].copy_from_slice(&(!fold(ip_sum)).to_ne_bytes());
        headers[UDP + 4..UDP + 6].copy_from_slice(&udp_bytes.to_be_bytes());
        let udp_sum = pseudo_header(headers, usize::from(udp_bytes)) + sum(&headers[UDP..]) + sum(body);
        // A checksum of zero would say that there is none.
        let checksum = match !fold(udp_sum) {
            0 => 0xFFFF,
            checksum => checksum,
        };
        headers[UDP + 6..UDP + 8].copy_from_slice(&checksum.to_ne_bytes());
        Some(len)
    }
}

fn word(header: &[u8; HEADERS], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

fn ip(header: &[u8; HEADERS], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
}

/// The sum of what UDP's checksum covers beside the datagram.
fn pseudo_header(header: &[u8; HEADERS], udp_bytes: usize) -> u64 {
    let rest = u64::from(u16::from_be(u16::from(PROTOCOL_UDP))) + u64::from((udp_bytes as u16).to_be());
    sum(&header[IP + 12..UDP]) + rest
}

/// The sum of 16-bit words of RFC 1071 before folding, in this machine's order of bytes: folded, it
/// may be written as it is (§2(B) there).
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let mut sum: u64 = 0;
    for word in &mut words {
        sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    sum + u64::from(u32::from_ne_bytes(last))
}

/// Adds the carries back in.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A DNS query as captured from a wire: its checksums are not ours.
    const QUERY: [u8; 75] = [
        0x52, 0x54, 0x00, 0x12, 0x35, 0x02, 0x08, 0x00, 0x27, 0x0b, 0x4a, 0x21, 0x08, 0x00, // Ethernet
        0x45, 0x00, 0x00, 0x3d, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x11, 0x9a, 0x99, // IPv4
        0xc0, 0xa8, 0x01, 0x02, 0xc0, 0xa8, 0x01, 0x01, //
        0xd4, 0x31, 0x00, 0x35, 0x00, 0x29, 0xeb, 0xb2, // UDP
        0x12, 0x34, 0x01, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07, 0x65, 0x78,
        0x61, //
        0x6d, 0x70, 0x6c, 0x65, 0x03, 0x63, 0x6f, 0x6d, 0x00, 0x00, 0x01, 0x00, 0x01, //
        0x00, 0x00, 0x00, 0x00,
    ];

    fn query() -> [u8; 75] {
        let mut frame = QUERY;
        // Its checksums, by the book: words in network order.
        let by_the_book = |bytes: &[u8]| {
            let words =
                bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
            let mut sum: u32 = words.sum();
            while sum > 0xFFFF {
                sum = (sum & 0xFFFF) + (sum >> 16);
            }
            !(sum as u16)
        };
        frame[24..26].fill(0);
        let header = by_the_book(&frame[14..34]);
        frame[24..26].copy_from_slice(&header.to_be_bytes());
        frame[40..42].fill(0);
        let mut covered = frame[26..34].to_vec();
        covered.extend([0, 17, 0, 41]);
        covered.extend(&frame[34..75]);
        let datagram = by_the_book(&covered);
        frame[40..42].copy_from_slice(&datagram.to_be_bytes());
        frame
    }

    #[test]
    fn a_frame_is_read() {
        let read = read(&query()).expect("a whole frame");
        assert_eq!(read.from, "192.168.1.2:54321".parse().expect("an address"));
        assert_eq!(read.to, "192.168.1.1:53".parse().expect("an address"));
        assert_eq!(read.payload, 42..75);
        assert!(is_intact(&query(), &read));
    }

    #[test]
    fn a_flipped_bit_of_the_datagram_is_seen() {
        let read = read(&query()).expect("a whole frame");
        for at in [26, 30, 34, 36, 42, 60, 74] {
            let mut frame = query();
            frame[at] ^= 0x10;
            assert!(!is_intact(&frame, &read), "byte {at}");
        }
    }

    #[test]
    fn no_checksum_and_that_of_this_machines_own_stack_count_as_intact() {
        let mut frame = query();
        let read = read(&frame).expect("a whole frame");
        frame[40..42].fill(0);
        assert!(is_intact(&frame, &read));
        let header: [u8; HEADERS] = *frame.first_chunk().expect("headers");
        frame[40..42].copy_from_slice(&fold(pseudo_header(&header, 41)).to_ne_bytes());
        assert!(is_intact(&frame, &read));
    }

    #[test]
    fn what_is_cut_off_or_not_plain_is_left_to_the_kernel() {
        for len in 0..75 {
            assert_eq!(read(&query()[..len]), None, "{len} bytes");
        }
        // VLAN, options, more fragments, a later fragment, TCP, a UDP length of 7, one past the end.
        for (at, value) in [(12, 0x81), (14, 0x46), (20, 0x20), (21, 1), (23, 6), (39, 7), (39, 42)] {
            let mut frame = query();
            frame[at] = value;
            assert_eq!(read(&frame), None, "byte {at} of {value}");
        }
        let mut padded = query().to_vec();
        padded.extend([0; 9]);
        assert_eq!(read(&padded).expect("padding is no harm").payload, 42..75);
    }

    #[test]
    fn what_goes_back_is_a_frame_with_the_ends_turned() {
        let there = query();
        let headers = there.first_chunk().expect("headers");
        let route = Route::back(headers);
        assert!(route.is_back_of(headers));
        for payload in [&b""[..], b"odd", b"even", &[0xFF; 171], &[0x80; 1458]] {
            let mut frame = [0xAA; 1500];
            let len = route.write(&mut frame, payload).expect("room");
            let back = read(&frame[..len]).expect("a whole frame");
            assert_eq!(back.from, "192.168.1.1:53".parse().expect("an address"));
            assert_eq!(back.to, "192.168.1.2:54321".parse().expect("an address"));
            assert_eq!(&frame[back.payload.clone()], payload);
            assert!(is_intact(&frame[..len], &back));
            assert_ne!(frame[40..42], [0, 0], "a checksum is there");
            assert_eq!(fold(sum(&frame[14..34])), 0xFFFF, "the IP header's checksum");
            assert_eq!((&frame[..6], &frame[6..12]), (&there[6..12], &there[..6]));
        }
        assert_eq!(route.write(&mut [0; 50], &[0; 9]), None);
    }

    #[test]
    fn another_way_is_noticed() {
        let there = query();
        let route = Route::back(there.first_chunk().expect("headers"));
        for at in [0, 6, 26, 30, 34, 36] {
            let mut other = there;
            other[at] ^= 1;
            assert!(!route.is_back_of(other.first_chunk().expect("headers")), "byte {at}");
        }
    }
}
