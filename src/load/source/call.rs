//! The state of one call of the load source, and of the room it is in.

use std::net::SocketAddr;

use super::sequence::SequenceWindow;
use crate::load::marker::TurnFinder;
use crate::load::target::Target;
use crate::load::ua::Dialog;
use crate::time::{Duration, Instant};

/// Where a call is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not begun.
    Waiting,
    /// The INVITE is out.
    Inviting(Retransmit),
    /// A provisional response came: the INVITE is not sent again.
    Proceeding {
        /// When the first INVITE was sent.
        since: Instant,
    },
    /// Answered.
    Talking,
    /// Our BYE is out.
    HangingUp(Retransmit),
    /// Over, for whatever reason.
    Over,
}

/// When a request was first sent, and when it is sent again (RFC 3261 timers A and E).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmit {
    /// When it was first sent.
    pub since: Instant,
    /// When it is due again.
    pub next: Instant,
    /// The wait after that.
    pub interval: Duration,
}

/// The first wait (RFC 3261 T1).
const T1: Duration = Duration::from_millis(500);

impl Retransmit {
    /// A request sent for the first time.
    pub fn new(now: Instant) -> Retransmit {
        Retransmit { since: now, next: now + T1, interval: T1 * 2 }
    }

    /// The same after it was sent again.
    pub fn again(self, now: Instant) -> Retransmit {
        Retransmit { next: now + self.interval, interval: self.interval * 2, ..self }
    }
}

/// One phone.
#[derive(Debug)]
pub struct Call {
    /// Where it is in its life.
    pub state: State,
    /// Its room.
    pub room: u32,
    /// Which tone it speaks, if it is a talker.
    pub tone: Option<u8>,
    /// The SIP socket it uses.
    pub sip_socket: u16,
    /// When it was sent first.
    pub invited: Instant,
    /// When it was answered.
    pub answered: Option<Instant>,
    /// The port of its RTP socket.
    pub rtp_port: u16,
    /// Where its RTP goes.
    pub peer: Option<SocketAddr>,
    /// What the answer established.
    pub dialog: Dialog,
    /// The sending side.
    pub speaker: Speaker,
    /// The receiving side.
    pub listener: Listener,
}

impl Call {
    /// Whether it was answered and is not over.
    pub fn is_talking(&self) -> bool {
        self.state == State::Talking
    }
}

/// The sending side of a call.
#[derive(Clone, Copy, Debug)]
pub struct Speaker {
    /// The stream's source identifier.
    pub ssrc: u32,
    /// The next packet's sequence number.
    pub sequence: u16,
    /// The next packet's timestamp.
    pub timestamp: u32,
    /// Whether the tone is in its turned phase.
    pub turned: bool,
    /// The slot within a packet's time in which it sends.
    pub slot: u16,
}

/// The receiving side of a call.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    /// When the last packet arrived.
    pub arrived: Option<Instant>,
    /// What sequence numbers tell.
    pub window: SequenceWindow,
    /// The stream being received.
    pub ssrc: Option<u32>,
    /// The search for turns.
    pub finder: TurnFinder,
    /// The number of the last turn found.
    pub found: u32,
    /// Whether the stream is our own, sent back.
    pub echo: bool,
    /// The sound examined for tones, as received.
    pub sample: Vec<u8>,
}

/// A turn of phase that a talker of a room has sent.
#[derive(Clone, Copy, Debug)]
pub struct SentTurn {
    /// Counts the room's turns, from 1.
    pub number: u32,
    /// The talker.
    pub call: u32,
    /// The talker's tone.
    pub tone: u8,
    /// When the packet that starts with the turn was sent.
    pub sent: Instant,
}

/// A room: one of the URIs.
#[derive(Debug)]
pub struct Room {
    /// Where its calls go.
    pub target: Target,
    /// The calls that speak tones.
    pub talkers: Vec<u32>,
    /// How many of its calls are answered and not over.
    pub talking: u32,
    /// The latest turn.
    pub turn: Option<SentTurn>,
    /// When the next turn is due; `None` while nothing is measured.
    pub next_turn: Option<Instant>,
}

impl Room {
    /// The talker whose turn it is.
    pub fn turner(&self) -> Option<u32> {
        let turns = self.turn.map_or(0, |turn| turn.number) as usize;
        self.talkers.get(turns % self.talkers.len().max(1)).copied()
    }
}
