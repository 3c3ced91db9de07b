//! The INVITE client transaction (RFC 3261 §17.1.1, RFC 6026 §7.2).

use bytes::Bytes;

use super::{Fired, Repeat, TIMER_D, Timing, due, earliest};
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Calling,
    Proceeding,
    /// Refused; repeated refusals are acknowledged again.
    Completed,
    /// A 2xx came; the dialog acknowledges it and its repeats.
    Accepted,
}

/// An INVITE of ours.
#[derive(Debug)]
pub(in crate::sip) struct ClientInvite {
    state: State,
    reliable: bool,
    /// The INVITE until it has a final response, then the ACK of it.
    message: Bytes,
    repeat: Option<Repeat>,
    expires: Option<Instant>,
}

/// What a response means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sip) enum Heard {
    /// A provisional response for the user.
    Provisional,
    /// A 2xx for the user, the first or a later one.
    Success,
    /// The first refusal: the user hears of it, and an ACK is to be given by `set_ack`.
    Refused,
    /// A refusal again: this ACK is to be sent again.
    Again(Bytes),
    /// Nothing new.
    Ignored,
}

impl ClientInvite {
    /// Starts when `request` is sent.
    pub(in crate::sip) fn new(now: Instant, timing: &Timing, reliable: bool, request: Bytes) -> Self {
        Self {
            state: State::Calling,
            reliable,
            message: request,
            repeat: (!reliable).then(|| Repeat::after(now, timing.t1)), // timer A
            expires: Some(now + timing.patience()),                     // timer B
        }
    }

    /// The INVITE, while there is no final response.
    pub(in crate::sip) fn request(&self) -> Option<&Bytes> {
        matches!(self.state, State::Calling | State::Proceeding).then_some(&self.message)
    }

    /// Whether a CANCEL may be sent: a provisional response came and no final one (§9.1).
    pub(in crate::sip) fn is_proceeding(&self) -> bool {
        self.state == State::Proceeding
    }

    /// A CANCEL was sent: a final response has to come within 64·T1 (§9.1).
    pub(in crate::sip) fn cancelled(&mut self, now: Instant, timing: &Timing) {
        if self.state == State::Proceeding {
            self.expires = Some(now + timing.patience());
        }
    }

    pub(in crate::sip) fn handle_response(&mut self, now: Instant, timing: &Timing, status: u16) -> Heard {
        match (self.state, status) {
            (State::Calling | State::Proceeding, 100..200) => {
                if self.state == State::Calling {
                    self.expires = Some(now + timing.ring_max);
                }
                self.state = State::Proceeding;
                self.repeat = None;
                Heard::Provisional
            }
            (State::Calling | State::Proceeding, 200..300) => {
                self.state = State::Accepted;
                self.message = Bytes::new();
                self.repeat = None;
                self.expires = Some(now + timing.patience()); // timer M
                Heard::Success
            }
            (State::Calling | State::Proceeding, _) => {
                self.state = State::Completed;
                self.repeat = None;
                // timer D
                self.expires = Some(if self.reliable { now } else { now + timing.patience().max(TIMER_D) });
                Heard::Refused
            }
            (State::Accepted, 200..300) => Heard::Success,
            (State::Completed, 300..) => Heard::Again(self.message.clone()),
            _ => Heard::Ignored,
        }
    }

    /// Keeps the ACK, to be sent whenever the final response comes again.
    pub(in crate::sip) fn set_ack(&mut self, ack: Bytes) {
        self.message = ack;
    }

    /// The ACK of the 2xx, when it was given.
    pub(in crate::sip) fn ack(&self) -> Option<&Bytes> {
        (self.state == State::Accepted && !self.message.is_empty()).then_some(&self.message)
    }

    pub(in crate::sip) fn handle_timeout(&mut self, now: Instant) -> Fired {
        if due(self.expires, now) {
            return if self.request().is_some() { Fired::TIMED_OUT } else { Fired::OVER };
        }
        match self.repeat {
            Some(repeat) if repeat.at <= now => {
                self.repeat = Some(repeat.doubled(now, None));
                Fired { resend: Some(self.message.clone()), ..Fired::default() }
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

    fn calling(reliable: bool) -> ClientInvite {
        ClientInvite::new(at_ms(0), &TIMING, reliable, Bytes::from_static(b"INVITE"))
    }

    #[test]
    fn timer_a_doubles_without_bound_until_timer_b() {
        let mut tx = calling(false);
        let (sent, end) = schedule(|at| tx.handle_timeout(at));
        assert_eq!(sent, [500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!(end, (32_000, Fired::TIMED_OUT));
    }

    #[test]
    fn on_a_reliable_transport_only_timer_b_runs() {
        let mut tx = calling(true);
        let (sent, end) = schedule(|at| tx.handle_timeout(at));
        assert_eq!((sent, end), (vec![], (32_000, Fired::TIMED_OUT)));
    }

    #[test]
    fn ringing_stops_the_repeats_and_is_bounded() {
        let mut tx = calling(false);
        assert_eq!(tx.handle_response(at_ms(10), &TIMING, 180), Heard::Provisional);
        assert!(tx.is_proceeding());
        assert_eq!(tx.handle_timeout(at_ms(180_009)), Fired::default());
        assert_eq!(tx.handle_timeout(at_ms(180_010)), Fired::TIMED_OUT);
    }

    #[test]
    fn a_cancelled_invite_waits_64_t1_for_its_end() {
        let mut tx = calling(false);
        tx.handle_response(at_ms(10), &TIMING, 180);
        tx.cancelled(at_ms(100), &TIMING);
        assert_eq!(tx.handle_timeout(at_ms(32_099)), Fired::default());
        assert_eq!(tx.handle_timeout(at_ms(32_100)), Fired::TIMED_OUT);
    }

    #[test]
    fn refusals_are_acknowledged_again_until_timer_d() {
        let mut tx = calling(false);
        assert_eq!(tx.handle_response(at_ms(0), &TIMING, 486), Heard::Refused);
        tx.set_ack(Bytes::from_static(b"ACK"));
        assert_eq!(tx.handle_response(at_ms(9), &TIMING, 486), Heard::Again(Bytes::from_static(b"ACK")));
        assert_eq!(tx.handle_response(at_ms(9), &TIMING, 200), Heard::Ignored);
        assert_eq!(tx.handle_timeout(at_ms(31_999)), Fired::default());
        assert_eq!(tx.handle_timeout(at_ms(32_000)), Fired::OVER);
        let mut reliable = calling(true);
        reliable.handle_response(at_ms(5), &TIMING, 486);
        assert_eq!(reliable.handle_timeout(at_ms(5)), Fired::OVER);
    }

    #[test]
    fn repeated_2xx_reach_the_dialog_until_timer_m() {
        let mut tx = calling(false);
        assert_eq!(tx.handle_response(at_ms(0), &TIMING, 200), Heard::Success);
        assert_eq!(tx.ack(), None);
        tx.set_ack(Bytes::from_static(b"ACK"));
        assert_eq!(tx.handle_response(at_ms(1), &TIMING, 200), Heard::Success);
        assert_eq!(tx.ack(), Some(&Bytes::from_static(b"ACK")));
        assert_eq!(tx.handle_response(at_ms(1), &TIMING, 486), Heard::Ignored);
        assert_eq!(tx.handle_timeout(at_ms(31_999)), Fired::default());
        assert_eq!(tx.handle_timeout(at_ms(32_000)), Fired::OVER);
    }
}
