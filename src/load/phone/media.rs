//! The phone's sound: RTP and RTCP both ways, with the bridge's own playout as the ear.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use super::voice::{Meter, Voice};
use crate::codec::g711;
use crate::load::network::Network;
use crate::load::wave::{Recorder, WaveError};
use crate::media::playout::{Playout, PlayoutSettings, PlayoutStats};
use crate::rng::Rng;
use crate::rtp::dtmf::{DtmfError, DtmfSender, DtmfTiming};
use crate::rtp::latch::{Admission, Latch};
use crate::rtp::packet::{HEADER_LEN, RtpHeader, RtpPacket, is_rtcp, write_header};
use crate::rtp::rtcp::{self, NtpTime, REPORT_BYTES_MAX, Report, RtcpPacket};
use crate::rtp::stats::{ReceiverStats, SenderStats, report_interval};
use crate::sdp::MediaPlan;
use crate::time::{Duration, Instant, Now};

/// Samples in a millisecond.
const SAMPLES_PER_MS: usize = 8;
/// The frame our clock ticks by, in milliseconds and in samples.
const TICK: Duration = Duration::from_millis(20);
const TICK_SAMPLES: usize = 20 * SAMPLES_PER_MS;
/// The longest packet.
const PAYLOAD_MAX: usize = 60 * SAMPLES_PER_MS;
/// Keys are pressed this long after the answer, for this long, with this pause.
const DTMF_AFTER: Duration = Duration::from_secs(1);
const DTMF_HELD: u32 = 100 * SAMPLES_PER_MS as u32;
const DTMF_PAUSE: u32 = 100 * SAMPLES_PER_MS as u32;
/// The most packets a bad network holds back: a second of the shortest ones, twice.
const HELD_MAX: usize = 200;
/// The most datagrams read at once.
const READ_LIMIT: usize = 256;
/// How often a pair of ports is tried for.
const PORT_TRIES: usize = 50;

/// The sockets for RTP and, beside it, RTCP.
#[derive(Debug)]
pub struct Sockets {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

impl Sockets {
    /// An even port and the one after it on `ip` (RFC 3550 §11).
    pub fn open(ip: IpAddr) -> io::Result<Sockets> {
        for _ in 0..PORT_TRIES {
            let first = UdpSocket::bind((ip, 0))?;
            let port = first.local_addr()?.port();
            let Ok(second) = UdpSocket::bind((ip, port ^ 1)) else { continue };
            let (rtp, rtcp) = if port.is_multiple_of(2) { (first, second) } else { (second, first) };
            rtp.set_nonblocking(true)?;
            rtcp.set_nonblocking(true)?;
            return Ok(Sockets { rtp, rtcp });
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no two neighbouring ports are free"))
    }

    /// The RTP port.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.rtp.local_addr()?.port())
    }

    /// What to wait on.
    pub fn descriptors(&self) -> [RawFd; 2] {
        [self.rtp.as_raw_fd(), self.rtcp.as_raw_fd()]
    }
}

/// What the phone brings to a call's sound.
pub struct Setup {
    /// What is spoken.
    pub voice: Voice,
    /// Keys to press.
    pub dtmf: Option<String>,
    /// The network in front of us.
    pub network: Option<Network>,
    /// Where what is heard is kept.
    pub recorder: Option<Recorder>,
}

/// A packet held back by the bad network.
struct Held {
    due: Instant,
    bytes: Vec<u8>,
}

/// How it sounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// The loudest frame since the last look, in dBov.
    pub level_dbov: f64,
    /// The part of packets lost so far.
    pub loss: f64,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// What our buffer adds, in milliseconds.
    pub delay_ms: u32,
    /// The round trip by RTCP, once known.
    pub round_trip: Option<Duration>,
    /// Packets received.
    pub packets: u64,
    /// Packets sent.
    pub sent: u64,
    /// Milliseconds of sound made up for loss.
    pub concealed_ms: u64,
}

