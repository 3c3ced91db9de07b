//! How many datagrams a sweep asks a socket for. Asking once more than there are costs a call, so
//! it asks for as many as came lately, and for all there are when some were late or now and then.

/// Datagrams taken from one socket in one sweep, at most; the rest waits for the next.
pub(super) const READS_MAX: u8 = 8;
/// Every how many sweeps a socket is asked for all there is.
const PROBE_EVERY: u8 = 8;

/// What a socket's last sweeps found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Datagrams that a sweep finds when nothing is late.
    expected: u8,
    /// Found in this sweep.
    found: u8,
    /// Fewer came than expected: more will come.
    is_behind: bool,
    /// Counts sweeps.
    age: u8,
}

impl Pace {
    /// That of a new socket; `seed` spreads the probing of many over the sweeps.
    pub(super) fn new(seed: u32) -> Self {
        Self { expected: 1, found: 0, is_behind: true, age: seed as u8 }
    }

    /// A sweep begins.
    pub(super) fn begin(&mut self) {
        self.found = 0;
        self.age = self.age.wrapping_add(1);
    }

    /// One was found; whether to ask for another.
    pub(super) fn found(&mut self) -> bool {
        self.found = self.found.saturating_add(1);
        let asks_for_all = self.is_behind || self.age.is_multiple_of(PROBE_EVERY);
        self.found < if asks_for_all { READS_MAX } else { self.expected.min(READS_MAX) }
    }

    /// No more is there.
    pub(super) fn drained(&mut self) {
        self.is_behind = self.found < self.expected;
        // A socket in a pause is asked once a sweep, and for all when it comes back.
        self.expected = self.found.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sweeps a socket that holds `waiting`; returns how many are left and how often it was asked.
    fn sweep(pace: &mut Pace, mut waiting: u32) -> (u32, u32) {
        pace.begin();
        let mut asked = 0;
        loop {
            asked += 1;
            if waiting == 0 {
                pace.drained();
                return (0, asked);
            }
            waiting -= 1;
            if !pace.found() {
                return (waiting, asked);
            }
        }
    }

    #[test]
    fn a_steady_stream_is_asked_little_more_than_once_each() {
        let mut pace = Pace::new(0);
        let asked: u32 = (0..80).map(|_| sweep(&mut pace, 1).1).sum();
        assert!((81..=95).contains(&asked), "{asked}");
        let mut double = Pace::new(0);
        let asked: u32 = (0..80).map(|_| sweep(&mut double, 2).1).sum();
        assert!(asked <= 80 * 2 + 15, "two in each sweep: {asked}");
    }

    #[test]
    fn after_a_gap_all_that_was_late_is_taken() {
        let mut pace = Pace::new(0);
        for _ in 0..9 {
            sweep(&mut pace, 1);
        }
        assert_eq!(sweep(&mut pace, 0), (0, 1));
        assert_eq!(sweep(&mut pace, 0), (0, 1), "a pause costs one call a sweep");
        assert_eq!(sweep(&mut pace, 3), (0, 4));
    }

    #[test]
    fn what_piles_up_unnoticed_is_found_within_a_few_sweeps() {
        let mut pace = Pace::new(3);
        let mut waiting = 2;
        let sweeps = (0..10)
            .take_while(|_| {
                waiting = sweep(&mut pace, waiting).0 + 1;
                waiting > 1
            })
            .count();
        assert!(sweeps <= usize::from(PROBE_EVERY), "{sweeps}");
        assert_eq!(waiting, 1);
    }

    #[test]
    fn a_flood_is_taken_in_parts() {
        let mut pace = Pace::new(0);
        assert_eq!(sweep(&mut pace, 100), (100 - u32::from(READS_MAX), u32::from(READS_MAX)));
    }
}
