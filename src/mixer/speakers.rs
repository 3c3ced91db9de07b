//! Who speaks: a voice detector per leg and the choice of the loudest when too many do.
//!
//! A leg is heard from the frame in which its voice rises over its own noise. When the frame
//! before that one already held the soft start of the word, the leg is heard from there
//! ([`Voice::Opens`]`{ look_back: true }`), so that no onset is cut.

use super::level::mean_square_of;

/// Below this nothing is speech: just above the idle noise of µ-law (−72 dBov).
const SPEECH_MIN: u32 = mean_square_of(-66);
/// The noise floor is never believed to be above this, so a steady loud signal (a tone, music)
/// stays heard for ever.
const NOISE_MAX: u32 = mean_square_of(-52);
/// Speech is this many times (6 dB) over the noise.
const SPEECH_OVER_NOISE: u32 = 4;
/// A frame this many halves over the noise (1.8 dB), right before speech, is its onset.
const ONSET_OVER_NOISE_HALVES: u32 = 3;
/// Frames a voice stays open after its last speech: 500 ms bridges the pauses within a sentence.
const HANGOVER_FRAMES: u8 = 25;
/// An incumbent keeps its place against a newcomer who is less than this (3 dB) louder.
const INCUMBENT_BONUS: u32 = 2;

/// What the detector says of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Nothing worth hearing.
    Silent,
    /// Speech begins with this frame, or, with `look_back`, in the frame before it.
    Opens {
        /// The frame before holds the word's onset.
        look_back: bool,
    },
    /// Speech, or a pause within it.
    Open {
        /// This frame is a pause: delay can be given back here unheard.
        pause: bool,
    },
}

/// The voice detector of one leg.
#[derive(Clone, Copy, Debug)]
pub struct Detector {
    noise: u32,
    before: u32,
    /// Smoothed level, for the choice among speakers.
    level: u32,
    hangover: u8,
}

impl Default for Detector {
    fn default() -> Self {
        Self { noise: SPEECH_MIN / SPEECH_OVER_NOISE, before: 0, level: 0, hangover: 0 }
    }
}

impl Detector {
    /// Judges a frame by its mean square.
    pub fn judge(&mut self, mean_square: u32) -> Voice {
        let speech = mean_square >= SPEECH_MIN && mean_square > self.noise.saturating_mul(SPEECH_OVER_NOISE);
        let onset_before = self.before > self.noise / 2 * ONSET_OVER_NOISE_HALVES;
        self.follow_noise(mean_square);
        self.before = mean_square;
        // Fast up, slow down: 1/8 a frame is about 150 ms.
        self.level = mean_square.max(self.level - self.level / 8);
        let was_open = self.hangover > 0;
        if speech {
            self.hangover = HANGOVER_FRAMES;
            return if was_open {
                Voice::Open { pause: false }
            } else {
                Voice::Opens { look_back: onset_before }
            };
        }
        self.hangover = self.hangover.saturating_sub(1);
        if self.hangover > 0 { Voice::Open { pause: true } } else { Voice::Silent }
    }

    /// The smoothed level, as a mean square.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Follows the quietest of the signal: down at once by a quarter of the way, up by 3 dB a second.
    fn follow_noise(&mut self, mean_square: u32) {
        if mean_square < self.noise {
            self.noise -= (self.noise - mean_square).div_ceil(4);
        } else {
            self.noise = (self.noise + self.noise / 64 + 1).min(mean_square).min(NOISE_MAX);
        }
    }
}

/// Chooses up to a number of loudest among candidates, with a bonus for those chosen before.
#[derive(Debug, Default)]
pub struct Choice {
    ranked: Vec<(u32, u32)>,
}

impl Choice {
    /// Room for `candidates` without allocating later.
    pub fn with_capacity(candidates: usize) -> Self {
        Self { ranked: Vec::with_capacity(candidates) }
    }

    /// Makes sure `candidates` fit without allocating in the tick.
    pub fn reserve(&mut self, candidates: usize) {
        self.ranked.reserve(candidates.saturating_sub(self.ranked.len()));
    }

    /// Forgets the last tick's candidates.
    pub fn clear(&mut self) {
        self.ranked.clear();
    }

    /// A leg whose voice is open, by the caller's index for it.
    pub fn add(&mut self, index: u32, level: u32, incumbent: bool) {
        let rank = if incumbent { level.saturating_mul(INCUMBENT_BONUS) } else { level };
        self.ranked.push((rank, index));
    }

    /// The indices of the loudest `most`; equals go to the lower index.
    pub fn loudest(&mut self, most: usize) -> impl Iterator<Item = u32> + '_ {
        if most < self.ranked.len() && most > 0 {
            self.ranked.select_nth_unstable_by(most - 1, |a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        self.ranked.iter().take(most).map(|&(_, index)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOUD: u32 = mean_square_of(-20);
    const NOISE: u32 = mean_square_of(-60);

    #[test]
    fn the_first_loud_frame_opens_without_look_back_after_silence() {
        let mut detector = Detector::default();
        for _ in 0..50 {
            assert_eq!(detector.judge(0), Voice::Silent);
        }
        assert_eq!(detector.judge(LOUD), Voice::Opens { look_back: false });
        assert_eq!(detector.judge(LOUD), Voice::Open { pause: false });
    }

    #[test]
    fn a_soft_onset_in_the_frame_before_is_looked_back_to() {
        let mut detector = Detector::default();
        for _ in 0..500 {
            detector.judge(NOISE);
        }
        assert_eq!(detector.judge(NOISE * 3), Voice::Silent, "4.8 dB over the noise is not speech yet");
        assert_eq!(detector.judge(LOUD), Voice::Opens { look_back: true });
    }

    #[test]
    fn a_pause_within_a_sentence_stays_open_and_then_closes() {
        let mut detector = Detector::default();
        detector.judge(LOUD);
        for frame in 1..u32::from(HANGOVER_FRAMES) {
            assert_eq!(detector.judge(0), Voice::Open { pause: true }, "frame {frame}");
        }
        assert_eq!(detector.judge(0), Voice::Silent);
    }

    #[test]
    fn steady_background_noise_is_learnt_and_left_out() {
        let mut detector = Detector::default();
        let closed_after = (0..500).position(|_| detector.judge(NOISE) == Voice::Silent);
        assert!(closed_after.is_some(), "noise at −60 dBov is still mixed after 10 s");
    }

    #[test]
    fn a_steady_tone_is_heard_for_ever() {
        let mut detector = Detector::default();
        for frame in 0..10_000 {
            assert_ne!(detector.judge(LOUD), Voice::Silent, "frame {frame}");
        }
    }

    #[test]
    fn the_loudest_win_and_an_incumbent_keeps_its_place() {
        let mut choice = Choice::with_capacity(4);
        let mut chosen = |candidates: &[(u32, u32, bool)], most| -> Vec<u32> {
            choice.clear();
            candidates.iter().for_each(|&(index, level, incumbent)| choice.add(index, level, incumbent));
            let mut chosen: Vec<u32> = choice.loudest(most).collect();
            chosen.sort_unstable();
            chosen
        };
        assert_eq!(chosen(&[(0, 10, false), (1, 30, false), (2, 20, false)], 2), [1, 2]);
        assert_eq!(chosen(&[(0, 20, true), (1, 30, false), (2, 35, false)], 2), [0, 2]);
        assert_eq!(chosen(&[(0, 7, false), (1, 7, false), (2, 7, false)], 2), [0, 1]);
        assert_eq!(chosen(&[(0, 7, false)], 5), [0]);
        assert_eq!(chosen(&[(0, 7, false)], 0), [0u32; 0]);
    }
}
