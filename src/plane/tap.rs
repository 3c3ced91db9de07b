//! A tap: a room's sound on its way from the media thread to whoever records or transcribes it.
//!
//! A [`Tap`] is a bounded ring with one [`TapWriter`] (the room) and one [`TapReader`] (the shell).
//! The writer puts one record per tick of the room, whole or not at all: a tick for which there is
//! no room is dropped and counted, and the reader sees the gap by the ticks' numbers, so that time
//! never shifts. All memory is taken when the tap is made; writing neither allocates, locks nor
//! waits. Silence costs a tick's header and nothing else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::id::{LegId, TapId};

/// The most words a ring may have: 64 MiB.
const WORDS_MAX: usize = 1 << 24;
/// The fewest: a tick of a mix at 8 kHz fits many times.
const WORDS_MIN: usize = 1 << 10;
/// The low bits of a record's first word: a length, or a mark's name.
const LENGTH_MASK: u32 = 0x00ff_ffff;
/// Words of a tick's header.
const HEADER: usize = 3;

/// Which sounds of a room a tap carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapParts {
    /// What listeners hear: the mix after the limiter, 16 bits.
    pub mix: bool,
    /// The exact sum, before the limiter, 32 bits: what the legs' [`LegSound::Spoken`] add up to,
    /// bit for bit.
    pub sum: bool,
    /// The sound of each leg.
    pub legs: LegSound,
}

/// Which sound of each leg a tap carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LegSound {
    /// None.
    #[default]
    None,
    /// What the room heard of it: its share of the sum, after gate, choice and fades.
    Spoken,
    /// All that it sent, decoded and concealed, whether or not the room heard it.
    Own,
}

/// Something that happened in the room, in order with its sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapMark {
    /// The leg is in the room, from this tick on.
    Joined(LegId),
    /// The leg is gone, from this tick on.
    Left(LegId),
    /// The room does not hear the leg (on hold, or outside the mix), from this tick on.
    Muted(LegId),
    /// The room may hear the leg again, from this tick on.
    Unmuted(LegId),
}

impl TapMark {
    fn parts(self) -> (u32, LegId) {
        match self {
            TapMark::Joined(leg) => (0, leg),
            TapMark::Left(leg) => (1, leg),
            TapMark::Muted(leg) => (2, leg),
            TapMark::Unmuted(leg) => (3, leg),
        }
    }

    fn from_parts(name: u32, leg: LegId) -> Self {
        match name {
            0 => TapMark::Joined(leg),
            1 => TapMark::Left(leg),
            2 => TapMark::Muted(leg),
            _ => TapMark::Unmuted(leg),
        }
    }
}

/// What a record within a tick is; the high byte of its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mark = 1,
    Leg = 2,
    Mix = 3,
    Sum = 4,
}

impl Kind {
    fn head(self, low: usize) -> u32 {
        (self as u32) << 24 | low as u32 & LENGTH_MASK
    }
}

/// The ring between the two ends.
struct Ring {
    words: Box<[AtomicU32]>,
    /// Words written so far; only the writer changes it.
    head: AtomicU64,
    /// Words read so far; only the reader changes it.
    tail: AtomicU64,
    /// Ticks for which there was no room.
    dropped: AtomicU64,
    /// The writer is gone: what is in the ring is all there will be.
    closed: AtomicBool,
    writer_taken: AtomicBool,
    reader_taken: AtomicBool,
}

/// A tap as a value: whoever has it may take its ends, each once. Equal to itself alone.
#[derive(Clone)]
pub struct Tap {
    id: TapId,
    parts: TapParts,
    ring: Arc<Ring>,
}

impl Tap {
    /// A tap with room for `words` words of 4 bytes, rounded up to a power of two. A tick takes 3
    /// words, a frame of `n` samples `n / 2 + 1` in the mix, `n / 2 + 3` of a leg, `n + 1` in the sum.
    pub fn new(id: TapId, parts: TapParts, words: usize) -> Self {
        let words = words.clamp(WORDS_MIN, WORDS_MAX).next_power_of_two();
        let ring = Ring {
            words: (0..words).map(|_| AtomicU32::new(0)).collect(),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            writer_taken: AtomicBool::new(false),
            reader_taken: AtomicBool::new(false),
        };
        Self { id, parts, ring: Arc::new(ring) }
    }

    /// The tap's name.
    pub fn id(&self) -> TapId {
        self.id
    }

