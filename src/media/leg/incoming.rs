//! What a leg sends us: whose packets count, which are audio and which are digits, and the way into
//! its jitter buffer.

use std::net::SocketAddr;

use super::outgoing::Outgoing;
use crate::media::playout::{Playout, PlayoutSettings, Pulled};
use crate::media::room::RATE_HZ;
use crate::plane::{LegMedia, LegStats};
use crate::rtp::dtmf::DtmfReceiver;
use crate::rtp::latch::{Admission, Latch};
use crate::rtp::packet::RtpPacket;
use crate::rtp::rtcp::{self, NtpTime, ReportBlock, RtcpPacket};
use crate::rtp::stats::{ReceiverStats, mos};
use crate::time::{Duration, Instant, Timestamp};

/// A new SSRC takes over when two of its packets came in a row, or at once after this silence.
const SOURCE_SILENCE: Duration = Duration::from_millis(100);
/// How often the socket's filter is looked at.
const FILTER_EVERY: Duration = Duration::from_millis(100);

/// One leg's receiving half.
#[derive(Debug)]
pub struct Incoming {
    latch: Latch,
    receiver: ReceiverStats,
    playout: Playout,
    dtmf: DtmfReceiver,
    /// The SSRC that may take over with its next packet.
    contender: Option<u32>,
    /// Last RTP or RTCP of the peer.
    heard: Instant,
    /// Last RTP of the peer.
    heard_rtp: Instant,
    filter: Option<SocketAddr>,
    filter_due: Instant,
    /// Packets that are no RTP, or of a payload type that was not negotiated.
    unusable: u64,
}

impl Incoming {
    /// Nothing has come yet.
    pub fn new(now: Instant, media: &LegMedia, playout: PlayoutSettings) -> Self {
        Self {
            latch: Latch::new(media.remote_rtp, now),
            receiver: ReceiverStats::new(media.codec.clock_rate_hz()),
            playout: Playout::new(media.codec, playout),
            dtmf: DtmfReceiver::new(),
            contender: None,
            heard: now,
            heard_rtp: now,
            filter: None,
            filter_due: now,
            unusable: 0,
        }
    }

    /// Takes the media that a re-INVITE settled.
    pub fn update(&mut self, now: Instant, old: &LegMedia, new: &LegMedia) {
        if old.remote_rtp != new.remote_rtp {
            self.latch.reset(new.remote_rtp, now);
            self.filter_due = now;
        }
        self.playout.set_codec(new.codec);
        self.heard = now;
    }

    /// Where the leg is to be sent to.
    pub fn latch(&self) -> &Latch {
        &self.latch
    }

    /// Takes a datagram from the RTP socket that is not RTCP.
    pub fn receive_rtp(&mut self, now: Instant, from: Option<SocketAddr>, datagram: &[u8], media: &LegMedia) {
        let Ok(RtpPacket { header, payload }) = RtpPacket::parse(datagram) else {
            self.unusable += 1;
            return;
        };
        let is_event = media.telephone_event == Some(header.payload_type);
        if header.payload_type != media.payload_type_in && !is_event {
            self.unusable += 1;
            return;
        }
        // A connected socket only delivers what its peer sent.
        let Some(source) = from.or(self.latch.peer()) else { return };
        match self.latch.admit(now, source, header.ssrc, header.sequence) {
            Admission::Accept => {}
            Admission::AcceptAndMove => self.filter_due = now,
            Admission::Refuse(_) => return,
        }
        if !self.is_current(now, header.ssrc) {
            return;
        }
        self.heard = now;
        self.heard_rtp = now;
        if !self.receiver.receive(now, &header).is_new() {
            return;
        }
        if is_event {
            self.playout.receive_other(header.sequence);
            self.dtmf.receive(now, payload, header.timestamp, header.marker);
        } else {
            self.playout.receive(now, header.sequence, header.timestamp, payload);
        }
    }

    /// Whether a packet of this SSRC is to be used; a new one starts the stream over.
    fn is_current(&mut self, now: Instant, ssrc: u32) -> bool {
        match self.receiver.ssrc() {
            None => true,
            Some(current) if current == ssrc => {
                self.contender = None;
                true
            }
            Some(_) if self.contender == Some(ssrc) || now.since(self.heard_rtp) >= SOURCE_SILENCE => {
                self.contender = None;
                self.playout.reset();
                self.dtmf = DtmfReceiver::new();
                true
            }
            Some(_) => {
                self.contender = Some(ssrc);
                false
            }
        }
    }

