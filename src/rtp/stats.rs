//! The quality of a stream: loss and jitter of what we receive (RFC 3550 A.3, A.8), the counts of
//! what we send, when to report them, and what a listener makes of it (ITU-T G.107).

use super::packet::RtpHeader;
use super::rtcp::{NtpTime, ReportBlock, SenderInfo, short_delay};
use super::seq::{Arrival, SequenceTracker};
use crate::rng::Rng;
use crate::time::{Duration, Instant, Timestamp};

/// The least and the spread of the time to the first report: 1 to 2.5 s (RFC 3550 §6.2 halves the
/// minimum for it).
const FIRST_INTERVAL_MS: (u64, u64) = (1000, 1500);
/// The least and the spread of the time between reports: 5 s, give or take half (RFC 3550 §6.3.1).
const INTERVAL_MS: (u64, u64) = (2500, 5000);

/// How long to wait with the next report. A call has two members, so the minimum of RFC 3550 §6.2
/// holds and its bandwidth share never matters; the spread keeps calls from reporting in step.
pub fn report_interval(rng: &mut Rng, first: bool) -> Duration {
    let (least_ms, spread_ms) = if first { FIRST_INTERVAL_MS } else { INTERVAL_MS };
    Duration::from_millis(least_ms) + Duration::from_micros(rng.below(spread_ms * 1000))
}

/// A moment in units of a stream's clock, wrapping as its timestamps do.
fn in_units(now: Instant, clock_rate_hz: u32) -> u32 {
    (u128::from(now.as_nanos()) * u128::from(clock_rate_hz) / 1_000_000_000) as u32
}

/// A sender report that came, for the next report block.
#[derive(Clone, Copy, Debug)]
struct HeardReport {
    middle: u32,
    at: Instant,
}

/// The stream's last packet, for the jitter of the next.
#[derive(Clone, Copy, Debug)]
struct Transit {
    units: u32,
    timestamp: u32,
}

/// Loss and jitter of a received stream. A new SSRC starts the stream's numbers over; the totals
/// go on.
#[derive(Clone, Debug)]
pub struct ReceiverStats {
    clock_rate_hz: u32,
    ssrc: Option<u32>,
    tracker: SequenceTracker,
    transit: Option<Transit>,
    /// Sixteen times the jitter, as RFC 3550 A.8's integer form keeps it.
    jitter_x16: u32,
    heard_report: Option<HeardReport>,
    expected_before: u64,
    received_before: u64,
    packets: u64,
    duplicates: u64,
    strays: u64,
    lost_in_former_streams: u64,
}

impl ReceiverStats {
    /// Nothing received, of a stream with this clock.
    pub fn new(clock_rate_hz: u32) -> ReceiverStats {
        ReceiverStats {
            clock_rate_hz,
            ssrc: None,
            tracker: SequenceTracker::default(),
            transit: None,
            jitter_x16: 0,
            heard_report: None,
            expected_before: 0,
            received_before: 0,
            packets: 0,
            duplicates: 0,
            strays: 0,
            lost_in_former_streams: 0,
        }
    }

    /// Takes a packet of the peer's. A stray or duplicate is counted and should go no further.
    pub fn receive(&mut self, now: Instant, header: &RtpHeader) -> Arrival {
        if self.ssrc != Some(header.ssrc) {
            self.begin_stream(self.lost_in_stream());
            self.tracker = SequenceTracker::default();
            self.ssrc = Some(header.ssrc);
            self.heard_report = None;
        }
        let lost_so_far = self.lost_in_stream();
        let arrival = self.tracker.receive(header.sequence);
        match arrival {
            Arrival::Stray => self.strays += 1,
            Arrival::Duplicate => self.duplicates += 1,
            Arrival::Restarted => self.begin_stream(lost_so_far),
            Arrival::First | Arrival::InOrder { .. } | Arrival::Reordered => {}
        }
        if arrival.is_new() {
            self.packets += 1;
            self.update_jitter(now, header.timestamp);
        }
        arrival
    }

    fn begin_stream(&mut self, lost_before: u64) {
        self.lost_in_former_streams += lost_before;
        self.transit = None;
        self.jitter_x16 = 0;
        self.expected_before = 0;
        self.received_before = 0;
    }

    /// RFC 3550 A.8. Packets of one timestamp (the repeated reports of a held key) tell nothing of
    /// the network's timing: only the first of them counts.
    fn update_jitter(&mut self, now: Instant, timestamp: u32) {
        let units = in_units(now, self.clock_rate_hz).wrapping_sub(timestamp);
        match self.transit {
            Some(last) if last.timestamp == timestamp => return,
            Some(last) => {
                let deviation = (units.wrapping_sub(last.units) as i32).unsigned_abs();
                let decay = self.jitter_x16.saturating_add(8) >> 4;
                self.jitter_x16 = self.jitter_x16.saturating_sub(decay).saturating_add(deviation);
            }
            None => {}
        }
        self.transit = Some(Transit { units, timestamp });
    }

