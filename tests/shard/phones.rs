//! Phones around a shard: each speaks G.711 tones by its own little codec and RTP writer, and keeps
//! what it hears. Time is simulated; nothing here uses the code under test but the shard's doors.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::net::SocketAddr;

use confab::audio::AudioCodec;
use confab::id::{LegId, RoomId};
use confab::media::leg::LegSettings;
use confab::media::shard::{Applied, Channel, LegKey, Outbound, SLOT, SLOTS, Shard};
use confab::plane::{
    Hears, LegMedia, MediaPort, RoomShape, RtpIdentity, ShardCommand, ShardIndex, ShardReport,
};
use confab::rng::Rng;
use confab::time::{Duration, Instant, Timestamp};

/// A room for a conference of many.
pub const CONFERENCE: RoomShape = RoomShape { max_speakers: 8, gate: true };
/// A room for two.
pub const CONNECT: RoomShape = RoomShape { max_speakers: 2, gate: false };

/// One phone.
pub struct Phone {
    pub leg: LegId,
    pub key: LegKey,
    pub media: LegMedia,
    /// What it sends: a tone, or µ-law silence.
    pub tone_hz: Option<f64>,
    /// It sends these two tones instead.
    pub tones_hz: Option<[f64; 2]>,
    /// It sends nothing at all.
    pub mute: bool,
    address: SocketAddr,
    sequence: u16,
    timestamp: u32,
    sends_at: Instant,
    /// The packets it got: payload type, marker, sequence, timestamp, payload.
    pub got: Vec<(u8, bool, u16, u32, Vec<u8>)>,
    pub got_rtcp: Vec<Vec<u8>>,
    pub connected: Option<Option<SocketAddr>>,
}

/// The phones, their shard and the clock.
pub struct Sim {
    pub shard: Shard,
    pub now: Instant,
    pub phones: BTreeMap<u64, Phone>,
    pub reports: Vec<ShardReport>,
    slot: usize,
}

/// Collects what the shard sends.
#[derive(Default)]
struct Wire {
    sent: Vec<(LegKey, Channel, SocketAddr, Vec<u8>)>,
    connects: Vec<(LegKey, Option<SocketAddr>)>,
}

impl Outbound for Wire {
    fn send(&mut self, leg: LegKey, channel: Channel, to: SocketAddr, datagram: &[u8]) {
        self.sent.push((leg, channel, to, datagram.to_vec()));
    }

    fn connect(&mut self, leg: LegKey, peer: Option<SocketAddr>) {
        self.connects.push((leg, peer));
    }
}

