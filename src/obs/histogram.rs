//! A histogram of durations that any thread may record into without a lock or an allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in microseconds: 1–2–5 from 10 µs to 10 s.
const BOUNDS_US: [u64; 19] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// Counts of durations by size.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len()],
    beyond: AtomicU64,
    sum_ns: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramReading {
    /// Upper bound in seconds and how many values were at or below it.
    pub buckets: Vec<(f64, u64)>,
    /// How many values there were.
    pub count: u64,
    /// Their sum in seconds.
    pub sum_s: f64,
}

impl Histogram {
    /// An empty histogram.
    pub const fn new() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BOUNDS_US.len()],
            beyond: AtomicU64::new(0),
            sum_ns: AtomicU64::new(0),
        }
    }

    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let index = BOUNDS_US.partition_point(|bound_us| bound_us * 1_000 < nanos);
        self.buckets.get(index).unwrap_or(&self.beyond).fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> HistogramReading {
        Self::read_all(&[self])
    }

    /// What several counted so far, added up.
    pub fn read_all(histograms: &[&Histogram]) -> HistogramReading {
        let sum = |pick: &dyn Fn(&Histogram) -> u64| {
            histograms.iter().map(|histogram| pick(histogram)).sum::<u64>()
        };
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BOUNDS_US.len());
        for (index, bound_us) in BOUNDS_US.iter().enumerate() {
            count += sum(&|histogram| {
                histogram.buckets.get(index).map_or(0, |bucket| bucket.load(Ordering::Relaxed))
            });
            buckets.push((*bound_us as f64 / 1e6, count));
        }
        count += sum(&|histogram| histogram.beyond.load(Ordering::Relaxed));
        let sum_ns = sum(&|histogram| histogram.sum_ns.load(Ordering::Relaxed));
        HistogramReading { buckets, count, sum_s: sum_ns as f64 / 1e9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_added_up() {
        let (one, other) = (Histogram::new(), Histogram::new());
        one.record(Duration::from_micros(15));
        other.record(Duration::from_micros(5));
        let seen = Histogram::read_all(&[&one, &other]);
        assert_eq!((seen.buckets[0].1, seen.buckets[1].1, seen.count), (1, 2, 2));
        assert_eq!(seen.sum_s, 20e-6);
    }

    #[test]
    fn a_value_on_a_bound_belongs_to_it() {
        let histogram = Histogram::new();
        histogram.record(Duration::from_micros(10));
        histogram.record(Duration::from_nanos(10_001));
        histogram.record(Duration::from_secs(11));
        let seen = histogram.read();
        assert_eq!(seen.buckets[0], (1e-5, 1));
        assert_eq!(seen.buckets[1], (2e-5, 2));
        assert_eq!(seen.buckets.last(), Some(&(10.0, 2)));
        assert_eq!(seen.count, 3);
    }
}
