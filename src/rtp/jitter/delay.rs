//! How much delay keeps packets from being late.
//!
//! Transit is the time a packet could first be played minus its timestamp, both in timestamp
//! units on clocks that nobody synchronised: only differences mean anything. The worst transit of
//! every tick goes into a histogram that forgets, and the target is where holding packets longer
//! costs more than the late ones it would save.

/// Histogram steps per second: each is 10 ms.
const BINS_PER_SECOND: u32 = 100;
/// Histogram steps: transits that differ by more are another stream's.
const BINS: usize = 64;
/// Ticks after which an entry's weight has fallen to 1/e.
const MEMORY_TICKS: f32 = 250.0;
/// Milliseconds of delay that are worth one percent fewer late ticks.
const WORTH_MS_PER_PERCENT: f32 = 40.0;
/// Entry weights grow instead of old ones shrinking; past this all are scaled down.
const WEIGHT_MAX: f32 = 1e12;
/// Ticks in a row beyond the histogram that make it start anew.
const STRAYS_MAX: u32 = 3;
/// A bin with less than this share of a fresh entry is as good as empty.
const NEGLIGIBLE: f32 = 0.01;
/// Records between two searches for the target, unless a record puts it in doubt.
const RECORDS_PER_SEARCH: u32 = 8;

/// The target delay from the transits seen.
#[derive(Clone, Debug)]
pub struct DelayEstimator {
    /// Timestamp units per bin.
    bin: i32,
    /// Bins the target may be above the quickest packet.
    bins_max: usize,
    /// Transit of bin 0; `None` before the first record.
    base: Option<i32>,
    bins: [f32; BINS],
    weight: f32,
    target_bin: usize,
    since_search: u32,
    strays: u32,
}

impl DelayEstimator {
    /// An estimator for timestamps of `clock_rate_hz` that adds at most `max_ms` to the quickest
    /// packet's transit.
    pub fn new(clock_rate_hz: u32, max_ms: u32) -> Self {
        Self {
            bin: (clock_rate_hz / BINS_PER_SECOND).max(1) as i32,
            bins_max: (max_ms as usize / 10).clamp(1, BINS - 1),
            base: None,
            bins: [0.0; BINS],
            weight: 1.0,
            target_bin: 0,
            since_search: 0,
            strays: 0,
        }
    }

    /// The transit to play at: a packet with this transit or less is in time. `None` before the
    /// first record.
    pub fn target(&self) -> Option<i32> {
        self.base.map(|base| base.wrapping_add(self.target_bin as i32 * self.bin))
    }

    /// What the target adds to the quickest packet's transit, in timestamp units.
    pub fn spread(&self) -> u32 {
        (self.target_bin.saturating_sub(self.quickest()) as i32 * self.bin) as u32
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Self { bin: self.bin, bins_max: self.bins_max, ..Self::new(BINS_PER_SECOND, 0) };
    }

    /// Whether `transit` is so far from all others that the timestamps must have jumped, unless
    /// the network held the packet up.
    pub fn is_stray(&self, transit: i32) -> bool {
        let range = self.bin * BINS as i32;
        self.base.is_some_and(|base| !(-range..2 * range).contains(&transit.wrapping_sub(base)))
    }

    /// Takes the worst transit of a tick.
    pub fn record(&mut self, transit: i32) {
        let Some(bin) = self.bin_of(transit) else {
            self.strays += 1;
            if self.strays >= STRAYS_MAX {
                self.reset();
                self.record(transit);
            }
            return;
        };
        self.strays = 0;
        self.bins[bin] += self.weight;
        self.weight *= 1.0 + 1.0 / MEMORY_TICKS;
        if self.weight > WEIGHT_MAX {
            self.bins.iter_mut().for_each(|mass| *mass /= WEIGHT_MAX);
            self.weight /= WEIGHT_MAX;
        }
        self.since_search += 1;
        // A packet this quick lowers what the limit counts from: the target may be beyond it by now.
        let beyond_limit = self.target_bin > bin + self.bins_max;
        if bin > self.target_bin || beyond_limit || self.since_search >= RECORDS_PER_SEARCH {
            self.search();
        }
    }

    /// The bin of `transit`, the histogram moved if it must be.
    fn bin_of(&mut self, transit: i32) -> Option<usize> {
        let base = *self.base.get_or_insert(transit);
        let above = transit.wrapping_sub(base);
        // Rounded up: a target must not be less than what it stands for.
        let mut bin = (i64::from(above) + i64::from(self.bin) - 1).div_euclid(i64::from(self.bin));
        if bin < 0 && bin > -(BINS as i64) {
            self.move_down(bin.unsigned_abs() as usize);
            bin = 0;
        } else if bin >= BINS as i64 {
            let quickest = self.quickest();
            self.move_up(quickest);
            bin -= quickest as i64;
        }
        usize::try_from(bin).ok().filter(|&bin| bin < BINS)
    }

    /// The bin of the quickest packets of late.
    fn quickest(&self) -> usize {
        self.bins.iter().position(|&mass| mass > self.weight * NEGLIGIBLE).unwrap_or(0)
    }

    /// A packet was quicker than all before: makes room below.
    fn move_down(&mut self, by: usize) {
        self.bins.rotate_right(by);
        let (fallen_off, _) = self.bins.split_at_mut(by);
        let beyond: f32 = fallen_off.iter().sum();
        fallen_off.fill(0.0);
        self.bins[BINS - 1] += beyond;
        self.base = self.base.map(|base| base.wrapping_sub(by as i32 * self.bin));
        self.target_bin = (self.target_bin + by).min(BINS - 1);
    }

