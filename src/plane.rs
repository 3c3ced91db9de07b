//! The values that cross between the control plane and the data plane, through bounded queues:
//! [`ShardCommand`] down, [`ShardReport`] up. A command applies at the shard's next tick.

pub mod feed;
pub mod tap;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::audio::AudioCodec;
use crate::id::{LegId, RoomId, TapId};
use crate::time::Duration;
use feed::Feed;
use tap::Tap;

/// Which shard (one per media thread) a room lives in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u16);

/// A bound RTP port (and the RTCP port beside it unless multiplexed), named by a token that the
/// shell exchanges for the sockets when the leg reaches its media thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MediaPort {
    /// The shell's name for the bound sockets.
    pub token: u32,
    /// The UDP port RTP is received on.
    pub rtp: u16,
    /// The UDP port RTCP is received on; `None` when multiplexed (RFC 5761).
    pub rtcp: Option<u16>,
}

/// Why no port could be bound: the whole RTP range is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every port of the RTP range is in use")]
pub struct RangeExhausted;

/// Where the control plane gets media ports from: real sockets in the shell, numbers in tests.
pub trait PortSource {
    /// Binds a port for RTP to reach us from `peer`'s address family, with one for RTCP beside it
    /// unless `rtcp_mux`.
    fn bind(&mut self, peer: IpAddr, rtcp_mux: bool) -> Result<MediaPort, RangeExhausted>;

    /// Gives back a port that no `AddLeg` carried away.
    fn release(&mut self, port: MediaPort);
}

/// How a leg's media flows: what offer and answer settled (RFC 3264).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegMedia {
    /// The codec, in both directions.
    pub codec: AudioCodec,
    /// The RTP payload type we expect.
    pub payload_type_in: u8,
    /// The RTP payload type we send.
    pub payload_type_out: u8,
    /// The payload type of RFC 4733 events we expect, if any.
    pub telephone_event: Option<u8>,
    /// The payload type we send RFC 4733 events with, if the peer takes them.
    pub telephone_event_out: Option<u8>,
    /// Milliseconds of audio per packet we send: 10 to 60.
    pub ptime_ms: u16,
    /// Whether we send RTP (the peer is not holding us by `inactive` or `sendonly`).
    pub send: bool,
    /// Whether we expect RTP.
    pub receive: bool,
    /// Where the SDP says RTP goes; the latch may learn better.
    pub remote_rtp: Option<SocketAddr>,
    /// Where the SDP says RTCP goes.
    pub remote_rtcp: Option<SocketAddr>,
    /// RTP and RTCP share one port (RFC 5761).
    pub rtcp_mux: bool,
}

/// How a room mixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomShape {
    /// How many loudest legs are heard at once.
    pub max_speakers: u16,
    /// Whether legs without speech are left out of the mix. Off for two-party rooms.
    pub gate: bool,
}

/// What a leg hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    /// The room's mix without itself; and the room hears it.
    Room,
    /// Ringback (ITU-T E.180) and nothing else; the room does not hear it.
    Ringback(RingCadence),
    /// Silence; the room does not hear it.
    Nothing,
    /// Itself; the room does not hear it.
    Echo,
}

/// A sound to play to a leg: mono, at its own rate. Shared, so that a prompt is held once.
#[derive(Clone, PartialEq, Eq)]
pub struct Clip {
    rate_hz: u32,
    samples: Box<[i16]>,
}

impl Clip {
    /// Samples at `rate_hz` a second (at least 1).
    pub fn new(rate_hz: u32, samples: Vec<i16>) -> Self {
        Self { rate_hz: rate_hz.max(1), samples: samples.into() }
    }

    /// Samples a second.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// The samples.
    pub fn samples(&self) -> &[i16] {
        &self.samples
    }

    /// How long it is.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.samples.len() as u64 * 1_000_000 / u64::from(self.rate_hz))
    }
}