    /// What it carries.
    pub fn parts(&self) -> TapParts {
        self.parts
    }

    /// The writing end; `None` when somebody has it already.
    pub fn take_writer(&self) -> Option<TapWriter> {
        let taken = self.ring.writer_taken.swap(true, Ordering::AcqRel);
        (!taken).then(|| TapWriter { ring: self.ring.clone(), at: 0, free: 0, fits: true, tick_at: 0 })
    }

    /// The reading end; `None` when somebody has it already.
    pub fn take_reader(&self) -> Option<TapReader> {
        let taken = self.ring.reader_taken.swap(true, Ordering::AcqRel);
        (!taken).then(|| TapReader { ring: self.ring.clone(), at: 0 })
    }

    /// Says that nobody will ever write: for a tap that no room took.
    pub fn close(&self) {
        drop(self.take_writer());
    }
}

impl PartialEq for Tap {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ring, &other.ring)
    }
}

impl Eq for Tap {}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("id", &self.id).field("parts", &self.parts).finish_non_exhaustive()
    }
}

/// The writing end of a tap. Dropping it closes the tap.
pub struct TapWriter {
    ring: Arc<Ring>,
    /// Where the next word goes.
    at: u64,
    /// Words that may still be written.
    free: u64,
    /// Whether all of the tick fits so far.
    fits: bool,
    /// Where the tick begins.
    tick_at: u64,
}

impl TapWriter {
    /// Begins the record of a tick; what is put until [`TapWriter::commit`] belongs to it.
    pub fn begin(&mut self, tick: u64) {
        let used = self.tick_at - self.ring.tail.load(Ordering::Acquire);
        self.free = self.ring.words.len() as u64 - used;
        self.fits = true;
        if self.claim(HEADER) {
            self.word(0);
            self.long(tick);
        }
    }

    /// Puts a mark.
    pub fn mark(&mut self, mark: TapMark) {
        let (name, leg) = mark.parts();
        if self.claim(3) {
            self.word(Kind::Mark.head(name as usize));
            self.long(leg.0);
        }
    }

    /// Puts a frame of a leg.
    pub fn leg(&mut self, leg: LegId, frame: &[i16]) {
        if self.claim(3 + frame.len().div_ceil(2)) {
            self.word(Kind::Leg.head(frame.len()));
            self.long(leg.0);
            self.samples(frame);
        }
    }

    /// Puts a frame of the limited mix.
    pub fn mix(&mut self, frame: &[i16]) {
        if self.claim(1 + frame.len().div_ceil(2)) {
            self.word(Kind::Mix.head(frame.len()));
            self.samples(frame);
        }
    }

    /// Puts a frame of the exact sum.
    pub fn sum(&mut self, frame: &[i32]) {
        if self.claim(1 + frame.len()) {
            self.word(Kind::Sum.head(frame.len()));
            let start = self.at;
            for (offset, &sample) in (0u64..).zip(frame) {
                self.store(start + offset, sample as u32);
            }
            self.at = start + frame.len() as u64;
        }
    }

    /// Ends the tick's record; false when there was no room for it and it is dropped.
    pub fn commit(&mut self) -> bool {
        if self.fits {
            // The header says how long the record is; the reader sees nothing before `head` moves.
            self.store(self.tick_at, (self.at - self.tick_at) as u32);
            self.ring.head.store(self.at, Ordering::Release);
            self.tick_at = self.at;
        } else {
            self.at = self.tick_at;
            // One writer: no update can be lost between the two.
            let dropped = self.ring.dropped.load(Ordering::Relaxed);
            self.ring.dropped.store(dropped + 1, Ordering::Relaxed);
        }
        self.fits
    }

    /// Takes room for `words` more, if there is.
    fn claim(&mut self, words: usize) -> bool {
        let words = words as u64;
        self.fits &= words <= self.free;
        if self.fits {
            self.free -= words;
        }
        self.fits
    }

    fn samples(&mut self, frame: &[i16]) {
        let start = self.at;
        let (pairs, rest) = frame.as_chunks::<2>();
        for (offset, &[first, second]) in (0u64..).zip(pairs) {
            self.store(start + offset, u32::from(first as u16) | u32::from(second as u16) << 16);
        }
        self.at = start + pairs.len() as u64;
        if let [last] = rest {
            self.word(u32::from(*last as u16));
        }
    }

