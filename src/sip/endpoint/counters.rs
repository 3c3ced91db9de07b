//! What the endpoint counts.

use crate::sip::message::DropReason;

/// Running totals since the start of the endpoint. Read by metrics; never reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that parsed.
    pub requests: u64,
    /// Responses that parsed.
    pub responses: u64,
    /// Keep-alives (RFC 5626), answered on TCP and ignored on UDP.
    pub keep_alives: u64,
    /// Malformed requests answered 400 (or 505).
    pub malformed: u64,
    /// Messages dropped, by [`DropReason`] in its order; see [`Counters::dropped`].
    pub dropped: [u64; DropReason::COUNT],
    /// Requests of the peer that came again and were absorbed.
    pub absorbed: u64,
    /// Messages of ours sent again.
    pub retransmissions: u64,
    /// Transactions that timed out: B, F, H, or no ACK for a 2xx.
    pub timeouts: u64,
    /// 503 because all transactions are in use.
    pub limit_transactions: u64,
    /// 503 because one source has all it may have.
    pub limit_source: u64,
    /// 503 because all calls are in use.
    pub limit_dialogs: u64,
    /// 503 because the owner sheds load.
    pub shed: u64,
    /// Requests the endpoint refused by itself, those above included.
    pub refused: u64,
    /// Merged requests (482).
    pub merged: u64,
}

impl Counters {
    /// How many messages were dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or(0)
    }

    /// How many messages were dropped in all.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    pub(super) fn count_drop(&mut self, reason: DropReason) {
        if let Some(count) = self.dropped.get_mut(reason as usize) {
            *count += 1;
        }
    }
}