impl std::fmt::Debug for Clip {
    /// Without the samples.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clip({} samples at {} Hz)", self.samples.len(), self.rate_hz)
    }
}

/// A ringing tone: ITU-T E.180 Supplement 2 gives each country's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingCadence {
    /// One or two tones, in hertz; the second is 0 when there is one.
    pub tones_hz: [u16; 2],
    /// On and off times in milliseconds, repeated; unused tail entries are 0.
    pub on_off_ms: [u16; 4],
}

/// A change for one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardCommand {
    /// Makes an empty room.
    OpenRoom {
        /// The new room.
        room: RoomId,
        /// How it mixes.
        shape: RoomShape,
    },
    /// Forgets an empty room, closing its taps and sources; a room that still has legs is emptied first.
    CloseRoom {
        /// The room.
        room: RoomId,
    },
    /// Adds a leg to a room. It is heard from its first packet when `hears` is [`Hears::Room`].
    AddLeg {
        /// The new leg.
        leg: LegId,
        /// Its room.
        room: RoomId,
        /// Its bound port.
        port: MediaPort,
        /// Its media.
        media: LegMedia,
        /// What it hears to begin with.
        hears: Hears,
        /// Random start of its SSRC, RTP sequence and timestamp (RFC 3550 §5.1).
        identity: RtpIdentity,
    },
    /// A re-INVITE settled new media for the leg.
    UpdateLeg {
        /// The leg.
        leg: LegId,
        /// Its new media.
        media: LegMedia,
    },
    /// Changes what the leg hears.
    SetHears {
        /// The leg.
        leg: LegId,
        /// What it hears from now on.
        hears: Hears,
    },
    /// Plays a clip to the leg alone, in place of all it hears else and of what was played before;
    /// answered by [`ShardReport::PlayDone`].
    Play {
        /// The leg.
        leg: LegId,
        /// Names the play.
        play: u64,
        /// The clip, of the room's rate.
        clip: Arc<Clip>,
    },
    /// Stops what is played, which is then answered.
    StopPlay {
        /// The leg.
        leg: LegId,
    },
    /// Presses keys by RFC 4733 in place of what was played or pressed before; answered by
    /// [`ShardReport::PlayDone`].
    SendDigits {
        /// The leg.
        leg: LegId,
        /// Names the play.
        play: u64,
        /// `0`–`9`, `*`, `#`, `A`–`D`; at most 64.
        digits: String,
        /// How long each is held.
        held_ms: u16,
        /// How long the pause after each is.
        gap_ms: u16,
    },
    /// Listens for keys pressed as tones in the leg's audio, or no longer.
    ListenForTones {
        /// The leg.
        leg: LegId,
        /// Whether it listens.
        on: bool,
    },
    /// Takes the leg out and closes its sockets; answered by [`ShardReport::LegClosed`].
    RemoveLeg {
        /// The leg.
        leg: LegId,
    },
    /// Moves a leg, as it is, into a room of this shard: its stream goes on. It comes from shard `from`,
    /// maybe this one; the shell carries it from thread to thread, and what is ordered of it meanwhile
    /// after it. [`ShardReport::LegFailed`] tells when that cannot be.
    MoveLeg {
        /// The leg.
        leg: LegId,
        /// The room it comes into.
        room: RoomId,
        /// Where it was.
        from: ShardIndex,
    },
    /// Begins to write what a room hears to a tap; the room ticks on even without legs. A tap that
    /// cannot be had is closed.
    StartTap {
        /// The room.
        room: RoomId,
        /// Where its sound goes.
        tap: Tap,
    },
    /// Adds a source to a room: a leg without sockets, heard as the others are. The room ticks on even
    /// without legs. A source that cannot be had has its tap closed.
    AddSource {
        /// The room.
        room: RoomId,
        /// The source.
        leg: LegId,
        /// What it says.
        feed: Feed,
        /// What it hears: the mix without itself.
        tap: Tap,
    },
    /// Takes a source out; its tap is closed.
    RemoveSource {
        /// The room.
        room: RoomId,
        /// The source.
        leg: LegId,
    },
    /// Ends a tap: it is closed after the last tick's sound.
    StopTap {
        /// The room.
        room: RoomId,
        /// The tap.
        tap: TapId,
    },
}

