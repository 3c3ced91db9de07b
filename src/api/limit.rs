//! Request limits: a token bucket per address or key, in the form of one number each (the generic
//! cell rate algorithm), in a map that cannot grow without end.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;

use crate::time::Instant;

/// Addresses, or keys, that are told apart at once; those beyond share one bucket.
pub const BUCKETS_MAX: usize = 65_536;
/// How often, at most, a full map is searched for buckets that are full again and can go.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Nanoseconds in a second.
const NANOS_PER_S: u64 = 1_000_000_000;

/// How much is allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Steadily, per second.
    pub(super) per_s: u32,
    /// At once.
    pub(super) burst: u32,
}

impl Rate {
    /// When a bucket is full again after one more request; how long to wait if it is empty.
    fn charge(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        let cost = NANOS_PER_S / u64::from(self.per_s.max(1));
        // How far ahead of now a bucket may be.
        let tolerance = cost * u64::from(self.burst.saturating_sub(1));
        let full_at = full_at.max(now);
        let ahead = full_at - now;
        if ahead > tolerance {
            return Err(Duration::from_nanos(ahead - tolerance));
        }
        Ok(full_at + cost)
    }
}

/// What tells one source of requests from another: the address, or the /64 of an IPv6 address, which
/// one subscriber has whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SourceKey(u128);

impl From<IpAddr> for SourceKey {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self(u128::from(v4.to_bits())),
            IpAddr::V6(v6) => Self(v6.to_bits() >> 64 << 64 | u128::from(u64::MAX)),
        }
    }
}

/// A bucket per key. Each is the time at which it would be full again, in nanoseconds.
pub(super) struct Buckets<K> {
    full_at: DashMap<K, u64>,
    overflow: AtomicU64,
    overflowed: AtomicU64,
    swept_at: AtomicU64,
    buckets_max: usize,
}

impl<K: Eq + Hash> Buckets<K> {
    pub(super) fn new() -> Self {
        Self::with_capacity(BUCKETS_MAX)
    }

    fn with_capacity(buckets_max: usize) -> Self {
        Self {
            full_at: DashMap::new(),
            overflow: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
            swept_at: AtomicU64::new(0),
            buckets_max,
        }
    }

    /// Takes a token of those that `rate` gives, or says how long until there is one.
    pub(super) fn take(&self, rate: Rate, key: K, now: Instant) -> Result<(), Duration> {
        let now = now.as_nanos();
        if let Some(mut full_at) = self.full_at.get_mut(&key) {
            *full_at = rate.charge(*full_at, now)?;
            return Ok(());
        }
        if self.full_at.len() >= self.buckets_max {
            self.sweep(now);
        }
        if self.full_at.len() >= self.buckets_max {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            let full_at = rate.charge(self.overflow.load(Ordering::Relaxed), now)?;
            // Two at once may pay for one: the shared bucket is a brake, not a ledger.
            self.overflow.store(full_at, Ordering::Relaxed);
            return Ok(());
        }
        let full_at = rate.charge(0, now)?;
        self.full_at.insert(key, full_at);
        Ok(())
    }

    /// Requests that found no bucket of their own.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Forgets buckets that are full: a new one is no different.
    fn sweep(&self, now: u64) {
        let swept_at = self.swept_at.load(Ordering::Relaxed);
        let due = swept_at == 0 || now.saturating_sub(swept_at) >= SWEEP_EVERY.as_nanos() as u64;
        if due
            && self
                .swept_at
                .compare_exchange(swept_at, now.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_s: 10, burst: 3 };

    #[test]
    fn a_burst_passes_then_the_rate_holds_on_both_sides_of_the_wait() {
        let buckets = Buckets::new();
        let start = Instant::from_millis(1000);
        for _ in 0..3 {
            assert_eq!(buckets.take(RATE, 1, start), Ok(()));
        }
        assert_eq!(buckets.take(RATE, 1, start), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take(RATE, 2, start), Ok(()), "another key has its own");
        assert!(buckets.take(RATE, 1, start + Duration::from_nanos(99_999_999)).is_err());
        assert_eq!(buckets.take(RATE, 1, start + Duration::from_millis(100)), Ok(()));
        assert!(buckets.take(RATE, 1, start + Duration::from_millis(100)).is_err());
    }

    #[test]
    fn another_rate_holds_from_the_next_request_on() {
        let (buckets, start) = (Buckets::new(), Instant::from_millis(1000));
        (0..3).for_each(|_| assert_eq!(buckets.take(RATE, 1, start), Ok(())));
        assert!(buckets.take(RATE, 1, start).is_err());
        assert_eq!(buckets.take(Rate { per_s: 10, burst: 4 }, 1, start), Ok(()));
        let slower = Rate { per_s: 1, burst: 1 };
        assert_eq!(buckets.take(slower, 1, start), Err(Duration::from_millis(400)));
    }

    #[test]
    fn a_full_map_shares_one_bucket_until_others_are_idle() {
        let buckets = Buckets::with_capacity(2);
        let start = Instant::from_millis(1000);
        for key in 0..5 {
            assert_eq!(buckets.take(RATE, key, start), Ok(()), "two of their own, three of the shared one");
        }
        assert!(buckets.take(RATE, 9, start).is_err());
        assert_eq!(buckets.overflowed(), 4);
        let later = start + Duration::from_secs(2);
        assert_eq!(buckets.take(RATE, 9, later), Ok(()));
        assert_eq!(buckets.overflowed(), 4, "idle buckets made room");
        assert_eq!(buckets.full_at.len(), 1);
    }

    #[test]
    fn an_ipv6_subscriber_is_one_source_and_mapped_ipv4_is_ipv4() {
        let key = |text: &str| SourceKey::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