/// The media of an ordinary phone at `address`.
pub fn media(codec: AudioCodec, ptime_ms: u16, address: SocketAddr) -> LegMedia {
    LegMedia {
        codec,
        payload_type_in: codec.static_payload_type().expect("G.711"),
        payload_type_out: codec.static_payload_type().expect("G.711"),
        telephone_event: Some(101),
        telephone_event_out: Some(101),
        ptime_ms,
        send: true,
        receive: true,
        remote_rtp: Some(address),
        remote_rtcp: Some(SocketAddr::new(address.ip(), address.port() + 1)),
        rtcp_mux: false,
    }
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        let settings = LegSettings {
            playout: Default::default(),
            media_timeout: Duration::from_secs(30),
            cname: "confab".to_owned(),
            wall_at_zero: Timestamp::from_micros(1_700_000_000_000_000),
        };
        Self {
            shard: Shard::new(settings, Rng::from_number(seed)),
            now: Instant::from_millis(1000),
            phones: BTreeMap::new(),
            reports: Vec::new(),
            slot: 0,
        }
    }

    pub fn open_room(&mut self, room: u64, shape: RoomShape) {
        self.command(ShardCommand::OpenRoom { room: RoomId(room), shape });
    }

    /// Adds a phone whose packets leave `phase_us` after now.
    pub fn add(
        &mut self,
        room: u64,
        id: u64,
        codec: AudioCodec,
        ptime_ms: u16,
        tone_hz: Option<f64>,
        phase_us: u64,
    ) {
        let address: SocketAddr = format!("127.0.0.1:{}", 10_000 + 4 * id).parse().expect("a port");
        let media = media(codec, ptime_ms, address);
        let applied = self.command(ShardCommand::AddLeg {
            leg: LegId(id),
            room: RoomId(room),
            port: MediaPort { token: 0, rtp: 1, rtcp: None },
            media: media.clone(),
            hears: Hears::Room,
            identity: RtpIdentity { ssrc: id as u32, sequence: 65_530, timestamp: 4_294_967_000 },
        });
        let Applied::Added(key) = applied else { panic!("leg {id} was not added: {applied:?}") };
        let phone = Phone {
            leg: LegId(id),
            key,
            media,
            tone_hz,
            tones_hz: None,
            mute: false,
            address,
            sequence: 65_000,
            timestamp: 7,
            sends_at: self.now + Duration::from_micros(phase_us),
            got: Vec::new(),
            got_rtcp: Vec::new(),
            connected: None,
        };
        self.phones.insert(id, phone);
    }

    pub fn command(&mut self, command: ShardCommand) -> Applied {
        let mut wire = Wire::default();
        let applied = self.shard.command(self.now, command, &mut wire);
        self.deliver(wire);
        applied
    }

    pub fn remove(&mut self, id: u64) -> Phone {
        let applied = self.command(ShardCommand::RemoveLeg { leg: LegId(id) });
        let phone = self.phones.remove(&id).expect("a phone that was added");
        assert_eq!(applied, Applied::Removed(phone.key));
        phone
    }

    /// Moves a phone's leg to a room of this shard.
    pub fn move_to_room(&mut self, id: u64, room: u64) {
        let from = ShardIndex(0);
        let applied = self.command(ShardCommand::MoveLeg { leg: LegId(id), room: RoomId(room), from });
        assert_eq!(applied, Applied::Moved(self.phones[&id].key));
    }

    /// Moves a phone's leg to a room of another shard.
    pub fn move_to_shard(&mut self, id: u64, other: &mut Sim, room: u64) {
        let (key, leg) = self.shard.release_leg(LegId(id)).expect("it is here");
        let mut phone = self.phones.remove(&id).expect("a phone that was added");
        assert_eq!(phone.key, key);
        let applied = other.shard.adopt_leg(RoomId(room), leg);
        let Applied::Added(key) = applied else { panic!("leg {id} was not taken in: {applied:?}") };
        phone.key = key;
        other.phones.insert(id, phone);
    }

    /// Lets `ms` pass: phones speak, rooms tick, reports are collected.
    pub fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now += SLOT;
            self.let_phones_speak();
            let mut wire = Wire::default();
            self.shard.tick(self.now, self.slot, &mut wire);
            self.slot = (self.slot + 1) % SLOTS;
            self.deliver(wire);
            while let Some(report) = self.shard.poll_report() {
                self.reports.push(report);
            }
        }
    }

    /// Hands the shard a datagram as if it came on a leg's RTP socket.
    pub fn inject(&mut self, id: u64, from: SocketAddr, datagram: &[u8]) {
        let key = self.phones[&id].key;
        self.shard.receive(self.now, key, Channel::Rtp, Some(from), datagram);
    }

    fn let_phones_speak(&mut self) {
        let now = self.now;
        for phone in self.phones.values_mut() {
            while phone.sends_at <= now {
                let datagram = phone.speak();
                if !phone.mute {
                    self.shard.receive(now, phone.key, Channel::Rtp, Some(phone.address), &datagram);
                }
            }
        }
    }

    fn deliver(&mut self, wire: Wire) {
        for (key, channel, to, datagram) in wire.sent {
            let phone = self.phones.values_mut().find(|phone| phone.key == key).expect("a leg that is there");
            if channel == Channel::Rtcp {
                phone.got_rtcp.push(datagram);
                continue;
            }
            assert_eq!(to, phone.address, "RTP goes to the phone");
            let word = |at: usize| u32::from_be_bytes(datagram[at..at + 4].try_into().expect("four bytes"));
            assert_eq!(datagram[0], 0x80);
            assert_eq!(u64::from(word(8)), phone.leg.0, "each leg has its own SSRC");
            let sequence = u16::from_be_bytes([datagram[2], datagram[3]]);
            phone.got.push((
                datagram[1] & 0x7f,
                datagram[1] & 0x80 != 0,
                sequence,
                word(4),
                datagram[12..].to_vec(),
            ));
        }
        for (key, peer) in wire.connects {
            if let Some(phone) = self.phones.values_mut().find(|phone| phone.key == key) {
                phone.connected = Some(peer);
            }
        }
    }
}

