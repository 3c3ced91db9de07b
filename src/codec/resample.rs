//! Resampling between 8, 16 and 48 kHz: a polyphase FIR, streaming, with a delay under 1.5 ms.
//!
//! One prototype low-pass serves every pair of rates, scaled to the lower one: a Kaiser-windowed
//! sinc, flat to 0.85 of the lower rate's Nyquist frequency.

/// Taps of the prototype on each side of its centre, counted at the lower of the two rates. Half
/// the filter's length is its delay: 11 samples at 8 kHz are 1.375 ms.
const HALF_TAPS: usize = 11;
/// The window's shape: less ripple for a wider edge.
const KAISER_BETA: f64 = 4.2;
/// Where the filter is 6 dB down, as a share of the lower rate's Nyquist frequency.
const CUTOFF: f64 = 0.955;
/// The largest ratio of two rates.
const RATIO_MAX: usize = 6;
/// Rows of taps are padded with zeros to a multiple of this, for vector code.
const LANES: usize = 8;
/// Inputs that one output looks at, at most.
const SPAN_MAX: usize = (2 * HALF_TAPS * RATIO_MAX).next_multiple_of(LANES);

/// A pair of rates that is not one to a whole number up to six.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot resample from {from_hz} to {to_hz} Hz")]
pub struct UnsupportedRates {
    /// The input's rate.
    pub from_hz: u32,
    /// The output's rate.
    pub to_hz: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Same,
    /// This many outputs per input.
    Up(usize),
    /// This many inputs per output.
    Down(usize),
}

/// A stream's way from one rate to another.
#[derive(Clone, Debug)]
pub struct Resampler {
    direction: Direction,
    /// Upwards a row of `span` taps per phase, downwards a single row.
    taps: Box<[f32]>,
    /// Inputs that one output looks at.
    span: usize,
    /// The last `span - 1` inputs.
    past: [f32; SPAN_MAX],
}

impl Resampler {
    /// From `from_hz` to `to_hz`, of which one is one, two, three or six times the other.
    ///
    /// # Errors
    /// [`UnsupportedRates`] for other pairs.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, UnsupportedRates> {
        let refused = UnsupportedRates { from_hz, to_hz };
        if from_hz == 0 || to_hz == 0 {
            return Err(refused);
        }
        let (high, low) = (from_hz.max(to_hz), from_hz.min(to_hz));
        let ratio = (high / low) as usize;
        if high % low != 0 || ratio > RATIO_MAX {
            return Err(refused);
        }
        let direction = match (ratio, to_hz > from_hz) {
            (1, _) => Direction::Same,
            (_, true) => Direction::Up(ratio),
            (_, false) => Direction::Down(ratio),
        };
        let rows: Vec<Vec<f32>> = match direction {
            Direction::Same => vec![vec![1.0]],
            Direction::Up(ratio) => by_phase(&prototype(ratio), ratio),
            Direction::Down(ratio) => vec![prototype(ratio).iter().map(|tap| tap / ratio as f32).collect()],
        };
        let span = rows[0].len().next_multiple_of(LANES);
        // The padding meets the oldest inputs.
        let padded = |row: &Vec<f32>| vec![0.0; span - row.len()].into_iter().chain(row.clone());
        let taps = rows.iter().flat_map(padded).collect();
        Ok(Self { direction, taps, span, past: [0.0; SPAN_MAX] })
    }

    /// Samples that `input` samples become. Downwards `input` must be a multiple of the ratio.
    pub fn output_len(&self, input: usize) -> usize {
        match self.direction {
            Direction::Same => input,
            Direction::Up(ratio) => input * ratio,
            Direction::Down(ratio) => input / ratio,
        }
    }

    /// Forgets what went before.
    pub fn reset(&mut self) {
        self.past = [0.0; SPAN_MAX];
    }

    /// Takes the stream's next samples and writes what they become: [`Resampler::output_len`] of
    /// them, or as many as `output` holds.
    pub fn process(&mut self, input: &[i16], output: &mut [i16]) {
        match self.direction {
            Direction::Same => output.iter_mut().zip(input).for_each(|(to, &from)| *to = from),
            Direction::Up(ratio) => self.blocks(input, output, 1, ratio),
            Direction::Down(ratio) => self.blocks(input, output, ratio, 1),
        }
    }

    /// Goes through the input in steps: each takes `takes` samples and gives `gives`.
    fn blocks(&mut self, input: &[i16], output: &mut [i16], takes: usize, gives: usize) {
        /// Inputs worked on at once.
        const BLOCK: usize = 96;
        let mut window = [0.0_f32; SPAN_MAX + BLOCK];
        let span = self.span;
        let kept = span - takes;
        for (input, output) in input.chunks(BLOCK).zip(output.chunks_mut(BLOCK / takes * gives)) {
            window[..kept].copy_from_slice(&self.past[..kept]);
            let (_, fresh) = window.split_at_mut(kept);
            fresh.iter_mut().zip(input).for_each(|(float, &sample)| *float = f32::from(sample));
            let views = window[..kept + input.len()].windows(span).step_by(takes);
            for (view, outputs) in views.zip(output.chunks_mut(gives)) {
                for (sample, taps) in outputs.iter_mut().zip(self.taps.chunks_exact(span)) {
                    *sample = rounded(dot(view, taps));
                }
            }
            self.past[..kept].copy_from_slice(&window[input.len()..input.len() + kept]);
        }
    }
}

