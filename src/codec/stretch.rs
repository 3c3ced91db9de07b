//! Time-stretch: takes a stretch of sound out of a signal, or puts one in, where nobody hears it.
//!
//! In voice that is one pitch period, cross-faded (WSOLA), and only where neighbouring periods are
//! alike. In a pause any length will do.

use super::pitch::{self, Lags};

/// Neighbouring periods must be this alike, at ease.
const ALIKE_AT_EASE: f32 = 0.85;
/// And this alike when the delay is far from where it should be.
const ALIKE_IN_NEED: f32 = 0.5;
/// Cross-fade within a pause, in milliseconds.
const PAUSE_FADE_MS: usize = 5;

/// Periods shorter than this are judged over this long, in milliseconds.
const WINDOW_MIN_MS: usize = 8;

/// How much the caller wants the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// The signal is a pause: any length, anywhere.
    Pause,
    /// Only where it is not heard.
    AtEase,
    /// Soon, and hardly heard.
    InNeed,
}

/// Time-stretch at one sampling rate.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    lags: Lags,
    pause_fade: usize,
    window_min: usize,
}

impl Stretch {
    /// For a signal of `rate_hz`.
    pub const fn new(rate_hz: u32) -> Self {
        Self {
            lags: Lags::at(rate_hz),
            pause_fade: PAUSE_FADE_MS * rate_hz as usize / 1000,
            window_min: WINDOW_MIN_MS * rate_hz as usize / 1000,
        }
    }

    /// Samples ahead that [`Stretch::shorten`] wants to see.
    pub const fn look_ahead(&self) -> usize {
        2 * self.lags.max
    }

    /// Samples that [`Stretch::lengthen`] may add at once.
    pub const fn longest(&self) -> usize {
        self.lags.max
    }

    /// Takes at most `most` samples out of `ahead`, moving the rest forward; gives how many.
    pub fn shorten(&self, ahead: &mut [i16], most: usize, care: Care) -> usize {
        let (lag, fade) = match care {
            Care::Pause => {
                let lag = most.min(ahead.len().saturating_sub(self.pause_fade));
                (lag, self.pause_fade)
            }
            _ => match self.period(ahead, 0, most, care) {
                Some(lag) => (lag, lag),
                None => return 0,
            },
        };
        if lag == 0 || lag + fade > ahead.len() {
            return 0;
        }
        for index in 0..fade {
            ahead[index] = mixed(i32::from(ahead[index]), i32::from(ahead[index + lag]), index, fade);
        }
        ahead.copy_within(lag + fade.., fade);
        lag
    }

    /// Puts at most `most` samples in at `at` of `signal`, of which the first `end` are in use;
    /// gives how many. What is before `at` has been heard already.
    pub fn lengthen(&self, signal: &mut [i16], at: usize, end: usize, most: usize, care: Care) -> usize {
        let room = signal.len().saturating_sub(end);
        let lag = match care {
            Care::Pause => most.min(at).min(end.saturating_sub(at)).min(self.lags.max),
            _ => {
                let Some(back) = at.checked_sub(self.lags.max) else { return 0 };
                match self.period(&signal[back..end], self.lags.max, self.lags.max, care) {
                    Some(lag) => lag,
                    None => return 0,
                }
            }
        };
        if lag == 0 || lag > room || lag > at || at + lag > end {
            return 0;
        }
        // What comes next fades into what came just before; then what comes next comes.
        signal.copy_within(at..end, at + lag);
        for index in 0..lag {
            let next = i32::from(signal[at + lag + index]);
            let before = i32::from(signal[at - lag + index]);
            signal[at + index] = mixed(next, before, index, lag);
        }
        lag
    }

    /// The lag at which neighbouring periods are most alike, if they are alike enough for `care`:
    /// the two that meet at `at`, or the first two when that is zero.
    fn period(&self, signal: &[i16], at: usize, most: usize, care: Care) -> Option<usize> {
        let mut float = [0.0_f32; 3 * LAG_MAX_ANY];
        let float = float.get_mut(..signal.len().min(3 * LAG_MAX_ANY))?;
        float.iter_mut().zip(signal).for_each(|(float, &sample)| *float = f32::from(sample));
        let mut best = (0, if care == Care::InNeed { ALIKE_IN_NEED } else { ALIKE_AT_EASE });
        for lag in (self.lags.min..=self.lags.max.min(most)).step_by(self.lags.step) {
            let (from, window) = (at.saturating_sub(lag), lag.max(self.window_min));
            let (Some(before), Some(after)) =
                (float.get(from..from + window), float.get(from + lag..from + lag + window))
            else {
                break;
            };
            let likeness = pitch::likeness(before, after, self.lags.step);
            if likeness > best.1 {
                best = (lag, likeness);
            }
        }
        (best.0 > 0).then_some(best.0)
    }
}

