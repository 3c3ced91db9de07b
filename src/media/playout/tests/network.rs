//! A network between a sender and a leg: packets lost and late by seed.

use crate::audio::AudioCodec;
use crate::codec::g711;
use crate::media::playout::{Playout, PlayoutSettings, PlayoutStats, Pulled};
use crate::rng::Rng;
use crate::time::Instant;

/// From tick to tick.
pub const TICK_US: u64 = 20_000;
/// The first tick.
const START_US: u64 = 1_000_000;
/// From there to the first packet, less its phase: a leg waits before its caller speaks.
pub const LEAD_US: u64 = 5 * TICK_US;

/// What the network does.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    pub codec: AudioCodec,
    pub packet_ms: usize,
    /// When packets are sent, after a tick.
    pub phase_us: u64,
    /// Each packet is late by up to this, evenly spread.
    pub jitter_ms: u64,
    pub loss_percent: u64,
    /// How much faster than ours the sender's clock runs.
    pub skew_ppm: i64,
    pub seed: u64,
}

impl Default for Network {
    fn default() -> Self {
        let codec = AudioCodec::Pcmu;
        Self { codec, packet_ms: 20, phase_us: 10_000, jitter_ms: 0, loss_percent: 0, skew_ppm: 0, seed: 1 }
    }
}

/// What became of it.
#[derive(Debug)]
pub struct Outcome {
    pub heard: Vec<i16>,
    pub playout: Playout,
    /// Mean of the delay over all ticks.
    pub mean_delay_ms: f64,
    /// For each packet whether it was lost.
    pub is_lost: Vec<bool>,
}

/// The fixture: 13 s of speech.
pub fn speech() -> Vec<i16> {
    let wav = include_bytes!("../../../../fixtures/speech/austen-8k.wav");
    wav[44..].chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]])).collect()
}

/// Sends `pcm` through `network` into a leg.
pub fn run(pcm: &[i16], network: &Network) -> Outcome {
    let mut rng = Rng::from_number(network.seed);
    let samples = network.packet_ms * 8;
    let mut is_lost = vec![];
    let mut arrivals = vec![];
    for (number, packet) in pcm.chunks_exact(samples).enumerate() {
        let sent = START_US + LEAD_US + number as u64 * network.packet_ms as u64 * 1000 + network.phase_us;
        let late = rng.below(network.jitter_ms * 1000 + 1);
        let lost = rng.below(100) < network.loss_percent;
        is_lost.push(lost);
        if !lost {
            arrivals.push((sent + late, number, packet));
        }
    }
    arrivals.sort_by_key(|&(at, number, _)| (at, number));
    let mut arrivals = arrivals.into_iter().peekable();
    let mut playout = Playout::new(network.codec, PlayoutSettings::default());
    let mut heard = vec![];
    let ticks = pcm.len() / 160 + 25;
    let mut delay = 0.0;
    for tick in 0..ticks as u64 {
        let now = START_US + tick * TICK_US;
        while let Some((at, number, packet)) = arrivals.next_if(|&(at, ..)| at <= now) {
            let mut payload = vec![0; packet.len()];
            g711::encode(network.codec, packet, &mut payload);
            playout.receive(
                Instant::from_nanos(at * 1000),
                number as u16,
                (number * samples) as u32,
                &payload,
            );
        }
        let mut out = [0; 160];
        playout.pull(Instant::from_nanos(now * 1000), &mut out);
        heard.extend(out);
        delay += f64::from(playout.stats().delay_ms);
    }
    Outcome { heard, playout, mean_delay_ms: delay / ticks as f64, is_lost }
}

/// Sends `packets` of a voice-like sound with pauses, from a sender whose clock runs off.
pub fn run_buzz(packets: usize, network: &Network, mut watch: impl FnMut(PlayoutStats)) -> Playout {
    let mut playout = Playout::new(network.codec, PlayoutSettings::default());
    // Half a second of a 125 Hz voice, then as much of near silence.
    let sound = |n: usize| {
        let phase = (n % 64) as f64 / 64.0 * std::f64::consts::TAU;
        if (n / 4000).is_multiple_of(2) {
            ((phase.sin() + (2.0 * phase).sin()) * 3000.0) as i16
        } else {
            (n * 7 % 13) as i16
        }
    };
    let mut payloads = vec![0; 8000];
    g711::encode(network.codec, &(0..8000).map(sound).collect::<Vec<_>>(), &mut payloads);
    let arrival = |number: usize| {
        let sent = number as i64 * TICK_US as i64;
        START_US + LEAD_US + network.phase_us + (sent - sent * network.skew_ppm / 1_000_000) as u64
    };
    let mut number = 0;
    for tick in 0..packets as u64 {
        let now = START_US + tick * TICK_US;
        while arrival(number) <= now {
            let payload = &payloads[number % 50 * 160..][..160];
            let at = Instant::from_nanos(arrival(number) * 1000);
            playout.receive(at, number as u16, (number * 160) as u32, payload);
            number += 1;
        }
        let mut out = [0; 160];
        let pulled = playout.pull(Instant::from_nanos(now * 1000), &mut out);
        assert!(tick < 10 || pulled != Pulled::Silence);
        watch(playout.stats());
    }
    playout
}