/// An answered call's sound.
pub struct Media {
    sockets: Sockets,
    plan: MediaPlan,
    setup: Setup,
    latch: Latch,
    playout: Playout,
    receiver: ReceiverStats,
    sender: SenderStats,
    next: RtpHeader,
    pending: Vec<i16>,
    keys: Option<DtmfSender>,
    answered: Instant,
    tick: Instant,
    held: Vec<Held>,
    meter: Meter,
    rng: Rng,
    report_due: Instant,
    round_trip: Option<Duration>,
    cname: String,
}

impl Media {
    /// Sound from now on, as `plan` says.
    pub fn new(now: Instant, sockets: Sockets, plan: MediaPlan, setup: Setup, mut rng: Rng) -> Media {
        let next = RtpHeader {
            payload_type: plan.payload_type_out,
            marker: true,
            sequence: rng.next_u32() as u16,
            timestamp: rng.next_u32(),
            ssrc: rng.next_u32(),
        };
        Media {
            latch: Latch::new(plan.remote_rtp, now),
            playout: Playout::new(plan.codec, PlayoutSettings::default()),
            receiver: ReceiverStats::new(plan.codec.clock_rate_hz()),
            sender: SenderStats::default(),
            next,
            pending: Vec::with_capacity(PAYLOAD_MAX + TICK_SAMPLES),
            keys: None,
            answered: now,
            tick: now,
            held: Vec::new(),
            meter: Meter::default(),
            report_due: now + report_interval(&mut rng, true),
            round_trip: None,
            cname: rng.hex(16),
            rng,
            sockets,
            plan,
            setup,
        }
    }

    /// The stream changed by a re-INVITE.
    pub fn change(&mut self, now: Instant, plan: MediaPlan) {
        if plan.remote_rtp != self.plan.remote_rtp {
            self.latch.reset(plan.remote_rtp, now);
        }
        self.playout.set_codec(plan.codec);
        self.plan = plan;
    }

    /// When [`Media::handle_timeout`] wants to be called.
    pub fn next_timeout(&self) -> Instant {
        let held = self.held.iter().map(|held| held.due).min();
        held.map_or(self.tick, |held| held.min(self.tick))
    }

    /// What to wait on.
    pub fn descriptors(&self) -> [RawFd; 2] {
        self.sockets.descriptors()
    }

    /// Our RTP port.
    pub fn port(&self) -> io::Result<u16> {
        self.sockets.port()
    }

    /// Reads what has arrived.
    pub fn receive(&mut self, now: Now) {
        let mut buffer = [0; 2048];
        for _ in 0..READ_LIMIT {
            let Ok((length, from)) = self.sockets.rtp.recv_from(&mut buffer) else { break };
            let datagram = &buffer[..length];
            if is_rtcp(datagram) {
                self.handle_report(now, from, datagram);
            } else {
                self.handle_packet(now.instant, from, datagram);
            }
        }
        for _ in 0..READ_LIMIT {
            let Ok((length, from)) = self.sockets.rtcp.recv_from(&mut buffer) else { break };
            self.handle_report(now, from, &buffer[..length]);
        }
    }

    /// A datagram on the RTP port.
    fn handle_packet(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Ok(packet) = RtpPacket::parse(datagram) else { return };
        let header = packet.header;
        if matches!(self.latch.admit(now, from, header.ssrc, header.sequence), Admission::Refuse(_)) {
            return;
        }
        let is_new_stream = self.receiver.ssrc().is_some_and(|ssrc| ssrc != header.ssrc);
        if is_new_stream {
            self.playout.reset();
        }
        if !self.receiver.receive(now, &header).is_new() {
            return;
        }
        if header.payload_type == self.plan.payload_type_in {
            self.playout.receive(now, header.sequence, header.timestamp, packet.payload);
        } else {
            self.playout.receive_other(header.sequence);
        }
    }

