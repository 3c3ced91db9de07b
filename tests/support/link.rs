//! A network path between a phone and the bridge.

use std::time::Duration;

use confab::rng::Rng;

/// How a path treats what is sent over it, in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The least time a message takes.
    pub delay: Duration,
    /// What may be added to it; more than the gap between two messages reorders them.
    pub jitter: Duration,
    /// Messages lost, in percent.
    pub loss_percent: u64,
    /// Messages that come twice, in percent.
    pub double_percent: u64,
}

impl Link {
    /// Ten milliseconds, every time.
    pub const CLEAN: Link =
        Link { delay: Duration::from_millis(10), jitter: Duration::ZERO, loss_percent: 0, double_percent: 0 };

    /// A bad path of this seed's own kind.
    pub fn bad(rng: &mut Rng) -> Link {
        Link {
            delay: Duration::from_millis(1 + rng.below(60)),
            jitter: Duration::from_millis(rng.below(120)),
            loss_percent: rng.below(26),
            double_percent: rng.below(26),
        }
    }

    /// After how long each copy of a message arrives: none, one or two.
    pub fn arrivals(&self, rng: &mut Rng) -> Vec<Duration> {
        let copies = if rng.below(100) < self.loss_percent {
            0
        } else if rng.below(100) < self.double_percent {
            2
        } else {
            1
        };
        let jitter = u64::try_from(self.jitter.as_nanos()).expect("links are shorter than centuries");
        (0..copies).map(|_| self.delay + Duration::from_nanos(rng.below(jitter + 1))).collect()
    }
}
