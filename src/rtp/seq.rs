//! The sequence numbers of a received stream (RFC 3550 A.1): extended over wraps, with restarts,
//! duplicates and reordering told apart.

/// How far a sequence number may jump ahead and still be of the stream (RFC 3550 A.1).
pub const MAX_DROPOUT: u16 = 3000;
/// How far behind the highest a packet may come and still be a late one (RFC 3550 A.1).
pub const MAX_MISORDER: u16 = 100;

/// What a packet's sequence number says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first of the stream. RFC 3550 A.1's probation is left to the latch, so one is enough.
    First,
    /// Ahead of all before; `lost` numbers were skipped and may still come.
    InOrder {
        /// How many numbers were skipped.
        lost: u16,
    },
    /// Behind the highest, not seen before.
    Reordered,
    /// Seen before.
    Duplicate,
    /// Far off: a stray, or the first of a sender that restarted. Drop it.
    Stray,
    /// The second in sequence of a sender that restarted: the stream begins anew with it.
    Restarted,
}

impl Arrival {
    /// Whether the packet carries media not had before.
    pub const fn is_new(self) -> bool {
        !matches!(self, Arrival::Duplicate | Arrival::Stray)
    }
}

/// The numbers seen of one stream.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The first extended number.
    base: u64,
    /// The highest extended number: wraps in the upper bits.
    highest: u64,
    /// Bit `n` is set when `highest - n` was seen. Wider than [`MAX_MISORDER`].
    recent: u128,
    /// Packets received, duplicates included, as RFC 3550 §6.4.1 wants them counted.
    received: u64,
    /// The number that would prove a restart.
    after_stray: Option<u16>,
}

impl Seen {
    fn first(sequence: u16) -> Seen {
        // Above the 32 bits of a report, so that there is room below for packets from before it.
        let extended = 1 << 32 | u64::from(sequence);
        Seen { base: extended, highest: extended, recent: 1, received: 1, after_stray: None }
    }
}

/// Tracks the sequence numbers of one SSRC.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequenceTracker {
    seen: Option<Seen>,
}

impl SequenceTracker {
    /// Takes the next packet's number.
    pub fn receive(&mut self, sequence: u16) -> Arrival {
        let Some(seen) = &mut self.seen else {
            self.seen = Some(Seen::first(sequence));
            return Arrival::First;
        };
        let ahead = sequence.wrapping_sub(seen.highest as u16);
        let behind = ahead.wrapping_neg();
        if ahead != 0 && ahead < MAX_DROPOUT {
            seen.highest += u64::from(ahead);
            seen.recent = seen.recent.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
            seen.received += 1;
            seen.after_stray = None;
            return Arrival::InOrder { lost: ahead - 1 };
        }
        if behind > MAX_MISORDER {
            return self.receive_stray(sequence);
        }
        seen.received += 1;
        let bit = 1u128 << behind;
        if seen.recent & bit != 0 {
            return Arrival::Duplicate;
        }
        seen.recent |= bit;
        // Earlier than the first: the stream began before what came first.
        seen.base = seen.base.min(seen.highest - u64::from(behind));
        Arrival::Reordered
    }

    /// Two in sequence after a big jump: the sender restarted without telling (RFC 3550 A.1).
    fn receive_stray(&mut self, sequence: u16) -> Arrival {
        let Some(seen) = &mut self.seen else {
            return Arrival::Stray;
        };
        if seen.after_stray == Some(sequence) {
            self.seen = Some(Seen::first(sequence));
            return Arrival::Restarted;
        }
        seen.after_stray = Some(sequence.wrapping_add(1));
        Arrival::Stray
    }

    /// The extended highest number as a report block carries it; 0 before the first packet.
    pub fn extended_highest(&self) -> u32 {
        self.seen.map_or(0, |seen| seen.highest as u32)
    }

    /// Packets received since the stream began, duplicates included, strays not.
    pub fn received(&self) -> u64 {
        self.seen.map_or(0, |seen| seen.received)
    }

