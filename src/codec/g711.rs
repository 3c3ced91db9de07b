//! ITU-T G.711: 16-bit samples to 8-bit companded bytes and back.
//!
//! Both laws are piecewise linear with segments that double, which is what a binary float's
//! exponent and top four mantissa bits are. So one conversion to `f32` finds segment and step
//! without a table or a loop, and the compiler turns the whole slice into vector code.

use crate::audio::AudioCodec;

/// Added to a µ-law magnitude so that every segment starts at a power of two (G.711 table 2, on a
/// 16-bit scale).
const ULAW_BIAS: i32 = 132;
/// The largest 16-bit magnitude µ-law distinguishes.
const ULAW_CLIP: i32 = 32_635;
/// A-law toggles every other bit on the wire (G.711 table 1, note 2).
const ALAW_TOGGLE: u8 = 0x55;
/// Mantissa bits of an `f32` below the four that are the step within a segment.
const STEP_SHIFT: u32 = 19;
/// Half a step, where a decoded value sits within its interval.
const HALF_STEP: u32 = 1 << (STEP_SHIFT - 1);
/// Exponent 7 of an `f32`: the lowest µ-law segment and, decoding, A-law's segment zero.
const EXPONENT_7: u32 = 127 + 7;
/// Adding 2^23 to a smaller `f32` leaves the integer in the mantissa bits.
const INTEGER_IN_MANTISSA: f32 = 8_388_608.0;
/// The mantissa bits of an `f32`.
const MANTISSA: u32 = (1 << 23) - 1;

/// The byte that decodes to silence: what padding is made of.
pub const fn silence(codec: AudioCodec) -> u8 {
    match codec {
        AudioCodec::Pcmu => 0xff,
        AudioCodec::Pcma => 0xd5,
    }
}

/// The byte that decodes to zero, where the law has one: A-law has no zero.
pub const fn zero(codec: AudioCodec) -> Option<u8> {
    match codec {
        AudioCodec::Pcmu => Some(0xff),
        AudioCodec::Pcma => None,
    }
}

/// Decodes `payload` into `pcm` by the codec's law, as far as the shorter one reaches.
pub fn decode(codec: AudioCodec, payload: &[u8], pcm: &mut [i16]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        return unsafe { wide::decode(codec, payload, pcm) };
    }
    decode_by_law(codec, payload, pcm);
}

#[inline(always)]
fn decode_by_law(codec: AudioCodec, payload: &[u8], pcm: &mut [i16]) {
    match codec {
        AudioCodec::Pcmu => decode_ulaw(payload, pcm),
        AudioCodec::Pcma => decode_alaw(payload, pcm),
    }
}

/// Encodes `pcm` into `payload` by the codec's law, as far as the shorter one reaches.
pub fn encode(codec: AudioCodec, pcm: &[i16], payload: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        return unsafe { wide::encode(codec, pcm, payload) };
    }
    encode_by_law(codec, pcm, payload);
}

/// The same loops, compiled for processors with vectors of 32 bytes: every one of the last ten years.
#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{AudioCodec, decode_by_law, encode_by_law};

    #[target_feature(enable = "avx2")]
    pub(super) fn decode(codec: AudioCodec, payload: &[u8], pcm: &mut [i16]) {
        decode_by_law(codec, payload, pcm);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn encode(codec: AudioCodec, pcm: &[i16], payload: &mut [u8]) {
        encode_by_law(codec, pcm, payload);
    }
}

#[inline(always)]
fn encode_by_law(codec: AudioCodec, pcm: &[i16], payload: &mut [u8]) {
    match codec {
        AudioCodec::Pcmu => encode_ulaw(pcm, payload),
        AudioCodec::Pcma => encode_alaw(pcm, payload),
    }
}

/// Decodes µ-law bytes to 16-bit samples.
#[inline(always)]
pub fn decode_ulaw(payload: &[u8], pcm: &mut [i16]) {
    for (sample, &byte) in pcm.iter_mut().zip(payload) {
        let code = !byte;
        let magnitude = magnitude_of(u32::from(code & 0x7f)) - ULAW_BIAS;
        *sample = signed(magnitude, code & 0x80 != 0);
    }
}

/// Encodes 16-bit samples to µ-law bytes.
#[inline(always)]
pub fn encode_ulaw(pcm: &[i16], payload: &mut [u8]) {
    for (byte, &sample) in payload.iter_mut().zip(pcm) {
        let (magnitude, sign) = folded(sample);
        let biased = magnitude.min(ULAW_CLIP) + ULAW_BIAS;
        let code = ((biased as f32).to_bits() >> STEP_SHIFT).wrapping_sub(EXPONENT_7 << 4) as u8;
        *byte = !(code | sign);
    }
}

/// Decodes A-law bytes to 16-bit samples.
#[inline(always)]
pub fn decode_alaw(payload: &[u8], pcm: &mut [i16]) {
    for (sample, &byte) in pcm.iter_mut().zip(payload) {
        let code = byte ^ ALAW_TOGGLE;
        let step = u32::from(code & 0x7f);
        // Segment zero is linear: it has no hidden leading one.
        let linear = (step << 4) as i32 + 8;
        let magnitude = if step < 16 { linear } else { magnitude_of(step) };
        *sample = signed(magnitude, code & 0x80 == 0);
    }
}

