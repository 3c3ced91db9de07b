//! A feed: sound from outside on its way into a room, at the room's pace.
//!
//! A bounded ring of samples with one [`FeedWriter`] (the shell) and one [`FeedReader`] (the room).
//! What does not fit is given back to the writer, who waits: nothing is dropped. The reader begins once
//! a little is there, so that what comes unevenly is heard evenly, and begins anew after it ran dry.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Samples a feed holds: a second at 8 kHz.
pub const FEED_SAMPLES: usize = 8192;
/// Samples that must be there before the first is heard: 60 ms at 8 kHz.
pub const FEED_AHEAD: usize = 480;

/// The ring between the two ends. A word holds one sample.
struct Ring {
    samples: Box<[AtomicU32]>,
    /// Samples written so far; only the writer changes it.
    head: AtomicU64,
    /// Samples read so far; only the reader changes it.
    tail: AtomicU64,
    writer_taken: AtomicBool,
    reader_taken: AtomicBool,
}

/// A feed as a value: whoever has it may take its ends, each once. Equal to itself alone.
#[derive(Clone)]
pub struct Feed(Arc<Ring>);

impl Feed {
    /// An empty feed.
    pub fn new() -> Self {
        Self(Arc::new(Ring {
            samples: (0..FEED_SAMPLES).map(|_| AtomicU32::new(0)).collect(),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            writer_taken: AtomicBool::new(false),
            reader_taken: AtomicBool::new(false),
        }))
    }

    /// The writing end; `None` when somebody has it already.
    pub fn take_writer(&self) -> Option<FeedWriter> {
        (!self.0.writer_taken.swap(true, Ordering::AcqRel)).then(|| FeedWriter(self.0.clone()))
    }

    /// The reading end; `None` when somebody has it already.
    pub fn take_reader(&self) -> Option<FeedReader> {
        let taken = self.0.reader_taken.swap(true, Ordering::AcqRel);
        (!taken).then(|| FeedReader { ring: self.0.clone(), flows: false })
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Feed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Feed {}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}

/// The writing end of a feed.
pub struct FeedWriter(Arc<Ring>);

impl FeedWriter {
    /// Writes as many of `samples` as fit, and says how many.
    pub fn write(&mut self, samples: &[i16]) -> usize {
        let head = self.0.head.load(Ordering::Relaxed);
        let used = (head - self.0.tail.load(Ordering::Acquire)) as usize;
        let fit = samples.len().min(FEED_SAMPLES - used);
        for (at, &sample) in (head..).zip(&samples[..fit]) {
            self.0.samples[at as usize % FEED_SAMPLES].store(u32::from(sample as u16), Ordering::Relaxed);
        }
        self.0.head.store(head + fit as u64, Ordering::Release);
        fit
    }
}

impl fmt::Debug for FeedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FeedWriter")
    }
}

/// The reading end of a feed.
pub struct FeedReader {
    ring: Arc<Ring>,
    /// Whether it has begun and did not run dry.
    flows: bool,
}

impl FeedReader {
    /// Fills `frame` with what is next, and with silence after what is there. False, leaving `frame` as
    /// it is, when nothing is to be heard. Allocates and waits for nothing.
    pub fn read(&mut self, frame: &mut [i16]) -> bool {
        let tail = self.ring.tail.load(Ordering::Relaxed);
        let there = (self.ring.head.load(Ordering::Acquire) - tail) as usize;
        self.flows = there > 0 && (self.flows || there >= FEED_AHEAD);
        if !self.flows {
            return false;
        }
        let (sound, silence) = frame.split_at_mut(there.min(frame.len()));
        for (at, sample) in (tail..).zip(sound.iter_mut()) {
            *sample = self.ring.samples[at as usize % FEED_SAMPLES].load(Ordering::Relaxed) as u16 as i16;
        }
        silence.fill(0);
        self.flows = silence.is_empty();
        self.ring.tail.store(tail + sound.len() as u64, Ordering::Release);
        true
    }
}

impl fmt::Debug for FeedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FeedReader")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_when_a_little_is_there_and_anew_after_it_ran_dry() {
        let feed = Feed::new();
        let (mut writer, mut reader) = (feed.take_writer().expect("one"), feed.take_reader().expect("one"));
        assert!(feed.take_writer().is_none() && feed.take_reader().is_none());
        let mut frame = [9; 160];
        assert_eq!(writer.write(&[1; 320]), 320);
        assert!(!reader.read(&mut frame));
        assert_eq!(frame, [9; 160]);
        assert_eq!(writer.write(&[2; 200]), 200);
        let heard: Vec<i16> =
            (0..4).flat_map(|_| reader.read(&mut frame).then_some(frame)).flatten().collect();
        assert_eq!(heard.len(), 640, "the last is filled up");
        assert!(heard[..320] == [1; 320] && heard[320..520] == [2; 200] && heard[520..] == [0; 120]);
        assert_eq!(writer.write(&[3; 160]), 160);
        assert!(!reader.read(&mut frame), "it gathers again");
        writer.write(&[3; 320]);
        assert!(reader.read(&mut frame));
    }

    #[test]
    fn a_full_feed_takes_no_more_and_loses_nothing() {
        let feed = Feed::new();
        let (mut writer, mut reader) = (feed.take_writer().expect("one"), feed.take_reader().expect("one"));
        let sound: Vec<i16> = (0..20_000).map(|n| (n * 7) as i16).collect();
        let (mut written, mut heard) = (0, Vec::new());
        assert_eq!(writer.write(&sound), FEED_SAMPLES);
        written += FEED_SAMPLES;
        let mut frame = [0; 160];
        while heard.len() < sound.len() && reader.read(&mut frame) {
            heard.extend(frame);
            written += writer.write(&sound[written..]);
        }
        assert_eq!(heard, sound);
    }
}
