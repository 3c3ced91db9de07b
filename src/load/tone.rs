//! The tones by which calls are told apart: all multiples of 100 Hz, so that every 10 ms of any sum
//! of them repeats exactly, and any two are orthogonal over a whole number of periods.

use std::f64::consts::TAU;

use crate::audio::AudioCodec;
use crate::codec::g711;

/// Samples per second of G.711.
pub const RATE_HZ: u32 = 8000;
/// Samples after which every tone of the grid repeats: 10 ms.
pub const PERIOD: usize = 80;
/// The distance of neighbouring tones.
pub const GRID_HZ: u32 = 100;
/// The grid in the order it is given out: multiples by primes first, which are no harmonics of
/// each other.
const ORDER: [u32; 30] = [
    5, 7, 11, 13, 17, 19, 23, 29, 3, 31, 8, 9, 10, 12, 14, 15, 16, 18, 20, 21, 22, 24, 25, 26, 27, 28, 30,
    32, 4, 6,
];
/// How many tones there are.
pub const TONES: usize = ORDER.len();
/// The loudest single tone: −13 dBov of a sine of full scale, loud for speech.
const AMPLITUDE_MAX: f64 = 8000.0;
/// What all tones of a room may add up to, so that no limiter has to act.
const AMPLITUDE_SUM: f64 = 24_000.0;

/// The frequency of tone `index`, counted around the grid.
pub fn tone_hz(index: usize) -> u32 {
    ORDER[index % TONES] * GRID_HZ
}

/// The peak amplitude of each of `talkers` in one room, such that their sum stays below clipping.
pub fn room_amplitude(talkers: usize) -> f64 {
    (AMPLITUDE_SUM / talkers.max(1) as f64).min(AMPLITUDE_MAX)
}

/// One period of a cosine of `hz` (a multiple of [`GRID_HZ`]) with peak `amplitude`, encoded. It
/// starts at its peak, so that a change of phase shows in its first sample.
pub fn encoded_period(hz: u32, amplitude: f64, codec: AudioCodec) -> [u8; PERIOD] {
    let mut samples = [0i16; PERIOD];
    for (n, sample) in samples.iter_mut().enumerate() {
        *sample = (amplitude * (TAU * f64::from(hz) * n as f64 / f64::from(RATE_HZ)).cos()) as i16;
    }
    let mut encoded = [0; PERIOD];
    g711::encode(codec, &samples, &mut encoded);
    encoded
}

/// The peak amplitude of `hz` in `samples` (Goertzel's algorithm). Exact when the samples hold a
/// whole number of periods.
pub fn amplitude_at(samples: &[i16], hz: u32) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let coefficient = 2.0 * (TAU * f64::from(hz) / f64::from(RATE_HZ)).cos();
    let (mut last, mut before) = (0.0f64, 0.0f64);
    for &sample in samples {
        let next = f64::from(sample) + coefficient * last - before;
        before = last;
        last = next;
    }
    let power = last * last + before * before - coefficient * last * before;
    2.0 * power.max(0.0).sqrt() / samples.len() as f64
}

/// A tone of any frequency, generated sample by sample: what `confab call --tone` speaks.
#[derive(Clone, Debug)]
pub struct Oscillator {
    step: f64,
    phase: f64,
    amplitude: f64,
}

impl Oscillator {
    /// A sine of `hz`, as loud as the loudest tone of a room.
    pub fn new(hz: f64) -> Oscillator {
        Oscillator { step: TAU * hz / f64::from(RATE_HZ), phase: 0.0, amplitude: AMPLITUDE_MAX }
    }

    /// Writes the next samples.
    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            *sample = (self.amplitude * self.phase.sin()) as i16;
            self.phase = (self.phase + self.step) % TAU;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::g711::decode;
    use std::collections::BTreeSet;

    fn decoded(hz: u32, amplitude: f64, codec: AudioCodec, samples: usize) -> Vec<i16> {
        let period = encoded_period(hz, amplitude, codec);
        let bytes: Vec<u8> = period.iter().copied().cycle().take(samples).collect();
        let mut out = vec![0; samples];
        decode(codec, &bytes, &mut out);
        out
    }

    #[test]
    fn the_grid_has_thirty_different_tones_inside_the_telephone_band() {
        let tones: BTreeSet<u32> = (0..TONES).map(tone_hz).collect();
        assert_eq!(tones.len(), TONES);
        assert!(tones.iter().all(|hz| (300..=3200).contains(hz) && hz % GRID_HZ == 0));
        assert_eq!(tone_hz(TONES), tone_hz(0));
    }

    #[test]
    fn every_tone_is_heard_and_no_other_through_both_codecs() {
        for codec in AudioCodec::ALL {
            for played in 0..TONES {
                let samples = decoded(tone_hz(played), 8000.0, codec, 1600);
                for other in 0..TONES {
                    let amplitude = amplitude_at(&samples, tone_hz(other));
                    if other == played {
                        assert!((amplitude - 8000.0).abs() < 250.0, "{codec:?} {played}: {amplitude}");
                    } else {
                        assert!(amplitude < 500.0, "{codec:?} {played} leaks into {other}: {amplitude}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_room_of_tones_is_separated_without_clipping() {
        for talkers in 1..=TONES {
            let amplitude = room_amplitude(talkers);
            let mut sum = vec![0i32; 1600];
            for talker in 0..talkers {
                for (sum, sample) in
                    sum.iter_mut().zip(decoded(tone_hz(talker), amplitude, AudioCodec::Pcmu, 1600))
                {
                    *sum += i32::from(sample);
                }
            }
            let mixed: Vec<i16> = sum.iter().map(|s| i16::try_from(*s).expect("no clipping")).collect();
            for tone in 0..TONES {
                let heard = amplitude_at(&mixed, tone_hz(tone)) > amplitude / 2.0;
                assert_eq!(heard, tone < talkers, "tone {tone} of {talkers}");
            }
        }
    }

    #[test]
    fn the_sign_bit_turns_the_phase_in_both_codecs() {
        for codec in AudioCodec::ALL {
            let bytes: Vec<u8> = (0..=255).collect();
            let turned: Vec<u8> = bytes.iter().map(|b| b ^ 0x80).collect();
            let (mut there, mut back) = (vec![0; 256], vec![0; 256]);
            decode(codec, &bytes, &mut there);
            decode(codec, &turned, &mut back);
            assert!(there.iter().zip(&back).all(|(a, b)| *a == -*b), "{codec:?}");
        }
    }

    #[test]
    fn nothing_is_heard_in_nothing() {
        assert_eq!(amplitude_at(&[], 500), 0.0);
        assert_eq!(amplitude_at(&[0; 800], 500), 0.0);
    }

    #[test]
    fn the_oscillator_plays_its_frequency_across_frames() {
        let mut oscillator = Oscillator::new(440.0);
        let mut samples = vec![0; 8000];
        samples.chunks_mut(160).for_each(|frame| oscillator.fill(frame));
        assert!(amplitude_at(&samples, 440) > 7900.0);
        assert!(amplitude_at(&samples, 540) < 50.0);
    }
}
