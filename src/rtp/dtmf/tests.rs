//! Keys heard once and sent whole, whatever the network does.

use super::*;
use crate::rng::Rng;

const TIMING: DtmfTiming = DtmfTiming { duration: 800, interval: 800, packet: 160 };

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// Packets of keys pressed one after the other, with when they are sent.
fn pressed(digits: &str) -> Vec<(Instant, EventPacket)> {
    let mut sender = DtmfSender::new(digits, TIMING).expect("keys");
    let mut packets = Vec::new();
    for n in 0..10_000 {
        if sender.is_done() {
            return packets;
        }
        let packet = sender.poll_packet(160 * n);
        packets.extend(packet.map(|packet| (at(20 * u64::from(n)), packet)));
    }
    panic!("the sender never ends");
}

fn drain(receiver: &mut DtmfReceiver, into: &mut Vec<Digit>) {
    into.extend(std::iter::from_fn(|| receiver.poll_digit()));
}

/// What a receiver makes of these packets, with silence after them.
fn heard(packets: &[(Instant, EventPacket)]) -> Vec<Digit> {
    let mut receiver = DtmfReceiver::new();
    let mut digits = Vec::new();
    for (now, packet) in packets {
        receiver.handle_timeout(*now);
        receiver.receive(*now, &packet.payload, packet.timestamp, packet.marker);
        drain(&mut receiver, &mut digits);
    }
    receiver.handle_timeout(at(1_000_000));
    drain(&mut receiver, &mut digits);
    assert_eq!(receiver.missed(), 0);
    digits
}

fn keys(digits: &[Digit]) -> String {
    digits.iter().map(|digit| digit.key).collect()
}

fn event(code: u8, end: bool, duration: u16) -> [u8; 4] {
    packet(code, end, duration, 0, false).payload
}

#[test]
fn every_key_is_heard_once_with_its_duration() {
    let all = "0123456789*#ABCD";
    let digits = heard(&pressed(all));
    assert_eq!(keys(&digits), all);
    assert!(digits.iter().all(|digit| digit.duration == 800));
}

#[test]
fn one_press_is_five_packets_and_two_more_ends() {
    let packets = pressed("5");
    let ends: Vec<bool> = packets.iter().map(|(_, p)| p.payload[1] & 0x80 != 0).collect();
    assert_eq!(ends, [false, false, false, false, true, true, true]);
    let durations: Vec<u8> = packets.iter().map(|(_, p)| p.payload[3]).collect();
    assert_eq!(durations, [160, 64, 224, 128, 32, 32, 32], "160 to 800, in their low bytes");
    assert!(packets.iter().all(|(_, p)| p.timestamp == 0));
    assert_eq!(packets.iter().filter(|(_, p)| p.marker).count(), 1);
}

#[test]
fn the_pause_between_keys_is_kept() {
    let starts: Vec<u32> = pressed("12").iter().filter(|(_, p)| p.marker).map(|(_, p)| p.timestamp).collect();
    assert_eq!(starts, [0, 1600]);
}

#[test]
fn any_one_packet_of_a_press_is_enough() {
    for (now, packet) in pressed("7") {
        assert_eq!(keys(&heard(&[(now, packet)])), "7");
    }
}

#[test]
fn every_loss_pattern_that_leaves_a_packet_of_each_key_gives_each_key_once() {
    let packets = pressed("11");
    assert_eq!(packets.len(), 14);
    for kept in 1u32..1 << 14 {
        let some: Vec<_> =
            packets.iter().enumerate().filter(|(n, _)| kept & 1 << n != 0).map(|(_, p)| *p).collect();
        let expected = usize::from(kept & 0x7f != 0) + usize::from(kept >> 7 != 0);
        assert_eq!(keys(&heard(&some)), "11"[..expected], "{kept:014b}");
    }
}

#[test]
fn reordering_and_repetition_within_reach_change_nothing() {
    let mut rng = Rng::from_number(4733);
    for _ in 0..300 {
        let mut packets = pressed("3390*");
        for n in 1..packets.len() {
            if rng.below(3) == 0 {
                packets.swap(n - 1, n);
            }
        }
        let again = packets[rng.below(packets.len() as u64) as usize];
        packets.push(again);
        assert_eq!(keys(&heard(&packets)), "3390*");
    }
}

#[test]
fn a_lost_end_is_closed_by_the_next_press() {
    let mut receiver = DtmfReceiver::new();
    receiver.receive(at(0), &event(1, false, 480), 1000, true);
    assert_eq!(receiver.poll_digit(), None);
    receiver.receive(at(100), &event(1, true, 640), 3000, true);
    assert_eq!(receiver.poll_digit(), Some(Digit { key: '1', duration: 480 }));
    assert_eq!(receiver.poll_digit(), Some(Digit { key: '1', duration: 640 }));
    assert_eq!(receiver.poll_digit(), None);
}

#[test]
fn a_lost_end_is_closed_by_silence_and_not_a_moment_sooner() {
    let mut receiver = DtmfReceiver::new();
    receiver.receive(at(0), &event(11, false, 480), 1000, true);
    let deadline = receiver.next_timeout().expect("a press goes on");
    assert_eq!(deadline, at(250));
    receiver.handle_timeout(Instant::from_nanos(deadline.as_nanos() - 1));
    assert_eq!(receiver.poll_digit(), None);
    receiver.handle_timeout(deadline);
    assert_eq!(receiver.poll_digit(), Some(Digit { key: '#', duration: 480 }));
    assert_eq!(receiver.next_timeout(), None);
    receiver.receive(at(300), &event(11, true, 2400), 1000, false);
    assert_eq!(receiver.poll_digit(), None, "its end came after all");
}