/// Encodes 16-bit samples to A-law bytes.
#[inline(always)]
pub fn encode_alaw(pcm: &[i16], payload: &mut [u8]) {
    for (byte, &sample) in payload.iter_mut().zip(pcm) {
        let (magnitude, sign) = folded(sample);
        let steps = magnitude >> 4;
        let segmented = ((steps as f32).to_bits() >> STEP_SHIFT).wrapping_sub((127 + 3) << 4) as u8;
        let code = if steps < 16 { steps as u8 } else { segmented };
        *byte = (code | (sign ^ 0x80)) ^ ALAW_TOGGLE;
    }
}

/// The middle of the interval that a 7-bit segment and step name, bias included.
#[inline(always)]
fn magnitude_of(step: u32) -> i32 {
    let value = f32::from_bits((step << STEP_SHIFT) + HALF_STEP + (EXPONENT_7 << 23));
    ((value + INTEGER_IN_MANTISSA).to_bits() & MANTISSA) as i32
}

/// A sample's magnitude and its sign as bit 7. Negative ones fold by one's complement as in the
/// reference of ITU-T G.191, so that a sample halfway between two values goes up on both sides.
#[inline(always)]
fn folded(sample: i16) -> (i32, u8) {
    let sample = i32::from(sample);
    let mask = sample >> 31;
    (sample ^ mask, (mask & 0x80) as u8)
}

#[inline(always)]
fn signed(magnitude: i32, is_negative: bool) -> i16 {
    let mask = -i32::from(is_negative);
    ((magnitude ^ mask) - mask) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of G.711: the lower decision value and the decoded value of every step.
    fn table(mut edge: i32, steps: impl Fn(u32) -> i32) -> Vec<(i32, i32)> {
        let mut table = vec![];
        for step in (0..8).flat_map(|segment| [steps(segment); 16]) {
            table.push((edge, edge + step / 2));
            edge += step;
        }
        table
    }

    /// Table 2: steps of 8, doubling with every segment; the first is centred on zero.
    fn ulaw_table() -> Vec<(i32, i32)> {
        table(-4, |segment| 8 << segment)
    }

    /// Table 1: two segments with steps of 16, then doubling.
    fn alaw_table() -> Vec<(i32, i32)> {
        table(0, |segment| 16 << segment.saturating_sub(1))
    }

    fn decoded(codec: AudioCodec, byte: u8) -> i32 {
        let mut pcm = [0];
        decode(codec, &[byte], &mut pcm);
        i32::from(pcm[0])
    }

    #[test]
    fn all_256_values_of_both_laws_are_the_tables() {
        for step in 0..128_u8 {
            let (_, ulaw) = ulaw_table()[usize::from(step)];
            assert_eq!(decoded(AudioCodec::Pcmu, 0xff - step), ulaw);
            assert_eq!(decoded(AudioCodec::Pcmu, 0x7f - step), -ulaw);
            let (_, alaw) = alaw_table()[usize::from(step)];
            assert_eq!(decoded(AudioCodec::Pcma, (0x80 | step) ^ 0x55), alaw);
            assert_eq!(decoded(AudioCodec::Pcma, step ^ 0x55), -alaw);
        }
        assert_eq!(decoded(AudioCodec::Pcmu, 0x80), 32_124);
        assert_eq!(decoded(AudioCodec::Pcma, 0xaa), 32_256);
        assert_eq!(decoded(AudioCodec::Pcmu, silence(AudioCodec::Pcmu)), 0);
        assert_eq!(decoded(AudioCodec::Pcma, silence(AudioCodec::Pcma)), 8, "A-law has no zero");
    }

    #[test]
    fn all_65536_samples_encode_by_the_decision_values() {
        for (codec, table) in [(AudioCodec::Pcmu, ulaw_table()), (AudioCodec::Pcma, alaw_table())] {
            for sample in i16::MIN..=i16::MAX {
                // On a decision value a sample goes up, so below zero towards zero.
                let magnitude = i32::from(if sample < 0 { !sample } else { sample });
                let &(_, value) =
                    table.iter().rfind(|(edge, _)| *edge <= magnitude).expect("the first is 0 or less");
                let mut byte = [0];
                encode(codec, &[sample], &mut byte);
                assert_eq!(decoded(codec, byte[0]).abs(), value, "{codec:?} {sample}");
                assert_eq!(byte[0] & 0x80 != 0, sample >= 0, "{codec:?} {sample}: the sign");
            }
        }
    }

    #[test]
    fn a_sample_between_two_values_goes_up() {
        let mut bytes = [0; 2];
        encode_ulaw(&[4, -4], &mut bytes);
        assert_eq!(bytes, [0xfe, 0x7f], "to 8 and to -0");
        encode_alaw(&[16, -16], &mut bytes);
        assert_eq!([decoded(AudioCodec::Pcma, bytes[0]), decoded(AudioCodec::Pcma, bytes[1])], [24, -8]);
    }

    #[test]
    fn every_byte_survives_decode_and_encode() {
        for codec in AudioCodec::ALL {
            for byte in 0..=255_u8 {
                let mut again = [0];
                encode(codec, &[decoded(codec, byte) as i16], &mut again);
                // µ-law's negative zero is the one value with two names.
                let expected = if (codec, byte) == (AudioCodec::Pcmu, 0x7f) { 0xff } else { byte };
                assert_eq!(again[0], expected, "{codec:?}");
            }
        }
    }

    #[test]
    fn unequal_lengths_stop_at_the_shorter() {
        let mut pcm = [7; 3];
        decode(AudioCodec::Pcmu, &[0xff], &mut pcm);
        assert_eq!(pcm, [0, 7, 7]);
        let mut payload = [7; 2];
        encode(AudioCodec::Pcma, &[8], &mut payload);
        assert_eq!(payload, [0xd5, 7]);
    }
}