    /// A report of the peer's.
    fn handle_report(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        let Ok(compound) = rtcp::parse(datagram) else { return };
        if !self.latch.admits_rtcp(from) {
            return;
        }
        for packet in compound {
            let blocks = match packet {
                RtcpPacket::SenderReport { info, blocks, .. } => {
                    self.receiver.handle_sender_report(now.instant, info.ntp);
                    blocks
                }
                RtcpPacket::ReceiverReport { blocks, .. } => blocks,
                _ => continue,
            };
            let about_us = blocks.into_iter().filter(|block| block.ssrc == self.next.ssrc);
            let round_trip =
                about_us.filter_map(|block| rtcp::round_trip(NtpTime::from(now.wall), &block)).last();
            self.round_trip = round_trip.or(self.round_trip);
        }
    }

    /// Hears and speaks all frames that are due, and sends what else is.
    ///
    /// # Errors
    /// When what is heard cannot be recorded.
    pub fn handle_timeout(&mut self, now: Now) -> Result<(), WaveError> {
        while self.tick <= now.instant {
            let tick = self.tick;
            self.tick += TICK;
            let mut heard = [0i16; TICK_SAMPLES];
            self.playout.pull(tick, &mut heard);
            self.meter.take(&heard);
            if let Some(recorder) = &mut self.setup.recorder {
                recorder.write(&heard)?;
            }
            let mut spoken = [0i16; TICK_SAMPLES];
            self.setup.voice.fill(&heard, &mut spoken);
            self.pending.extend_from_slice(&spoken);
            self.speak(tick);
        }
        self.release(now.instant);
        if now.instant >= self.report_due {
            self.report_due = now.instant + report_interval(&mut self.rng, false);
            self.report(now, false);
        }
        Ok(())
    }

    /// Sends what was spoken, in packets of the length the peer wants.
    fn speak(&mut self, now: Instant) {
        let length =
            (usize::from(self.plan.ptime_ms) * SAMPLES_PER_MS).clamp(10 * SAMPLES_PER_MS, PAYLOAD_MAX);
        while self.pending.len() >= length {
            let mut packet = [0; HEADER_LEN + PAYLOAD_MAX];
            let (mut header, mut payload_len) = (self.next, length);
            header.payload_type = self.plan.payload_type_out;
            let payload = &mut packet[HEADER_LEN..];
            g711::encode(self.plan.codec, &self.pending[..length], payload);
            self.pending.drain(..length);
            self.start_keys(now, length as u32);
            let event = self.keys.as_mut().and_then(|keys| keys.poll_packet(self.next.timestamp));
            if let (Some(event), Some(payload_type)) = (event, self.plan.telephone_event_out) {
                payload_len = event.payload.len();
                payload[..payload_len].copy_from_slice(&event.payload);
                header.payload_type = payload_type;
                header.timestamp = event.timestamp;
                header.marker = event.marker;
            }
            if let Some(head) = packet.first_chunk_mut::<HEADER_LEN>() {
                write_header(&header, head);
            }
            self.next.timestamp = self.next.timestamp.wrapping_add(length as u32);
            if self.plan.send {
                self.next.sequence = self.next.sequence.wrapping_add(1);
                self.next.marker = false;
                self.sender.send(now, header.timestamp, payload_len);
                self.transmit(now, &packet[..HEADER_LEN + payload_len]);
            }
        }
    }

    /// Begins to press the keys when it is time.
    fn start_keys(&mut self, now: Instant, packet: u32) {
        if now.since(self.answered) < DTMF_AFTER {
            return;
        }
        if let Some(digits) = self.setup.dtmf.take() {
            self.keys = key_presses(&digits, packet).ok();
        }
    }

