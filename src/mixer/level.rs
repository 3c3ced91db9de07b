//! Levels: the mean square of a frame, and the same in dBov as meters and RFC 6465 show it.

/// Mean square of a full-scale square wave: 0 dBov.
const FULL_SCALE: f32 = (1u32 << 30) as f32;

/// The lowest level that is told apart: digital silence and below.
pub const SILENCE_DBOV: i8 = -127;

/// A mean square as dBov: 0 is the loudest, [`SILENCE_DBOV`] is silence (RFC 6464 §3).
pub fn dbov(mean_square: u32) -> i8 {
    if mean_square == 0 {
        return SILENCE_DBOV;
    }
    let db = 10.0 * (mean_square as f32 / FULL_SCALE).log10();
    db.round().clamp(f32::from(SILENCE_DBOV), 0.0) as i8
}

/// The mean square of a level: the inverse of [`dbov`], for constants in whole decibels.
pub const fn mean_square_of(dbov: i8) -> u32 {
    // 10 dB steps by table, the rest by 1 dB factors in Q16: const fn has no powf.
    let mut value = 1u64 << 30;
    let mut left = -(dbov as i32);
    while left >= 10 {
        value /= 10;
        left -= 10;
    }
    while left > 0 {
        value = value * 52_057 / 65_536;
        left -= 1;
    }
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_in_decibels_of_full_scale() {
        assert_eq!(dbov(1 << 30), 0);
        assert_eq!(dbov(1 << 29), -3);
        assert_eq!(dbov((1 << 30) / 1_000_000), -60);
        assert_eq!(dbov(1), -90);
        assert_eq!(dbov(0), SILENCE_DBOV);
    }

    #[test]
    fn constants_go_there_and_back() {
        for level in -70..=0 {
            assert_eq!(dbov(mean_square_of(level)), level);
        }
    }
}
