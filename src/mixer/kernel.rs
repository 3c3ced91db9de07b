//! The inner loops. Each is written so that the compiler vectorises it: fixed operations over
//! equal-length slices, 32-bit lanes, no branches.

/// Adds `frame` to `sum`, sample by sample. Exact: an `i32` holds 65,536 full-scale voices.
pub fn accumulate(sum: &mut [i32], frame: &[i16]) {
    debug_assert_eq!(sum.len(), frame.len());
    for (total, &sample) in sum.iter_mut().zip(frame) {
        *total += i32::from(sample);
    }
}

/// Writes `sum − own` to `out`: the mix as the one who spoke `own` hears it. Subtracting from the
/// exact sum, before any limiting, is what keeps a talker from hearing a distorted self.
pub fn subtract(out: &mut [i32], sum: &[i32], own: &[i16]) {
    debug_assert_eq!(out.len(), sum.len());
    debug_assert_eq!(out.len(), own.len());
    for ((result, &total), &sample) in out.iter_mut().zip(sum).zip(own) {
        *result = total - i32::from(sample);
    }
}

/// The largest magnitude in `mix`.
pub fn peak(mix: &[i32]) -> u32 {
    mix.iter().fold(0, |most, sample| most.max(sample.unsigned_abs()))
}

/// Narrows `mix` to 16 bits, for a mix whose [`peak`] is known to fit.
pub fn narrow(out: &mut [i16], mix: &[i32]) {
    debug_assert_eq!(out.len(), mix.len());
    for (narrow, &wide) in out.iter_mut().zip(mix) {
        // The clamp costs nothing and lets the loop vectorise to saturating packs.
        *narrow = wide.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
    }
}

/// The mean square of `frame`: 0 for silence, 2^30 for full scale square wave.
pub fn mean_square(frame: &[i16]) -> u32 {
    let total = frame.chunks(16).fold(0u64, |total, chunk| {
        // 16 squares of 2^30 fit an i64 lane with ease; the inner loop stays in 32-bit products.
        total
            + chunk
                .iter()
                .map(|&sample| u64::from((i32::from(sample) * i32::from(sample)) as u32))
                .sum::<u64>()
    });
    (total / frame.len().max(1) as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_full_voices_minus_the_own_one_leave_the_other_exactly() {
        let (a, b, own) = ([30_000i16; 160], [30_000i16; 160], [-30_000i16; 160]);
        let mut sum = [0i32; 160];
        for frame in [&a, &b, &own] {
            accumulate(&mut sum, frame);
        }
        let mut mix = [0i32; 160];
        subtract(&mut mix, &sum, &own);
        assert_eq!(mix, [60_000; 160]);
        subtract(&mut mix, &sum, &a);
        assert_eq!(mix, [0; 160], "30000 + 30000 − 30000 − 30000 is silence, not a wrapped value");
    }

    #[test]
    fn mean_square_of_known_frames() {
        assert_eq!(mean_square(&[]), 0);
        assert_eq!(mean_square(&[0; 160]), 0);
        assert_eq!(mean_square(&[-100; 160]), 10_000);
        assert_eq!(mean_square(&[i16::MIN; 960]), 1 << 30);
        assert_eq!(mean_square(&[3, 4, 0, 0, 0]), 5);
    }

    #[test]
    fn peak_sees_the_most_negative_value() {
        assert_eq!(peak(&[1, -5, 3]), 5);
        assert_eq!(peak(&[i32::MIN, 0]), 1 << 31);
        assert_eq!(peak(&[]), 0);
    }

    #[test]
    fn narrow_saturates_rather_than_wraps() {
        let mut out = [0i16; 4];
        narrow(&mut out, &[40_000, -40_000, 32_767, -32_768]);
        assert_eq!(out, [32_767, -32_768, 32_767, -32_768]);
    }
}
