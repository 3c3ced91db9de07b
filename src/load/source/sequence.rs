//! Loss, reordering and duplicates of a received stream, from its sequence numbers.

/// How far ahead a sequence number may be and still be loss; farther is a new start (RFC 3550 A.1).
const DROPOUT_MAX: u16 = 3000;
/// How many sequence numbers back are remembered.
const REMEMBERED: u16 = 64;

/// What sequence numbers tell of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceCounts {
    /// Packets received, without duplicates.
    pub received: u64,
    /// Packets missing so far; one that comes late is taken back.
    pub lost: i64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets that came again.
    pub duplicated: u64,
}

/// The state that tells them: the highest number and which of the ones before it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequenceWindow {
    highest: Option<u16>,
    seen: u64,
}

impl SequenceWindow {
    /// Takes the next packet's sequence number into `counts`.
    pub fn receive(&mut self, sequence: u16, counts: &mut SequenceCounts) {
        let Some(highest) = self.highest else { return self.restart(sequence, counts) };
        let ahead = sequence.wrapping_sub(highest);
        let behind = highest.wrapping_sub(sequence);
        if ahead != 0 && ahead < DROPOUT_MAX {
            counts.lost += i64::from(ahead) - 1;
            counts.received += 1;
            self.seen = self.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
            self.highest = Some(sequence);
        } else if behind < REMEMBERED {
            let bit = 1u64 << behind;
            if self.seen & bit != 0 {
                counts.duplicated += 1;
            } else {
                self.seen |= bit;
                counts.received += 1;
                counts.reordered += 1;
                counts.lost -= 1;
            }
        } else if behind < DROPOUT_MAX {
            counts.reordered += 1;
        } else {
            self.restart(sequence, counts);
        }
    }

    /// A stream begins: everything before it counts as seen.
    fn restart(&mut self, sequence: u16, counts: &mut SequenceCounts) {
        counts.received += 1;
        *self = SequenceWindow { highest: Some(sequence), seen: u64::MAX };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sequences: &[u16]) -> SequenceCounts {
        let mut counts = SequenceCounts::default();
        let mut window = SequenceWindow::default();
        sequences.iter().for_each(|sequence| window.receive(*sequence, &mut counts));
        counts
    }

    #[test]
    fn a_whole_stream_loses_nothing_around_the_wrap() {
        let all: Vec<u16> = (0..400u16).map(|n| n.wrapping_add(65_400)).collect();
        assert_eq!(counts(&all), SequenceCounts { received: 400, ..SequenceCounts::default() });
    }

    #[test]
    fn missing_late_and_doubled_packets_are_told_apart() {
        let expected = SequenceCounts { received: 5, lost: 2, reordered: 1, duplicated: 2 };
        assert_eq!(counts(&[10, 12, 11, 11, 15, 15, 16]), SequenceCounts { received: 5, ..expected });
        assert_eq!(counts(&[10, 100]).lost, 89);
    }

    #[test]
    fn a_new_start_is_no_loss() {
        assert_eq!(
            counts(&[10, 11, 30_000, 30_001]),
            SequenceCounts { received: 4, ..SequenceCounts::default() }
        );
    }
}
