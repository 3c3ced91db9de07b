//! Keys pressed as tones in the audio (ITU-T Q.23), heard within the limits of Q.24: tones of 40 ms
//! are heard and those of 23 ms are not, frequencies within 1.5 % are and beyond 3.5 % are not, and
//! speech is not, since it has more in it than two tones.
//!
//! Every 10 ms a window of 20 ms is judged, in two halves: how strong the eight frequencies are
//! (Goertzel, Hann window), how the phase of the strongest two went on from half to half, which tells
//! their frequency, and whether they are all there is, in each quarter of the window.

use std::f32::consts::TAU;

/// The sampling rate, in hertz.
const RATE_HZ: f32 = 8000.0;
/// Samples of half a window: 10 ms.
const HALF: usize = 80;
/// The tones of rows, then of columns, in hertz.
const TONES_HZ: [f32; 8] = [697.0, 770.0, 852.0, 941.0, 1209.0, 1336.0, 1477.0, 1633.0];
/// The keys by row and column.
const KEYS: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];
/// How far a tone may be off, between the 1.5 % that must be heard and the 3.5 % that must not.
const OFF_MAX: f32 = 0.023;
/// Least amplitude of each tone: −33 dBm0, below the −25 dBm0 that must be heard.
const AMPLITUDE_MIN: f32 = 500.0;
/// How much stronger the column's tone may be, and the row's: 6 and 10 dB, as powers. Q.24 wants 4
/// and 8.
const COLUMN_OVER_ROW: f32 = 4.0;
const ROW_OVER_COLUMN: f32 = 10.0;
/// Least part of the window's energy that is in the two tones: the guard against speech.
const PURITY_MIN: f32 = 0.92;
/// Least energy of each quarter, as part of the mean of the four: the tones fill the window.
const QUARTER_MIN: f32 = 0.5;
/// Windows in a row that make a key: two are filled by 40 ms, and not by 23.
const WINDOWS_MIN: u32 = 2;
/// Windows in a row without the key that end it: a gap of 10 ms does not, one of 40 ms does.
const GAP_WINDOWS: u32 = 3;

/// Half a window, measured.
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    /// Amplitude and phase of each tone, as a complex number.
    tones: [(f32, f32); TONES_HZ.len()],
    /// Mean square of its two quarters.
    quarters: [f32; 2],
}

/// A key that is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    key: char,
    windows: u32,
    missed: u32,
}

/// Hears the keys of one leg.
#[derive(Clone, Debug)]
pub struct ToneDetector {
    hann: [f32; HALF],
    before: Half,
    held: Option<Held>,
}

impl Default for ToneDetector {
    fn default() -> Self {
        let hann = |at: usize| 0.5 - 0.5 * (TAU * (at as f32 + 0.5) / HALF as f32).cos();
        Self { hann: std::array::from_fn(hann), before: Half::default(), held: None }
    }
}

impl ToneDetector {
    /// Takes the next samples, a multiple of 10 ms at 8 kHz; what is over is passed by. Returns a key
    /// that was let go, and for how many milliseconds it was held. Allocates nothing.
    pub fn hear(&mut self, samples: &[i16]) -> Option<(char, u32)> {
        let mut let_go = None;
        for half in samples.as_chunks::<HALF>().0 {
            let now = self.measure(half);
            let key = judge(&self.before, &now);
            self.before = now;
            let_go = self.follow(key).or(let_go);
        }
        let_go
    }

    fn follow(&mut self, key: Option<char>) -> Option<(char, u32)> {
        match (&mut self.held, key) {
            (Some(held), Some(key)) if held.key == key => {
                held.windows += 1;
                held.missed = 0;
                None
            }
            (Some(held), _) if held.windows >= WINDOWS_MIN && held.missed + 1 < GAP_WINDOWS => {
                held.missed += 1;
                None
            }
            _ => {
                let over = self.held.take().filter(|held| held.windows >= WINDOWS_MIN);
                self.held = key.map(|key| Held { key, windows: 1, missed: 0 });
                // A window is twice as long as the step to the next.
                over.map(|held| (held.key, (held.windows + 1) * 10))
            }
        }
    }

    fn measure(&self, samples: &[i16; HALF]) -> Half {
        let mut windowed = [0.0; HALF];
        let mut quarters = [0.0; 2];
        for (at, (out, (&sample, weight))) in
            windowed.iter_mut().zip(samples.iter().zip(&self.hann)).enumerate()
        {
            let sample = f32::from(sample);
            *out = sample * weight;
            quarters[at * 2 / HALF] += sample * sample / (HALF as f32 / 2.0);
        }
        Half { tones: TONES_HZ.map(|hz| goertzel(&windowed, hz)), quarters }
    }
}