#[test]
fn a_long_press_is_one_digit_over_its_segments() {
    let mut receiver = DtmfReceiver::new();
    receiver.receive(at(0), &event(2, false, 160), 100, true);
    receiver.receive(at(100), &event(2, false, 0xffff), 100, false);
    receiver.receive(at(200), &event(2, false, 160), 100 + 0xffff, false);
    receiver.receive(at(210), &event(2, false, 0xfff0), 100, false);
    receiver.receive(at(300), &event(2, true, 1000), 100 + 0xffff, false);
    assert_eq!(receiver.poll_digit(), Some(Digit { key: '2', duration: 0xffff + 1000 }));
    assert_eq!(receiver.poll_digit(), None);
}

#[test]
fn short_presses_may_share_a_packet() {
    let mut receiver = DtmfReceiver::new();
    let payload = [event(1, true, 400), event(2, true, 400), event(3, false, 80)].concat();
    receiver.receive(at(0), &payload, 1000, true);
    let mut digits = Vec::new();
    drain(&mut receiver, &mut digits);
    assert_eq!(keys(&digits), "12");
    receiver.receive(at(20), &event(3, true, 240), 1800, false);
    drain(&mut receiver, &mut digits);
    assert_eq!(keys(&digits), "123");
}

#[test]
fn more_events_in_a_packet_than_the_limit_are_passed_by() {
    let mut receiver = DtmfReceiver::new();
    receiver.receive(at(0), &event(9, true, 10).repeat(MAX_EVENTS_PER_PACKET + 3), 0, false);
    let mut digits = Vec::new();
    drain(&mut receiver, &mut digits);
    assert_eq!(digits.len(), MAX_EVENTS_PER_PACKET);
}

#[test]
fn digits_nobody_polls_are_counted() {
    let mut receiver = DtmfReceiver::new();
    for n in 0..8 {
        receiver.receive(at(0), &event(n, true, 10), 1000 * u32::from(n), true);
    }
    let mut digits = Vec::new();
    drain(&mut receiver, &mut digits);
    assert_eq!((keys(&digits).as_str(), receiver.missed()), ("01234", 3));
}

#[test]
fn flash_and_other_tones_are_no_keys() {
    let mut receiver = DtmfReceiver::new();
    for code in 16..=255 {
        receiver.receive(at(0), &event(code, true, 800), 1000 * u32::from(code), true);
    }
    receiver.receive(at(0), &[1, 0x80, 1], 1_000_000, true);
    assert_eq!(receiver.poll_digit(), None);
    assert_eq!(receiver.next_timeout(), None);
}

#[test]
fn presses_across_the_timestamps_wrap_and_after_a_jump_back_are_heard() {
    let mut receiver = DtmfReceiver::new();
    let mut digits = Vec::new();
    for (code, timestamp) in [(1, u32::MAX - 100), (2, 1500), (3, 0x8000_0000), (4, 0x1000_0000)] {
        receiver.receive(at(0), &event(code, true, 800), timestamp, true);
        drain(&mut receiver, &mut digits);
    }
    assert_eq!(keys(&digits), "1234");
}

#[test]
fn the_sender_refuses_what_is_no_key_and_too_many() {
    let error = |digits: &str| DtmfSender::new(digits, TIMING).err();
    assert_eq!(error("12x"), Some(DtmfError::NoSuchKey('x')));
    assert_eq!(error("é"), Some(DtmfError::NoSuchKey('é')));
    assert_eq!(error(&"1".repeat(MAX_DIGITS)), None);
    assert_eq!(error(&"1".repeat(MAX_DIGITS + 1)), Some(DtmfError::TooMany));
    assert!(DtmfSender::new("", TIMING).is_ok_and(|sender| sender.is_done()));
}

#[test]
fn a_sender_with_extreme_timing_ends_all_the_same() {
    for timing in [
        DtmfTiming { duration: 0, interval: 0, packet: 160 },
        DtmfTiming { duration: 1, interval: 1, packet: 480 },
        DtmfTiming { duration: u32::MAX, interval: 800, packet: 160 },
    ] {
        let mut sender = DtmfSender::new("a#", timing).expect("keys");
        let mut polls = 0u32;
        while !sender.is_done() {
            sender.poll_packet(u32::MAX.wrapping_add(polls.wrapping_mul(timing.packet)));
            polls += 1;
            assert!(polls < 10_000);
        }
    }
}

#[test]
fn noise_is_survived_and_never_more_than_its_events() {
    let mut rng = Rng::from_number(9);
    let mut receiver = DtmfReceiver::new();
    let mut heard = 0;
    for n in 0..50_000u64 {
        let mut payload = [0; 24];
        rng.fill(&mut payload);
        let length = rng.below(25) as usize;
        receiver.handle_timeout(at(n));
        receiver.receive(at(n), &payload[..length], rng.next_u32(), n % 2 == 0);
        while receiver.poll_digit().is_some() {
            heard += 1;
        }
    }
    assert!(heard > 100 && heard <= 50_000 * MAX_EVENTS_PER_PACKET, "{heard}");
    assert_eq!(receiver.missed(), 0);
}
