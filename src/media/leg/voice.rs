//! What the room hears of a leg: its frames, its voice detector, and the gate between them.

use crate::media::room::FRAME;
use crate::mixer::kernel;
use crate::mixer::speakers::{Detector, Voice as Judged};

/// A frame of 20 ms at the room's rate.
type Frame = [i16; FRAME];

/// Whether a leg wants to be in the mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voiced {
    /// It has nothing to say.
    Silent,
    /// It speaks.
    Open {
        /// Its smoothed level, as a mean square.
        level: u32,
        /// It was in the last tick's mix.
        incumbent: bool,
    },
}

/// What of a leg is in this tick's mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InMix {
    Nothing,
    Newest,
    Before,
    Shaped,
}

/// The gate between a leg's sound and its room.
#[derive(Debug)]
pub struct Voice {
    detector: Detector,
    judged: Judged,
    newest: Box<Frame>,
    before: Box<Frame>,
    /// A frame changed on its way into the mix: faded, or two blended into one.
    shaped: Box<Frame>,
    /// The leg is heard one frame behind: its last word began in the frame before detection.
    behind: bool,
    chosen: bool,
    was_chosen: bool,
    in_mix: InMix,
    mean_square: u32,
    /// Whether `newest` and `before` are all zero, so that silence costs nothing.
    is_zero: bool,
}

impl Voice {
    /// A leg that has said nothing yet.
    pub fn new() -> Self {
        Self {
            detector: Detector::default(),
            judged: Judged::Silent,
            newest: Box::new([0; FRAME]),
            before: Box::new([0; FRAME]),
            shaped: Box::new([0; FRAME]),
            behind: false,
            chosen: false,
            was_chosen: false,
            in_mix: InMix::Nothing,
            mean_square: 0,
            is_zero: true,
        }
    }

    /// Takes the next frame, which `pull` writes, telling whether it may be other than silence.
    pub fn listen(&mut self, gate: bool, pull: impl FnOnce(&mut [i16]) -> bool) -> Voiced {
        self.was_chosen = self.chosen;
        self.chosen = false;
        std::mem::swap(&mut self.newest, &mut self.before);
        let was_zero = self.is_zero;
        if !pull(&mut self.newest[..]) {
            self.newest.fill(0);
        }
        self.is_zero = self.newest.iter().fold(0, |any, &sample| any | sample) == 0;
        self.mean_square = if self.is_zero { 0 } else { kernel::mean_square(&self.newest[..]) };
        self.judged = if gate {
            self.detector.judge(self.mean_square)
        } else {
            ungated(self.judged, self.is_zero && was_zero)
        };
        match self.judged {
            Judged::Silent => self.behind = false,
            Judged::Opens { look_back } => self.behind = look_back,
            Judged::Open { .. } => {}
        }
        if self.judged == Judged::Silent {
            Voiced::Silent
        } else {
            Voiced::Open { level: self.detector.level(), incumbent: self.was_chosen }
        }
    }

    /// Nothing came and nothing is to be heard (hold, or outside the mix).
    pub fn rest(&mut self) {
        self.listen(true, |_| false);
    }

    /// The room chose this voice for the tick.
    pub fn choose(&mut self) {
        self.chosen = true;
    }

    /// What the room hears this tick.
    pub fn speak(&mut self) -> Option<&[i16]> {
        self.in_mix = self.gate();
        self.heard()
    }

    /// What [`Voice::speak`] gave this tick: what the leg itself must not hear.
    pub fn heard(&self) -> Option<&[i16]> {
        match self.in_mix {
            InMix::Nothing => None,
            InMix::Newest => Some(&self.newest[..]),
            InMix::Before => Some(&self.before[..]),
            InMix::Shaped => Some(&self.shaped[..]),
        }
    }

    /// The newest frame, whether or not the room hears it; `None` for silence.
    pub fn own(&self) -> Option<&[i16]> {
        (!self.is_zero).then_some(&self.newest[..])
    }

    /// The newest frame's mean square.
    pub fn mean_square(&self) -> u32 {
        self.mean_square
    }

