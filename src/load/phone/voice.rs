//! What the phone says and how loud it hears: the microphone and the meter.

use crate::load::tone::Oscillator;

/// The level shown for digital silence, in dBov.
const SILENCE_DBOV: f64 = -90.0;

/// What is spoken.
#[derive(Clone, Debug)]
pub enum Voice {
    /// Nothing.
    Silence,
    /// A tone.
    Tone(Oscillator),
    /// A recording, then nothing.
    Wave {
        /// All of it, at 8 kHz.
        samples: Vec<i16>,
        /// How much was spoken.
        position: usize,
    },
    /// What was heard last.
    Echo,
}

impl Voice {
    /// Fills the next frame; `heard` is the frame heard at the same time.
    pub fn fill(&mut self, heard: &[i16], out: &mut [i16]) {
        match self {
            Voice::Silence => out.fill(0),
            Voice::Tone(oscillator) => oscillator.fill(out),
            Voice::Wave { samples, position } => {
                let rest = samples.get(*position..).unwrap_or_default();
                let length = rest.len().min(out.len());
                out[..length].copy_from_slice(&rest[..length]);
                out[length..].fill(0);
                *position += length;
            }
            Voice::Echo => out.iter_mut().zip(heard).for_each(|(out, heard)| *out = *heard),
        }
    }
}

/// The loudest frame since it was last read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    mean_square: f64,
}

impl Meter {
    /// Takes a frame.
    pub fn take(&mut self, frame: &[i16]) {
        let sum: f64 = frame.iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
        self.mean_square = self.mean_square.max(sum / frame.len().max(1) as f64);
    }

    /// The level in dBov (0 is a square wave of full scale), and starts over.
    pub fn read(&mut self) -> f64 {
        let mean_square = std::mem::take(&mut self.mean_square);
        let full = 32_768.0f64 * 32_768.0;
        if mean_square < 1.0 { SILENCE_DBOV } else { (10.0 * (mean_square / full).log10()).max(SILENCE_DBOV) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_ends_in_silence_and_an_echo_repeats() {
        let mut voice = Voice::Wave { samples: vec![1, 2, 3, 4, 5], position: 0 };
        let mut frame = [9; 4];
        voice.fill(&[], &mut frame);
        assert_eq!(frame, [1, 2, 3, 4]);
        voice.fill(&[], &mut frame);
        assert_eq!(frame, [5, 0, 0, 0]);
        voice.fill(&[], &mut frame);
        assert_eq!(frame, [0; 4]);
        Voice::Echo.fill(&[7, 8, 9, 10], &mut frame);
        assert_eq!(frame, [7, 8, 9, 10]);
    }

    #[test]
    fn levels_are_those_of_the_loudest_frame() {
        let mut meter = Meter::default();
        assert_eq!(meter.read(), SILENCE_DBOV);
        meter.take(&[3277; 160]);
        meter.take(&[1; 160]);
        assert!((meter.read() + 20.0).abs() < 0.1);
        assert_eq!(meter.read(), SILENCE_DBOV);
    }
}
