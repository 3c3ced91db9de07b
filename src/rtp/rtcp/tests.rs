//! Reports read and written, and the checks of RFC 3550 A.2.

use super::*;
use crate::rng::Rng;

fn info() -> SenderInfo {
    SenderInfo { ntp: NtpTime(0xb44d_b705_2000_0000), rtp_timestamp: 9, packets: 8, octets: 7 }
}

fn block() -> ReportBlock {
    ReportBlock {
        ssrc: 0x1122_3344,
        fraction_lost: 64,
        cumulative_lost: -3,
        highest_sequence: 0x0001_0002,
        jitter: 55,
        last_sender_report: 0xb705_2000,
        delay_since_last: 0x0005_4000,
    }
}

fn written(report: &Report<'_>) -> Vec<u8> {
    let mut out = [0; 1500];
    let len = report.write(&mut out).expect("enough room");
    out[..len].to_vec()
}

fn report(blocks: &[ReportBlock]) -> Report<'_> {
    Report { ssrc: 5, sender: Some(info()), blocks, cname: "a@b", bye: true }
}

#[test]
fn reads_what_it_writes() {
    let blocks = [block(), ReportBlock { cumulative_lost: 9, ..block() }];
    let bytes = written(&report(&blocks));
    let packets: Vec<RtcpPacket<'_>> = parse(&bytes).expect("valid").collect();
    let [
        RtcpPacket::SenderReport { ssrc: 5, info: read, blocks: read_blocks },
        RtcpPacket::SourceDescription { ssrc: 5, cname: Some(b"a@b") },
        RtcpPacket::Bye { sources },
    ] = packets.as_slice()
    else {
        panic!("{packets:?}");
    };
    assert_eq!(*read, info());
    assert_eq!(read_blocks.collect::<Vec<_>>(), blocks);
    assert_eq!(sources.collect::<Vec<_>>(), [5]);
}

#[test]
fn a_receiver_report_has_no_sender() {
    let bytes = written(&Report { sender: None, bye: false, ..report(&[block()]) });
    let mut packets = parse(&bytes).expect("valid");
    assert!(matches!(packets.next(), Some(RtcpPacket::ReceiverReport { ssrc: 5, .. })));
    assert!(matches!(packets.next(), Some(RtcpPacket::SourceDescription { .. })));
    assert_eq!(packets.next(), None);
}

#[test]
fn names_of_every_length_end_on_a_word() {
    let long = "x".repeat(300);
    for length in 0..=300 {
        let bytes = written(&Report { cname: &long[..length], ..report(&[]) });
        assert_eq!(bytes.len() % 4, 0);
        let cname = parse(&bytes).expect("valid").find_map(|packet| match packet {
            RtcpPacket::SourceDescription { cname, .. } => cname,
            _ => None,
        });
        assert_eq!(cname.map(<[u8]>::len), Some(length.min(255)));
    }
}

#[test]
fn the_largest_report_fits_its_constant_and_a_byte_less_is_refused() {
    let long = "x".repeat(255);
    let blocks = [block()];
    let largest = Report { cname: &long, ..report(&blocks) };
    let len = written(&largest).len();
    assert!(len <= REPORT_BYTES_MAX, "{len}");
    assert_eq!(largest.write(&mut vec![0; len]), Ok(len));
    for short in 0..len {
        assert_eq!(largest.write(&mut vec![0; short]), Err(BufferFull));
    }
}

#[test]
fn more_blocks_than_the_counter_holds_are_left_out() {
    let bytes = written(&report(&[block(); 40]));
    let Some(RtcpPacket::SenderReport { blocks, .. }) = parse(&bytes).expect("valid").next() else {
        panic!("no sender report");
    };
    assert_eq!(blocks.count(), MAX_BLOCKS);
}

