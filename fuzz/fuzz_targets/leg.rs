//! A shard with two legs in a room, and arbitrary datagrams to both: RTP, RTCP and neither. The tick
//! goes on, and no packet goes anywhere but to who was described or was heard.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use confab::audio::AudioCodec;
use confab::id::{LegId, RoomId};
use confab::media::leg::LegSettings;
use confab::media::shard::{Applied, Channel, LegKey, Outbound, SLOT, SLOTS, Shard};
use confab::plane::{Hears, LegMedia, MediaPort, RoomShape, RtpIdentity, ShardCommand};
use confab::rng::Rng;
use confab::time::{Duration, Instant, Timestamp};
use libfuzzer_sys::fuzz_target;

/// No packet of ours is larger: RTP of 60 ms, or a report.
const PACKET_BYTES_MAX: usize = 12 + 480;

/// What the shard sends is measured and forgotten.
struct Wire;

impl Outbound for Wire {
    fn send(&mut self, _: LegKey, _: Channel, to: SocketAddr, datagram: &[u8]) {
        assert!(datagram.len() <= PACKET_BYTES_MAX, "{} bytes", datagram.len());
        assert!(matches!(to.ip(), IpAddr::V4(ip) if ip.octets().starts_with(&[192, 0, 2])), "{to}");
    }

    fn connect(&mut self, _: LegKey, _: Option<SocketAddr>) {}
}

/// Puts a leg into room 1.
fn add(shard: &mut Shard, now: Instant, id: u64, codec: AudioCodec) -> LegKey {
    let address = SocketAddr::from(([192, 0, 2, id as u8], 4000));
    let media = LegMedia {
        codec,
        payload_type_in: codec.static_payload_type().unwrap_or(0),
        payload_type_out: codec.static_payload_type().unwrap_or(0),
        telephone_event: Some(101),
        telephone_event_out: Some(101),
        ptime_ms: 20,
        send: true,
        receive: true,
        remote_rtp: Some(address),
        remote_rtcp: Some(SocketAddr::new(address.ip(), 4001)),
        rtcp_mux: false,
    };
    let command = ShardCommand::AddLeg {
        leg: LegId(id),
        room: RoomId(1),
        port: MediaPort { token: id as u32, rtp: 20_000, rtcp: None },
        media,
        hears: Hears::Room,
        identity: RtpIdentity { ssrc: id as u32, sequence: 65_530, timestamp: u32::MAX - 300 },
    };
    match shard.command(now, command, &mut Wire) {
        Applied::Added(key) => key,
        other => panic!("a leg is added: {other:?}"),
    }
}

// The input is datagrams: length, whom to and whence, how many slots apart, then the bytes.
fuzz_target!(|input: &[u8]| {
    let settings = LegSettings {
        playout: Default::default(),
        media_timeout: Duration::from_secs(30),
        cname: "confab".to_owned(),
        wall_at_zero: Timestamp::from_micros(1_700_000_000_000_000),
    };
    let mut shard = Shard::new(settings, Rng::from_number(1));
    let mut now = Instant::from_millis(1_000);
    let shape = RoomShape { max_speakers: 2, gate: true };
    shard.command(now, ShardCommand::OpenRoom { room: RoomId(1), shape }, &mut Wire);
    let keys = [add(&mut shard, now, 1, AudioCodec::Pcmu), add(&mut shard, now, 2, AudioCodec::Pcma)];
    let (mut rest, mut slot) = (input, 0);
    while let [length, way, apart, after @ ..] = rest {
        let Some((datagram, after)) = after.split_at_checked(usize::from(*length)) else { break };
        rest = after;
        let key = keys[usize::from(way & 1)];
        let channel = if way & 2 == 0 { Channel::Rtp } else { Channel::Rtcp };
        let port = if way & 2 == 0 { 4000 } else { 4001 };
        let from = (way & 4 == 0).then(|| SocketAddr::from(([192, 0, 2, way >> 3 & 3], port)));
        shard.receive(now, key, channel, from, datagram);
        for _ in 0..apart % 64 {
            now = now + SLOT;
            slot = (slot + 1) % SLOTS;
            shard.tick(now, slot, &mut Wire);
        }
        while shard.poll_report().is_some() {}
    }
});
