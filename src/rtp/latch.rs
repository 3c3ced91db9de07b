//! Symmetric RTP latching (RFC 4961, RFC 7362) that cannot be stolen: where to send a leg's media
//! when its phone sits behind NAT, learnt from where its packets come from.
//!
//! The threat (RFC 7362 §5): whoever sends first to our port, or later from elsewhere, would get
//! the call's audio and could speak into it. What stands against it:
//!
//! * The first source is taken, but for [`SETTLE`] the address in the SDP wins over it: a phone not
//!   behind NAT cannot be robbed by whoever is quicker.
//! * After that the peer is settled. Another source is refused and counted, however many packets
//!   it sends. So is the peer's former source after a re-INVITE moved it, for as long as packets in
//!   flight may come.
//! * A settled peer is given up only when it has been silent for [`SILENCE`] and the newcomer
//!   continues its stream: same SSRC, a sequence number near the last, two packets in a row. An
//!   attacker off the path knows none of these. A phone whose NAT rebinds does.
//! * A re-INVITE with another address ([`Latch::reset`]) starts over; it came through signalling.
//!
//! What is left: who can read the packets on their way can forge them; only SRTP helps there. And
//! until the first packet comes we send to the address in the SDP, which the caller chose.
//!
//! Call [`Latch::admit`] only with packets that are valid RTP of a payload type the call has.

use std::net::SocketAddr;

use crate::time::{Duration, Instant};

/// How long after the first packet the SDP's address may still take over from another source, and
/// how long packets in flight from before a [`Latch::reset`] do not latch.
pub const SETTLE: Duration = Duration::from_millis(500);
/// How long a settled peer must be silent before a newcomer may continue its stream.
pub const SILENCE: Duration = Duration::from_secs(3);
/// How far from the last sequence number a newcomer may continue (RFC 3550 A.1's MAX_DROPOUT).
pub const SEQUENCE_REACH: u16 = 3000;

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is the peer's.
    Accept,
    /// It is the peer's, and its source is now where to send: [`Latch::peer`] changed.
    AcceptAndMove,
    /// It is not the peer's: drop it.
    Refuse(RefusedSource),
}

/// Why a packet's source is not the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedSource {
    /// The peer is settled at another address and has not fallen silent.
    PeerIsSettled,
    /// The peer fell silent, but this packet is of another stream.
    OtherStream,
    /// The peer fell silent, but this sequence number does not continue its stream.
    SequenceTooFar,
    /// The peer fell silent and this may be it; the next packet in sequence will prove it.
    Unproven,
}

/// The stream of the peer we last accepted from.
#[derive(Clone, Copy, Debug)]
struct Latched {
    source: SocketAddr,
    since: Instant,
    heard: Instant,
    ssrc: u32,
    sequence: u16,
}

/// A newcomer after silence that needs a second packet.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    source: SocketAddr,
    next_sequence: u16,
}

/// Who one leg's RTP peer is. Feed it the source of every valid packet.
#[derive(Clone, Debug)]
pub struct Latch {
    expected: Option<SocketAddr>,
    opened: Instant,
    former: Option<SocketAddr>,
    latched: Option<Latched>,
    candidate: Option<Candidate>,
    refused: u64,
}

impl Latch {
    /// A latch for the address the peer's SDP names; an unspecified one (`0.0.0.0`, `::`, port 0)
    /// is as good as none.
    pub fn new(expected: Option<SocketAddr>, now: Instant) -> Latch {
        Latch {
            expected: usable(expected),
            opened: now,
            former: None,
            latched: None,
            candidate: None,
            refused: 0,
        }
    }

    /// Signalling named the peer's address anew. Another one than before forgets the old source,
    /// whose packets in flight are still heard for [`SETTLE`] but do not latch. The same one, or
    /// none (the `c=0.0.0.0` of an old-style hold), changes nothing: a hold must not open the door.
    pub fn reset(&mut self, expected: Option<SocketAddr>, now: Instant) {
        let expected = usable(expected);
        if expected.is_none() || expected == self.expected {
            return;
        }
        self.former = self.latched.map(|latched| latched.source);
        self.expected = expected;
        self.opened = now;
        self.latched = None;
        self.candidate = None;
    }