#[test]
fn the_round_trip_of_the_standards_own_example() {
    // RFC 3550 figure 2: 6.125 s between the hosts and back.
    let now = NtpTime(0xb44d_b710_8000_0000);
    assert_eq!(round_trip(now, &block()), Some(Duration::from_millis(6125)));
    let unheard = ReportBlock { last_sender_report: 0, ..block() };
    assert_eq!(round_trip(now, &unheard), None);
    let liar = ReportBlock { delay_since_last: 0x000b_6001, ..block() };
    assert_eq!(round_trip(now, &liar), None);
    let exact = ReportBlock { delay_since_last: 0x000b_6000, ..block() };
    assert_eq!(round_trip(now, &exact), Some(Duration::ZERO));
    let future = ReportBlock { last_sender_report: 0xb710_8001, delay_since_last: 0, ..block() };
    assert_eq!(round_trip(now, &future), None);
}

#[test]
fn ntp_counts_from_1900() {
    assert_eq!(NtpTime::from(Timestamp::from_micros(0)).0, 2_208_988_800 << 32);
    assert_eq!(NtpTime::from(Timestamp::from_micros(1_500_000)).0, (2_208_988_801 << 32) | 1 << 31);
    assert_eq!(NtpTime::from(Timestamp::from_micros(500_000)).middle(), 0x7e80_8000);
    assert_eq!(short_delay(Duration::from_millis(5250)), 0x0005_4000);
    assert_eq!(short_delay(Duration::from_secs(100_000)), u32::MAX);
}

#[test]
fn validity_checks_of_a_2() {
    let valid = written(&report(&[block()]));
    let with = |at: usize, byte: u8| {
        let mut bytes = valid.clone();
        bytes[at] = byte;
        parse(&bytes).map(Iterator::count)
    };
    assert_eq!(parse(&[]).map(Iterator::count), Err(RtcpError::Short));
    assert_eq!(with(0, 0x41), Err(RtcpError::Version));
    assert_eq!(with(1, 204), Err(RtcpError::FirstType));
    assert_eq!(with(0, 0xa1), Err(RtcpError::Padding), "padding before the last packet");
    assert_eq!(with(0, 0x82), Err(RtcpError::Short), "two blocks announced, one there");
    assert_eq!(with(3, 255), Err(RtcpError::Short));
    assert_eq!(with(valid.len() - 8, 0xa1), Err(RtcpError::Padding), "its last byte counts 5");
    assert_eq!(with(valid.len() - 8, 0x82), Err(RtcpError::Short), "two sources announced");
}

#[test]
fn padding_after_the_last_packet_is_taken_off() {
    let bytes = [0xa0, 201, 0, 2, 0, 0, 0, 5, 0, 0, 0, 4];
    assert_eq!(parse(&bytes).map(Iterator::count), Ok(1));
}

#[test]
fn unknown_packets_are_passed_by() {
    let mut bytes = written(&Report { bye: false, ..report(&[]) });
    bytes.extend([0x81, 205, 0, 1, 1, 2, 3, 4, 0x80, 202, 0, 0]);
    let others = parse(&bytes).expect("valid").skip(2).collect::<Vec<_>>();
    let other = |packet_type| RtcpPacket::Other { packet_type };
    assert_eq!(others, [other(205), other(202)]);
}

#[test]
fn truncations_and_flips_are_survived() {
    let valid = written(&report(&[block(), block()]));
    let drain = |bytes: &[u8]| {
        for packet in parse(bytes).into_iter().flatten() {
            match packet {
                RtcpPacket::SenderReport { blocks, .. } | RtcpPacket::ReceiverReport { blocks, .. } => {
                    assert!(blocks.count() <= MAX_BLOCKS);
                }
                RtcpPacket::Bye { sources } => assert!(sources.count() <= MAX_BLOCKS),
                RtcpPacket::SourceDescription { .. } | RtcpPacket::Other { .. } => {}
            }
        }
        parse(bytes).is_ok()
    };
    for end in 0..valid.len() {
        drain(&valid[..end]);
    }
    let mut rng = Rng::from_number(6);
    let mut read = 0;
    for _ in 0..20_000 {
        let mut bytes = valid.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
        }
        read += usize::from(drain(&bytes));
    }
    assert!(read > 5000, "{read}");
}
