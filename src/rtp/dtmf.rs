//! Keys pressed during a call, as RFC 4733 telephone events: each received key is reported exactly
//! once, whatever of its packets is lost, late or repeated; and keys of ours are sent.
//!
//! All packets of one press share the timestamp of its beginning and tell how long it has lasted;
//! the end is marked, three times over. So the timestamp names the press: the first end packet, or
//! the next press, or silence closes it, and what comes of it later is passed by.

use crate::time::{Duration, Instant};

/// How long a press whose end is lost goes on without packets. Senders repeat every 20 to 50 ms.
pub const SILENCE: Duration = Duration::from_millis(250);
/// The most events read from one packet (RFC 4733 §2.5.1.4 lets short ones share one).
pub const MAX_EVENTS_PER_PACKET: usize = 4;
/// The most digits one [`DtmfSender`] takes.
pub const MAX_DIGITS: usize = 64;
/// Digits that wait for [`DtmfReceiver::poll_digit`]: one more than a packet can close.
const QUEUE_LEN: usize = MAX_EVENTS_PER_PACKET + 1;
/// Bytes of one event (RFC 4733 §2.3).
const EVENT_LEN: usize = 4;
/// The keys, in the order of their event numbers (RFC 4733 §3.2). Flash (16) is no key.
const KEYS: &[u8; 16] = b"0123456789*#ABCD";
/// A press that lasts longer than its 16-bit field goes on as a new segment this much later
/// (RFC 4733 §2.5.1.3).
const SEGMENT: u32 = 0xffff;
/// How far back a timestamp may lie and still be a late packet of a press or segment gone by: 16 s
/// at 8 kHz. Further back, the sender's clock has jumped.
const STALE: u32 = 2 * SEGMENT;

/// A key that was pressed and let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    /// `0`–`9`, `*`, `#`, `A`–`D`.
    pub key: char,
    /// How long it was held, in timestamp units; the last that was heard of it if its end was lost.
    pub duration: u32,
}

/// One event of a packet.
#[derive(Clone, Copy, Debug)]
struct Event {
    code: u8,
    end: bool,
    timestamp: u32,
    duration: u16,
}

/// The press going on.
#[derive(Clone, Copy, Debug)]
struct Press {
    code: u8,
    /// The timestamp of the segment going on.
    timestamp: u32,
    /// What the segments before it lasted.
    before: u32,
    duration: u16,
    heard: Instant,
}

/// Hears the keys of one RTP stream. [`DtmfReceiver::poll_digit`] until `None` after each input.
#[derive(Clone, Debug, Default)]
pub struct DtmfReceiver {
    press: Option<Press>,
    /// The timestamp of the last segment closed.
    closed: Option<u32>,
    digits: [Option<Digit>; QUEUE_LEN],
    missed: u64,
}

impl DtmfReceiver {
    /// A receiver that has heard nothing. Make a new one when the stream's SSRC changes.
    pub fn new() -> DtmfReceiver {
        DtmfReceiver::default()
    }

    /// Takes a packet of the telephone-event payload type. The marker says that a press begins
    /// (RFC 4733 §2.5.1.1); that packet may be lost, so it only helps to tell a new press from a
    /// new segment of the old.
    pub fn receive(&mut self, now: Instant, payload: &[u8], timestamp: u32, marker: bool) {
        let (events, _) = payload.as_chunks::<EVENT_LEN>();
        let mut timestamp = timestamp;
        for [code, flags, high, low] in events.iter().take(MAX_EVENTS_PER_PACKET) {
            let duration = u16::from_be_bytes([*high, *low]);
            let event = Event { code: *code, end: flags & 0x80 != 0, timestamp, duration };
            if usize::from(*code) < KEYS.len() {
                self.receive_event(now, event, marker);
            }
            timestamp = timestamp.wrapping_add(u32::from(duration));
        }
    }

    fn receive_event(&mut self, now: Instant, event: Event, marker: bool) {
        if self.is_of_the_past(event.timestamp) {
            return;
        }
        match &mut self.press {
            Some(press) if press.timestamp == event.timestamp && press.code == event.code => {
                press.duration = press.duration.max(event.duration);
                press.heard = now;
            }
            Some(press) if is_next_segment(press, &event) && !marker => {
                press.before = press.before.saturating_add(SEGMENT);
                press.timestamp = event.timestamp;
                press.duration = event.duration;
                press.heard = now;
            }
            press => {
                let lost_end = press.take();
                self.close(lost_end);
                let Event { code, timestamp, duration, .. } = event;
                self.press = Some(Press { code, timestamp, before: 0, duration, heard: now });
            }
        }
        if event.end {
            let ended = self.press.take();
            self.close(ended);
        }
    }

    /// Whether an event of this timestamp was reported already, or came before one that was, or is
    /// from before the press going on.
    fn is_of_the_past(&self, timestamp: u32) -> bool {
        let closed = self.closed.is_some_and(|closed| closed.wrapping_sub(timestamp) < STALE);
        let overtaken = self.press.is_some_and(|press| {
            let age = press.timestamp.wrapping_sub(timestamp);
            age != 0 && age < STALE
        });
        closed || overtaken
    }

