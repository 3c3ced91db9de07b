//! A leg's sound, from packets that come when they come to a frame every tick.
//!
//! Packets are put in order, held as long as the network's unrest asks and no longer, decoded,
//! and joined: what is lost is concealed, and the delay is changed by stretching time, in pauses
//! at once and in speech a pitch period at a time. On a quiet network every sample passes
//! untouched and waits for nothing but the tick.
//!
//! All positions are counted in samples on two clocks: what was pulled (`clock`) and the sender's
//! timestamps. Their difference for the next sample to play is the offset; a packet's transit is
//! the least offset at which it would have been in time. Time of day is asked for one thing only:
//! to tell the packets that came so shortly before a tick that the next like them may miss it.

mod flow;
mod line;
mod pace;
#[cfg(test)]
mod tests;

use crate::audio::AudioCodec;
use crate::codec::conceal::Concealer;
use crate::codec::stretch::Stretch;
use crate::rtp::jitter::delay::DelayEstimator;
use crate::rtp::jitter::loss::LossWatch;
use crate::rtp::jitter::store::{Inserted, Store};
use crate::time::{Duration, Instant};
use line::Line;

/// A packet is stored in pieces this long.
const PIECE_MS: u32 = 10;
/// Pieces stored beyond the longest delay: what one tick plays and one packet brings.
const SPARE_PIECES: u32 = 8;
/// The most audio in a packet, in milliseconds; the rest of a longer one is dropped.
const PACKET_MAX_MS: u32 = 120;
/// A packet that comes this shortly before a tick counts as the next tick's: the next like it may
/// be that much later.
const GUARD: Duration = Duration::from_micros(750);
/// The longest frame that can be pulled, in milliseconds.
const FRAME_MAX_MS: usize = 20;
/// How far back in sequence a packet may be to count as late.
const LATE_PACKETS_MAX: u16 = 200;
/// How far back in time a packet may be to count as late, in milliseconds.
const LATE_MAX_MS: u32 = 2_000;

/// How a leg's jitter buffer is sized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayoutSettings {
    /// The most delay it may add, in milliseconds: 20 to 500.
    pub delay_max_ms: u32,
}

impl Default for PlayoutSettings {
    fn default() -> Self {
        Self { delay_max_ms: 500 }
    }
}

/// What a frame is made of; of several, the last in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pulled {
    /// Nothing came, or not for long, or only silence for long: the frame is zero.
    Silence,
    /// What was sent.
    Normal,
    /// What was sent, with time stretched or compressed.
    Stretched,
    /// Made up, at least in part.
    Concealed,
}

/// Counts since the leg began, and the delay now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayoutStats {
    /// Packets taken.
    pub received: u64,
    /// Packets that did not come in time, the late ones not counted.
    pub lost: u64,
    /// Packets that came after their time.
    pub late: u64,
    /// Packets that came more than once.
    pub duplicate: u64,
    /// Packets, or pieces of 10 ms of them, dropped to shrink the delay or for want of room.
    pub discarded: u64,
    /// Milliseconds made up.
    pub concealed_ms: u64,
    /// Milliseconds taken out to shrink the delay.
    pub accelerated_ms: u64,
    /// Milliseconds put in to grow the delay.
    pub expanded_ms: u64,
    /// Milliseconds from a packet's being ready for a tick to its being played, for the quickest
    /// packets of late.
    pub delay_ms: u32,
    /// What `delay_ms` should be.
    pub target_ms: u32,
}

/// The jitter buffer, decoder and concealment of one leg.
#[derive(Debug)]
pub struct Playout {
    codec: AudioCodec,
    units_per_ms: u32,
    store: Store,
    delay: DelayEstimator,
    loss: LossWatch,
    concealer: Concealer,
    stretch: Stretch,
    line: Line,
    /// Samples pulled so far; wraps like a timestamp.
    clock: u32,
    /// When the last frame was pulled, and how long it was.
    last_pull: Option<(Instant, u32)>,
    /// The least and the most transit that came since.
    transits: Option<(i32, i32)>,
    /// Whether frames flow.
    is_playing: bool,
    /// Timestamp of the sample after the last in the line; meaningless before the first packet.
    next: u32,
    /// Sequence number of the last packet in the line.
    last_sequence: Option<u16>,
    /// Packets without sound that came after `last_sequence`.
    other_packets: u16,
    /// Samples made up after `next`.
    made_up: u32,
    /// Duration of the packets, in timestamp units.
    packet: u32,
    since_stretch: u32,
    /// Zero samples in a row at the end of what was heard, counted no further than the line's past.
    zeros: usize,
    frame_level: u32,
    speech_level: u32,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    received: u64,
    lost: u64,
    late: u64,
    duplicate: u64,
    discarded: u64,
    concealed: u64,
    accelerated: u64,
    expanded: u64,
}

