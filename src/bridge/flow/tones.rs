//! Sounds that flows make themselves: the beep, and keys for peers that take no telephone events.

use std::f32::consts::TAU;

use crate::plane::Clip;
use crate::time::Duration;

/// The rate of the sounds made here, in hertz.
const RATE_HZ: u32 = 8000;
/// The beep: one tone, this long, at −12 dBov peak.
const BEEP_HZ: f32 = 1000.0;
const BEEP_MS: u32 = 400;
const BEEP_AMPLITUDE: f32 = 8_200.0;
/// A sound begins and ends over this time, without a click.
const FADE_MS: u32 = 5;
/// Level of each tone of a key: with both, −9 dBm0 as ITU-T Q.24 senders are.
const KEY_AMPLITUDE: f32 = 5_800.0;
/// The keys' tones (ITU-T Q.23), in hertz: rows, then columns.
const ROWS_HZ: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS_HZ: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
/// The keys by row and column.
const KEYS: [&str; 4] = ["123A", "456B", "789C", "*0#D"];

/// The beep.
pub(in crate::bridge) fn beep() -> Clip {
    let mut samples = Vec::new();
    add_tones(&mut samples, &[BEEP_HZ], BEEP_AMPLITUDE, BEEP_MS);
    Clip::new(RATE_HZ, samples)
}

/// Keys as tones; what is no key is left out.
pub(in crate::bridge) fn keys(digits: &str, held: Duration, gap: Duration) -> Clip {
    let (held_ms, gap_ms) = (held.as_millis() as u32, gap.as_millis() as u32);
    let mut samples = Vec::new();
    for digit in digits.chars() {
        let Some((row, column)) = place(digit) else { continue };
        add_tones(&mut samples, &[ROWS_HZ[row], COLUMNS_HZ[column]], KEY_AMPLITUDE, held_ms);
        let silence = samples.len() + (RATE_HZ / 1000 * gap_ms) as usize;
        samples.resize(silence, 0);
    }
    Clip::new(RATE_HZ, samples)
}

fn place(digit: char) -> Option<(usize, usize)> {
    let digit = digit.to_ascii_uppercase();
    KEYS.iter().enumerate().find_map(|(row, keys)| keys.find(digit).map(|column| (row, column)))
}

fn add_tones(samples: &mut Vec<i16>, tones_hz: &[f32], amplitude: f32, length_ms: u32) {
    let (length, fade) = (RATE_HZ / 1000 * length_ms, RATE_HZ / 1000 * FADE_MS);
    samples.extend((0..length).map(|at| {
        let edge = at.min(length - 1 - at).min(fade) as f32 / fade as f32;
        let sum: f32 = tones_hz.iter().map(|hz| (hz * at as f32 / RATE_HZ as f32 * TAU).sin()).sum();
        (sum * amplitude * edge) as i16
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beep_is_a_tone_of_its_length_without_a_click() {
        let beep = beep();
        assert_eq!(beep.samples().len(), 3200);
        assert_eq!((beep.samples().first(), beep.samples().last()), (Some(&0), Some(&0)));
        let rising = beep.samples().windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        assert!((398..=400).contains(&rising), "{rising}");
    }

    #[test]
    fn keys_are_as_long_as_asked_for() {
        let clip = keys("1x#", Duration::from_millis(100), Duration::from_millis(50));
        assert_eq!(clip.samples().len(), 2 * 150 * 8);
        assert_eq!((place('1'), place('d'), place('#')), (Some((0, 0)), Some((3, 3)), Some((3, 2))));
    }
}
