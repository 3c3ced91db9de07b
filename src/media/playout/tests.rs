//! Streams through simulated networks. Time is simulated; every run is its seed's.

mod network;
mod quality;

use super::*;
use crate::codec::g711;
use network::{Network, TICK_US, run};
use pace::mean_square;

/// One second of packets.
const SECOND: usize = 50;

/// Sound in which every sample tells where it is from: G.711 values in an order that does not repeat soon.
fn marked(samples: usize) -> Vec<i16> {
    let payload: Vec<u8> = (0..samples).map(|n| (n * 31 + n / 251 * 7) as u8).collect();
    let mut pcm = vec![0; samples];
    g711::decode_ulaw(&payload, &mut pcm);
    pcm
}

fn payload_of(codec: AudioCodec, pcm: &[i16]) -> Vec<u8> {
    let mut payload = vec![0; pcm.len()];
    g711::encode(codec, pcm, &mut payload);
    payload
}

/// A leg fed by hand: packet by packet, tick by tick, the packet 10 ms before the tick.
struct Bench {
    playout: Playout,
    now: Instant,
    sequence: u16,
    timestamp: u32,
}

impl Bench {
    fn new() -> Self {
        Self::with_delay_max(500)
    }

    fn with_delay_max(delay_max_ms: u32) -> Self {
        let playout = Playout::new(AudioCodec::Pcmu, PlayoutSettings { delay_max_ms });
        Self { playout, now: Instant::from_millis(1000), sequence: 65_530, timestamp: u32::MAX - 1000 }
    }

    fn send(&mut self, pcm: &[i16]) {
        let payload = payload_of(AudioCodec::Pcmu, pcm);
        self.playout.receive(self.now, self.sequence, self.timestamp, &payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(pcm.len() as u32);
    }

    fn tick(&mut self) -> (Pulled, Vec<i16>) {
        self.now += Duration::from_millis(10);
        let mut out = vec![1; 160];
        let pulled = self.playout.pull(self.now, &mut out);
        if pulled == Pulled::Silence {
            out.fill(0);
        }
        self.now += Duration::from_millis(10);
        (pulled, out)
    }

    /// A packet of a buzz and a tick, so many times.
    fn talk(&mut self, packets: usize) -> Vec<Pulled> {
        (0..packets)
            .map(|_| {
                let start = self.timestamp;
                let buzz: Vec<i16> = (0..160)
                    .map(|n| {
                        (f64::from(start.wrapping_add(n) % 64) / 64.0 * std::f64::consts::TAU).sin() * 6000.0
                    })
                    .map(|sample| sample as i16)
                    .collect();
                self.send(&buzz);
                self.tick().0
            })
            .collect()
    }
}

#[test]
fn a_muted_phone_is_passed_over_and_its_next_word_is_whole() {
    let mut bench = Bench::new();
    bench.talk(10);
    let mut pulled = Vec::new();
    for _ in 0..50 {
        bench.send(&[0; 160]);
        pulled.push(bench.tick());
    }
    assert!(pulled.iter().all(|(_, frame)| frame == &[0; 160]), "silence is silence");
    assert_eq!(pulled[4..], vec![(Pulled::Silence, vec![0; 160]); 46], "once the past is silence too");
    let word = marked(320);
    let heard: Vec<i16> = word
        .chunks(160)
        .flat_map(|packet| {
            bench.send(packet);
            bench.tick().1
        })
        .collect();
    assert_eq!(heard, word);
    let stats = bench.playout.stats();
    assert_eq!((stats.received, stats.lost, stats.concealed_ms, stats.delay_ms), (62, 0, 0, 0));
}

#[test]
fn a_muted_phone_that_loses_packets_is_counted_as_any_other() {
    let mut bench = Bench::new();
    for packet in 0..100 {
        if packet == 60 {
            bench.sequence = bench.sequence.wrapping_add(1);
            bench.timestamp = bench.timestamp.wrapping_add(160);
        } else {
            bench.send(&[0; 160]);
        }
        bench.tick();
    }
    let stats = bench.playout.stats();
    assert_eq!((stats.received, stats.lost), (99, 1));
}

#[test]
fn a_quiet_network_changes_no_sample_at_any_phase_and_packet_length() {
    for codec in AudioCodec::ALL {
        for packet_ms in [10, 20, 30, 40, 60] {
            for phase_us in (0..TICK_US).step_by(3_700) {
                let pcm = match codec {
                    AudioCodec::Pcmu => marked(160 * SECOND),
                    AudioCodec::Pcma => {
                        let mut pcm = vec![0; 160 * SECOND];
                        g711::decode_alaw(&payload_of(codec, &marked(160 * SECOND)), &mut pcm);
                        pcm
                    }
                };
                let network = Network { codec, packet_ms, phase_us, ..Network::default() };
                let heard = run(&pcm, &network).heard;
                let start = heard.iter().position(|&sample| sample != 0).expect("it plays");
                let from = pcm.iter().position(|&sample| sample != 0).expect("not silent");
                let length = pcm.len() - from - 800;
                assert!(
                    heard[start..start + length] == pcm[from..from + length],
                    "{codec:?} {packet_ms} {phase_us}"
                );
            }
        }
    }
}

#[test]
fn a_quiet_network_costs_only_the_wait_for_the_tick() {
    let mut waits: Vec<u64> = (0..100)
        .map(|step| {
            let phase_us = step * TICK_US / 100;
            let result = run(&marked(160 * 20), &Network { phase_us, ..Network::default() });
            let first =
                result.heard.iter().position(|&sample| sample != 0).expect("it plays") as u64 / 160 * TICK_US;
            first - network::LEAD_US - phase_us
        })
        .collect();
    waits.sort_unstable();
    assert!(waits[50] <= 12_000, "median {} us", waits[50]);
    assert!(waits[95] <= 22_000, "95 % {} us", waits[95]);
    assert!(waits[0] >= 700, "a packet in the last moment is not relied on");
}

#[test]
fn before_the_first_packet_there_is_silence() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        assert_eq!(bench.tick(), (Pulled::Silence, vec![0; 160]));
    }
    assert_eq!(bench.playout.stats(), PlayoutStats::default());
    assert_eq!(bench.talk(10)[..], [Pulled::Normal; 10]);
}