    /// Takes note of a sender report of the peer's, for [`ReceiverStats::report_block`].
    pub fn handle_sender_report(&mut self, now: Instant, ntp: NtpTime) {
        self.heard_report = Some(HeardReport { middle: ntp.middle(), at: now });
    }

    /// The block about this stream for the report we send now (RFC 3550 A.3); it begins the next
    /// interval of the loss fraction. `None` before the first packet.
    pub fn report_block(&mut self, now: Instant) -> Option<ReportBlock> {
        let ssrc = self.ssrc?;
        let (expected, received) = (self.tracker.expected(), self.tracker.received());
        let expected_since = expected.saturating_sub(self.expected_before);
        let received_since = received.saturating_sub(self.received_before);
        (self.expected_before, self.received_before) = (expected, received);
        let lost_since = expected_since.saturating_sub(received_since);
        let fraction = (lost_since << 8).checked_div(expected_since).unwrap_or(0);
        let lost = expected as i64 - received as i64;
        let heard = self.heard_report;
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: self.tracker.extended_highest(),
            jitter: self.jitter_units(),
            last_sender_report: heard.map_or(0, |heard| heard.middle),
            delay_since_last: heard.map_or(0, |heard| short_delay(now.since(heard.at))),
        })
    }

    fn lost_in_stream(&self) -> u64 {
        self.tracker.expected().saturating_sub(self.tracker.received())
    }

    /// The peer's source, once heard.
    pub fn ssrc(&self) -> Option<u32> {
        self.ssrc
    }

    /// Packets with media not had before, over all streams.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets that have not come, over all streams.
    pub fn lost(&self) -> u64 {
        self.lost_in_former_streams.saturating_add(self.lost_in_stream())
    }

    /// Packets that came more than once, over all streams.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets whose numbers fit no stream.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Interarrival jitter in timestamp units (RFC 3550 A.8).
    pub fn jitter_units(&self) -> u32 {
        self.jitter_x16 >> 4
    }

    /// Interarrival jitter.
    pub fn jitter(&self) -> Duration {
        let nanos = u64::from(self.jitter_x16) * 1_000_000_000 / 16;
        Duration::from_nanos(nanos / u64::from(self.clock_rate_hz.max(1)))
    }
}

/// The counts of a stream we send.
#[derive(Clone, Debug, Default)]
pub struct SenderStats {
    packets: u64,
    octets: u64,
    last: Option<(Instant, u32)>,
    packets_before: [u64; 2],
}

impl SenderStats {
    /// Counts a packet sent with this timestamp and so many bytes of payload.
    pub fn send(&mut self, now: Instant, timestamp: u32, payload_bytes: usize) {
        self.packets += 1;
        self.octets += payload_bytes as u64;
        self.last = Some((now, timestamp));
    }

    /// RTP packets sent.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// The sender's part of the report we send now, whose wall-clock time is `wall`; `None` when
    /// nothing was sent since the report before the last (RFC 3550 §6.4 makes it a receiver report).
    pub fn sender_info(&mut self, now: Instant, wall: Timestamp, clock_rate_hz: u32) -> Option<SenderInfo> {
        let [last_but_one, last] = self.packets_before;
        self.packets_before = [last, self.packets];
        let (sent_at, timestamp) = self.last.filter(|_| self.packets > last_but_one)?;
        let since = in_units(now, clock_rate_hz).wrapping_sub(in_units(sent_at, clock_rate_hz));
        Some(SenderInfo {
            ntp: NtpTime::from(wall),
            rtp_timestamp: timestamp.wrapping_add(since),
            packets: self.packets as u32,
            octets: self.octets as u32,
        })
    }
}

/// The rating of a clean G.711 call without delay (ITU-T G.107 with its default values).
const R_BEST: f32 = 93.2;
/// How well loss is hidden: G.711 with concealment (ITU-T G.113 appendix I).
const LOSS_ROBUSTNESS: f32 = 25.1;
/// The one-way delay, in milliseconds, from which talk becomes a burden.
const DELAY_KNEE_MS: f32 = 177.3;

/// The E-model's transmission rating R, 0 to 93.2, of G.711 with concealment under random loss
/// (0 to 1) and one-way delay from mouth to ear: ITU-T G.107 in the short form of Cole and
/// Rosenbluth.
pub fn transmission_rating(loss: f32, delay: Duration) -> f32 {
    let loss_percent = loss.clamp(0.0, 1.0) * 100.0;
    let delay_ms = delay.as_secs_f32() * 1000.0;
    let delay_impairment = 0.024 * delay_ms + 0.11 * (delay_ms - DELAY_KNEE_MS).max(0.0);
    let loss_impairment = 95.0 * loss_percent / (loss_percent + LOSS_ROBUSTNESS);
    (R_BEST - delay_impairment - loss_impairment).clamp(0.0, 100.0)
}

/// The mean opinion score that follows from it, 1 to 4.5 (ITU-T G.107 annex B).
pub fn mos(loss: f32, delay: Duration) -> f32 {
    let r = transmission_rating(loss, delay);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5)
}

#[cfg(test)]
mod tests;
