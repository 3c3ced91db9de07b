//! The work that both the timed and the counted benchmarks do.

use std::net::SocketAddr;

use confab::audio::AudioCodec;
use confab::id::{LegId, RoomId};
use confab::media::leg::LegSettings;
use confab::media::shard::{Applied, Channel, LegKey, Outbound, SLOT, SLOTS, Shard};
use confab::plane::{Hears, LegMedia, MediaPort, RoomShape, RtpIdentity, ShardCommand};
use confab::rng::Rng;
use confab::time::{Duration, Instant, Timestamp};

/// An INVITE as a phone sends it, with SDP.
pub const INVITE: &[u8] = include_bytes!("../../fixtures/sip/phone_invite.sip");

/// Counts what is sent and drops it.
#[derive(Default)]
pub struct Sink(pub u64);

impl Outbound for Sink {
    fn send(&mut self, _: LegKey, _: Channel, _: SocketAddr, datagram: &[u8]) {
        self.0 += std::hint::black_box(datagram).len() as u64;
    }

    fn connect(&mut self, _: LegKey, _: Option<SocketAddr>) {}
}

/// A shard full of calls, each sending 20 ms packets; a few of each room talk.
pub struct BusyShard {
    shard: Shard,
    legs: Vec<(LegKey, bool)>,
    now: Instant,
    sequence: u16,
    sink: Sink,
}

impl BusyShard {
    /// `rooms` rooms of `members` calls each, of which `talkers` talk.
    pub fn new(rooms: u64, members: u64, talkers: u64) -> Self {
        let settings = LegSettings {
            playout: Default::default(),
            media_timeout: Duration::from_secs(60),
            cname: "confab".to_owned(),
            wall_at_zero: Timestamp::from_micros(1_700_000_000_000_000),
        };
        let mut shard = Shard::new(settings, Rng::from_number(1));
        let now = Instant::from_millis(1000);
        let mut legs = Vec::new();
        for room in 0..rooms {
            let shape = RoomShape { max_speakers: 8, gate: members > 2 };
            shard.command(now, ShardCommand::OpenRoom { room: RoomId(room), shape }, &mut Sink::default());
            for member in 0..members {
                let command = add_leg(room * members + member, room);
                let Applied::Added(key) = shard.command(now, command, &mut Sink::default()) else {
                    unreachable!("the room was just opened")
                };
                legs.push((key, member < talkers));
            }
        }
        Self { shard, legs, now, sequence: 0, sink: Sink::default() }
    }

    /// Calls in the shard.
    pub fn calls(&self) -> u64 {
        self.legs.len() as u64
    }

    /// 20 ms: a packet from every call, a tick of every room, a packet to every call.
    pub fn run_tick(&mut self) -> u64 {
        let mut packet = [0xff; 172];
        let timestamp = u32::from(self.sequence) * 160;
        packet[..2].copy_from_slice(&[0x80, 0]);
        packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&7u32.to_be_bytes());
        let mut talk = packet;
        for (n, byte) in talk[12..].iter_mut().enumerate() {
            *byte = ((n * 37) as u8 & 0x8f) | 0x10;
        }
        for &(key, talks) in &self.legs {
            let packet = if talks { &talk } else { &packet };
            let from = Some(SocketAddr::from(([127, 0, 0, 1], 4000)));
            self.shard.receive(self.now, key, Channel::Rtp, from, packet);
        }
        for slot in 0..SLOTS {
            self.now += SLOT;
            self.shard.tick(self.now, slot, &mut self.sink);
        }
        while self.shard.poll_report().is_some() {}
        self.sequence = self.sequence.wrapping_add(1);
        self.sink.0
    }
}

fn add_leg(id: u64, room: u64) -> ShardCommand {
    let remote = Some(SocketAddr::from(([127, 0, 0, 1], 4000)));
    ShardCommand::AddLeg {
        leg: LegId(id),
        room: RoomId(room),
        port: MediaPort { token: 0, rtp: 2, rtcp: None },
        media: LegMedia {
            codec: AudioCodec::Pcmu,
            payload_type_in: 0,
            payload_type_out: 0,
            telephone_event: None,
            telephone_event_out: None,
            ptime_ms: 20,
            send: true,
            receive: true,
            remote_rtp: remote,
            remote_rtcp: remote,
            rtcp_mux: true,
        },
        hears: Hears::Room,
        identity: RtpIdentity { ssrc: 1, sequence: 2, timestamp: 3 },
    }
}