#[test]
fn a_sender_on_hold_fades_within_a_tenth_of_a_second_and_comes_back_at_once() {
    for pause_keeps_time in [true, false] {
        let mut bench = Bench::new();
        bench.talk(100);
        let fading: Vec<Pulled> = (0..200).map(|_| bench.tick().0).collect();
        assert_eq!(fading[..5], [Pulled::Concealed; 5]);
        assert_eq!(fading[5..], [Pulled::Silence; 195]);
        if pause_keeps_time {
            bench.timestamp = bench.timestamp.wrapping_add(200 * 160);
        }
        let back = bench.talk(50);
        assert_eq!(back[..], [Pulled::Normal; 50], "timestamps went on: {pause_keeps_time}");
        let stats = bench.playout.stats();
        assert_eq!((stats.lost, stats.late, stats.delay_ms, stats.concealed_ms), (0, 0, 0, 100));
    }
}

#[test]
fn a_short_pause_of_a_sender_that_stops_its_clock_is_caught_up_with() {
    let mut bench = Bench::new();
    bench.talk(100);
    for _ in 0..20 {
        bench.tick();
    }
    bench.talk(100);
    assert_eq!(bench.talk(50)[..], [Pulled::Normal; 50]);
    assert_eq!(bench.playout.stats().lost, 0);
}

#[test]
fn silence_suppression_is_no_loss_and_a_telephone_event_neither() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        bench.talk(25);
        // The sender skips 60 ms of silence, then sends three events in place of sound.
        for _ in 0..3 {
            bench.tick();
        }
        bench.timestamp = bench.timestamp.wrapping_add(3 * 160);
        bench.talk(25);
        for _ in 0..3 {
            bench.playout.receive_other(bench.sequence);
            bench.sequence = bench.sequence.wrapping_add(1);
            bench.tick();
        }
        bench.timestamp = bench.timestamp.wrapping_add(3 * 160);
    }
    let stats = bench.playout.stats();
    assert_eq!((stats.lost, stats.late, stats.delay_ms), (0, 0, 0));
}

#[test]
fn a_lost_packet_is_concealed_and_nothing_moves() {
    let mut bench = Bench::new();
    bench.talk(200);
    bench.sequence = bench.sequence.wrapping_add(1);
    bench.timestamp = bench.timestamp.wrapping_add(160);
    assert_eq!(bench.tick().0, Pulled::Concealed);
    let after = bench.talk(50);
    assert_eq!(after[0], Pulled::Concealed, "its first milliseconds are faded in");
    assert_eq!(after[1..], [Pulled::Normal; 49]);
    let stats = bench.playout.stats();
    assert_eq!((stats.lost, stats.late, stats.concealed_ms, stats.delay_ms), (1, 0, 20, 0));
}

