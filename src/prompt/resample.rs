//! Sound of any rate at another: a windowed sinc, of which each phase is computed once. For prompts,
//! which are there as a whole; the room's own resampler is `codec::resample`.

use std::f64::consts::PI;

/// Zero crossings of the sinc on each side.
const CROSSINGS: f64 = 16.0;
/// How much of the lower rate's band passes.
const PASSED: f64 = 0.94;

/// `samples` of `from_hz` at `to_hz`. Both are at least 1.
pub fn resample(samples: &[f32], from_hz: u32, to_hz: u32) -> Vec<i16> {
    if from_hz == to_hz {
        return samples.iter().map(|sample| to_i16(*sample)).collect();
    }
    let divisor = gcd(from_hz, to_hz);
    let (up, down) = ((to_hz / divisor) as usize, (from_hz / divisor) as usize);
    let cutoff = PASSED * (f64::from(to_hz) / f64::from(from_hz)).min(1.0);
    let reach = (CROSSINGS / cutoff).ceil() as usize;
    let mut phases: Vec<Option<Vec<f32>>> = vec![None; up];
    let length = samples.len() * up / down;
    let mut resampled = Vec::with_capacity(length);
    for at in 0..length {
        let (place, phase) = (at * down / up, at * down % up);
        let taps = phases[phase].get_or_insert_with(|| taps(phase as f64 / up as f64, cutoff, reach));
        // The taps lie from `reach` before the place to `reach` after it.
        let first = (place + 1).saturating_sub(reach);
        let skipped = first + reach - (place + 1);
        let near = samples.get(first..).unwrap_or_default();
        let sum: f32 = near.iter().zip(taps.iter().skip(skipped)).map(|(sample, tap)| sample * tap).sum();
        resampled.push(to_i16(sum));
    }
    resampled
}

/// The filter around a place this far behind a sample: 2 · `reach` taps with a sum of one.
fn taps(behind: f64, cutoff: f64, reach: usize) -> Vec<f32> {
    let taps: Vec<f64> = (0..2 * reach)
        .map(|tap| {
            let distance = tap as f64 + 1.0 - reach as f64 - behind;
            let window = (PI * distance / (2.0 * reach as f64)).cos().powi(2);
            let x = PI * cutoff * distance;
            let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
            sinc * window
        })
        .collect();
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|tap| (tap / sum) as f32).collect()
}

fn to_i16(sample: f32) -> i16 {
    (sample * 32_767.0).round().clamp(-32_768.0, 32_767.0) as i16
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, rate: u32) -> Vec<f32> {
        (0..rate).map(|at| ((f64::from(at) * hz / f64::from(rate) * 2.0 * PI).sin() * 0.5) as f32).collect()
    }

    fn rms(samples: &[i16]) -> f64 {
        let inner = &samples[samples.len() / 4..samples.len() * 3 / 4];
        (inner.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / inner.len() as f64).sqrt()
    }

    #[test]
    fn a_tone_keeps_its_level_and_frequency_at_every_usual_rate() {
        for rate in [8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000] {
            let out = resample(&tone(1000.0, rate), rate, 8000);
            assert_eq!(out.len(), 8000, "{rate}");
            assert!((rms(&out) - 0.5 * 32_767.0 / 2f64.sqrt()).abs() < 120.0, "{rate}: {}", rms(&out));
            let rising = out.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
            assert!((998..=1001).contains(&rising), "{rate}: {rising}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone() {
        for hz in [4500.0, 6000.0, 9000.0] {
            assert!(rms(&resample(&tone(hz, 48_000), 48_000, 8000)) < 30.0, "{hz}");
        }
    }

    #[test]
    fn nothing_and_the_very_short_are_fine() {
        assert!(resample(&[], 44_100, 8000).is_empty());
        assert!(resample(&[0.5; 3], 44_100, 8000).is_empty());
        assert_eq!(resample(&[2.0, -2.0], 8000, 8000), [32_767, -32_768]);
    }
}
