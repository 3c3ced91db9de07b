//! What is on the wire: sequence, timestamp, marker, RTCP, digits, latching.

use confab::audio::AudioCodec::{Pcma, Pcmu};
use confab::id::LegId;
use confab::media::shard::Channel;
use confab::plane::{ShardCommand, ShardReport};

use crate::phones::{CONFERENCE, Sim};

#[test]
fn sequence_and_timestamp_run_on_over_their_ends_and_the_marker_starts_them() {
    for (codec, ptime) in [(Pcmu, 10), (Pcmu, 20), (Pcma, 30), (Pcma, 60)] {
        let mut sim = Sim::new(1);
        sim.open_room(1, CONFERENCE);
        sim.add(1, 0, codec, ptime, None, 0);
        sim.run(1200);
        let got = &sim.phones[&0].got;
        assert!(got.len() as u16 >= 1100 / ptime, "{} packets of {ptime} ms", got.len());
        for (index, (payload_type, marker, sequence, timestamp, payload)) in got.iter().enumerate() {
            assert_eq!(Some(*payload_type), codec.static_payload_type());
            assert_eq!(*marker, index == 0);
            assert_eq!(*sequence, 65_530u16.wrapping_add(index as u16));
            assert_eq!(*timestamp, 4_294_967_000u32.wrapping_add(index as u32 * u32::from(ptime) * 8));
            assert_eq!(payload.len(), usize::from(ptime) * 8);
        }
    }
}

#[test]
fn after_hold_the_timestamp_has_gone_on_and_the_marker_is_set() {
    let mut sim = Sim::new(2);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 0, Pcmu, 20, None, 0);
    sim.run(200);
    let media = sim.phones[&0].media.clone();
    let mut held = media.clone();
    held.send = false;
    sim.command(ShardCommand::UpdateLeg { leg: LegId(0), media: held });
    let last = sim.phones[&0].got.last().expect("packets came").clone();
    sim.run(1000);
    sim.command(ShardCommand::UpdateLeg { leg: LegId(0), media });
    let before = sim.phones[&0].got.len();
    sim.run(40);
    let first = &sim.phones[&0].got[before];
    assert!(first.1, "marker");
    assert_eq!(first.2, last.2.wrapping_add(1), "the sequence has no gap");
    assert_eq!(first.3.wrapping_sub(last.3), 51 * 160, "the timestamp counts the hold");
}

#[test]
fn rtcp_reports_what_came_and_what_did_not() {
    let mut sim = Sim::new(3);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 0, Pcmu, 20, None, 0);
    sim.run(12_000);
    let reports = &sim.phones[&0].got_rtcp;
    assert!((2..=6).contains(&reports.len()), "{} reports in 12 s", reports.len());
    let last = reports.last().expect("reports came");
    assert_eq!(last[..2], [0x81, 200], "a sender report with one block");
    assert_eq!(last[8 + 20..8 + 24], 0x1000u32.to_be_bytes(), "about the phone's SSRC");
    assert_eq!(last[8 + 24], 0, "nothing was lost");
    let length = 4 * (1 + usize::from(u16::from_be_bytes([last[2], last[3]])));
    assert_eq!(last[length + 1], 202, "an SDES follows (RFC 3550 §6.1)");
}

#[test]
fn leaving_says_bye_by_rtcp() {
    let mut sim = Sim::new(4);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 0, Pcmu, 20, None, 0);
    sim.run(500);
    let phone = sim.remove(0);
    let bye = phone.got_rtcp.last().expect("a goodbye").clone();
    let mut at = 0;
    let mut types = Vec::new();
    while at + 4 <= bye.len() {
        types.push(bye[at + 1]);
        at += 4 * (1 + usize::from(u16::from_be_bytes([bye[at + 2], bye[at + 3]])));
    }
    assert_eq!((at, types.last()), (bye.len(), Some(&203)));
}

#[test]
fn a_digit_is_reported_once_and_not_heard() {
    let mut sim = Sim::new(5);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 0, Pcmu, 20, None, 0);
    sim.add(1, 1, Pcmu, 20, None, 0);
    sim.run(400);
    let from = sim.phones[&0].media.remote_rtp.expect("set");
    // Event 5, 160 ms, its end said three times (RFC 4733 §2.5.1.4).
    for (n, (end, duration)) in
        [(0, 400u16), (0, 800), (0x80, 1280), (0x80, 1280), (0x80, 1280)].into_iter().enumerate()
    {
        let mut datagram = vec![0x80, 101 | if n == 0 { 0x80 } else { 0 }];
        datagram.extend((100 + n as u16).to_be_bytes());
        datagram.extend(5000u32.to_be_bytes());
        datagram.extend(0x1000u32.to_be_bytes());
        datagram.extend([5, end | 10]);
        datagram.extend(duration.to_be_bytes());
        sim.inject(0, from, &datagram);
    }
    sim.run(400);
    let digits: Vec<&ShardReport> =
        sim.reports.iter().filter(|r| matches!(r, ShardReport::Digit { .. })).collect();
    assert_eq!(digits, [&ShardReport::Digit { leg: LegId(0), digit: '5', duration_ms: 160 }]);
    assert!(sim.phones[&1].heard(800).iter().all(|&sample| sample == 0.0));
}

#[test]
fn a_third_party_is_neither_heard_nor_sent_to() {
    let mut sim = Sim::new(6);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 0, Pcmu, 20, None, 0);
    sim.add(1, 1, Pcmu, 20, None, 0);
    sim.run(1000);
    let thief = "192.0.2.1:6666".parse().expect("an address");
    for n in 0..200u16 {
        let mut datagram = vec![0x80, 0];
        datagram.extend(n.to_be_bytes());
        datagram.extend((u32::from(n) * 160).to_be_bytes());
        datagram.extend(0xbadu32.to_be_bytes());
        datagram.extend([0x80; 160]);
        sim.inject(0, thief, &datagram);
        sim.run(20);
    }
    // `Sim` asserts that every RTP packet goes to its phone.
    assert!(sim.phones[&1].heard(3000).iter().all(|&sample| sample == 0.0));
    assert_eq!(
        sim.phones[&0].connected,
        Some(sim.phones[&0].media.remote_rtp),
        "the socket is closed to others"
    );
}

#[test]
fn hostile_bytes_are_dropped_and_the_call_goes_on() {
    let mut sim = Sim::new(7);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 0, Pcmu, 20, Some(440.0), 0);
    sim.add(1, 1, Pcmu, 20, None, 0);
    let mut rng = confab::rng::Rng::from_number(7);
    let from = sim.phones[&0].media.remote_rtp.expect("set");
    for round in 0..3000 {
        let mut datagram = vec![0; rng.below(60) as usize];
        rng.fill(&mut datagram);
        if round % 2 == 0 && datagram.len() > 1 {
            datagram[0] = 0x80 | (datagram[0] & 0x3f);
            datagram[1] = [200, 201, 101, 13, 127][round % 5];
        }
        sim.inject(0, from, &datagram);
        let key = sim.phones[&0].key;
        sim.shard.receive(sim.now, key, Channel::Rtcp, Some(from), &datagram);
        if round % 10 == 0 {
            sim.run(2);
        }
    }
    sim.run(2000);
    assert!(sim.phones[&1].hears(440.0) > 4500.0);
}
