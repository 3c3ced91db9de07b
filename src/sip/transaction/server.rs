//! The server transaction of all methods but INVITE (RFC 3261 §17.2.2).

use bytes::Bytes;

use super::{Fired, Timing, due};
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Trying or Proceeding: no final response yet.
    Open,
    Completed,
}

/// A request of the peer.
#[derive(Debug)]
pub(in crate::sip) struct Server {
    state: State,
    reliable: bool,
    response: Bytes,
    expires: Instant,
}

impl Server {
    /// Opens at `now`. The peer waits 64·T1 for an answer (its timer F), so no longer do we keep
    /// a request that nobody answers.
    pub(in crate::sip) fn new(now: Instant, timing: &Timing, reliable: bool) -> Self {
        Self { state: State::Open, reliable, response: Bytes::new(), expires: now + timing.patience() }
    }

    /// The request came again; what is to be sent again.
    pub(in crate::sip) fn handle_repeat(&self) -> Option<Bytes> {
        Some(self.response.clone()).filter(|response| !response.is_empty())
    }

    /// Takes a response to send; false when a final one was given before.
    pub(in crate::sip) fn respond(
        &mut self,
        now: Instant,
        timing: &Timing,
        status: u16,
        response: Bytes,
    ) -> bool {
        if self.state == State::Completed {
            return false;
        }
        self.response = response;
        if status >= 200 {
            self.state = State::Completed;
            self.expires = if self.reliable { now } else { now + timing.patience() }; // timer J
        }
        true
    }

    pub(in crate::sip) fn handle_timeout(&mut self, now: Instant) -> Fired {
        match (due(Some(self.expires), now), self.state) {
            (false, _) => Fired::default(),
            (true, State::Completed) => Fired::OVER,
            (true, State::Open) => Fired::TIMED_OUT,
        }
    }

    pub(in crate::sip) fn next_timeout(&self) -> Option<Instant> {
        Some(self.expires)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{TIMING, at_ms};
    use super::*;

    #[test]
    fn the_answer_is_repeated_on_request_until_timer_j() {
        let mut tx = Server::new(at_ms(0), &TIMING, false);
        assert_eq!(tx.handle_repeat(), None);
        assert!(tx.respond(at_ms(10), &TIMING, 200, Bytes::from_static(b"200")));
        assert!(!tx.respond(at_ms(10), &TIMING, 500, Bytes::from_static(b"500")));
        assert_eq!(tx.handle_repeat(), Some(Bytes::from_static(b"200")));
        assert_eq!(tx.handle_timeout(at_ms(32_009)), Fired::default());
        assert_eq!(tx.handle_timeout(at_ms(32_010)), Fired::OVER);
    }

    #[test]
    fn on_a_reliable_transport_it_is_over_at_once() {
        let mut tx = Server::new(at_ms(0), &TIMING, true);
        tx.respond(at_ms(10), &TIMING, 200, Bytes::from_static(b"200"));
        assert_eq!(tx.handle_timeout(at_ms(10)), Fired::OVER);
    }

    #[test]
    fn a_request_nobody_answers_is_dropped_when_the_peer_gives_up() {
        let mut tx = Server::new(at_ms(0), &TIMING, false);
        assert_eq!(tx.handle_timeout(at_ms(31_999)), Fired::default());
        assert_eq!(tx.handle_timeout(at_ms(32_000)), Fired::TIMED_OUT);
    }
}
