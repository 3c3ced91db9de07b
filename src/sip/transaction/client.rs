//! The client transaction of all methods but INVITE (RFC 3261 §17.1.2).

use bytes::Bytes;

use super::{Fired, Repeat, Timing, due, earliest};
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    Completed,
}

/// A request of ours.
#[derive(Debug)]
pub(in crate::sip) struct Client {
    state: State,
    reliable: bool,
    request: Bytes,
    repeat: Option<Repeat>,
    expires: Option<Instant>,
}

impl Client {
    /// Starts when `request` is sent.
    pub(in crate::sip) fn new(now: Instant, timing: &Timing, reliable: bool, request: Bytes) -> Self {
        Self {
            state: State::Trying,
            reliable,
            request,
            repeat: (!reliable).then(|| Repeat::after(now, timing.t1)), // timer E
            expires: Some(now + timing.patience()),                     // timer F
        }
    }

    /// Takes a response; true for the first final one.
    pub(in crate::sip) fn handle_response(&mut self, now: Instant, timing: &Timing, status: u16) -> bool {
        match (self.state, status) {
            (State::Completed, _) => false,
            (State::Trying, 100..200) => {
                self.state = State::Proceeding;
                false
            }
            (State::Proceeding, 100..200) => false,
            _ => {
                self.state = State::Completed;
                self.request = Bytes::new();
                self.repeat = None;
                self.expires = Some(if self.reliable { now } else { now + timing.t4 }); // timer K
                true
            }
        }
    }

    pub(in crate::sip) fn handle_timeout(&mut self, now: Instant, timing: &Timing) -> Fired {
        if due(self.expires, now) {
            return if self.state == State::Completed { Fired::OVER } else { Fired::TIMED_OUT };
        }
        match self.repeat {
            Some(repeat) if repeat.at <= now => {
                self.repeat = Some(match self.state {
                    State::Proceeding => Repeat::after(now, timing.t2),
                    _ => repeat.doubled(now, Some(timing.t2)),
                });
                Fired { resend: Some(self.request.clone()), ..Fired::default() }
            }
            _ => Fired::default(),
        }
    }

    pub(in crate::sip) fn next_timeout(&self) -> Option<Instant> {
        earliest(self.repeat, self.expires)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{TIMING, at_ms, schedule};
    use super::*;

    fn trying(reliable: bool) -> Client {
        Client::new(at_ms(0), &TIMING, reliable, Bytes::from_static(b"BYE"))
    }

    #[test]
    fn timer_e_doubles_up_to_t2_until_timer_f() {
        let mut tx = trying(false);
        let (sent, end) = schedule(|at| tx.handle_timeout(at, &TIMING));
        assert_eq!(sent, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        assert_eq!(end, (32_000, Fired::TIMED_OUT));
    }

    #[test]
    fn while_proceeding_it_repeats_every_t2() {
        let mut tx = trying(false);
        assert!(!tx.handle_response(at_ms(100), &TIMING, 100));
        let (sent, _) = schedule(|at| tx.handle_timeout(at, &TIMING));
        assert_eq!(sent, [500, 4500, 8500, 12500, 16500, 20500, 24500, 28500]);
    }

    #[test]
    fn repeated_answers_are_absorbed_until_timer_k() {
        let mut tx = trying(false);
        assert!(tx.handle_response(at_ms(100), &TIMING, 200));
        assert!(!tx.handle_response(at_ms(101), &TIMING, 200));
        assert_eq!(tx.handle_timeout(at_ms(5099), &TIMING), Fired::default());
        assert_eq!(tx.handle_timeout(at_ms(5100), &TIMING), Fired::OVER);
    }

    #[test]
    fn on_a_reliable_transport_it_is_sent_once_and_over_when_answered() {
        let mut tx = trying(true);
        assert_eq!(tx.next_timeout(), Some(at_ms(32_000)));
        tx.handle_response(at_ms(7), &TIMING, 200);
        assert_eq!(tx.handle_timeout(at_ms(7), &TIMING), Fired::OVER);
    }
}
