//! One tick's mix of one room: the exact sum, the shared mix for those who do not speak, and
//! sum − own for each who does.

use super::{kernel, limiter::Limiter};

/// The buffers of one mix, reused by every room of the same rate.
#[derive(Debug)]
pub struct Mix {
    sum: Box<[i32]>,
    own: Box<[i32]>,
    voices: usize,
}

impl Mix {
    /// A mix of frames of `samples` samples.
    pub fn new(samples: usize) -> Self {
        Self { sum: vec![0; samples].into(), own: vec![0; samples].into(), voices: 0 }
    }

    /// Empties the mix for the next room.
    pub fn clear(&mut self) {
        if self.voices > 0 {
            self.sum.fill(0);
        }
        self.voices = 0;
    }

    /// Adds a speaker's frame.
    pub fn add(&mut self, frame: &[i16]) {
        kernel::accumulate(&mut self.sum, frame);
        self.voices += 1;
    }

    /// How many frames were added.
    pub fn voices(&self) -> usize {
        self.voices
    }

    /// The exact sum of what was added.
    pub fn sum(&self) -> &[i32] {
        &self.sum
    }

    /// What everybody who is not a speaker hears.
    pub fn shared(&self, limiter: &mut Limiter, out: &mut [i16]) {
        limiter.process(&self.sum, out);
    }

    /// What the speaker of `own` hears: everybody else.
    pub fn without(&mut self, own: &[i16], limiter: &mut Limiter, out: &mut [i16]) {
        kernel::subtract(&mut self.own, &self.sum, own);
        limiter.process(&self.own, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// The slow truth: for each listener, sum everybody else in `i64`, from scratch.
    fn reference(frames: &[Vec<i16>], listener: Option<usize>) -> Vec<i64> {
        let mut mix = vec![0i64; frames[0].len()];
        for (speaker, frame) in frames.iter().enumerate() {
            if Some(speaker) != listener {
                for (total, &sample) in mix.iter_mut().zip(frame) {
                    *total += i64::from(sample);
                }
            }
        }
        mix
    }

    #[test]
    fn every_listener_hears_the_reference_mix_bit_for_bit() {
        let mut rng = Rng::from_number(1);
        for room in 0..60 {
            let samples = [80, 160, 320, 960][room % 4];
            let voices = 1 + rng.below(40) as usize;
            // A third of the rooms stay within 16 bits in sum, so that equality is with the mix
            // itself; the rest go through the limiter, compared by running it on the reference.
            let amplitude = if room % 3 == 0 { 32_767 / voices as u64 } else { 32_767 };
            let frames: Vec<Vec<i16>> = (0..voices)
                .map(|_| {
                    (0..samples)
                        .map(|_| (rng.below(2 * amplitude + 1) as i64 - amplitude as i64) as i16)
                        .collect()
                })
                .collect();
            let mut mix = Mix::new(samples);
            mix.clear();
            frames.iter().for_each(|frame| mix.add(frame));
            let mut heard = vec![0i16; samples];
            for listener in (0..voices).map(Some).chain([None]) {
                match listener {
                    Some(speaker) => mix.without(&frames[speaker], &mut Limiter::default(), &mut heard),
                    None => mix.shared(&mut Limiter::default(), &mut heard),
                }
                let truth = reference(&frames, listener);
                if room % 3 == 0 {
                    assert!(
                        truth.iter().zip(&heard).all(|(&t, &h)| t == i64::from(h)),
                        "room {room} {listener:?}"
                    );
                }
                let truth: Vec<i32> =
                    truth.iter().map(|&t| i32::try_from(t).expect("40 voices fit")).collect();
                let mut limited = vec![0i16; samples];
                Limiter::default().process(&truth, &mut limited);
                assert_eq!(limited, heard, "room {room} {listener:?}");
            }
        }
    }

    #[test]
    fn two_thousand_full_scale_voices_do_not_overflow() {
        let mut mix = Mix::new(160);
        let frame = [i16::MIN; 160];
        for _ in 0..2_000 {
            mix.add(&frame);
        }
        let mut heard = [0; 160];
        mix.without(&frame, &mut Limiter::default(), &mut heard);
        assert!(heard.iter().all(|&s| s < -32_000), "still loud and negative: {}", heard[0]);
    }

    #[test]
    fn a_cleared_mix_is_silent() {
        let mut mix = Mix::new(160);
        mix.add(&[5; 160]);
        mix.clear();
        let mut heard = [1; 160];
        mix.shared(&mut Limiter::default(), &mut heard);
        assert_eq!((heard, mix.voices()), ([0; 160], 0));
    }
}