    /// Sends a packet through the network in front of us.
    fn transmit(&mut self, now: Instant, packet: &[u8]) {
        let delay = match &mut self.setup.network {
            None => Duration::ZERO,
            Some(network) => match network.pass() {
                Some(delay) => delay,
                None => return,
            },
        };
        if delay.is_zero() || self.held.len() >= HELD_MAX {
            self.send_rtp(packet);
        } else {
            self.held.push(Held { due: now + delay, bytes: packet.to_vec() });
        }
    }

    /// Sends what the network has held back long enough, in the order it comes free.
    fn release(&mut self, now: Instant) {
        self.held.sort_by_key(|held| held.due);
        let due = self.held.partition_point(|held| held.due <= now);
        let free: Vec<Held> = self.held.drain(..due).collect();
        free.iter().for_each(|held| self.send_rtp(&held.bytes));
    }

    /// Hands a packet to the system; what it does not take is lost, as any datagram may be.
    fn send_rtp(&self, packet: &[u8]) {
        if let Some(peer) = self.latch.peer() {
            let _ = self.sockets.rtp.send_to(packet, peer);
        }
    }

    /// Sends our report (RFC 3550 §6.4), with a BYE at the end.
    fn report(&mut self, now: Now, bye: bool) {
        let sender = self.sender.sender_info(now.instant, now.wall, self.plan.codec.clock_rate_hz());
        let block = self.receiver.report_block(now.instant);
        let report =
            Report { ssrc: self.next.ssrc, sender, blocks: block.as_slice(), cname: &self.cname, bye };
        let mut buffer = [0; REPORT_BYTES_MAX];
        let peer = self.latch.rtcp_peer(self.plan.remote_rtcp, self.plan.rtcp_mux);
        let (Ok(length), Some(peer)) = (report.write(&mut buffer), peer) else { return };
        let socket = if self.plan.rtcp_mux { &self.sockets.rtp } else { &self.sockets.rtcp };
        let _ = socket.send_to(&buffer[..length], peer);
    }

    /// How it sounds now; the level is that since the last look.
    pub fn quality(&mut self) -> Quality {
        let PlayoutStats { delay_ms, concealed_ms, .. } = self.playout.stats();
        let (packets, lost) = (self.receiver.packets(), self.receiver.lost());
        Quality {
            level_dbov: self.meter.read(),
            loss: lost as f64 / ((packets + lost) as f64).max(1.0),
            jitter: self.receiver.jitter(),
            delay_ms,
            round_trip: self.round_trip,
            packets,
            sent: self.sender.packets(),
            concealed_ms,
        }
    }

    /// Ends the stream, and completes the record.
    ///
    /// # Errors
    /// When the record cannot be completed.
    pub fn finish(mut self, now: Now) -> Result<(), WaveError> {
        self.report(now, true);
        self.setup.recorder.map_or(Ok(()), Recorder::finish)
    }
}