    fn close(&mut self, press: Option<Press>) {
        let Some(press) = press else { return };
        self.closed = Some(press.timestamp);
        let Some(key) = KEYS.get(usize::from(press.code)) else {
            return;
        };
        let duration = press.before.saturating_add(u32::from(press.duration));
        let digit = Digit { key: char::from(*key), duration };
        match self.digits.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(digit),
            None => self.missed = self.missed.saturating_add(1),
        }
    }

    /// Closes a press whose end was lost, when its time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_timeout().is_some_and(|deadline| now >= deadline) {
            let lost_end = self.press.take();
            self.close(lost_end);
        }
    }

    /// When [`DtmfReceiver::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.press.map(|press| press.heard + SILENCE)
    }

    /// The next key, in the order they were let go.
    pub fn poll_digit(&mut self) -> Option<Digit> {
        let digit = self.digits.first_mut()?.take();
        self.digits.rotate_left(1);
        digit
    }

    /// Keys that were lost because nobody polled.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

/// Whether the event goes on where the longest segment of this press ends.
fn is_next_segment(press: &Press, event: &Event) -> bool {
    press.code == event.code && event.timestamp.wrapping_sub(press.timestamp) == SEGMENT
}

/// How keys are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DtmfTiming {
    /// How long each key is held, in timestamp units.
    pub duration: u32,
    /// How long the pause after it is, in timestamp units; at least the two packets that repeat
    /// the end go into it.
    pub interval: u32,
    /// Timestamp units per packet.
    pub packet: u32,
}

/// Why digits cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DtmfError {
    /// Something else than `0`–`9`, `*`, `#`, `A`–`D`.
    #[error("there is no key {0:?}")]
    NoSuchKey(char),
    /// More than [`MAX_DIGITS`].
    #[error("more than {MAX_DIGITS} digits")]
    TooMany,
}

/// An event packet to send in place of audio, with the next sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPacket {
    /// The payload.
    pub payload: [u8; EVENT_LEN],
    /// The timestamp of the press's beginning.
    pub timestamp: u32,
    /// Whether the press begins with it.
    pub marker: bool,
}

/// The loudness we claim for our keys: −10 dBm0 (RFC 4733 §2.3.5).
const VOLUME: u8 = 10;
/// How often the end is sent (RFC 4733 §2.5.1.4 says three times).
const END_PACKETS: u8 = 3;

/// Where in a digit the sender is.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The next packet begins the next digit.
    Start,
    /// Held since this timestamp.
    Held { start: u32 },
    /// Let go; the end packet was sent so many times.
    Ended { start: u32, held: u16, sent: u8 },
}

/// Sends keys, one packet per call of [`DtmfSender::poll_packet`].
#[derive(Clone, Debug)]
pub struct DtmfSender {
    codes: [u8; MAX_DIGITS],
    len: usize,
    next: usize,
    timing: DtmfTiming,
    phase: Phase,
}

impl DtmfSender {
    /// A sender of `digits`; lower-case letters are taken as keys too.
    pub fn new(digits: &str, timing: DtmfTiming) -> Result<DtmfSender, DtmfError> {
        let mut codes = [0; MAX_DIGITS];
        let mut len = 0;
        for digit in digits.chars() {
            let key = digit.to_ascii_uppercase();
            let code = KEYS.iter().position(|k| char::from(*k) == key);
            let code = code.ok_or(DtmfError::NoSuchKey(digit))?;
            *codes.get_mut(len).ok_or(DtmfError::TooMany)? = code as u8;
            len += 1;
        }
        Ok(DtmfSender { codes, len, next: 0, timing, phase: Phase::Start })
    }

    /// Whether every key and the pause after it is over.
    pub fn is_done(&self) -> bool {
        self.next >= self.len
    }

    /// The packet for the packet time that begins at `timestamp` of the audio stream; `None` in the
    /// pauses and at the end, when audio is sent. Call it once per packet time.
    pub fn poll_packet(&mut self, timestamp: u32) -> Option<EventPacket> {
        let code = self.codes.get(self.next).copied().filter(|_| self.next < self.len)?;
        match self.phase {
            Phase::Start => {
                self.phase = Phase::Held { start: timestamp };
                self.held_packet(code, timestamp, timestamp, true)
            }
            Phase::Held { start } => self.held_packet(code, start, timestamp, false),
            Phase::Ended { start, held, sent } => {
                if sent < END_PACKETS {
                    self.phase = Phase::Ended { start, held, sent: sent + 1 };
                    return Some(packet(code, true, held, start, false));
                }
                let next_begins = u32::from(held).saturating_add(self.timing.interval);
                // The pause is over when the next packet time lies behind it.
                let elapsed = timestamp.wrapping_sub(start).wrapping_add(self.timing.packet);
                if elapsed >= next_begins {
                    self.next += 1;
                    self.phase = Phase::Start;
                }
                None
            }
        }
    }

    /// The packet of a key held from `start` to the end of this packet time; the end packet if it
    /// has been held long enough. We hold no key longer than one segment.
    fn held_packet(&mut self, code: u8, start: u32, timestamp: u32, marker: bool) -> Option<EventPacket> {
        let held = timestamp.wrapping_sub(start).saturating_add(self.timing.packet).min(SEGMENT) as u16;
        let end = u32::from(held) >= self.timing.duration.min(SEGMENT);
        if end {
            self.phase = Phase::Ended { start, held, sent: 1 };
        }
        Some(packet(code, end, held, start, marker))
    }
}

fn packet(code: u8, end: bool, duration: u16, timestamp: u32, marker: bool) -> EventPacket {
    let [high, low] = duration.to_be_bytes();
    EventPacket { payload: [code, u8::from(end) << 7 | VOLUME, high, low], timestamp, marker }
}

#[cfg(test)]
mod tests;