impl Phone {
    /// The next packet; the phone's clock goes on by its ptime.
    fn speak(&mut self) -> Vec<u8> {
        let samples = u32::from(self.media.ptime_ms) * 8;
        let mut datagram = vec![0x80, self.media.payload_type_in];
        datagram.extend(self.sequence.to_be_bytes());
        datagram.extend(self.timestamp.to_be_bytes());
        datagram.extend((self.leg.0 as u32 + 0x1000).to_be_bytes());
        let silence = encode(self.media.codec, 0);
        for n in 0..samples {
            let time = f64::from(self.timestamp.wrapping_add(n)) / 8000.0;
            if let Some([low, high]) = self.tones_hz {
                let sum = (TAU * low * time).sin() + (TAU * high * time).sin();
                datagram.push(encode(self.media.codec, (6000.0 * sum) as i32));
                continue;
            }
            datagram.push(
                self.tone_hz.map_or(silence, |hz| {
                    encode(self.media.codec, (6000.0 * (TAU * hz * time).sin()) as i32)
                }),
            );
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(samples);
        self.sends_at += Duration::from_millis(u64::from(self.media.ptime_ms));
        datagram
    }

    /// The last `ms` of what it heard.
    pub fn heard(&self, ms: usize) -> Vec<f64> {
        let all: Vec<f64> =
            self.got.iter().flat_map(|got| &got.4).map(|&b| f64::from(decode(self.media.codec, b))).collect();
        all[all.len().saturating_sub(ms * 8)..].to_vec()
    }

    /// How strong a tone is in the last second of what it heard: its amplitude.
    pub fn hears(&self, hz: f64) -> f64 {
        let heard = self.heard(1000);
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in heard.iter().enumerate() {
            let angle = TAU * hz * n as f64 / 8000.0;
            re += sample * angle.cos();
            im += sample * angle.sin();
        }
        2.0 * (re * re + im * im).sqrt() / heard.len().max(1) as f64
    }
}

/// G.711 by the book, sample by sample: the decoder value nearest to `sample`.
pub fn encode(codec: AudioCodec, sample: i32) -> u8 {
    (0..=255u8).min_by_key(|&byte| (decode(codec, byte) - sample).abs()).expect("256 values")
}

/// G.711 decoding by the segment formulas.
pub fn decode(codec: AudioCodec, byte: u8) -> i32 {
    match codec {
        AudioCodec::Pcmu => {
            let byte = !byte;
            let magnitude = ((i32::from(byte & 15) << 3) + 0x84) << ((byte >> 4) & 7);
            if byte & 0x80 != 0 { 0x84 - magnitude } else { magnitude - 0x84 }
        }
        AudioCodec::Pcma => {
            let byte = byte ^ 0x55;
            let segment = (byte >> 4) & 7;
            let mut magnitude = (i32::from(byte & 15) << 4) + 8;
            if segment > 0 {
                magnitude = (magnitude + 0x100) << (segment - 1);
            }
            if byte & 0x80 != 0 { magnitude } else { -magnitude }
        }
    }
}