/// The longest lag at the highest sampling rate.
const LAG_MAX_ANY: usize = Lags::at(48_000).max;

/// A step of a straight cross-fade.
fn mixed(old: i32, new: i32, index: usize, length: usize) -> i16 {
    let (index, length) = (index as i32, length as i32);
    ((old * (length - index) + new * index) / length) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buzz of 125 Hz: a period of 64 samples at 8 kHz.
    fn buzz(samples: usize) -> Vec<i16> {
        let phase = |n: usize| n as f32 / 64.0 * std::f32::consts::TAU;
        (0..samples).map(|n| ((phase(n).sin() + (3.0 * phase(n)).sin()) * 4000.0) as i16).collect()
    }

    /// The largest step from sample to sample.
    fn roughness(signal: &[i16]) -> i32 {
        signal.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max().unwrap_or(0)
    }

    #[test]
    fn a_period_taken_out_of_a_buzz_leaves_a_buzz() {
        let whole = buzz(400);
        let mut signal = whole.clone();
        let taken = Stretch::new(8000).shorten(&mut signal, 128, Care::AtEase);
        assert!(taken == 64 || taken == 128, "{taken}");
        for (now, before) in signal[..400 - taken].iter().zip(&whole) {
            assert!((now - before).abs() <= 2);
        }
    }

    #[test]
    fn a_period_put_into_a_buzz_leaves_a_buzz() {
        let whole = buzz(600);
        let mut signal = whole.clone();
        let put = Stretch::new(8000).lengthen(&mut signal, 200, 400, 1, Care::AtEase);
        assert!(put == 64 || put == 128, "{put}");
        for (now, before) in signal[..400 + put].iter().zip(&whole) {
            assert!((now - before).abs() <= 2);
        }
    }

    #[test]
    fn a_pause_gives_or_takes_exactly_what_is_asked() {
        for amount in [1, 7, 39, 40, 41, 100, 128] {
            let quiet: Vec<i16> = (0..500_i32).map(|n| (n * 7919 % 41 - 20) as i16).collect();
            let mut signal = quiet.clone();
            assert_eq!(Stretch::new(8000).shorten(&mut signal[..320], amount, Care::Pause), amount);
            assert_eq!(signal[0], quiet[0], "it joins what was heard");
            assert_eq!(signal[60..320 - amount], quiet[60 + amount..320]);
            let mut signal = quiet.clone();
            assert_eq!(Stretch::new(8000).lengthen(&mut signal, 150, 310, amount, Care::Pause), amount);
            assert_eq!(
                (&signal[..=150], &signal[150 + amount..310 + amount]),
                (&quiet[..=150], &quiet[150..310])
            );
            assert!(roughness(&signal[..310]) <= 40);
        }
    }

    #[test]
    fn noise_in_mid_word_is_left_alone() {
        let mut rng = crate::rng::Rng::from_number(3);
        let noise: Vec<i16> = (0..600).map(|_| rng.next_u32() as i16 / 4).collect();
        let mut signal = noise.clone();
        assert_eq!(Stretch::new(8000).shorten(&mut signal, 128, Care::AtEase), 0);
        assert_eq!(Stretch::new(8000).lengthen(&mut signal, 200, 400, 100, Care::AtEase), 0);
        assert_eq!(signal, noise);
    }

    #[test]
    fn too_little_room_or_signal_changes_nothing() {
        let stretch = Stretch::new(8000);
        assert_eq!(stretch.shorten(&mut [0; 10], 5, Care::Pause), 0);
        assert_eq!(stretch.shorten(&mut [], 5, Care::AtEase), 0);
        assert_eq!(stretch.lengthen(&mut [0; 10], 5, 10, 5, Care::Pause), 0);
        assert_eq!(stretch.lengthen(&mut [0; 10], 5, 5, 5, Care::InNeed), 0);
    }
}
