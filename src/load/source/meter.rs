//! Everything that is counted during a run.

use super::sequence::SequenceCounts;
use crate::load::report::Times;

/// Which part of the run packets are counted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// Calls are being set up.
    #[default]
    SetUp,
    /// Nothing is counted.
    Pause,
    /// The measured time.
    Steady,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Meter {
    /// What packets are counted for now.
    pub window: Window,
    /// Whether the server echoes.
    pub echo: bool,
    /// From INVITE to 200.
    pub setup: Times,
    /// Between packets of a call in the measured time.
    pub gaps: Times,
    /// The same during set-up.
    pub setup_gaps: Times,
    /// Added latency.
    pub latency: Times,
    /// Marks that somebody should hear.
    pub marks: u64,
    /// Sequence numbers in the measured time.
    pub sequences: SequenceCounts,
    /// Packets sent in the measured time.
    pub sent: u64,
    /// Packets received in the measured time.
    pub received: u64,
    /// How late our slots were in the measured time.
    pub late: Times,
}