    /// Where to send RTP: the latched source, before it the SDP's address.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.latched.map_or(self.expected, |latched| Some(latched.source))
    }

    /// Where to send RTCP, given what the SDP says of it and whether it shares RTP's port. A peer
    /// that is not where its SDP says is behind NAT, and the port after RTP's is the best guess.
    pub fn rtcp_peer(&self, sdp_rtcp: Option<SocketAddr>, mux: bool) -> Option<SocketAddr> {
        let peer = self.peer()?;
        if mux {
            return Some(peer);
        }
        if self.expected == Some(peer) && usable(sdp_rtcp).is_some() {
            return sdp_rtcp;
        }
        Some(SocketAddr::new(peer.ip(), peer.port().checked_add(1)?))
    }

    /// Whether RTCP from `source` may be the peer's: it comes from the host its RTP comes from. A
    /// NAT gives each flow a port of its own, so the port says nothing.
    pub fn admits_rtcp(&self, source: SocketAddr) -> bool {
        self.peer().is_some_and(|peer| peer.ip() == source.ip())
    }

    /// Whether packets from other sources than [`Latch::peer`] could be admitted now: the driver
    /// keeps its socket unconnected while this holds and connects it to the peer while it does not.
    pub fn wants_any_source(&self, now: Instant) -> bool {
        match self.latched {
            None => true,
            Some(latched) => !self.is_settled(&latched, now) || self.silent_since(now),
        }
    }

    /// Whether a latched peer has not been heard for [`SILENCE`].
    pub fn silent_since(&self, now: Instant) -> bool {
        self.latched.is_some_and(|latched| now.since(latched.heard) >= SILENCE)
    }

    /// Packets refused since the leg began.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Judges a valid RTP packet by its source, SSRC and sequence number.
    pub fn admit(&mut self, now: Instant, source: SocketAddr, ssrc: u32, sequence: u16) -> Admission {
        let admission = match self.latched {
            None => self.admit_first(now, source, ssrc, sequence),
            Some(latched) if latched.source == source => {
                self.accept(Latched { heard: now, ssrc, sequence, ..latched });
                Admission::Accept
            }
            Some(latched) if self.expected == Some(source) && !self.is_settled(&latched, now) => {
                self.move_to(now, source, ssrc, sequence)
            }
            Some(latched) => self.admit_newcomer(now, &latched, source, ssrc, sequence),
        };
        if matches!(admission, Admission::Refuse(_)) {
            self.refused = self.refused.saturating_add(1);
        }
        admission
    }

    /// Nobody is latched yet: anyone is, except the source that signalling just moved away from.
    fn admit_first(&mut self, now: Instant, source: SocketAddr, ssrc: u32, sequence: u16) -> Admission {
        let in_flight =
            self.former == Some(source) && self.expected != Some(source) && now.since(self.opened) < SETTLE;
        if in_flight {
            return Admission::Accept;
        }
        let was = self.peer();
        self.move_to(now, source, ssrc, sequence);
        if was == Some(source) { Admission::Accept } else { Admission::AcceptAndMove }
    }

    /// Somebody else is latched: only a silent peer's own stream may go on from elsewhere.
    fn admit_newcomer(
        &mut self,
        now: Instant,
        latched: &Latched,
        source: SocketAddr,
        ssrc: u32,
        sequence: u16,
    ) -> Admission {
        if now.since(latched.heard) < SILENCE {
            return Admission::Refuse(RefusedSource::PeerIsSettled);
        }
        if ssrc != latched.ssrc {
            return Admission::Refuse(RefusedSource::OtherStream);
        }
        let ahead = sequence.wrapping_sub(latched.sequence);
        if ahead.min(ahead.wrapping_neg()) > SEQUENCE_REACH {
            return Admission::Refuse(RefusedSource::SequenceTooFar);
        }
        let proven = self
            .candidate
            .is_some_and(|candidate| candidate.source == source && candidate.next_sequence == sequence);
        if proven {
            return self.move_to(now, source, ssrc, sequence);
        }
        self.candidate = Some(Candidate { source, next_sequence: sequence.wrapping_add(1) });
        Admission::Refuse(RefusedSource::Unproven)
    }

    fn move_to(&mut self, now: Instant, source: SocketAddr, ssrc: u32, sequence: u16) -> Admission {
        self.accept(Latched { source, since: now, heard: now, ssrc, sequence });
        Admission::AcceptAndMove
    }

    fn accept(&mut self, latched: Latched) {
        self.latched = Some(latched);
        self.candidate = None;
    }

    /// Whether the SDP's address can no longer take over: it has, it never named one, or its time
    /// is past.
    fn is_settled(&self, latched: &Latched, now: Instant) -> bool {
        self.expected.is_none_or(|expected| expected == latched.source) || now.since(latched.since) >= SETTLE
    }
}

/// An address one can send to.
fn usable(address: Option<SocketAddr>) -> Option<SocketAddr> {
    address.filter(|address| !address.ip().is_unspecified() && address.port() != 0)
}

#[cfg(test)]
mod tests;