/// The low-pass at the higher rate, `2 * HALF_TAPS * ratio` taps, gain `ratio`.
fn prototype(ratio: usize) -> Vec<f32> {
    let length = 2 * HALF_TAPS * ratio;
    let middle = (length - 1) as f64 / 2.0;
    let tap = |index: usize| {
        let at = (index as f64 - middle) / ratio as f64;
        let edge = at / HALF_TAPS as f64;
        sinc(at * CUTOFF) * CUTOFF * bessel_i0(KAISER_BETA * (1.0 - edge * edge).max(0.0).sqrt())
    };
    let taps: Vec<f64> = (0..length).map(tap).collect();
    let gain = ratio as f64 / taps.iter().sum::<f64>();
    taps.iter().map(|tap| (tap * gain) as f32).collect()
}

/// A row of taps per output phase, in the order of the inputs they meet (oldest first).
fn by_phase(prototype: &[f32], ratio: usize) -> Vec<Vec<f32>> {
    (0..ratio).map(|phase| prototype.iter().skip(phase).step_by(ratio).rev().copied().collect()).collect()
}

fn sinc(x: f64) -> f64 {
    let angle = x * std::f64::consts::PI;
    if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle }
}

/// The modified Bessel function of order zero, by its series.
fn bessel_i0(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..32 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    sum
}

