//! The endpoint's settings and its limits.

use std::time::Duration;

use crate::sip::transaction::Timing;

/// What an endpoint is told once, at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Round-trip estimate (RFC 3261 §17.1.1.1).
    pub t1: Duration,
    /// The longest interval between retransmissions but for INVITE.
    pub t2: Duration,
    /// The longest a message stays in the network.
    pub t4: Duration,
    /// Value of the Server and User-Agent headers.
    pub server_name: String,
    /// User part of our Contact; empty for none.
    pub contact_user: String,
    /// Transactions, both sides and lingering ones included; one more is answered 503.
    pub max_transactions: usize,
    /// Server transactions of one IP address, lingering ones included; one more is answered 503.
    pub max_transactions_per_source: usize,
    /// Calls; one more INVITE is answered 503.
    pub max_dialogs: usize,
    /// What 503 by a limit says in Retry-After, in seconds.
    pub retry_after_s: u32,
    /// How long our own INVITE may ring before it is cancelled.
    pub ring_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            server_name: concat!("Confab/", env!("CARGO_PKG_VERSION")).into(),
            contact_user: "confab".into(),
            max_transactions: 131_072,
            max_transactions_per_source: 65_536,
            max_dialogs: 20_000,
            retry_after_s: 10,
            ring_max: Duration::from_secs(180),
        }
    }
}

impl Settings {
    /// The timers' base values; none is zero, or a timer would come due again at once, for ever.
    pub(super) fn timing(&self) -> Timing {
        let least = Duration::from_millis(1);
        Timing {
            t1: self.t1.max(least),
            t2: self.t2.max(least),
            t4: self.t4.max(least),
            ring_max: self.ring_max.max(least),
        }
    }
}
