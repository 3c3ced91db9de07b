//! The look-ahead limiter: brings a wide mix into 16 bits by turning it down in time, not by
//! cutting its tops off. A mix that fits is passed on bit for bit.

use super::kernel;

/// Unity gain in the limiter's Q30 arithmetic: fine enough for a mix of 2000 full-scale voices.
const UNITY: u32 = 1 << 30;
/// The largest magnitude let out.
const CEILING: u32 = i16::MAX as u32;
/// Each frame is ramped in this many blocks: 2.5 ms of a 20 ms frame.
const BLOCKS: usize = 8;
/// Recovery per block: the way to unity shrinks by 1/64, about 160 ms to two thirds of it.
const RELEASE_SHIFT: u32 = 6;
/// Closer to unity than this (0.01 dB), the gain is unity and the path is exact again.
const SNAP: u32 = UNITY >> 10;

/// The gain state of one output mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limiter {
    /// Gain at the end of the last frame, Q30, at most [`UNITY`].
    gain: u32,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { gain: UNITY }
    }
}

impl Limiter {
    /// Whether the last frame ended without gain reduction.
    pub fn is_transparent(&self) -> bool {
        self.gain == UNITY
    }

    /// Writes `mix`, limited to 16 bits, to `out`. The whole frame is the look-ahead: a block's
    /// gain is already down at its first sample, so no sample is ever clipped.
    pub fn process(&mut self, mix: &[i32], out: &mut [i16]) {
        if self.gain == UNITY && kernel::peak(mix) <= CEILING {
            kernel::narrow(out, mix);
            return;
        }
        let length = mix.len().div_ceil(BLOCKS).max(1);
        let mut allowed = [UNITY; BLOCKS + 1];
        for (most, block) in allowed.iter_mut().zip(mix.chunks(length)) {
            *most = gain_for(kernel::peak(block));
        }
        // A gain at a block's edge must suit the blocks on both sides of it. What the next frame
        // brings is not known, so its first block may step down at the frame's edge.
        let mut start = self.gain.min(allowed[0]);
        for (index, (samples, limited)) in mix.chunks(length).zip(out.chunks_mut(length)).enumerate() {
            let recovered = start + ((UNITY - start) >> RELEASE_SHIFT) + 1;
            let end = recovered.min(allowed[index]).min(allowed[index + 1]).min(UNITY);
            ramp(samples, limited, start, end);
            start = end;
        }
        self.gain = if UNITY - start <= SNAP { UNITY } else { start };
    }
}

/// The largest gain that keeps `peak` under the ceiling.
fn gain_for(peak: u32) -> u32 {
    if peak <= CEILING { UNITY } else { (u64::from(CEILING) * u64::from(UNITY) / u64::from(peak)) as u32 }
}

/// Applies a gain that runs in a line from `start` to `end`.
fn ramp(samples: &[i32], limited: &mut [i16], start: u32, end: u32) {
    let count = samples.len() as i64;
    let (start, rise) = (i64::from(start), i64::from(end) - i64::from(start));
    for (position, (&sample, out)) in samples.iter().zip(limited).enumerate() {
        let gain = start + rise * position as i64 / count;
        *out = ((i64::from(sample) * gain) / i64::from(UNITY)) as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_mix_that_fits_passes_bit_for_bit() {
        let mix: Vec<i32> = (0..160).map(|n| (n * 409) % 65_535 - 32_767).collect();
        let mut out = [0; 160];
        Limiter::default().process(&mix, &mut out);
        assert!(mix.iter().zip(out).all(|(&wide, narrow)| wide == i32::from(narrow)));
    }

    #[test]
    fn no_sample_is_ever_clipped_or_turned_over() {
        let mut rng = Rng::from_number(7);
        let mut limiter = Limiter::default();
        let mut out = [0i16; 160];
        for _ in 0..5_000 {
            let scale = 1 + rng.below(200_000) as i64;
            let mix: Vec<i32> =
                (0..160).map(|_| (rng.below(2 * scale as u64 + 1) as i64 - scale) as i32).collect();
            limiter.process(&mix, &mut out);
            for (&wide, narrow) in mix.iter().zip(out) {
                assert!(i32::from(narrow).abs() <= wide.abs(), "{wide} became {narrow}");
                assert!(wide.signum() * i32::from(narrow) >= 0, "{wide} became {narrow}");
                assert!(narrow != i16::MIN);
            }
        }
    }

    #[test]
    fn a_loud_sine_keeps_its_shape() {
        // 2.5 × full scale: clipping would leave flat tops; a limiter leaves a smaller sine.
        let sine = |n: usize| (82_000.0 * (n as f64 * 0.2).sin()) as i32;
        let mut limiter = Limiter::default();
        let mut out = vec![0i16; 160];
        for frame in 0..20 {
            let mix: Vec<i32> = (0..160).map(|n| sine(frame * 160 + n)).collect();
            limiter.process(&mix, &mut out);
            let flat = out.windows(3).filter(|w| w[0] == w[1] && w[1] == w[2]).count();
            assert!(flat <= 2, "frame {frame} has {flat} flat tops");
        }
        assert!(out.iter().any(|s| s.unsigned_abs() > 30_000), "turned down no more than needed");
    }

    #[test]
    fn gain_comes_back_to_exact_after_the_loud_part() {
        let mut limiter = Limiter::default();
        let mut out = [0; 160];
        limiter.process(&[100_000; 160], &mut out);
        assert!(!limiter.is_transparent());
        let frames = (0..200).take_while(|_| {
            limiter.process(&[1_000; 160], &mut out);
            !limiter.is_transparent()
        });
        let frames = frames.count();
        assert!((20..200).contains(&frames), "{frames} frames of 20 ms");
        limiter.process(&[1_000; 160], &mut out);
        assert_eq!(out, [1_000; 160]);
    }
}