/// Amplitude and phase of one tone, as a complex number, by Goertzel's recursion. The mean of the Hann
/// window is a half, and a tone's power is half in each of its two lines.
fn goertzel(samples: &[f32; HALF], hz: f32) -> (f32, f32) {
    let turn = TAU * hz / RATE_HZ;
    let (sine, cosine) = turn.sin_cos();
    let (mut newest, mut before) = (0.0, 0.0);
    for sample in samples {
        (newest, before) = (sample + 2.0 * cosine * newest - before, newest);
    }
    let scale = 4.0 / HALF as f32;
    ((newest - before * cosine) * scale, before * sine * scale)
}

/// The key of the window that these halves make.
fn judge(first: &Half, second: &Half) -> Option<char> {
    let power = |tone: usize| square(first.tones[tone]).midpoint(square(second.tones[tone]));
    let strongest = |from: usize| (from..from + 4).max_by(|&a, &b| power(a).total_cmp(&power(b)));
    let (row, column) = (strongest(0)?, strongest(4)?);
    let (low, high) = (power(row), power(column));
    if low.min(high) < AMPLITUDE_MIN * AMPLITUDE_MIN
        || high > COLUMN_OVER_ROW * low
        || low > ROW_OVER_COLUMN * high
    {
        return None;
    }
    let quarters = [first.quarters, second.quarters];
    let mean = quarters.as_flattened().iter().sum::<f32>() / 4.0;
    let filled = quarters.as_flattened().iter().all(|quarter| *quarter >= QUARTER_MIN * mean);
    // A tone's mean square is half its squared amplitude.
    let pure = (low + high) / 2.0 >= PURITY_MIN * mean;
    let in_tune = |tone: usize| off(first.tones[tone], second.tones[tone], TONES_HZ[tone]) <= OFF_MAX;
    (filled && pure && in_tune(row) && in_tune(column)).then(|| KEYS[row][column - 4])
}

fn square((re, im): (f32, f32)) -> f32 {
    re * re + im * im
}

