//! What a leg is sent: RTP of its own SSRC, sequence and timestamp, and RTCP (RFC 3550).

use std::net::SocketAddr;

use crate::media::packetizer::Packetizer;
use crate::media::room::RATE_HZ;
use crate::media::shard::{Channel, LegKey, Outbound, TICK_MS};
use crate::plane::{LegMedia, LegStats, RtpIdentity};
use crate::rng::Rng;
use crate::rtp::dtmf::EventPacket;
use crate::rtp::packet::{HEADER_LEN, RtpHeader, write_header};
use crate::rtp::rtcp::{NtpTime, REPORT_BYTES_MAX, Report, ReportBlock, round_trip};
use crate::rtp::stats::{SenderStats, report_interval};
use crate::time::{Duration, Instant, Timestamp};

/// The largest RTP packet sent: 60 ms of G.711 behind a fixed header.
const PACKET_MAX: usize = HEADER_LEN + 480;
/// Bytes of one telephone event (RFC 4733 §2.3).
const EVENT_BYTES: usize = 4;
/// Bytes of encoded audio per millisecond: one a sample, for G.711.
const BYTES_PER_MS: usize = (RATE_HZ / 1000) as usize;

/// One leg's sending half.
#[derive(Debug)]
pub struct Outgoing {
    ssrc: u32,
    sequence: u16,
    /// Of the first sample not sent yet.
    timestamp: u32,
    /// The next packet is the first after silence (RFC 3551 §4.1).
    marker: bool,
    packetizer: Packetizer,
    sender: SenderStats,
    cname: Box<str>,
    rtcp_due: Instant,
    /// Loss of our stream since the peer's last report, as it says, 0 to 1.
    loss_out: Option<f32>,
    round_trip: Option<Duration>,
}

impl Outgoing {
    /// A stream that begins with `identity`.
    pub fn new(now: Instant, media: &LegMedia, identity: RtpIdentity, cname: &str, rng: &mut Rng) -> Self {
        Self {
            ssrc: identity.ssrc,
            sequence: identity.sequence,
            timestamp: identity.timestamp,
            marker: true,
            packetizer: packetizer(media),
            sender: SenderStats::default(),
            cname: format!("{}@{cname}", rng.hex(16)).into(),
            rtcp_due: now + report_interval(rng, true),
            loss_out: None,
            round_trip: None,
        }
    }

    /// Takes the media that a re-INVITE settled.
    pub fn update(&mut self, old: &LegMedia, new: &LegMedia) {
        if old.ptime_ms != new.ptime_ms || old.codec != new.codec {
            self.packetizer = packetizer(new);
        }
    }

    /// Takes what the peer reports of our stream.
    pub fn handle_report_block(&mut self, wall: Timestamp, block: &ReportBlock) {
        if block.ssrc == self.ssrc {
            self.loss_out = Some(f32::from(block.fraction_lost) / 256.0);
            self.round_trip = round_trip(NtpTime::from(wall), block).or(self.round_trip);
        }
    }

    /// Sends a tick's encoded audio, in as many packets as are full.
    pub fn send(
        &mut self,
        now: Instant,
        key: LegKey,
        peer: SocketAddr,
        payload_type: u8,
        encoded: &[u8],
        out: &mut impl Outbound,
    ) {
        let Self { ssrc, sequence, timestamp, marker, packetizer, sender, .. } = self;
        packetizer.push(encoded, |payload| {
            let header = RtpHeader {
                payload_type,
                marker: *marker,
                sequence: *sequence,
                timestamp: *timestamp,
                ssrc: *ssrc,
            };
            let mut packet = [0; PACKET_MAX];
            let (head, body) = packet.split_first_chunk_mut::<HEADER_LEN>().expect("longer than a header");
            write_header(&header, head);
            body[..payload.len()].copy_from_slice(payload);
            out.send(key, Channel::Rtp, peer, &packet[..HEADER_LEN + payload.len()]);
            *marker = false;
            *sequence = sequence.wrapping_add(1);
            sender.send(now, *timestamp, payload.len());
            *timestamp = timestamp.wrapping_add(payload.len() as u32);
        });
    }

    /// Of the first sample not sent yet.
    pub fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// Sends a telephone event (RFC 4733) in place of a tick's audio of so many samples.
    #[expect(clippy::too_many_arguments, reason = "as `send`, and the event")]
    pub fn send_event(
        &mut self,
        now: Instant,
        key: LegKey,
        peer: SocketAddr,
        payload_type: u8,
        event: &EventPacket,
        samples: usize,
        out: &mut impl Outbound,
    ) {
        let header = RtpHeader {
            payload_type,
            marker: event.marker,
            sequence: self.sequence,
            timestamp: event.timestamp,
            ssrc: self.ssrc,
        };
        let mut packet = [0; HEADER_LEN + EVENT_BYTES];
        let (head, body) = packet.split_first_chunk_mut::<HEADER_LEN>().expect("longer than a header");
        write_header(&header, head);
        body.copy_from_slice(&event.payload);
        out.send(key, Channel::Rtp, peer, &packet);
        self.sequence = self.sequence.wrapping_add(1);
        self.sender.send(now, self.timestamp, event.payload.len());
        self.skip(samples);
    }

    /// Time passes without sending: the timestamp goes on, the sequence does not (RFC 3550 §5.1).
    pub fn skip(&mut self, samples: usize) {
        self.timestamp = self.timestamp.wrapping_add((samples + self.packetizer.held()) as u32);
        self.packetizer.clear();
        self.marker = true;
    }

    /// When the next report is due.
    pub fn rtcp_due(&self) -> Instant {
        self.rtcp_due
    }

    /// Sends a report; with `bye` the last one (RFC 3550 §6.6).
    pub fn send_rtcp(
        &mut self,
        (now, wall): (Instant, Timestamp),
        key: LegKey,
        peer: SocketAddr,
        block: Option<ReportBlock>,
        bye: bool,
        out: &mut impl Outbound,
    ) {
        let report = Report {
            ssrc: self.ssrc,
            sender: self.sender.sender_info(now, wall, RATE_HZ),
            blocks: block.as_slice(),
            cname: &self.cname,
            bye,
        };
        let mut datagram = [0; REPORT_BYTES_MAX];
        let length = report.write(&mut datagram).expect("the buffer is as long as the longest report");
        out.send(key, Channel::Rtcp, peer, &datagram[..length]);
    }

    /// Sets when the next report is due.
    pub fn schedule_rtcp(&mut self, now: Instant, rng: &mut Rng) {
        self.rtcp_due = now + report_interval(rng, false);
    }

    /// Fills in what is known of the stream we send.
    pub fn add_stats(&self, stats: &mut LegStats) {
        stats.packets_out = self.sender.packets();
        stats.loss_out = self.loss_out;
        stats.round_trip = self.round_trip;
    }
}

fn packetizer(media: &LegMedia) -> Packetizer {
    Packetizer::new(media.ptime_ms, TICK_MS as u16, BYTES_PER_MS)
}