#[test]
fn steady_loss_makes_it_hold_one_packet_and_calm_gives_it_back() {
    let lossy = Network { loss_percent: 4, seed: 5, ..Network::default() };
    let pcm = network::speech();
    assert_eq!(run(&pcm, &lossy).playout.stats().target_ms, 20);
    let mut bench = Bench::new();
    bench.talk(20);
    for _ in 0..10 {
        bench.sequence = bench.sequence.wrapping_add(1);
        bench.timestamp = bench.timestamp.wrapping_add(160);
        bench.tick();
        bench.talk(20);
    }
    let delay_ms = bench.playout.stats().delay_ms;
    assert!((20..28).contains(&delay_ms), "one packet and less than a period of the buzz: {delay_ms}");
    bench.talk(10 * SECOND);
    assert_eq!((bench.playout.stats().target_ms, bench.playout.stats().delay_ms), (0, 0));
}

#[test]
fn reordered_and_doubled_packets_are_put_right() {
    let pcm = marked(160 * 40);
    let payloads: Vec<Vec<u8>> = pcm.chunks(160).map(|frame| payload_of(AudioCodec::Pcmu, frame)).collect();
    let mut playout = Playout::new(AudioCodec::Pcmu, PlayoutSettings::default());
    let mut heard = vec![];
    let send = |playout: &mut Playout, now, n: usize| {
        let timestamp = (u32::MAX - 800).wrapping_add(160 * n as u32);
        playout.receive(now, 65_530_u16.wrapping_add(n as u16), timestamp, &payloads[n]);
    };
    for tick in 0..20_usize {
        // Two packets for each two ticks, the second of them first, and both twice.
        let now = Instant::from_millis(1000 + 20 * tick as u64);
        if tick % 2 == 0 {
            for n in [tick + 1, tick, tick + 1, tick] {
                send(&mut playout, now, n);
            }
        }
        let mut out = vec![0; 160];
        assert_eq!(playout.pull(now + Duration::from_millis(10), &mut out), Pulled::Normal);
        heard.extend(out);
    }
    assert!(heard == pcm[..160 * 20]);
    let stats = playout.stats();
    assert_eq!((stats.received, stats.duplicate, stats.lost, stats.late), (40, 20, 0, 0));
    send(&mut playout, Instant::from_millis(1400), 3);
    assert_eq!(playout.stats().late, 1);
}

#[test]
fn a_burst_beyond_all_room_is_dropped_and_counted_and_the_rest_plays_without_delay() {
    let mut bench = Bench::with_delay_max(100);
    bench.talk(10);
    for _ in 0..200 {
        bench.send(&[1000; 160]);
    }
    assert!(bench.playout.stats().discarded >= 180, "{:?}", bench.playout.stats());
    bench.talk(10 * SECOND);
    let stats = bench.playout.stats();
    assert!(stats.delay_ms <= 100, "{stats:?}");
    assert_eq!(bench.talk(20)[..], [Pulled::Normal; 20]);
}

#[test]
fn an_outage_is_over_when_it_is_over() {
    for outage_ticks in [3, 10, 100] {
        let mut bench = Bench::new();
        bench.talk(100);
        let missed: Vec<Vec<i16>> = (0..outage_ticks).map(|_| vec![500; 160]).collect();
        for _ in &missed {
            bench.tick();
        }
        // Everything the network held back comes at once.
        for packet in &missed {
            bench.send(packet);
        }
        bench.talk(4 * SECOND);
        let stats = bench.playout.stats();
        assert!(stats.delay_ms <= 20, "{outage_ticks}: {stats:?}");
    }
}

#[test]
fn another_source_and_a_jump_of_the_timestamps_play_on() {
    for jump in [1_000_000_u32, 3_000_000_000, 0xffff_fff0] {
        let mut bench = Bench::new();
        bench.talk(100);
        bench.playout.reset();
        bench.timestamp = bench.timestamp.wrapping_add(jump);
        assert_eq!(bench.talk(20)[..], [Pulled::Normal; 20], "a reset: {jump}");
        bench.timestamp = bench.timestamp.wrapping_add(jump / 2);
        bench.sequence = bench.sequence.wrapping_add(9_000);
        let after = bench.talk(30);
        assert_eq!(after[15..], [Pulled::Normal; 15], "no reset: {jump} {after:?}");
    }
}

