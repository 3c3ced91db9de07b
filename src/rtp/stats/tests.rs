//! Loss, jitter, reports and opinion against values by hand.

use super::*;

fn header(sequence: u16, timestamp: u32) -> RtpHeader {
    RtpHeader { sequence, timestamp, ssrc: 1, ..RtpHeader::default() }
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

#[test]
fn jitter_against_values_by_hand() {
    // 20 ms packets of 8 kHz: D = 0, +80, −80 and +160 units.
    let mut stats = ReceiverStats::new(8000);
    let mut seen = Vec::new();
    for (n, ms) in [0, 20, 50, 60, 100].into_iter().enumerate() {
        stats.receive(at(ms), &header(n as u16, 160 * n as u32));
        seen.push(stats.jitter_x16);
    }
    // J×16: 0, 0, 80, 80 − (88 >> 4) + 80 = 155, 155 − (163 >> 4) + 160 = 305.
    assert_eq!(seen, [0, 0, 80, 155, 305]);
    assert_eq!(stats.jitter_units(), 19);
    assert_eq!(stats.jitter(), Duration::from_nanos(305 * 1_000_000_000 / 16 / 8000));
}

#[test]
fn steady_deviation_settles_at_itself() {
    let mut stats = ReceiverStats::new(8000);
    for n in 0..1000u64 {
        stats.receive(at(20 * n + 10 * (n % 2)), &header(n as u16, 160 * n as u32));
    }
    assert!((79..=81).contains(&stats.jitter_units()), "{}", stats.jitter_units());
}

#[test]
fn a_timestamp_that_wraps_is_no_jitter() {
    let mut stats = ReceiverStats::new(8000);
    for n in 0..100u32 {
        let timestamp = (u32::MAX - 8000).wrapping_add(160 * n);
        stats.receive(at(20 * u64::from(n)), &header(n as u16, timestamp));
    }
    assert_eq!(stats.jitter_units(), 0);
}

#[test]
fn a_held_key_is_no_jitter() {
    let mut stats = ReceiverStats::new(8000);
    for n in 0..50u16 {
        stats.receive(at(20 * u64::from(n)), &header(n, 0));
    }
    stats.receive(at(1000), &header(50, 8000));
    assert_eq!(stats.jitter_units(), 0);
}

#[test]
fn the_loss_fraction_is_of_the_interval_and_the_sum_is_of_the_stream() {
    let mut stats = ReceiverStats::new(8000);
    assert_eq!(stats.report_block(at(0)), None);
    for n in (0..100u16).filter(|n| n % 4 != 1) {
        stats.receive(at(20 * u64::from(n)), &header(n, 0));
    }
    let first = stats.report_block(at(2000)).expect("a stream");
    assert_eq!((first.fraction_lost, first.cumulative_lost, first.highest_sequence), (64, 25, 99));
    for n in 100..200u16 {
        stats.receive(at(20 * u64::from(n)), &header(n, 0));
    }
    let second = stats.report_block(at(4000)).expect("a stream");
    assert_eq!((second.fraction_lost, second.cumulative_lost), (0, 25));
    assert_eq!(stats.report_block(at(4000)).map(|b| b.fraction_lost), Some(0), "no interval");
    assert_eq!((stats.lost(), stats.packets()), (25, 175));
}

#[test]
fn duplicates_make_the_loss_negative_as_the_standard_has_it() {
    let mut stats = ReceiverStats::new(8000);
    for n in [1, 2, 2, 2, 3] {
        stats.receive(at(0), &header(n, 0));
    }
    let block = stats.report_block(at(0)).expect("a stream");
    assert_eq!((block.fraction_lost, block.cumulative_lost), (0, -2));
    assert_eq!((stats.lost(), stats.duplicates(), stats.packets()), (0, 2, 3));
}

#[test]
fn the_block_says_when_our_peers_report_came() {
    let mut stats = ReceiverStats::new(8000);
    stats.receive(at(0), &header(1, 0));
    let silent = stats.report_block(at(0)).expect("a stream");
    assert_eq!((silent.last_sender_report, silent.delay_since_last), (0, 0));
    stats.handle_sender_report(at(1000), NtpTime(0xb44d_b705_2000_0000));
    let block = stats.report_block(at(6250)).expect("a stream");
    assert_eq!((block.last_sender_report, block.delay_since_last), (0xb705_2000, 0x0005_4000));
}

#[test]
fn totals_go_on_over_streams_and_restarts() {
    let mut stats = ReceiverStats::new(8000);
    for n in [1, 4] {
        stats.receive(at(0), &header(n, 0));
    }
    for n in [10, 12] {
        stats.receive(at(0), &RtpHeader { ssrc: 2, ..header(n, 0) });
    }
    assert_eq!((stats.lost(), stats.packets(), stats.ssrc()), (3, 4, Some(2)));
    for n in [40_000, 40_001, 40_003] {
        stats.receive(at(0), &RtpHeader { ssrc: 2, ..header(n, 0) });
    }
    assert_eq!((stats.lost(), stats.packets(), stats.strays()), (4, 6, 1));
    assert_eq!(stats.report_block(at(0)).map(|b| b.cumulative_lost), Some(1));
}

#[test]
fn the_senders_part_carries_the_stream_to_the_moment_of_the_report() {
    let mut stats = SenderStats::default();
    let wall = Timestamp::from_micros(500_000);
    assert_eq!(stats.sender_info(at(0), wall, 8000), None);
    stats.send(at(100), u32::MAX, 160);
    stats.send(at(120), 159, 160);
    let info = stats.sender_info(at(1120), wall, 8000).expect("we sent");
    assert_eq!((info.packets, info.octets, info.rtp_timestamp), (2, 320, 8159));
    assert_eq!(info.ntp, NtpTime::from(wall));
    assert!(stats.sender_info(at(6000), wall, 8000).is_some(), "sent before the last report");
    assert_eq!(stats.sender_info(at(11_000), wall, 8000), None);
    assert_eq!(stats.packets(), 2);
}

#[test]
fn intervals_stay_in_their_bounds_and_fill_them() {
    let mut rng = Rng::from_number(5);
    for (first, least, most) in [(true, 1000, 2500), (false, 2500, 7500)] {
        let all: Vec<u128> = (0..2000).map(|_| report_interval(&mut rng, first).as_millis()).collect();
        assert!(all.iter().all(|ms| (least..=most).contains(ms)));
        assert!(all.iter().any(|ms| *ms < least + 100) && all.iter().any(|ms| *ms > most - 100));
    }
}

#[test]
fn opinion_falls_with_loss_and_delay() {
    let score = |loss, ms| mos(loss, Duration::from_millis(ms));
    assert!((score(0.0, 0) - 4.41).abs() < 0.01, "{}", score(0.0, 0));
    assert!((transmission_rating(0.0, Duration::from_millis(100)) - 90.8).abs() < 0.01);
    // 200 ms: 93.2 − 4.8 − 0.11 × 22.7.
    assert!((transmission_rating(0.0, Duration::from_millis(200)) - 85.903).abs() < 0.01);
    // 5 % loss: 95 × 5 / 30.1.
    assert!((transmission_rating(0.05, Duration::ZERO) - 77.419).abs() < 0.01);
    let falling = [score(0.0, 50), score(0.01, 50), score(0.01, 300), score(0.1, 300), score(1.0, 300)];
    assert!(falling.windows(2).all(|pair| pair[0] > pair[1]), "{falling:?}");
    assert_eq!(score(1.0, 10_000), 1.0);
    assert_eq!(score(-1.0, 0), score(0.0, 0));
}
