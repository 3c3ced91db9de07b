//! What the recogniser counts, for metrics.

use std::sync::atomic::AtomicU64;

/// Counts since the start, but for those that say otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Callers being heard now.
    pub callers: AtomicU64,
    /// Whole utterances that wait now.
    pub waiting: AtomicU64,
    /// Talks with a recogniser that listens along, now.
    pub talks: AtomicU64,
    /// Milliseconds from the end of the last whole utterance to its text.
    pub delay_ms: AtomicU64,
    /// Whole utterances recognised.
    pub utterances: AtomicU64,
    /// Partial utterances recognised.
    pub partials: AtomicU64,
    /// Partial utterances left out, for a newer one or because the recogniser lagged.
    pub partials_skipped: AtomicU64,
    /// Whole utterances dropped because too many waited.
    pub utterances_dropped: AtomicU64,
    /// Utterances that could not be recognised.
    pub failures: AtomicU64,
    /// Connections to a recogniser that were not made or broke.
    pub connection_failures: AtomicU64,
    /// Milliseconds of audio recognised.
    pub audio_ms: AtomicU64,
    /// Milliseconds spent on it.
    pub busy_ms: AtomicU64,
    /// Ticks of 20 ms that were not heard because they were read too late.
    pub lost_ticks: AtomicU64,
    /// Callers not heard because there were too many.
    pub callers_refused: AtomicU64,
    /// Orders lost because the hearing thread did not take them.
    pub orders_dropped: AtomicU64,
}