    fn long(&mut self, value: u64) {
        self.word(value as u32);
        self.word((value >> 32) as u32);
    }

    fn word(&mut self, word: u32) {
        self.store(self.at, word);
        self.at += 1;
    }

    fn store(&self, at: u64, word: u32) {
        let mask = self.ring.words.len() - 1;
        // Relaxed: `head` publishes.
        self.ring.words[at as usize & mask].store(word, Ordering::Relaxed);
    }
}

impl Drop for TapWriter {
    fn drop(&mut self) {
        self.ring.closed.store(true, Ordering::Release);
    }
}

impl fmt::Debug for TapWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapWriter").field("at", &self.at).finish_non_exhaustive()
    }
}

/// One tick as it was read; reused from tick to tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapTick {
    /// The room's clock: 20 ms a tick, a gap being ticks that were dropped.
    pub number: u64,
    /// What happened before the tick's sound, in order.
    pub marks: Vec<TapMark>,
    mix: Vec<i16>,
    sum: Vec<i32>,
    legs: Vec<(LegId, usize, usize)>,
    samples: Vec<i16>,
}

impl TapTick {
    /// The limited mix; `None` for silence.
    pub fn mix(&self) -> Option<&[i16]> {
        (!self.mix.is_empty()).then_some(&self.mix[..])
    }

    /// The exact sum; `None` for silence.
    pub fn sum(&self) -> Option<&[i32]> {
        (!self.sum.is_empty()).then_some(&self.sum[..])
    }

    /// The legs' frames, in no order; a leg that is not in it was silent.
    pub fn legs(&self) -> impl Iterator<Item = (LegId, &[i16])> {
        self.legs.iter().map(|&(leg, from, to)| (leg, &self.samples[from..to]))
    }

    fn clear(&mut self, number: u64) {
        self.number = number;
        self.marks.clear();
        self.mix.clear();
        self.sum.clear();
        self.legs.clear();
        self.samples.clear();
    }
}

/// The reading end of a tap.
pub struct TapReader {
    ring: Arc<Ring>,
    /// The next word to read.
    at: u64,
}

impl TapReader {
    /// Reads the next tick, if one has come.
    pub fn read(&mut self, tick: &mut TapTick) -> bool {
        let head = self.ring.head.load(Ordering::Acquire);
        if self.at == head {
            return false;
        }
        let end = self.at + u64::from(self.word());
        let number = self.long();
        tick.clear(number);
        while self.at < end {
            self.record(tick);
        }
        self.ring.tail.store(self.at, Ordering::Release);
        true
    }

    /// Whether the writer is gone. Ask before reading until nothing is left: then it is all there was.
    pub fn is_closed(&self) -> bool {
        self.ring.closed.load(Ordering::Acquire)
    }

    /// Ticks for which there was no room so far.
    pub fn dropped(&self) -> u64 {
        self.ring.dropped.load(Ordering::Relaxed)
    }

    fn record(&mut self, tick: &mut TapTick) {
        let head = self.word();
        let length = (head & LENGTH_MASK) as usize;
        match head >> 24 {
            kind if kind == Kind::Mark as u32 => {
                let leg = LegId(self.long());
                tick.marks.push(TapMark::from_parts(length as u32, leg));
            }
            kind if kind == Kind::Leg as u32 => {
                let leg = LegId(self.long());
                let from = tick.samples.len();
                self.samples(length, &mut tick.samples);
                tick.legs.push((leg, from, from + length));
            }
            kind if kind == Kind::Mix as u32 => self.samples(length, &mut tick.mix),
            _ => {
                for _ in 0..length {
                    let sample = self.word() as i32;
                    tick.sum.push(sample);
                }
            }
        }
    }

    fn samples(&mut self, length: usize, to: &mut Vec<i16>) {
        for _ in 0..length / 2 {
            let pair = self.word();
            to.extend([pair as u16 as i16, (pair >> 16) as u16 as i16]);
        }
        if length % 2 == 1 {
            let last = self.word();
            to.push(last as u16 as i16);
        }
    }

    fn long(&mut self) -> u64 {
        u64::from(self.word()) | u64::from(self.word()) << 32
    }

    fn word(&mut self) -> u32 {
        let mask = self.ring.words.len() - 1;
        let word = self.ring.words[self.at as usize & mask].load(Ordering::Relaxed);
        self.at += 1;
        word
    }
}

