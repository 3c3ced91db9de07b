//! The four transaction state machines (RFC 3261 §17, as amended by RFC 6026). They know states
//! and timers; what is sent where, and to whom events go, is the endpoint's business.

mod client;
mod client_invite;
mod server;
mod server_invite;

use std::time::Duration;

use bytes::Bytes;

use crate::time::Instant;

pub(super) use client::Client;
pub(super) use client_invite::{ClientInvite, Heard};
pub(super) use server::Server;
pub(super) use server_invite::{AckOf, ServerInvite};

/// How many T1 a transaction waits before it gives up (timers B, F, H, J, L, M).
pub(super) const PATIENCE_T1: u32 = 64;
/// The least time an unreliable client transaction absorbs repeated refusals (timer D).
const TIMER_D: Duration = Duration::from_secs(32);

/// The base values of all timers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) t1: Duration,
    pub(super) t2: Duration,
    pub(super) t4: Duration,
    pub(super) ring_max: Duration,
}

impl Timing {
    /// 64·T1.
    pub(super) fn patience(&self) -> Duration {
        self.t1 * PATIENCE_T1
    }
}

/// What a timer brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fired {
    /// To be sent again.
    pub(super) resend: Option<Bytes>,
    /// The transaction is over.
    pub(super) over: bool,
    /// It is over because the peer stayed silent.
    pub(super) timed_out: bool,
}

impl Fired {
    const OVER: Fired = Fired { resend: None, over: true, timed_out: false };
    const TIMED_OUT: Fired = Fired { resend: None, over: true, timed_out: true };
}

/// A retransmission that is due and the interval that follows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeat {
    pub(super) at: Instant,
    interval: Duration,
}

impl Repeat {
    /// First after `interval` from `now`.
    pub(super) fn after(now: Instant, interval: Duration) -> Self {
        Self { at: now + interval, interval }
    }

    /// The one that follows this one, its interval doubled up to `max`. It counts from `now`, so
    /// that a clock that jumped does not bring a burst.
    pub(super) fn doubled(self, now: Instant, max: Option<Duration>) -> Self {
        let doubled = self.interval * 2;
        Self::after(now, max.map_or(doubled, |max| doubled.min(max)))
    }
}

/// The earlier of two deadlines.
fn earliest(repeat: Option<Repeat>, expires: Option<Instant>) -> Option<Instant> {
    match (repeat.map(|repeat| repeat.at), expires) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Whether a deadline is reached.
fn due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| at <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const TIMING: Timing = Timing {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        ring_max: Duration::from_secs(180),
    };

    pub(super) fn at_ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// Steps a machine through time by the millisecond; gives when it sent, in ms, and its end.
    pub(super) fn schedule(mut step: impl FnMut(Instant) -> Fired) -> (Vec<u64>, (u64, Fired)) {
        let mut sent = Vec::new();
        for ms in 0..1_000_000 {
            let just_before = Instant::from_nanos(at_ms(ms + 1).as_nanos() - 1);
            let fired = step(at_ms(ms));
            if fired.over {
                return (sent, (ms, fired));
            }
            sent.extend(fired.resend.map(|_| ms));
            assert_eq!(step(just_before), Fired::default(), "fires 1 ns early before {} ms", ms + 1);
        }
        panic!("never over");
    }
}