impl Playout {
    /// A buffer for a stream of `codec`. All its memory is taken here.
    pub fn new(codec: AudioCodec, settings: PlayoutSettings) -> Self {
        let rate_hz = codec.clock_rate_hz();
        let units_per_ms = rate_hz / 1000;
        let delay_max_ms = settings.delay_max_ms.clamp(20, 500);
        let pieces = delay_max_ms / PIECE_MS + SPARE_PIECES;
        let concealer = Concealer::new(rate_hz);
        let stretch = Stretch::new(rate_hz);
        let frame = FRAME_MAX_MS * units_per_ms as usize;
        let ahead = 2 * frame + stretch.look_ahead() + stretch.longest();
        Self {
            codec,
            units_per_ms,
            store: Store::new(pieces as usize, (PIECE_MS * units_per_ms) as usize),
            delay: DelayEstimator::new(rate_hz, delay_max_ms),
            loss: LossWatch::default(),
            line: Line::new(concealer.past_len(), ahead),
            concealer,
            stretch,
            clock: 0,
            last_pull: None,
            transits: None,
            is_playing: false,
            next: 0,
            last_sequence: None,
            other_packets: 0,
            made_up: 0,
            packet: frame as u32,
            since_stretch: 0,
            zeros: 0,
            frame_level: 0,
            speech_level: 0,
            counts: Counts::default(),
        }
    }

    /// Forgets the stream but not the counts: another synchronisation source begins (RFC 3550 §8.2).
    pub fn reset(&mut self) {
        self.store.clear();
        self.delay.reset();
        self.stop();
        self.transits = None;
        self.last_sequence = None;
        self.other_packets = 0;
    }

    /// Changes to another codec, of the same clock rate, at once.
    pub fn set_codec(&mut self, codec: AudioCodec) {
        if codec != self.codec {
            self.codec = codec;
            self.reset();
        }
    }

    /// Takes an RTP packet's payload, of the codec's own payload type, at its time of arrival.
    pub fn receive(&mut self, now: Instant, sequence: u16, timestamp: u32, payload: &[u8]) {
        self.counts.received += 1;
        let piece = (PIECE_MS * self.units_per_ms) as usize;
        let payload = payload.get(..(PACKET_MAX_MS * self.units_per_ms) as usize).unwrap_or(payload);
        let duration = payload.len() as u32;
        if duration == 0 {
            return;
        }
        let transit = self.transit(now, timestamp, duration);
        self.transits = match self.transits {
            Some((least, most)) => Some((least.min(transit), most.max(transit))),
            None => Some((transit, transit)),
        };
        if self.is_passed(sequence, timestamp.wrapping_add(duration)) {
            self.counts.late += 1;
            self.counts.lost = self.counts.lost.saturating_sub(1);
            self.loss.take_back();
            return;
        }
        self.packet = duration;
        let mut outcome = Inserted::Stored;
        for (index, part) in payload.chunks(piece).enumerate() {
            let at = timestamp.wrapping_add((index * piece) as u32);
            match self.store.insert(sequence, at, part.len() as u16, part) {
                Inserted::Stored => {}
                other => outcome = other,
            }
        }
        match outcome {
            Inserted::Stored => {}
            Inserted::Duplicate => self.counts.duplicate += 1,
            Inserted::StoredForOldest | Inserted::Refused => self.counts.discarded += 1,
        }
    }

    /// Tells that the packet `sequence` came and has no sound (a telephone event, comfort noise):
    /// its number is not missing.
    pub fn receive_other(&mut self, sequence: u16) {
        let is_next = self.last_sequence.is_some_and(|last| sequence.wrapping_sub(last) < u16::MAX / 2);
        if is_next {
            self.other_packets = self.other_packets.saturating_add(1);
        }
    }