/// How far off `hz` the tone is, as a part of it: by how its phase went on in half a window.
fn off(first: (f32, f32), second: (f32, f32), hz: f32) -> f32 {
    let went_on = second.1.atan2(second.0) - first.1.atan2(first.0);
    let expected = TAU * hz / RATE_HZ * HALF as f32;
    let turns = (went_on - expected) / TAU;
    let astray = turns - turns.round();
    (astray * RATE_HZ / HALF as f32 / hz).abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
    const COLUMNS: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];

    /// Two tones of these amplitudes, after `silence` samples, `length` samples long.
    fn tones(hz: [f32; 2], amplitude: [f32; 2], silence: usize, length: usize) -> Vec<i16> {
        let tone = |at: usize, place: usize| {
            let phase = f64::from(hz[place]) * at as f64 / 8000.0 + 0.1 * place as f64;
            (phase.fract() * std::f64::consts::TAU).sin() * f64::from(amplitude[place])
        };
        let mut samples = vec![0; silence];
        samples.extend((0..length).map(|at| (tone(at, 0) + tone(at, 1)) as i16));
        samples
    }

    /// What is heard of these samples, followed by silence.
    fn heard(mut samples: Vec<i16>) -> Vec<(char, u32)> {
        samples.resize(samples.len().next_multiple_of(160) + 800, 0);
        let mut detector = ToneDetector::default();
        samples.chunks(160).filter_map(|frame| detector.hear(frame)).collect()
    }

    fn keys(samples: Vec<i16>) -> String {
        heard(samples).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn every_key_is_heard_and_its_length_is_about_right() {
        for row in 0..4 {
            for column in 0..4 {
                let samples = tones([ROWS[row], COLUMNS[column]], [6000.0; 2], 123, 800);
                let heard = heard(samples);
                assert_eq!(heard.len(), 1, "{row} {column}");
                assert_eq!(heard[0].0, KEYS[row][column]);
                assert!((80..=110).contains(&heard[0].1), "{heard:?}");
            }
        }
    }

    #[test]
    fn forty_milliseconds_are_heard_and_twenty_three_are_not_wherever_they_fall() {
        for silence in 0..160 {
            for (row, column) in [(0, 0), (3, 3), (1, 2)] {
                let of = |length| tones([ROWS[row], COLUMNS[column]], [6000.0; 2], silence, length);
                assert_eq!(keys(of(320)).len(), 1, "{silence}: 40 ms of {row} {column}");
                assert_eq!(keys(of(184)), "", "{silence}: 23 ms of {row} {column}");
            }
        }
    }

    #[test]
    fn tones_off_by_little_are_heard_and_off_by_much_are_not() {
        for row in 0..4 {
            for column in 0..4 {
                for (off_row, off_column) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (0.0, 1.0), (-1.0, 0.0)] {
                    let off = |percent: f32| {
                        let by = |hz: f32, sign: f32| hz * (1.0 + sign * percent / 100.0);
                        let hz = [by(ROWS[row], off_row), by(COLUMNS[column], off_column)];
                        keys(tones(hz, [6000.0; 2], 40, 800))
                    };
                    assert_eq!(off(1.5).chars().next(), Some(KEYS[row][column]), "{row} {column}");
                    assert_eq!(off(3.5), "", "{row} {column} {off_row} {off_column}");
                }
            }
        }
    }

    #[test]
    fn twist_and_level_have_limits() {
        let at = |low_db: f32, high_db: f32| {
            let amplitude = |db: f32| 32_124.0 * 10f32.powf((db - 3.17) / 20.0);
            keys(tones([770.0, 1336.0], [amplitude(low_db), amplitude(high_db)], 0, 800))
        };
        assert_eq!(at(-3.0, -3.0), "5");
        assert_eq!((at(-25.0, -25.0).as_str(), at(-45.0, -45.0).as_str()), ("5", ""));
        assert_eq!((at(-14.0, -10.0).as_str(), at(-10.0, -18.0).as_str()), ("5", "5"));
        assert_eq!((at(-20.0, -10.0).as_str(), at(-6.0, -19.0).as_str()), ("", ""));
    }

    #[test]
    fn a_short_gap_does_not_split_a_key_and_a_pause_does() {
        let pressed = |gap: usize| {
            let mut samples = tones([852.0, 1477.0], [6000.0; 2], 0, 640);
            samples.extend(tones([852.0, 1477.0], [6000.0; 2], gap, 640));
            keys(samples)
        };
        assert_eq!(pressed(80), "9");
        assert_eq!(pressed(320), "99");
    }

    #[test]
    fn noise_beside_the_tones_is_borne_and_noise_alone_is_no_key() {
        let mut rng = Rng::from_number(1);
        let mut noise = |amplitude: i32| (rng.below(2 * amplitude as u64 + 1) as i32 - amplitude) as i16;
        // 15 dB below the tones.
        let noisy: Vec<i16> = tones([697.0, 1633.0], [6000.0; 2], 0, 1600)
            .iter()
            .map(|s| s.saturating_add(noise(1800)))
            .collect();
        assert_eq!(keys(noisy), "A");
        assert_eq!(keys((0..80_000).map(|_| noise(8000)).collect()), "");
    }

    #[test]
    fn one_tone_or_three_are_no_key() {
        assert_eq!(keys(tones([697.0, 0.0], [8000.0, 0.0], 0, 1600)), "");
        let third = tones([697.0, 2500.0], [0.0, 5000.0], 0, 1600);
        let mixed =
            tones([697.0, 1209.0], [5000.0; 2], 0, 1600).iter().zip(third).map(|(a, b)| a + b).collect();
        assert_eq!(keys(mixed), "");
    }

    /// A voice without a pause: a pitch that wanders, two dozen harmonics of it, through two formants
    /// that wander too. The likes of it are the hardest: real speech pauses, and has noise in it.
    #[test]
    fn ten_minutes_of_a_voice_without_a_pause_are_hardly_ever_a_key() {
        const FALSE_KEYS_MAX: usize = 3;
        let mut rng = Rng::from_number(3);
        let (mut pitch, mut first, mut second, mut phase) = (120.0f32, 500.0f32, 1500.0f32, 0.0f32);
        let mut wander = |from: f32, step: f32, low: f32, high: f32| {
            (from + (rng.below(2001) as f32 - 1000.0) / 1000.0 * step).clamp(low, high)
        };
        let mut detector = ToneDetector::default();
        let mut keys = Vec::new();
        for _ in 0..30_000 {
            pitch = wander(pitch, 2.5, 80.0, 300.0);
            first = wander(first, 33.0, 250.0, 900.0);
            second = wander(second, 50.0, 850.0, 2400.0);
            let mut frame = [0i16; 160];
            for sample in &mut frame {
                phase = (phase + pitch / RATE_HZ).fract();
                let harmonic = |n: u8| {
                    let hz = pitch * f32::from(n);
                    let through = |formant: f32, width: f32| 1.0 / (1.0 + ((hz - formant) / width).powi(2));
                    let gain = through(first, 90.0) + 0.5 * through(second, 130.0) + 0.02;
                    (phase * f32::from(n) * TAU).sin() * gain * 9000.0
                };
                *sample = (1..=24).map(harmonic).sum::<f32>() as i16;
            }
            keys.extend(detector.hear(&frame));
        }
        assert!(keys.len() <= FALSE_KEYS_MAX, "{keys:?}");
    }
}
