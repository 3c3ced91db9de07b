//! Latency by a mark in the sound: a talker turns its tone's phase at a known moment, and a listener
//! finds the sample where the turn arrives, whatever else it hears.
//!
//! All tones of a room repeat every [`PERIOD`] samples, so the difference between a sample and the
//! one a period before is zero, until a phase turns: then it is twice that talker's tone for exactly
//! one period, from its first sample on. The added latency of a path is
//! `(arrival + position in that packet) − (departure + position in that packet)`: what the path
//! adds to a wire that carried the packets straight from one phone to the other.

use crate::audio::AudioCodec;
use crate::codec::g711;
use crate::time::{Duration, Instant};

use super::tone::{PERIOD, RATE_HZ, amplitude_at};

/// A turn that a listener should be looking for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// The frequency of the talker that turned.
    pub hz: u32,
    /// Its peak amplitude.
    pub amplitude: f64,
}

/// A turn found: when its first sample reached us as sound, at full packet resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Onset {
    /// When the packet with the first turned sample arrived.
    pub arrival: Instant,
    /// The position of that sample in its packet.
    pub offset_samples: u32,
}

impl Onset {
    /// The added latency, given that the turn was the first sample of a packet sent at `sent`.
    pub fn latency(&self, sent: Instant) -> Duration {
        let into_packet =
            Duration::from_micros(u64::from(self.offset_samples) * 1_000_000 / u64::from(RATE_HZ));
        (self.arrival + into_packet).since(sent)
    }
}

/// A place where the sound changed, until a whole period says whether it was the turn.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    onset: Onset,
    difference: [i16; PERIOD],
    known: usize,
}

/// The listening end: one per call.
#[derive(Clone, Debug)]
pub struct TurnFinder {
    last: [u8; PERIOD],
    primed: bool,
    candidate: Option<Candidate>,
}

impl Default for TurnFinder {
    fn default() -> TurnFinder {
        TurnFinder { last: [0; PERIOD], primed: false, candidate: None }
    }
}

impl TurnFinder {
    /// Remembers the end of a packet in which nothing is looked for.
    pub fn skip(&mut self, payload: &[u8]) {
        self.candidate = None;
        self.remember(payload);
    }

    /// Looks for `turn` in a packet that arrived at `arrival`. A turn is found once, with the packet
    /// that completes a period after it.
    pub fn search(
        &mut self,
        arrival: Instant,
        payload: &[u8],
        codec: AudioCodec,
        turn: &Turn,
    ) -> Option<Onset> {
        let mut found = None;
        if self.primed {
            for (offset, &byte) in payload.iter().enumerate() {
                let before = match offset.checked_sub(PERIOD) {
                    Some(earlier) => payload[earlier],
                    None => self.last[offset],
                };
                let difference = if byte == before { 0 } else { difference(codec, byte, before) };
                let here = Onset { arrival, offset_samples: offset as u32 };
                found = found.or(self.take(here, difference, turn));
            }
        }
        self.remember(payload);
        found
    }

    /// One more sample's difference to the period before.
    fn take(&mut self, here: Onset, difference: i16, turn: &Turn) -> Option<Onset> {
        if self.candidate.is_none() && f64::from(difference.unsigned_abs()) > turn.amplitude {
            self.candidate = Some(Candidate { onset: here, difference: [0; PERIOD], known: 0 });
        }
        let candidate = self.candidate.as_mut()?;
        candidate.difference[candidate.known] = difference;
        candidate.known += 1;
        if candidate.known < PERIOD {
            return None;
        }
        let amplitude = amplitude_at(&candidate.difference, turn.hz);
        let onset = candidate.onset;
        self.candidate = None;
        (1.4 * turn.amplitude..2.6 * turn.amplitude).contains(&amplitude).then_some(onset)
    }

    /// Keeps the last period heard. A packet shorter than a period cannot be compared with.
    fn remember(&mut self, payload: &[u8]) {
        match payload.last_chunk::<PERIOD>() {
            Some(last) => {
                self.last = *last;
                self.primed = true;
            }
            None => self.primed = false,
        }
    }
}

