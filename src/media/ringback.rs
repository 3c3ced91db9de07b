//! The ringing tone a caller hears while waiting alone in a two-party conference (ITU-T E.180).

use std::f32::consts::TAU;

use crate::plane::RingCadence;

/// Level of each tone: −15 dBov peak, near E.180's recommended −10 dBm0 with headroom for two.
const AMPLITUDE: f32 = 5_800.0;

/// Where a leg is in its ringing.
#[derive(Clone, Debug)]
pub struct Ringback {
    cadence: RingCadence,
    rate_hz: u32,
    /// Samples since the ringing began; the cadence repeats, so it is kept below one period.
    position: u32,
}

impl Ringback {
    /// Ringing that begins now, at `rate_hz` samples a second.
    pub fn new(cadence: RingCadence, rate_hz: u32) -> Self {
        Self { cadence, rate_hz, position: 0 }
    }

    /// Writes the next samples.
    pub fn fill(&mut self, out: &mut [i16]) {
        let per_ms = self.rate_hz / 1000;
        let period = self.cadence.on_off_ms.iter().map(|&ms| u32::from(ms)).sum::<u32>() * per_ms;
        if period == 0 {
            out.fill(0);
            return;
        }
        for sample in out {
            *sample = if self.is_on(self.position / per_ms) { self.tone(self.position) } else { 0 };
            self.position = (self.position + 1) % period;
        }
    }

    /// Whether the cadence sounds at this millisecond of its period.
    fn is_on(&self, ms: u32) -> bool {
        let mut end = 0;
        for (index, &length) in self.cadence.on_off_ms.iter().enumerate() {
            end += u32::from(length);
            if ms < end {
                return index % 2 == 0;
            }
        }
        false
    }

    fn tone(&self, position: u32) -> i16 {
        let sine = |hz: u16| {
            // The phase is taken modulo one second first, so that `f32` stays exact enough.
            let phase = (u64::from(hz) * u64::from(position)) % u64::from(self.rate_hz);
            (phase as f32 / self.rate_hz as f32 * TAU).sin()
        };
        self.cadence.tones_hz.iter().filter(|&&hz| hz > 0).map(|&hz| sine(hz) * AMPLITUDE).sum::<f32>() as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(cadence: RingCadence, ms: usize) -> Vec<bool> {
        let mut ringback = Ringback::new(cadence, 8000);
        (0..ms / 20)
            .map(|_| {
                let mut frame = [0; 160];
                ringback.fill(&mut frame);
                frame.iter().any(|&s| s.abs() > 1000)
            })
            .collect()
    }

    #[test]
    fn one_second_on_four_off_then_again() {
        let cadence = RingCadence { tones_hz: [425, 0], on_off_ms: [1000, 4000, 0, 0] };
        let on = levels(cadence, 10_000);
        let expected: Vec<bool> = (0..500).map(|frame| frame % 250 < 50).collect();
        assert_eq!(on, expected);
    }

    #[test]
    fn a_double_ring_rings_twice() {
        let cadence = RingCadence { tones_hz: [400, 450], on_off_ms: [400, 200, 400, 2000] };
        let on = levels(cadence, 3_000);
        let rings = on.windows(2).filter(|w| !w[0] && w[1]).count() + usize::from(on[0]);
        assert_eq!(rings, 2);
    }

    #[test]
    fn the_tone_has_the_stated_frequency() {
        let cadence = RingCadence { tones_hz: [425, 0], on_off_ms: [1000, 4000, 0, 0] };
        let mut ringback = Ringback::new(cadence, 8000);
        let mut second = vec![0; 8000];
        ringback.fill(&mut second);
        let rising = second.windows(2).filter(|w| w[0] < 0 && w[1] >= 0).count();
        assert!((424..=425).contains(&rising), "{rising} zero crossings");
    }

    #[test]
    fn an_empty_cadence_is_silence() {
        assert!(!levels(RingCadence { tones_hz: [425, 0], on_off_ms: [0; 4] }, 1000).contains(&true));
    }
}