    fn gate(&mut self) -> InMix {
        let opens = matches!(self.judged, Judged::Opens { .. });
        match (self.was_chosen, self.chosen) {
            (false, false) => InMix::Nothing,
            // Pushed out by louder ones in mid-word: down over one frame rather than cut.
            (true, false) if self.judged != Judged::Silent => {
                self.fade(true);
                InMix::Shaped
            }
            (true, false) => InMix::Nothing,
            // Let in among the loudest in mid-word.
            (false, true) if !opens => {
                self.fade(false);
                InMix::Shaped
            }
            (_, true) if self.behind && self.judged == (Judged::Open { pause: true }) => {
                // A pause: blend the late frame into the newest and be in time again.
                blend(&mut self.shaped, &self.before, &self.newest);
                self.behind = false;
                InMix::Shaped
            }
            (_, true) if self.behind => InMix::Before,
            (_, true) => InMix::Newest,
        }
    }

    /// Puts the frame that is due, faded in or out, in place of itself.
    fn fade(&mut self, out: bool) {
        let frame = if self.behind { &self.before } else { &self.newest };
        fade(&mut self.shaped, frame, out);
    }
}

impl Default for Voice {
    fn default() -> Self {
        Self::new()
    }
}

/// A two-party room has no gate: whatever sounds is heard.
fn ungated(before: Judged, is_silent: bool) -> Judged {
    match before {
        _ if is_silent => Judged::Silent,
        Judged::Silent => Judged::Opens { look_back: false },
        _ => Judged::Open { pause: false },
    }
}

/// Copies `frame` with a linear fade in, or out.
fn fade(shaped: &mut Frame, frame: &Frame, out: bool) {
    let length = FRAME as i32;
    for (position, (shaped, &sample)) in shaped.iter_mut().zip(frame).enumerate() {
        let weight = if out { length - position as i32 } else { position as i32 };
        *shaped = (i32::from(sample) * weight / length) as i16;
    }
}

/// Goes from `from` to `to` over one frame.
fn blend(shaped: &mut Frame, from: &Frame, to: &Frame) {
    let length = FRAME as i32;
    for (position, ((shaped, &from), &to)) in shaped.iter_mut().zip(from).zip(to).enumerate() {
        let weight = position as i32;
        *shaped = ((i32::from(from) * (length - weight) + i32::from(to) * weight) / length) as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds one frame of constant `sample` and gives what the room hears, as its first sample.
    fn step(voice: &mut Voice, sample: i16, choose: bool) -> Option<i16> {
        let voiced = voice.listen(true, |out| {
            out.fill(sample);
            sample != 0
        });
        if choose && voiced != Voiced::Silent {
            voice.choose();
        }
        voice.speak().map(|frame| frame[FRAME / 2])
    }

    #[test]
    fn speech_is_heard_from_its_first_frame() {
        let mut voice = Voice::new();
        assert_eq!(step(&mut voice, 0, true), None);
        assert_eq!(step(&mut voice, 5000, true), Some(5000));
        assert_eq!(step(&mut voice, 6000, true), Some(6000));
    }

    #[test]
    fn a_soft_onset_is_heard_and_the_delay_is_given_back_in_the_pause() {
        let mut voice = Voice::new();
        for _ in 0..500 {
            step(&mut voice, 20, true);
        }
        assert_eq!(step(&mut voice, 35, true), None, "not yet known to be a word");
        assert_eq!(step(&mut voice, 5000, true), Some(35), "the onset comes first");
        assert_eq!(step(&mut voice, 6000, true), Some(5000));
        assert_eq!(step(&mut voice, 0, true), Some(3000), "6000 blends into the pause");
        assert_eq!(step(&mut voice, 5000, true), Some(5000), "in time again");
    }

    #[test]
    fn a_voice_pushed_out_fades_and_then_is_gone() {
        let mut voice = Voice::new();
        assert_eq!(step(&mut voice, 8000, true), Some(8000));
        assert_eq!(step(&mut voice, 8000, false), Some(4000));
        assert_eq!(step(&mut voice, 8000, false), None);
        assert_eq!(step(&mut voice, 8000, true), Some(4000), "and fades in when let in again");
        assert_eq!(step(&mut voice, 8000, true), Some(8000));
    }

    #[test]
    fn without_a_gate_the_softest_sound_is_heard() {
        let mut voice = Voice::new();
        let voiced = voice.listen(false, |out| {
            out.fill(1);
            true
        });
        assert!(matches!(voiced, Voiced::Open { .. }));
    }

    #[test]
    fn heard_is_what_was_spoken() {
        let mut voice = Voice::new();
        step(&mut voice, 700, true);
        assert_eq!(voice.heard(), Some(&[700; FRAME][..]));
        step(&mut voice, 0, false);
        voice.rest();
        voice.speak();
        assert_eq!(voice.heard(), None);
    }
}