/// A dot product of whole lanes, which the compiler makes vectors of.
#[inline]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for ((lane, x), y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += x * y;
        }
    }
    // Pairwise, or every addition would wait for the one before.
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[inline]
fn rounded(sample: f32) -> i16 {
    // Clamped as an integer: a saturating conversion would not be worth its cost here.
    let half = if sample < 0.0 { -0.5 } else { 0.5 };
    ((sample + half) as i32).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: [(u32, u32); 6] = [
        (8_000, 16_000),
        (8_000, 48_000),
        (16_000, 48_000),
        (16_000, 8_000),
        (48_000, 8_000),
        (48_000, 16_000),
    ];

    fn tone(rate_hz: u32, tone_hz: f64, samples: usize) -> Vec<i16> {
        let step = tone_hz / f64::from(rate_hz) * std::f64::consts::TAU;
        (0..samples).map(|n| ((n as f64 * step).sin() * 16_000.0).round() as i16).collect()
    }

    /// The amplitude of `signal` at a frequency, against the 16000 that went in, in dB.
    fn level_db(signal: &[i16], rate_hz: u32, tone_hz: f64) -> f64 {
        let step = tone_hz / f64::from(rate_hz) * std::f64::consts::TAU;
        let (mut re, mut im) = (0.0, 0.0);
        for (n, &sample) in signal.iter().enumerate() {
            re += f64::from(sample) * (n as f64 * step).cos();
            im += f64::from(sample) * (n as f64 * step).sin();
        }
        20.0 * ((re * re + im * im).sqrt() * 2.0 / signal.len() as f64 / 16_000.0 + 1e-9).log10()
    }

    fn resampled(from_hz: u32, to_hz: u32, input: &[i16]) -> Vec<i16> {
        let mut resampler = Resampler::new(from_hz, to_hz).expect("a supported pair");
        let mut output = vec![0; resampler.output_len(input.len())];
        resampler.process(input, &mut output);
        output
    }

    #[test]
    fn flat_to_85_percent_of_nyquist() {
        for (from_hz, to_hz) in PAIRS {
            let nyquist = f64::from(from_hz.min(to_hz)) / 2.0;
            for share in [0.025, 0.1, 0.3, 0.5, 0.7, 0.8, 0.85] {
                // A whole number of periods in 200 ms.
                let tone_hz = (nyquist * share / 5.0).round() * 5.0;
                let output = resampled(from_hz, to_hz, &tone(from_hz, tone_hz, from_hz as usize / 2));
                let level = level_db(&output[to_hz as usize / 10..to_hz as usize / 10 * 3], to_hz, tone_hz);
                assert!(level.abs() < 0.35, "{from_hz} to {to_hz}: {level:.2} dB at {tone_hz} Hz");
            }
        }
    }

    #[test]
    fn images_and_aliases_stay_away() {
        for (from_hz, to_hz) in PAIRS {
            let low = f64::from(from_hz.min(to_hz));
            // Upwards the image of a tone, downwards a tone that has no place, both across Nyquist.
            for share in [0.3, 0.6, 0.8] {
                let inside = (low / 2.0 * share / 5.0).round() * 5.0;
                let (put, found) =
                    if to_hz > from_hz { (inside, low - inside) } else { (low - inside, inside) };
                let output = resampled(from_hz, to_hz, &tone(from_hz, put, from_hz as usize / 2));
                let level = level_db(&output[to_hz as usize / 10..to_hz as usize / 10 * 3], to_hz, found);
                assert!(level < -38.0, "{from_hz} to {to_hz}: {level:.1} dB at {found} Hz of {put} Hz");
            }
        }
    }

    #[test]
    fn the_delay_is_under_one_and_a_half_milliseconds() {
        for (from_hz, to_hz) in PAIRS {
            let mut input = vec![0; from_hz as usize / 50];
            let at = from_hz as usize / 100;
            input[at] = 16_000;
            let output = resampled(from_hz, to_hz, &input);
            let peak = (0..output.len()).max_by_key(|&n| output[n].unsigned_abs()).expect("not empty");
            let delay_ms = peak as f64 * 1000.0 / f64::from(to_hz) - at as f64 * 1000.0 / f64::from(from_hz);
            assert!((0.0..=1.5).contains(&delay_ms), "{from_hz} to {to_hz}: {delay_ms:.2} ms");
        }
    }

    #[test]
    fn frames_give_what_the_whole_gives() {
        for (from_hz, to_hz) in PAIRS {
            let input = tone(from_hz, 440.0, from_hz as usize / 10);
            let whole = resampled(from_hz, to_hz, &input);
            for frame_ms in [10, 20] {
                let mut resampler = Resampler::new(from_hz, to_hz).expect("a supported pair");
                let mut framed = vec![];
                for frame in input.chunks(from_hz as usize / 1000 * frame_ms) {
                    let mut output = vec![0; resampler.output_len(frame.len())];
                    resampler.process(frame, &mut output);
                    framed.extend(output);
                }
                assert_eq!(framed, whole, "{from_hz} to {to_hz} by {frame_ms} ms");
            }
        }
    }

    #[test]
    fn full_scale_is_limited_not_wrapped() {
        let square: Vec<i16> = (0..800).map(|n| if n / 20 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let output = resampled(8_000, 48_000, &square);
        let mid_plateau = output.iter().skip(300);
        assert!(
            mid_plateau.clone().any(|&sample| sample == i16::MAX)
                && mid_plateau.clone().any(|&s| s == i16::MIN)
        );
        // A wrap would be a step across the whole range.
        assert!(output.windows(2).all(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs() < 40_000));
    }

    #[test]
    fn other_pairs_are_refused_and_equal_rates_pass_untouched() {
        for (from_hz, to_hz) in [(8_000, 11_025), (0, 8_000), (8_000, 0), (8_000, 96_000), (48_000, 44_100)] {
            assert_eq!(Resampler::new(from_hz, to_hz).err(), Some(UnsupportedRates { from_hz, to_hz }));
        }
        let input = tone(8_000, 1_000.0, 160);
        assert_eq!(resampled(8_000, 8_000, &input), input);
    }
}