/// Presses of keys in packets of so many samples.
pub fn key_presses(digits: &str, packet: u32) -> Result<DtmfSender, DtmfError> {
    DtmfSender::new(digits, DtmfTiming { duration: DTMF_HELD, interval: DTMF_PAUSE, packet })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::AudioCodec;
    use crate::load::network::NetworkOptions;
    use crate::load::tone::{Oscillator, amplitude_at};
    use crate::time::Timestamp;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn plan(peer: &Sockets, ptime_ms: u16) -> MediaPlan {
        let port = peer.port().expect("a bound port");
        MediaPlan {
            remote_rtp: Some((LOCAL, port).into()),
            remote_rtcp: Some((LOCAL, port).into()),
            rtcp_mux: true,
            codec: AudioCodec::Pcma,
            payload_type_in: 8,
            payload_type_out: 8,
            telephone_event: Some(101),
            telephone_event_out: Some(101),
            ptime_ms,
            send: true,
            receive: true,
            on_hold: false,
        }
    }

    fn at(ms: u64) -> Now {
        Now {
            instant: Instant::from_millis(1000 + ms),
            wall: Timestamp::from_micros(1_700_000_000_000_000 + ms as i64 * 1000),
        }
    }

    fn pair(ptime_ms: u16, one: Setup, two: Setup) -> (Media, Media) {
        let (a, b) = (Sockets::open(LOCAL).expect("ports"), Sockets::open(LOCAL).expect("ports"));
        let (to_a, to_b) = (plan(&a, ptime_ms), plan(&b, ptime_ms));
        let media = |sockets, plan, setup, seed| {
            Media::new(at(0).instant, sockets, plan, setup, Rng::from_number(seed))
        };
        (media(a, to_b, one, 1), media(b, to_a, two, 2))
    }

    fn setup(voice: Voice) -> Setup {
        Setup { voice, dtmf: None, network: None, recorder: None }
    }

    /// Both phones through `ms` of time that nobody waits for; loopback delivers at once.
    fn run(one: &mut Media, two: &mut Media, ms: u64) {
        for now in (0..ms).step_by(5).map(at) {
            for media in [&mut *one, &mut *two] {
                media.receive(now);
                media.handle_timeout(now).expect("nothing is recorded");
            }
        }
    }

    #[test]
    fn two_phones_hear_each_other_and_measure_the_round_trip() {
        let tone = Voice::Tone(Oscillator::new(500.0));
        let (mut one, mut two) = pair(30, setup(tone), setup(Voice::Echo));
        run(&mut one, &mut two, 9000);
        for media in [&mut one, &mut two] {
            let quality = media.quality();
            assert!(quality.level_dbov > -20.0 && quality.loss == 0.0, "{quality:?}");
            assert!(quality.packets > 280 && quality.sent >= 299, "{quality:?}");
            assert!(quality.round_trip.is_some_and(|rtt| rtt < Duration::from_millis(20)), "{quality:?}");
        }
    }

    #[test]
    fn what_is_heard_is_recorded_and_keys_are_not_sound() {
        let path = std::env::temp_dir().join(format!("confab-heard-{}.wav", std::process::id()));
        let speaking = Setup { dtmf: Some("12".into()), ..setup(Voice::Tone(Oscillator::new(700.0))) };
        let recorder = Some(Recorder::create(&path).expect("a temporary file"));
        let (mut one, mut two) = pair(20, speaking, Setup { recorder, ..setup(Voice::Silence) });
        run(&mut one, &mut two, 3000);
        assert!(one.keys.as_ref().is_some_and(DtmfSender::is_done));
        two.finish(at(3000)).expect("recorded");
        let heard = crate::load::wave::read(&path).expect("the record");
        std::fs::remove_file(&path).expect("our own file");
        assert_eq!(heard.len(), 24_000);
        assert!(amplitude_at(&heard[2400..7200], 700) > 7000.0);
        assert!(amplitude_at(&heard[2400..7200], 800) < 200.0);
    }

    #[test]
    fn a_bad_network_loses_and_reorders_what_is_sent() {
        let network: NetworkOptions = "loss=20,jitter=0-60,seed=5".parse().expect("a model");
        let bad =
            Setup { network: Some(Network::new(network)), ..setup(Voice::Tone(Oscillator::new(700.0))) };
        let (mut one, mut two) = pair(20, bad, setup(Voice::Silence));
        run(&mut one, &mut two, 6000);
        let quality = two.quality();
        assert!((0.1..0.3).contains(&quality.loss), "{quality:?}");
        assert!(quality.jitter > Duration::from_millis(5) && quality.concealed_ms > 0, "{quality:?}");
    }

    #[test]
    fn hold_stops_our_packets() {
        let (mut one, mut two) = pair(20, setup(Voice::Silence), setup(Voice::Silence));
        let held = MediaPlan { send: false, ..one.plan.clone() };
        one.change(at(0).instant, held);
        run(&mut one, &mut two, 500);
        assert_eq!((one.quality().sent, two.quality().packets), (0, 0));
    }
}