    /// Packets that should have come since the stream began (RFC 3550 A.3).
    pub fn expected(&self) -> u64 {
        self.seen.map_or(0, |seen| seen.highest - seen.base + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const NEXT: Arrival = Arrival::InOrder { lost: 0 };

    fn tracker(from: u16, count: u16) -> SequenceTracker {
        let mut tracker = SequenceTracker::default();
        for n in 0..count {
            tracker.receive(from.wrapping_add(n));
        }
        tracker
    }

    #[test]
    fn nothing_is_expected_before_the_first_packet() {
        let tracker = SequenceTracker::default();
        assert_eq!((tracker.expected(), tracker.received(), tracker.extended_highest()), (0, 0, 0));
    }

    #[test]
    fn a_wrap_counts_a_cycle() {
        let mut tracker = SequenceTracker::default();
        assert_eq!(tracker.receive(65_534), Arrival::First);
        assert_eq!(tracker.receive(65_535), NEXT);
        assert_eq!(tracker.receive(0), NEXT);
        assert_eq!(tracker.receive(1), NEXT);
        assert_eq!(tracker.extended_highest(), 0x1_0001);
        assert_eq!(tracker.expected(), 4);
    }

    #[test]
    fn a_late_packet_from_before_the_wrap_does_not_count_another() {
        let mut tracker = SequenceTracker::default();
        tracker.receive(65_534);
        assert_eq!(tracker.receive(0), Arrival::InOrder { lost: 1 });
        assert_eq!(tracker.receive(65_535), Arrival::Reordered);
        assert_eq!(tracker.extended_highest(), 0x1_0000);
        assert_eq!((tracker.expected(), tracker.received()), (3, 3));
    }

    #[test]
    fn gaps_duplicates_and_reordering() {
        let mut tracker = tracker(10, 3);
        assert_eq!(tracker.receive(15), Arrival::InOrder { lost: 2 });
        assert_eq!(tracker.receive(15), Arrival::Duplicate);
        assert_eq!(tracker.receive(14), Arrival::Reordered);
        assert_eq!(tracker.receive(14), Arrival::Duplicate);
        assert_eq!(tracker.receive(11), Arrival::Duplicate);
        assert_eq!((tracker.expected(), tracker.received()), (6, 8));
    }

    #[test]
    fn both_sides_of_the_dropout_and_misorder_limits() {
        assert_eq!(tracker(0, 1).receive(2999), Arrival::InOrder { lost: 2998 });
        assert_eq!(tracker(0, 1).receive(3000), Arrival::Stray);
        assert_eq!(tracker(1000, 1).receive(900), Arrival::Reordered);
        assert_eq!(tracker(1000, 1).receive(899), Arrival::Stray);
    }

    #[test]
    fn a_restart_needs_two_in_sequence() {
        let mut tracker = tracker(0, 50);
        assert_eq!(tracker.receive(30_000), Arrival::Stray);
        assert_eq!(tracker.receive(50), NEXT, "the stream goes on");
        assert_eq!(tracker.receive(30_001), Arrival::Stray, "its first was long ago");
        assert_eq!(tracker.receive(30_002), Arrival::Restarted);
        assert_eq!((tracker.expected(), tracker.received()), (1, 1));
        assert_eq!(tracker.receive(30_003), NEXT);
        assert_eq!(tracker.extended_highest(), 30_003);
    }

    #[test]
    fn a_packet_before_the_first_moves_the_beginning() {
        let mut tracker = tracker(10, 1);
        assert_eq!(tracker.receive(8), Arrival::Reordered);
        assert_eq!((tracker.expected(), tracker.received()), (3, 2));
        let mut at_zero = self::tracker(0, 1);
        assert_eq!(at_zero.receive(65_535), Arrival::Reordered);
        assert_eq!((at_zero.expected(), at_zero.extended_highest()), (2, 0));
    }

    #[test]
    fn any_order_of_a_window_counts_each_packet_once() {
        let mut rng = Rng::from_number(3550);
        for _ in 0..200 {
            let start = rng.next_u32() as u16;
            let mut tracker = tracker(start, 1);
            let mut order: Vec<u16> = (1..=50).collect();
            for n in (1..order.len()).rev() {
                order.swap(n, rng.below(n as u64 + 1) as usize);
            }
            let new = order.iter().filter(|n| tracker.receive(start.wrapping_add(**n)).is_new()).count();
            let again = order.iter().filter(|n| tracker.receive(start.wrapping_add(**n)).is_new()).count();
            assert_eq!((new, again), (50, 0));
            assert_eq!((tracker.expected(), tracker.received()), (51, 101));
        }
    }
}
