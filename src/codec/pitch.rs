//! Where a voice repeats itself: the lag at which a signal best resembles its own past. Shared by
//! concealment, which continues a signal by its period, and by time-stretch, which takes out or
//! puts in whole periods.

/// The shortest pitch period looked for, in microseconds (444 Hz).
const LAG_MIN_US: u32 = 2_250;
/// The longest pitch period looked for, in microseconds (62 Hz).
const LAG_MAX_US: u32 = 16_000;
/// A shorter lag wins over one of up to this many times its likeness: else a period's multiple is
/// often found instead of the period.
const SHORTER_WINS: f32 = 0.95;
/// The search is made at no more than this rate and refined after.
const SEARCH_RATE_HZ: u32 = 8_000;

/// The lags searched at one sampling rate, in samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lags {
    /// The shortest.
    pub min: usize,
    /// The longest.
    pub max: usize,
    /// Samples per step of the coarse search.
    pub step: usize,
}

impl Lags {
    /// The lags of the human voice at `rate_hz`.
    pub const fn at(rate_hz: u32) -> Self {
        let step = if rate_hz > SEARCH_RATE_HZ { rate_hz / SEARCH_RATE_HZ } else { 1 };
        Self {
            min: (LAG_MIN_US as u64 * rate_hz as u64 / 1_000_000) as usize,
            max: (LAG_MAX_US as u64 * rate_hz as u64 / 1_000_000) as usize,
            step: step as usize,
        }
    }
}

/// A lag and how alike the signal is at it: 1 for a perfect repeat, 0 or less for none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Period {
    /// In samples.
    pub lag: usize,
    /// Normalised cross-correlation.
    pub likeness: f32,
}

/// Lanes of a sum, so that the compiler may add them side by side.
const LANES: usize = 8;

/// Normalised cross-correlation of two equally long slices, every `step`th sample.
pub fn likeness(a: &[f32], b: &[f32], step: usize) -> f32 {
    let sums = if step == 1 { dense_sums(a, b) } else { sparse_sums(a, b, step) };
    let [cross, power_a, power_b] = sums;
    cross / ((power_a + 1.0) * (power_b + 1.0)).sqrt()
}

/// The sums of a·b, a² and b².
fn dense_sums(a: &[f32], b: &[f32]) -> [f32; 3] {
    let mut lanes = [[0.0_f32; LANES]; 3];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = sparse_sums(a.remainder(), b.remainder(), 1);
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            lanes[0][lane] += a[lane] * b[lane];
            lanes[1][lane] += a[lane] * a[lane];
            lanes[2][lane] += b[lane] * b[lane];
        }
    }
    std::array::from_fn(|sum| lanes[sum].iter().sum::<f32>() + rest[sum])
}

fn sparse_sums(a: &[f32], b: &[f32], step: usize) -> [f32; 3] {
    let mut sums = [0.0; 3];
    for (&x, &y) in a.iter().zip(b).step_by(step) {
        sums[0] += x * y;
        sums[1] += x * x;
        sums[2] += y * y;
    }
    sums
}

/// The period at the end of `signal`, judged over the last `window` samples.
pub fn at_end(signal: &[f32], lags: Lags, window: usize) -> Option<Period> {
    let longest = lags.max.min(signal.len().checked_sub(window)?);
    let recent = &signal[signal.len() - window..];
    let at = |lag: usize, step: usize| {
        let from = signal.len() - window - lag;
        likeness(recent, &signal[from..from + window], step)
    };
    let mut best: Option<Period> = None;
    for lag in (lags.min..=longest).step_by(lags.step) {
        let likeness = at(lag, lags.step);
        // Within a peak the higher point wins; a later peak must be better by a margin.
        let margin = match best {
            Some(best) if lag > best.lag + lags.min / 2 && best.likeness > 0.0 => {
                best.likeness / SHORTER_WINS
            }
            Some(best) => best.likeness,
            None => f32::MIN,
        };
        if likeness > margin {
            best = Some(Period { lag, likeness });
        }
    }
    let coarse = best?;
    if lags.step == 1 {
        return best;
    }
    let around = coarse.lag.saturating_sub(lags.step).max(lags.min)..=(coarse.lag + lags.step).min(longest);
    around.map(|lag| Period { lag, likeness: at(lag, 1) }).max_by(|a, b| a.likeness.total_cmp(&b.likeness))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buzz(rate_hz: u32, pitch_hz: f32, samples: usize) -> Vec<f32> {
        let phase = |n: usize| n as f32 / rate_hz as f32 * pitch_hz * std::f32::consts::TAU;
        (0..samples).map(|n| (1..6).map(|k| (phase(n) * k as f32).sin() * 3000.0 / k as f32).sum()).collect()
    }

    #[test]
    fn the_period_of_a_buzz_is_found_at_every_rate() {
        for rate_hz in [8_000, 16_000, 48_000] {
            for pitch_hz in [80.0, 125.0, 200.0, 320.0] {
                let signal = buzz(rate_hz, pitch_hz, rate_hz as usize / 25);
                let period = at_end(&signal, Lags::at(rate_hz), rate_hz as usize / 80).expect("long enough");
                let expected = rate_hz as f32 / pitch_hz;
                assert!((period.lag as f32 - expected).abs() <= 1.0, "{rate_hz} {pitch_hz} {period:?}");
                assert!(period.likeness > 0.95);
            }
        }
    }

    #[test]
    fn too_short_a_signal_has_no_period() {
        assert_eq!(at_end(&[0.0; 20], Lags::at(8_000), 100), None);
        assert_eq!(at_end(&[0.0; 110], Lags::at(8_000), 100), None);
    }
}
