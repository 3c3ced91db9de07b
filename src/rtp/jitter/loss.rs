//! How often packets are lost, to decide whether it pays to hold one more.

/// Packets over which losses are averaged.
const MEMORY_PACKETS: f32 = 128.0;
/// The estimate at which holding one more packet begins to pay.
const BEGIN_RATE: f32 = 0.0095;
/// The estimate below which it no longer does.
const END_RATE: f32 = 0.003;
/// A single gap counts for at most this many losses: an outage says nothing about the rate.
const GAP_MAX: u32 = 4;

/// A running estimate of the share of packets lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct LossWatch {
    rate: f32,
    /// Packets seen, up to the memory: the first ones weigh more.
    seen: f32,
    is_lossy: bool,
}

impl LossWatch {
    /// Counts a packet that was played.
    pub fn record_played(&mut self) {
        self.record(0.0);
    }

    /// Counts `packets` that were passed over because they did not come in time.
    pub fn record_lost(&mut self, packets: u32) {
        for _ in 0..packets.min(GAP_MAX) {
            self.record(1.0);
        }
    }

    /// One counted as lost came after all: it was late, which is the delay's business.
    pub fn take_back(&mut self) {
        self.rate = (self.rate - 1.0 / self.seen.max(1.0)).max(0.0);
    }

    /// Whether enough is lost that the packet after a gap should be at hand when the gap is
    /// concealed.
    pub fn is_lossy(&self) -> bool {
        self.is_lossy
    }

    fn record(&mut self, lost: f32) {
        // The floor keeps a loss among the very first packets from counting as heavy loss.
        self.seen = (self.seen + 1.0).clamp(MEMORY_PACKETS / 2.0, MEMORY_PACKETS);
        self.rate += (lost - self.rate) / self.seen;
        self.is_lossy = self.rate > if self.is_lossy { END_RATE } else { BEGIN_RATE };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_percent_is_lossy_and_forgotten_within_ten_seconds() {
        let mut watch = LossWatch::default();
        for packet in 0..330 {
            if packet % 33 == 20 { watch.record_lost(1) } else { watch.record_played() }
        }
        assert!(watch.is_lossy());
        let clean = (0..500).take_while(|_| {
            watch.record_played();
            watch.is_lossy()
        });
        assert!((50..500).contains(&clean.count()));
        assert!(!watch.is_lossy());
    }

    #[test]
    fn one_loss_in_a_long_calm_is_not_lossy_and_neither_is_one_that_was_only_late() {
        let mut watch = LossWatch::default();
        for _ in 0..1000 {
            watch.record_played();
        }
        watch.record_lost(1);
        assert!(!watch.is_lossy());
        watch.take_back();
        watch.record_lost(1);
        assert!(!watch.is_lossy());
        watch.record_lost(1);
        assert!(watch.is_lossy());
    }
}