    /// The lowest bins are empty by now: makes room above.
    fn move_up(&mut self, by: usize) {
        self.bins[..by].fill(0.0);
        self.bins.rotate_left(by);
        self.base = self.base.map(|base| base.wrapping_add(by as i32 * self.bin));
        self.target_bin = self.target_bin.saturating_sub(by);
    }

    /// Finds the bin where delay and late packets together cost least.
    fn search(&mut self) {
        self.since_search = 0;
        let total = self.bins.iter().sum::<f32>().max(f32::MIN_POSITIVE);
        // Delay is counted from the quickest packet of late, not from one long ago.
        let quickest = self.quickest();
        let last = (quickest + self.bins_max).min(BINS - 1);
        let bin_ms = 1000.0 / BINS_PER_SECOND as f32;
        let mut late: f32 = total - self.bins[..quickest].iter().sum::<f32>();
        let mut best = (f32::MAX, quickest);
        for (bin, mass) in self.bins.iter().enumerate().take(last + 1).skip(quickest) {
            late -= mass;
            let late_percent = (late / total * 100.0).max(0.0);
            let cost = (bin - quickest) as f32 * bin_ms + late_percent * WORTH_MS_PER_PERCENT;
            // Strictly less by more than rounding: of equal ones the least delay.
            if cost < best.0 - 0.01 {
                best = (cost, bin);
            }
        }
        self.target_bin = best.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Milliseconds the target is above a transit of `from`.
    fn target_ms(estimator: &DelayEstimator, from: i32) -> i32 {
        (estimator.target().expect("recorded") - from) / 8
    }

    #[test]
    fn a_steady_stream_is_not_held_at_all() {
        let mut estimator = DelayEstimator::new(8000, 500);
        assert_eq!(estimator.target(), None);
        for _ in 0..1000 {
            estimator.record(-12_345);
        }
        assert_eq!(estimator.target(), Some(-12_345));
        assert_eq!(estimator.spread(), 0);
    }

    #[test]
    fn jitter_is_covered_within_half_a_second_and_given_back_within_half_a_minute() {
        let mut estimator = DelayEstimator::new(8000, 500);
        let mut rng = Rng::from_number(2);
        for _ in 0..25 {
            estimator.record(rng.below(5) as i32 * 160);
        }
        assert_eq!(target_ms(&estimator, 0), 80);
        let mut ticks = 0;
        while target_ms(&estimator, 0) > 0 {
            estimator.record(0);
            ticks += 1;
        }
        assert!((250..1500).contains(&ticks), "{ticks} ticks");
    }

    #[test]
    fn one_spike_in_a_long_calm_changes_nothing_but_a_second_kind_of_path_does() {
        let mut estimator = DelayEstimator::new(8000, 500);
        for _ in 0..500 {
            estimator.record(0);
        }
        estimator.record(8 * 200);
        assert_eq!(target_ms(&estimator, 0), 0);
        for _ in 0..40 {
            estimator.record(8 * 60);
        }
        assert_eq!(target_ms(&estimator, 0), 60);
    }

    #[test]
    fn the_target_never_passes_the_limit() {
        let mut estimator = DelayEstimator::new(8000, 100);
        for step in 0..50 {
            estimator.record(8 * 400 * (step % 2));
        }
        assert!(target_ms(&estimator, 0) <= 100);
    }

    #[test]
    fn nor_when_a_quicker_packet_moves_what_the_limit_counts_from() {
        let mut estimator = DelayEstimator::new(8000, 150);
        for _ in 0..4 {
            estimator.record(8 * 150);
        }
        // Quicker than all before: the histogram makes room below.
        estimator.record(-8 * 150);
        assert!(target_ms(&estimator, -8 * 150) <= 150);
        // As quick as one that is all but forgotten: the histogram stays where it is.
        for _ in 0..3000 {
            estimator.record(8 * 100);
        }
        assert_eq!(target_ms(&estimator, 8 * 100), 0);
        estimator.record(-8 * 150);
        assert!(target_ms(&estimator, -8 * 150) <= 150);
        let mut rng = Rng::from_number(7);
        for _ in 0..5000 {
            let transit = rng.below(600) as i32 * 8;
            estimator.record(transit);
            assert!(target_ms(&estimator, transit) <= 150 + 10 && estimator.spread() <= 8 * 150);
        }
    }

    #[test]
    fn a_drifting_clock_is_followed_both_ways() {
        for drift in [-1, 1] {
            let mut estimator = DelayEstimator::new(8000, 500);
            let mut transit = 0;
            for tick in 0..200_000 {
                if tick % 500 == 0 {
                    transit += drift * 160;
                }
                estimator.record(transit);
            }
            for _ in 0..1000 {
                estimator.record(transit);
            }
            assert_eq!(estimator.target(), Some(transit), "drift {drift}");
        }
    }

    #[test]
    fn a_jump_of_the_timestamps_starts_anew_after_three_ticks() {
        let mut estimator = DelayEstimator::new(8000, 500);
        for transit in [0, 1_000_000, 0, 0] {
            estimator.record(transit);
        }
        assert_eq!(estimator.target(), Some(0), "one stray is passed over");
        assert!(estimator.is_stray(1_000_000) && estimator.is_stray(-1_000_000));
        for _ in 0..3 {
            estimator.record(i32::MIN + 5);
        }
        assert_eq!(estimator.target(), Some(i32::MIN + 5));
        assert!(!estimator.is_stray(i32::MIN + 5));
    }
}