impl fmt::Debug for TapReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapReader").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn tap(words: usize) -> (TapWriter, TapReader) {
        let tap = Tap::new(TapId(1), TapParts::default(), words);
        (tap.take_writer().expect("the first"), tap.take_reader().expect("the first"))
    }

    #[test]
    fn what_is_written_is_read_in_order() {
        let (mut writer, mut reader) = tap(0);
        let mut tick = TapTick::default();
        assert!(!reader.read(&mut tick));
        writer.begin(7 << 40);
        writer.mark(TapMark::Joined(LegId(u64::MAX)));
        writer.mark(TapMark::Muted(LegId(3)));
        writer.leg(LegId(5), &[1, -2, 3]);
        writer.leg(LegId(6), &[i16::MIN; 4]);
        writer.mix(&[-1; 160]);
        writer.sum(&[i32::MIN, 9]);
        assert!(writer.commit());
        writer.begin((7 << 40) + 1);
        assert!(!{ reader.read(&mut tick) } || tick.number == 7 << 40, "an open tick is not seen");
        assert!(writer.commit());
        assert_eq!(tick.marks, [TapMark::Joined(LegId(u64::MAX)), TapMark::Muted(LegId(3))]);
        let legs: Vec<_> = tick.legs().collect();
        assert_eq!(legs, [(LegId(5), &[1, -2, 3][..]), (LegId(6), &[i16::MIN; 4][..])]);
        assert_eq!((tick.mix(), tick.sum()), (Some(&[-1; 160][..]), Some(&[i32::MIN, 9][..])));
        assert!(reader.read(&mut tick));
        assert_eq!((tick.number, tick.mix(), tick.legs().count()), ((7 << 40) + 1, None, 0));
    }

    #[test]
    fn a_full_tap_drops_whole_ticks_and_counts_them() {
        let (mut writer, mut reader) = tap(0);
        let written: Vec<bool> = (0..40u64)
            .map(|number| {
                writer.begin(number);
                writer.mix(&[number as i16; 160]);
                writer.commit()
            })
            .collect();
        // 84 words each of 1024.
        assert_eq!(written.iter().filter(|written| **written).count(), 12);
        assert_eq!(reader.dropped(), 28);
        let mut tick = TapTick::default();
        for number in 0..12 {
            assert!(reader.read(&mut tick));
            assert_eq!((tick.number, tick.mix()), (number, Some(&[number as i16; 160][..])));
        }
        assert!(!reader.read(&mut tick));
        writer.begin(40);
        assert!(writer.commit(), "there is room again");
        assert!(reader.read(&mut tick));
        assert_eq!(tick.number, 40);
    }

    #[test]
    fn each_end_is_had_once_and_the_end_is_seen() {
        let tap = Tap::new(TapId(1), TapParts::default(), 0);
        let (writer, reader) = (tap.take_writer(), tap.take_reader().expect("the first"));
        assert!(tap.take_writer().is_none() && tap.take_reader().is_none());
        tap.close();
        assert!(!reader.is_closed());
        drop(writer);
        assert!(reader.is_closed());
        let unused = Tap::new(TapId(1), TapParts::default(), 0);
        unused.close();
        assert!(unused.take_reader().expect("the first").is_closed());
        assert_ne!(tap, unused);
        assert_eq!(tap, tap.clone());
    }

    #[test]
    fn two_threads_agree_on_every_sample() {
        let (mut writer, mut reader) = tap(4096);
        let frame = |number: u64| -> Vec<i16> {
            let mut rng = Rng::from_number(number);
            (0..1 + rng.below(320)).map(|_| rng.next_u32() as i16).collect()
        };
        const TICKS: u64 = 20_000;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..TICKS {
                    writer.begin(number);
                    writer.leg(LegId(number), &frame(number));
                    writer.commit();
                }
            });
            let mut tick = TapTick::default();
            let (mut read, mut before) = (0, None);
            loop {
                let closed = reader.is_closed();
                while reader.read(&mut tick) {
                    assert!(before < Some(tick.number));
                    before = Some(tick.number);
                    let (leg, samples) = tick.legs().next().expect("one leg");
                    assert_eq!((leg, samples), (LegId(tick.number), &frame(tick.number)[..]));
                    read += 1;
                }
                if closed {
                    break;
                }
            }
            assert_eq!(read + reader.dropped(), TICKS);
        });
    }
}