impl ShardCommand {
    /// The leg it is about; a source is none.
    pub fn leg(&self) -> Option<LegId> {
        match self {
            ShardCommand::AddLeg { leg, .. }
            | ShardCommand::UpdateLeg { leg, .. }
            | ShardCommand::SetHears { leg, .. }
            | ShardCommand::Play { leg, .. }
            | ShardCommand::StopPlay { leg }
            | ShardCommand::SendDigits { leg, .. }
            | ShardCommand::ListenForTones { leg, .. }
            | ShardCommand::MoveLeg { leg, .. }
            | ShardCommand::RemoveLeg { leg } => Some(*leg),
            ShardCommand::OpenRoom { .. }
            | ShardCommand::CloseRoom { .. }
            | ShardCommand::StartTap { .. }
            | ShardCommand::StopTap { .. }
            | ShardCommand::AddSource { .. }
            | ShardCommand::RemoveSource { .. } => None,
        }
    }
}

/// The random start of an RTP stream we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpIdentity {
    /// Synchronisation source.
    pub ssrc: u32,
    /// First sequence number.
    pub sequence: u16,
    /// First timestamp.
    pub timestamp: u32,
}

/// What a shard tells the control plane.
#[derive(Clone, Debug, PartialEq)]
pub enum ShardReport {
    /// A telephone-event digit ended (RFC 4733).
    Digit {
        /// The leg it came from.
        leg: LegId,
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digit: char,
        /// How long it was held.
        duration_ms: u32,
    },
    /// Neither RTP nor RTCP came for the configured time while the leg was not on hold.
    MediaTimeout {
        /// The leg.
        leg: LegId,
    },
    /// The leg's counters so far; a later one replaces an earlier one.
    Stats {
        /// The leg.
        leg: LegId,
        /// Its counters.
        stats: LegStats,
    },
    /// The leg could not be added or moved (its sockets failed); no other report follows.
    LegFailed {
        /// The leg.
        leg: LegId,
    },
    /// What was played is over. Carries the clip back, so that it is not freed in a tick.
    PlayDone {
        /// The leg.
        leg: LegId,
        /// Which play.
        play: u64,
        /// Whether it was played to its end.
        whole: bool,
        /// The clip; `None` when keys were pressed.
        clip: Option<Arc<Clip>>,
    },
    /// The leg is gone and its sockets are closed.
    LegClosed {
        /// The leg.
        leg: LegId,
        /// Its counters at the end.
        stats: LegStats,
    },
}

/// What is known of a leg's media quality. Counts since the leg began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LegStats {
    /// RTP packets received and accepted.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Packets that never came (RFC 3550 A.3).
    pub lost_in: u64,
    /// Packets that came after their time to play.
    pub late_in: u64,
    /// Packets refused by the latch.
    pub refused_in: u64,
    /// Interarrival jitter (RFC 3550 A.8).
    pub jitter: Duration,
    /// Delay the jitter buffer adds now.
    pub buffer_delay: Duration,
    /// Milliseconds of audio concealed.
    pub concealed_ms: u64,
    /// Milliseconds of audio removed or added by time-stretch.
    pub stretched_ms: u64,
    /// Round trip by RTCP (RFC 3550 §6.4.1), when known.
    pub round_trip: Option<Duration>,
    /// Loss the peer reports of what we send, 0 to 1, when known.
    pub loss_out: Option<f32>,
    /// Estimated listening quality of what we receive, 1 to 4.5 (ITU-T G.107).
    pub mos_in: f32,
    /// Level of the last second, in dBov (RFC 6465: 0 loudest, −127 silence).
    pub level_dbov: i8,
}
