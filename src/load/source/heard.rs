//! Who heard whom: the tones in a sample of what each call received.

use crate::audio::AudioCodec;
use crate::codec::g711;
use crate::load::report::Heard;
use crate::load::tone::{PERIOD, TONES, amplitude_at, tone_hz};

/// Bytes of sound examined of each call: 200 ms of G.711.
pub const SAMPLE_LEN: usize = 1600;
/// Less than this is no sample: the call hears nothing.
const SAMPLE_MIN: usize = 800;

/// Which tones a call must hear, by their index.
pub type Tones = u32;
const _: () = assert!(TONES <= Tones::BITS as usize, "a bit for every tone");

/// Examines one call's `sample` for all tones and counts against what it should hear. A tone is
/// heard at half the `amplitude` it was spoken with.
pub fn examine(sample: &[u8], codec: AudioCodec, amplitude: f64, should_hear: Tones, heard: &mut Heard) {
    let length = sample.len().min(SAMPLE_LEN) / PERIOD * PERIOD;
    let mut samples = [0i16; SAMPLE_LEN];
    g711::decode(codec, &sample[..length], &mut samples);
    heard.listeners += 1;
    heard.expected += should_hear.count_ones();
    for tone in 0..TONES {
        let should = should_hear >> tone & 1 == 1;
        let hears = length >= SAMPLE_MIN && amplitude_at(&samples[..length], tone_hz(tone)) > amplitude / 2.0;
        heard.missing += u32::from(should && !hears);
        heard.wrong += u32::from(hears && !should);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tone::encoded_period;

    fn played(tones: &[usize]) -> Vec<u8> {
        let mut sum = [0i16; PERIOD];
        for &tone in tones {
            let mut samples = [0; PERIOD];
            g711::decode(
                AudioCodec::Pcmu,
                &encoded_period(tone_hz(tone), 4000.0, AudioCodec::Pcmu),
                &mut samples,
            );
            sum.iter_mut().zip(samples).for_each(|(sum, sample)| *sum += sample);
        }
        let mut period = [0; PERIOD];
        g711::encode(AudioCodec::Pcmu, &sum, &mut period);
        period.iter().copied().cycle().take(SAMPLE_LEN).collect()
    }

    fn heard(sample: &[u8], should_hear: Tones) -> (u32, u32, u32) {
        let mut heard = Heard::default();
        examine(sample, AudioCodec::Pcmu, 4000.0, should_hear, &mut heard);
        (heard.expected, heard.missing, heard.wrong)
    }

    #[test]
    fn everyone_expected_and_nobody_else() {
        assert_eq!(heard(&played(&[0, 4, 29]), 1 | 1 << 4 | 1 << 29), (3, 0, 0));
        assert_eq!(heard(&played(&[0, 4]), 1 | 1 << 5), (2, 1, 1));
        assert_eq!(heard(&played(&[]), 0), (0, 0, 0));
    }

    #[test]
    fn too_little_sound_is_hearing_nobody() {
        assert_eq!(heard(&played(&[3])[..SAMPLE_MIN - 1], 1 << 3), (1, 1, 0));
        assert_eq!(heard(&[], 1 << 3), (1, 1, 0));
    }
}