/// The difference of two encoded samples, saturated.
fn difference(codec: AudioCodec, now: u8, before: u8) -> i16 {
    let mut samples = [0i16; 2];
    g711::decode(codec, &[now, before], &mut samples);
    samples[0].saturating_sub(samples[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::g711::{decode, encode};
    use crate::load::tone::{encoded_period, tone_hz};

    /// A stream of `samples` with three tones, of which tone 0 turns at `at`.
    fn stream(codec: AudioCodec, samples: usize, at: usize) -> Vec<u8> {
        let mut sum = vec![0i16; samples];
        for tone in 0..3 {
            let period = encoded_period(tone_hz(tone), 5000.0, codec);
            for (n, sum) in sum.iter_mut().enumerate() {
                let turned = if tone == 0 && n >= at { 0x80 } else { 0 };
                // The turned tone starts its period anew, as a sender's frame does.
                let phase = if tone == 0 && n >= at { n - at } else { n };
                let mut sample = [0];
                decode(codec, &[period[phase % PERIOD] ^ turned], &mut sample);
                *sum += sample[0];
            }
        }
        let mut bytes = vec![0; samples];
        encode(codec, &sum, &mut bytes);
        bytes
    }

    fn find(codec: AudioCodec, bytes: &[u8], packet: usize, turn: Turn) -> Vec<(usize, u32)> {
        let mut finder = TurnFinder::default();
        let mut found = Vec::new();
        for (n, payload) in bytes.chunks(packet).enumerate() {
            if let Some(onset) = finder.search(Instant::from_millis(n as u64), payload, codec, &turn) {
                found.push((onset.arrival.as_millis() as usize, onset.offset_samples));
            }
        }
        found
    }

    #[test]
    fn a_turn_is_found_at_every_offset_in_packets_of_every_length() {
        let turn = Turn { hz: tone_hz(0), amplitude: 5000.0 };
        for codec in AudioCodec::ALL {
            for packet in [80, 160, 240] {
                // The sender turns at the start of its frame; a buffer may shift frames by any
                // number of samples, which moves the whole stream.
                for shift in 0..packet {
                    let stream = stream(codec, packet * 12, packet * 6);
                    let shifted: Vec<u8> = stream[shift..].to_vec();
                    let at = packet * 6 - shift;
                    let expected = vec![(at / packet, (at % packet) as u32)];
                    assert_eq!(find(codec, &shifted, packet, turn), expected, "{codec:?} {packet} {shift}");
                }
            }
        }
    }

    #[test]
    fn another_talkers_turn_or_a_click_is_not_taken_for_it() {
        let bytes = stream(AudioCodec::Pcmu, 1920, 960);
        let other = Turn { hz: tone_hz(1), amplitude: 5000.0 };
        assert!(find(AudioCodec::Pcmu, &bytes, 160, other).is_empty());
        let mut steady = stream(AudioCodec::Pcmu, 1920, 4000);
        steady[700..705].fill(0x80);
        let turn = Turn { hz: tone_hz(0), amplitude: 5000.0 };
        assert!(find(AudioCodec::Pcmu, &steady, 160, turn).is_empty());
    }

    #[test]
    fn latency_counts_from_the_sample_that_turned() {
        let onset = Onset { arrival: Instant::from_millis(105), offset_samples: 40 };
        assert_eq!(onset.latency(Instant::from_millis(100)), Duration::from_millis(10));
        assert_eq!(onset.latency(Instant::from_millis(200)), Duration::ZERO);
    }

    #[test]
    fn short_packets_are_survived() {
        let mut finder = TurnFinder::default();
        let turn = Turn { hz: 500, amplitude: 5000.0 };
        for length in [0, 1, 79, 80, 160, 3, 1400] {
            assert_eq!(finder.search(Instant::ZERO, &vec![0xff; length], AudioCodec::Pcmu, &turn), None);
        }
    }
}
