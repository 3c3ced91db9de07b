//! RTCP from anyone, and ours made of it.
#![no_main]

use confab::rtp::rtcp::{self, NtpTime, Report, ReportBlock, RtcpPacket};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(compound) = rtcp::parse(input) else { return };
    let (mut sender, mut heard) = (None, Vec::<ReportBlock>::new());
    let mut packets = 0;
    for packet in compound {
        packets += 1;
        match packet {
            RtcpPacket::SenderReport { info, blocks, .. } => {
                sender = Some(info);
                heard.extend(blocks);
            }
            RtcpPacket::ReceiverReport { blocks, .. } => heard.extend(blocks),
            RtcpPacket::SourceDescription { cname, .. } => {
                assert!(cname.is_none_or(|name| name.len() <= 255));
            }
            RtcpPacket::Bye { sources } => assert!(sources.count() <= 31),
            RtcpPacket::Other { .. } => {}
        }
    }
    assert!(packets <= input.len() / 4, "{packets} packets of {} bytes", input.len());
    for block in &heard {
        let _ = rtcp::round_trip(NtpTime(u64::from(block.last_sender_report) << 16), block);
    }
    let report = Report { ssrc: 1, sender, blocks: &heard, cname: "confab", bye: heard.len() % 2 == 1 };
    let mut out = [0; 1500];
    let length = report.write(&mut out).expect("a report fits a datagram");
    rtcp::parse(&out[..length]).expect("what we write we read").for_each(drop);
    // Whatever the room, nothing is written past it.
    let room = input.len().min(out.len());
    let _ = report.write(&mut out[..room]);
});
