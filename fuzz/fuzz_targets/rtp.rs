//! Datagrams on a media port: packet views, the latch, the stream's statistics and key presses.
#![no_main]

use std::net::SocketAddr;

use confab::rtp::dtmf::DtmfReceiver;
use confab::rtp::latch::Latch;
use confab::rtp::packet::{HEADER_LEN, RtpPacket, is_rtcp, write_header};
use confab::rtp::stats::ReceiverStats;
use confab::time::{Duration, Instant};
use libfuzzer_sys::fuzz_target;

// The input is datagrams: length, source and time apart, then the bytes.
fuzz_target!(|input: &[u8]| {
    let mut now = Instant::from_millis(1);
    let expected: SocketAddr = ([192, 0, 2, 1], 4000).into();
    let mut latch = Latch::new(Some(expected), now);
    let mut stats = ReceiverStats::new(8_000);
    let mut dtmf = DtmfReceiver::new();
    let mut rest = input;
    while let [length, source, apart, after @ ..] = rest {
        let Some((datagram, after)) = after.split_at_checked(usize::from(*length)) else { break };
        rest = after;
        now = now + Duration::from_millis(u64::from(*apart) * 16);
        let _ = is_rtcp(datagram);
        let Ok(packet) = RtpPacket::parse(datagram) else { continue };
        assert!(packet.payload.len() + HEADER_LEN <= datagram.len());
        let mut header = [0; HEADER_LEN];
        write_header(&packet.header, &mut header);
        let again = RtpPacket::parse(&header).map(|packet| packet.header);
        assert_eq!(again, Ok(packet.header), "a header is what it was");
        let from = SocketAddr::from(([192, 0, 2, source & 3], 4000));
        let _ = latch.admit(now, from, packet.header.ssrc, packet.header.sequence);
        assert!(latch.peer().is_some());
        stats.receive(now, &packet.header);
        dtmf.receive(now, packet.payload, packet.header.timestamp, packet.header.marker);
        if dtmf.next_timeout().is_some_and(|at| at <= now) {
            dtmf.handle_timeout(now);
        }
        while let Some(digit) = dtmf.poll_digit() {
            assert!("0123456789*#ABCD".contains(digit.key), "{digit:?}");
        }
        if source & 4 != 0 {
            let _ = stats.report_block(now);
        }
        let _ = (stats.jitter(), stats.lost());
    }
});