    /// Writes the next frame, of at most 20 ms. A frame of [`Pulled::Silence`] may be left as it is
    /// instead of zeroed.
    pub fn pull(&mut self, now: Instant, out: &mut [i16]) -> Pulled {
        let frame = out.len() as u32;
        if let Some((least, most)) = self.transits.take() {
            if !self.is_playing && self.delay.is_stray(least) {
                // The sender paused and its timestamps with it, or they jumped. After an outage
                // the last of what was held up would have an ordinary transit.
                self.delay.reset();
            }
            self.delay.record(most);
        }
        self.last_pull = Some((now, frame));
        let is_silent = if self.is_playing { self.pass_silence(frame) } else { !self.start(frame) };
        if is_silent {
            self.clock = self.clock.wrapping_add(frame);
            return Pulled::Silence;
        }
        let mut pulled = Pulled::Normal;
        let wanted = out.len().min(FRAME_MAX_MS * self.units_per_ms as usize);
        while self.line.ahead() < wanted {
            pulled = pulled.max(self.go_on(wanted - self.line.ahead()));
        }
        if pulled == Pulled::Normal && self.keep_delay(wanted) {
            pulled = Pulled::Stretched;
        }
        self.line.take(out);
        self.clock = self.clock.wrapping_add(frame);
        self.measure(out);
        if self.concealer.is_faded() {
            self.stop();
        }
        pulled
    }

    /// Asks for the memory that the next packet and the next frame need.
    pub fn prefetch(&self) {
        self.store.prefetch();
        if self.zeros < self.concealer.past_len() {
            self.line.prefetch(FRAME_MAX_MS * self.units_per_ms as usize);
        }
    }

    /// The counts so far and the delay now.
    pub fn stats(&self) -> PlayoutStats {
        let ms = |samples: u64| samples / u64::from(self.units_per_ms);
        // What was made up may yet turn out to stand for what was lost: it is no delay so far.
        let excess =
            self.excess().filter(|_| self.is_playing).map_or(0, |excess| excess - self.made_up as i32);
        let target = self.delay.spread() + self.hold();
        PlayoutStats {
            received: self.counts.received,
            lost: self.counts.lost,
            late: self.counts.late,
            duplicate: self.counts.duplicate,
            discarded: self.counts.discarded,
            concealed_ms: ms(self.counts.concealed),
            accelerated_ms: ms(self.counts.accelerated),
            expanded_ms: ms(self.counts.expanded),
            delay_ms: (target as i32 + excess).max(0) as u32 / self.units_per_ms,
            target_ms: target / self.units_per_ms,
        }
    }

    /// The offset at which a packet that came now would just have been in time, and the next one
    /// too if it comes as long after this one as this one lasts: where packets and ticks are not
    /// of one length, every other one has longer to wait.
    fn transit(&self, now: Instant, timestamp: u32, duration: u32) -> i32 {
        let Some((at, frame)) = self.last_pull else { return self.clock.wrapping_sub(timestamp) as i32 };
        let us = |units: u32| u64::from(units) * 1000 / u64::from(self.units_per_ms);
        let period_us = us(frame).max(1);
        let since_us = now.since(at).as_micros().min(u128::from(period_us)) as u64 + GUARD.as_micros() as u64;
        let transit = |after: u32| {
            let ticks = (since_us + us(after)).saturating_sub(1) / period_us;
            let ready = self.clock.wrapping_add(ticks as u32 * frame);
            ready.wrapping_sub(timestamp.wrapping_add(after)) as i32
        };
        let next = transit(duration);
        if next.wrapping_sub(transit(0)) > 0 { next } else { transit(0) }
    }

    /// Whether a packet whose sound ends at `end` comes after its time. One that is far back in
    /// number or time is none of that, but a sender that began anew.
    fn is_passed(&self, sequence: u16, end: u32) -> bool {
        let Some(last) = self.last_sequence else { return false };
        let back = self.next.wrapping_sub(end);
        last.wrapping_sub(sequence) <= LATE_PACKETS_MAX && back <= LATE_MAX_MS * self.units_per_ms
    }

    /// Bytes of memory this holds, in all.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.store.memory_bytes() + self.line.memory_bytes()
    }
}