#[test]
fn frames_of_10_ms_and_other_packet_lengths_in_mid_stream_are_the_same_stream() {
    let pcm = marked(160 * 60);
    let mut playout = Playout::new(AudioCodec::Pcmu, PlayoutSettings::default());
    let (mut sent, mut heard, mut sequence) = (0, vec![], 0);
    for tick in 0..100_u64 {
        let now = Instant::from_millis(1000 + 10 * tick);
        // 20 ms packets, then 40 ms, then 10 ms; each is whole when its last sample is.
        let length = [160, 320, 80][tick as usize / 34];
        while sent + length <= 80 * (tick as usize + 1) {
            let payload = payload_of(AudioCodec::Pcmu, &pcm[sent..sent + length]);
            playout.receive(now, sequence, sent as u32, &payload);
            (sent, sequence) = (sent + length, sequence + 1);
        }
        let mut out = [0; 80];
        playout.pull(now + Duration::from_millis(5), &mut out);
        heard.extend(out);
    }
    let start = heard.windows(4).position(|four| four == &pcm[1..5]).expect("it plays");
    assert!(heard[start..start + 2000] == pcm[1..2001], "the 20 ms packets");
    assert_eq!(playout.stats().lost, 0);
    let end = heard.len() - 800;
    let last = pcm.windows(400).position(|part| part == &heard[end..end + 400]);
    assert!(last.is_some(), "the 10 ms packets");
}

#[test]
fn a_clock_that_runs_off_is_followed_for_an_hour_by_stretching_alone() {
    for skew_ppm in [-500, 500] {
        let mut worst = 0;
        let network = Network { skew_ppm, phase_us: 7_000, ..Network::default() };
        let result = network::run_buzz(3600 * SECOND, &network, |stats| worst = worst.max(stats.delay_ms));
        let stats = result.stats();
        let stretched = if skew_ppm > 0 { stats.accelerated_ms } else { stats.expanded_ms };
        assert!((1_500..2_200).contains(&stretched), "{skew_ppm}: {stats:?}");
        assert!(stats.late + stats.lost + stats.discarded == 0, "{skew_ppm}: {stats:?}");
        assert!(stats.concealed_ms < 200, "{skew_ppm}: {stats:?}");
        // One packet for the drift, one packet not yet forgotten, less than a period of the buzz.
        assert!(worst < 48, "{skew_ppm}: {worst} ms");
    }
}

#[test]
fn a_leg_fits_its_budget() {
    let bytes = Playout::new(AudioCodec::Pcmu, PlayoutSettings::default()).memory_bytes();
    assert!(bytes <= 12 * 1024, "{bytes}");
}

#[test]
fn nothing_from_the_wire_panics_or_stalls() {
    let mut rng = crate::rng::Rng::from_number(11);
    for round in 0..40 {
        let mut playout = Playout::new(AudioCodec::Pcma, PlayoutSettings { delay_max_ms: 20 + 20 * round });
        let mut now = Instant::from_millis(5);
        let (mut sequence, mut timestamp) = (rng.next_u32() as u16, rng.next_u32());
        for _ in 0..2_000 {
            match rng.below(12) {
                0 => timestamp = rng.next_u32(),
                1 => sequence = rng.next_u32() as u16,
                2 => timestamp = timestamp.wrapping_sub(rng.below(3_000) as u32),
                3 => now += Duration::from_millis(rng.below(400)),
                4 => playout.receive_other(rng.next_u32() as u16),
                5 => playout.reset(),
                _ => {}
            }
            let length = [0, 1, 7, 80, 160, 161, 240, 480, 1200][rng.below(9) as usize];
            playout.receive(now, sequence, timestamp, &vec![rng.next_u32() as u8; length]);
            sequence = sequence.wrapping_add(1);
            timestamp = timestamp.wrapping_add(length as u32);
            now += Duration::from_millis(rng.below(21));
            let frame = [0, 1, 80, 160, 160, 160, 320][rng.below(7) as usize];
            playout.pull(now, &mut vec![0; frame]);
            playout.stats();
        }
    }
}
