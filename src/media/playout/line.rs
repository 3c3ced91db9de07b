//! The line of samples between the decoder and the mixer: what was heard last, which concealment
//! and stretch look back at, and what is heard next.

use std::fmt;

use crate::codec::stretch::{Care, Stretch};
use crate::prefetch::prefetch;

/// Samples in a row, with a cursor between the heard and the unheard.
pub struct Line {
    samples: Box<[i16]>,
    /// Heard samples that are kept.
    past: usize,
    /// The next sample to be heard.
    at: usize,
    /// After the last sample.
    end: usize,
}

impl Line {
    /// A line that keeps `past` samples and has room for at least `ahead`.
    pub fn new(past: usize, ahead: usize) -> Self {
        // Twice the past, so that it moves to the front only every few frames.
        let samples = vec![0; 2 * past + ahead].into_boxed_slice();
        Self { samples, past, at: past, end: past }
    }

    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.samples)
    }

    /// Asks for the memory of what is heard next, and of `more` samples after it.
    pub fn prefetch(&self, more: usize) {
        prefetch(&self.samples[self.at..self.samples.len().min(self.end + more)]);
    }

    /// Samples not heard yet.
    pub fn ahead(&self) -> usize {
        self.end - self.at
    }

    /// The samples not heard yet.
    pub fn ahead_mut(&mut self) -> &mut [i16] {
        &mut self.samples[self.at..self.end]
    }

    /// Forgets everything: the past is silence.
    pub fn clear(&mut self) {
        self.samples[..self.past].fill(0);
        self.at = self.past;
        self.end = self.past;
    }

    /// Everything so far, and room after it for `wanted` samples, or as many as fit.
    pub fn room(&mut self, wanted: usize) -> (&[i16], &mut [i16]) {
        if self.samples.len() - self.end < wanted {
            self.compact();
        }
        let (past, room) = self.samples.split_at_mut(self.end);
        let length = wanted.min(room.len());
        (&past[self.at - self.past..], &mut room[..length])
    }

    /// Takes the first `by` samples of the room into the line.
    pub fn grow(&mut self, by: usize) {
        self.end = (self.end + by).min(self.samples.len());
    }

    /// Gives up the last `by` samples.
    pub fn shrink(&mut self, by: usize) {
        self.end = self.end.saturating_sub(by).max(self.at);
    }

    /// Puts samples in before the unheard ones; gives how many.
    pub fn lengthen(&mut self, stretch: &Stretch, most: usize, care: Care) -> usize {
        self.compact();
        let put = stretch.lengthen(&mut self.samples, self.at, self.end, most, care);
        self.end += put;
        put
    }

    /// Moves the next samples to `out`; what is missing is zero.
    pub fn take(&mut self, out: &mut [i16]) {
        let length = out.len().min(self.ahead());
        let (from_line, missing) = out.split_at_mut(length);
        from_line.copy_from_slice(&self.samples[self.at..self.at + length]);
        missing.fill(0);
        self.at += length;
    }

    /// Moves what is kept to the front.
    fn compact(&mut self) {
        let from = self.at - self.past;
        self.samples.copy_within(from..self.end, 0);
        self.at -= from;
        self.end -= from;
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("ahead", &self.ahead()).finish_non_exhaustive()
    }
}
