//! The INVITE server transaction (RFC 3261 §17.2.1, RFC 6026 §7.1).

use bytes::Bytes;

use super::{Fired, Repeat, Timing, due, earliest};
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Proceeding,
    /// Refused; the refusal is repeated until its ACK.
    Completed,
    /// The ACK is here; more of them are absorbed.
    Confirmed,
    /// A 2xx is sent; repeated INVITEs are absorbed, the 2xx is its dialog's to repeat.
    Accepted,
}

/// An INVITE of the peer.
#[derive(Debug)]
pub(in crate::sip) struct ServerInvite {
    state: State,
    reliable: bool,
    /// The latest response, while it may have to be sent again.
    response: Bytes,
    repeat: Option<Repeat>,
    expires: Option<Instant>,
}

/// Whose an ACK is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sip) enum AckOf {
    /// The transaction's: it acknowledges a refusal.
    Transaction,
    /// The dialog's: it acknowledges a 2xx.
    Dialog,
}

impl ServerInvite {
    pub(in crate::sip) const fn new(reliable: bool) -> Self {
        Self { state: State::Proceeding, reliable, response: Bytes::new(), repeat: None, expires: None }
    }

    /// Whether no final response is given yet.
    pub(in crate::sip) fn is_proceeding(&self) -> bool {
        self.state == State::Proceeding
    }

    /// The INVITE came again; what is to be sent again.
    pub(in crate::sip) fn handle_repeat(&self) -> Option<Bytes> {
        match self.state {
            State::Proceeding | State::Completed => Some(self.response.clone()).filter(|r| !r.is_empty()),
            State::Confirmed | State::Accepted => None,
        }
    }

    /// Takes a response to send; false when a final one was given before.
    pub(in crate::sip) fn respond(
        &mut self,
        now: Instant,
        timing: &Timing,
        status: u16,
        response: Bytes,
    ) -> bool {
        if self.state != State::Proceeding {
            return false;
        }
        match status {
            0..200 => self.response = response,
            200..300 => {
                self.state = State::Accepted;
                self.response = Bytes::new();
                self.expires = Some(now + timing.patience()); // timer L
            }
            _ => {
                self.state = State::Completed;
                self.response = response;
                self.repeat = (!self.reliable).then(|| Repeat::after(now, timing.t1)); // timer G
                self.expires = Some(now + timing.patience()); // timer H
            }
        }
        true
    }

    pub(in crate::sip) fn handle_ack(&mut self, now: Instant, timing: &Timing) -> AckOf {
        match self.state {
            State::Accepted => return AckOf::Dialog,
            State::Completed => {
                self.state = State::Confirmed;
                self.response = Bytes::new();
                self.repeat = None;
                // timer I
                self.expires = Some(if self.reliable { now } else { now + timing.t4 });
            }
            State::Proceeding | State::Confirmed => {}
        }
        AckOf::Transaction
    }

    pub(in crate::sip) fn handle_timeout(&mut self, now: Instant, timing: &Timing) -> Fired {
        if due(self.expires, now) {
            // In Completed no ACK came at all.
            return if self.state == State::Completed { Fired::TIMED_OUT } else { Fired::OVER };
        }
        match self.repeat {
            Some(repeat) if repeat.at <= now => {
                self.repeat = Some(repeat.doubled(now, Some(timing.t2)));
                Fired { resend: Some(self.response.clone()), ..Fired::default() }
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

    fn fired(tx: &mut ServerInvite, ms: u64) -> Fired {
        tx.handle_timeout(at_ms(ms), &TIMING)
    }

    #[test]
    fn a_refusal_is_repeated_up_to_t2_until_timer_h() {
        let mut tx = ServerInvite::new(false);
        assert!(tx.respond(at_ms(0), &TIMING, 486, Bytes::from_static(b"486")));
        let (sent, end) = schedule(|at| tx.handle_timeout(at, &TIMING));
        assert_eq!(sent, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        assert_eq!(end, (32_000, Fired::TIMED_OUT));
    }

    #[test]
    fn on_a_reliable_transport_nothing_is_repeated() {
        let mut tx = ServerInvite::new(true);
        tx.respond(at_ms(0), &TIMING, 486, Bytes::from_static(b"486"));
        assert_eq!(tx.next_timeout(), Some(at_ms(32_000)));
        assert_eq!(tx.handle_ack(at_ms(10), &TIMING), AckOf::Transaction);
        assert_eq!(fired(&mut tx, 10), Fired::OVER);
    }

    #[test]
    fn after_the_ack_timer_i_absorbs_more_of_them() {
        let mut tx = ServerInvite::new(false);
        tx.respond(at_ms(0), &TIMING, 486, Bytes::from_static(b"486"));
        assert_eq!(tx.handle_repeat(), Some(Bytes::from_static(b"486")));
        tx.handle_ack(at_ms(100), &TIMING);
        assert_eq!(tx.handle_repeat(), None);
        tx.handle_ack(at_ms(200), &TIMING);
        assert_eq!(tx.next_timeout(), Some(at_ms(5100)));
        let just_before = Instant::from_nanos(at_ms(5100).as_nanos() - 1);
        assert_eq!(tx.handle_timeout(just_before, &TIMING), Fired::default());
        assert_eq!(fired(&mut tx, 5100), Fired::OVER);
    }

    #[test]
    fn after_a_2xx_the_invite_is_absorbed_until_timer_l_and_acks_are_the_dialogs() {
        let mut tx = ServerInvite::new(false);
        assert!(tx.respond(at_ms(0), &TIMING, 180, Bytes::from_static(b"180")));
        assert_eq!(tx.handle_repeat(), Some(Bytes::from_static(b"180")));
        assert!(tx.respond(at_ms(0), &TIMING, 200, Bytes::from_static(b"200")));
        assert!(!tx.respond(at_ms(0), &TIMING, 486, Bytes::from_static(b"486")));
        assert_eq!(tx.handle_repeat(), None);
        assert_eq!(tx.handle_ack(at_ms(1), &TIMING), AckOf::Dialog);
        assert_eq!(fired(&mut tx, 31_999), Fired::default());
        assert_eq!(fired(&mut tx, 32_000), Fired::OVER);
    }
}