    /// Takes an RTCP datagram, from its own socket or from RTP's.
    pub fn receive_rtcp(
        &mut self,
        now: Instant,
        wall: Timestamp,
        from: Option<SocketAddr>,
        datagram: &[u8],
        outgoing: &mut Outgoing,
    ) {
        let Ok(compound) = rtcp::parse(datagram) else {
            self.unusable += 1;
            return;
        };
        if from.is_some_and(|source| !self.latch.admits_rtcp(source)) {
            return;
        }
        self.heard = now;
        for packet in compound {
            match packet {
                RtcpPacket::SenderReport { ssrc, info, blocks } => {
                    if self.receiver.ssrc() == Some(ssrc) {
                        self.receiver.handle_sender_report(now, NtpTime(info.ntp.0));
                    }
                    blocks.for_each(|block| outgoing.handle_report_block(wall, &block));
                }
                RtcpPacket::ReceiverReport { blocks, .. } => {
                    blocks.for_each(|block| outgoing.handle_report_block(wall, &block));
                }
                RtcpPacket::SourceDescription { .. } | RtcpPacket::Bye { .. } | RtcpPacket::Other { .. } => {}
            }
        }
    }

    /// Asks for the memory that the next tick needs, beyond this value's own.
    pub fn prefetch(&self) {
        self.playout.prefetch();
    }

    /// Writes the next frame; false when it is known to be silence.
    pub fn pull(&mut self, now: Instant, frame: &mut [i16]) -> bool {
        self.playout.pull(now, frame) != Pulled::Silence
    }

    /// Takes the next frame and drops it.
    pub fn discard(&mut self, now: Instant) {
        let mut unheard = [0; crate::media::room::FRAME];
        self.playout.pull(now, &mut unheard);
    }

    /// The block about this stream for a report sent now.
    pub fn report_block(&mut self, now: Instant) -> Option<ReportBlock> {
        self.receiver.report_block(now)
    }

    /// What the RTP socket's filter must become, when it must change.
    pub fn poll_filter(&mut self, now: Instant) -> Option<Option<SocketAddr>> {
        if now < self.filter_due {
            return None;
        }
        self.filter_due = now + FILTER_EVERY;
        let filter = if self.latch.wants_any_source(now) { None } else { self.latch.peer() };
        if filter == self.filter {
            return None;
        }
        self.filter = filter;
        Some(filter)
    }

    /// How long nothing has come.
    pub fn silent_for(&self, now: Instant) -> Duration {
        now.since(self.heard)
    }

    /// The silence so far is no fault.
    pub fn forgive_silence(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Ends a key press whose end packets were lost.
    pub fn expire_digit(&mut self, now: Instant) {
        if self.dtmf.next_timeout().is_some_and(|timeout| timeout <= now) {
            self.dtmf.handle_timeout(now);
        }
    }

    /// A key press that has ended, with its duration in milliseconds.
    pub fn poll_digit(&mut self) -> Option<(char, u32)> {
        let digit = self.dtmf.poll_digit()?;
        Some((digit.key, digit.duration / (RATE_HZ / 1000)))
    }

    /// What is known of the stream we receive.
    pub fn stats(&self) -> LegStats {
        let playout = self.playout.stats();
        let buffer_delay = Duration::from_millis(u64::from(playout.delay_ms));
        let expected = (self.receiver.packets() + self.receiver.lost()).max(1) as f32;
        // What came too late is lost to the ear as well.
        let loss = (self.receiver.lost() + playout.late) as f32 / expected;
        LegStats {
            packets_in: self.receiver.packets(),
            lost_in: self.receiver.lost(),
            late_in: playout.late,
            refused_in: self.latch.refused() + self.unusable,
            jitter: self.receiver.jitter(),
            buffer_delay,
            concealed_ms: playout.concealed_ms,
            stretched_ms: playout.accelerated_ms + playout.expanded_ms,
            mos_in: mos(loss, buffer_delay),
            ..LegStats::default()
        }
    }
}
