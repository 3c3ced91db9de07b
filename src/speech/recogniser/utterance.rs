//! Cuts one caller's audio into utterances: from a moment before a voice is heard until it has been
//! silent for a while. Long speech is cut at its quietest place; what is being said is given out
//! about once a second before its end, and at each pause that may be the end, so that it is recognised
//! by the time that the pause has turned out to be. Samples and time are arguments; nothing here waits.

use crate::mixer::kernel;
use crate::mixer::speakers::{Detector, Voice};
use crate::time::{Duration, Timestamp};

/// Milliseconds of a frame.
pub const FRAME_MS: u32 = 20;
/// Frames kept from before a voice is heard (100 ms): words begin softly. More silence would make the
/// embedded recogniser hear less.
const PRE_ROLL: usize = 5;
/// Frames kept after the last speech (100 ms): words end softly.
const POST_ROLL: usize = 5;
/// Frames without speech that end an utterance (600 ms).
const END_PAUSE: usize = 30;
/// Frames without speech after which an utterance may be over (200 ms): longer than the stop of a
/// consonant, and short enough to be recognised before [`END_PAUSE`].
const EARLY_PAUSE: usize = 10;
/// An utterance this long (8 s) ends at a shorter pause, so that it need not be cut within speech.
const LONG: usize = 400;
/// Frames without speech that end a long utterance (300 ms).
const END_PAUSE_LONG: usize = 15;
/// The longest utterance (12 s): then it is cut.
const LENGTH_MAX: usize = 600;
/// Where the quietest place for a cut is looked for: from here (6 s) to the end.
const CUT_FROM: usize = 300;
/// Frames on each side of a place that its quietness is taken over (a window of 140 ms).
const CUT_REACH: usize = 3;
/// Frames of speech below which a sound is no utterance but a click or a cough (120 ms).
const SPEECH_MIN: usize = 6;
/// Frames from one partial utterance to the next (1 s), or ...
const PARTIAL_EVERY: usize = 50;
/// ... this share of its length, if that is more: each is recognised from its beginning.
const PARTIAL_SHARE: usize = 4;

/// The longest utterance.
pub const UTTERANCE_MAX: Duration = Duration::from_millis(LENGTH_MAX as u64 * FRAME_MS as u64);

/// A piece of one caller's speech.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utterance {
    /// When its first sample was heard.
    pub begins: Timestamp,
    /// Samples per second.
    pub rate_hz: u32,
    /// 16-bit mono.
    pub samples: Vec<i16>,
}

impl Utterance {
    /// How long it is.
    pub fn length(&self) -> Duration {
        Duration::from_micros(self.samples.len() as u64 * 1_000_000 / u64::from(self.rate_hz.max(1)))
    }

    /// When its last sample was heard.
    pub fn ends(&self) -> Timestamp {
        self.begins.plus(self.length())
    }
}

/// What a frame brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// What was said so far of an utterance that goes on.
    Partial(Utterance),
    /// What was said until a pause: if that is the end, the whole utterance will be exactly this.
    Early(Utterance),
    /// The last [`Piece::Early`] was not the end.
    GoesOn,
    /// A whole utterance.
    Whole(Utterance),
}

/// What is known of a frame.
#[derive(Clone, Copy, Debug)]
struct Frame {
    mean_square: u32,
    speech: bool,
}

/// The cutter of one caller's stream. Holds at most [`UTTERANCE_MAX`] of audio.
#[derive(Clone, Debug)]
pub struct Cutter {
    rate_hz: u32,
    detector: Detector,
    /// The pre-roll, or the utterance so far with its pre-roll.
    frames: Vec<Frame>,
    samples: Vec<i16>,
    /// When the first of `samples` was heard.
    begins: Timestamp,
    /// A voice was heard and its utterance is not over.
    speaking: bool,
    /// At how many frames the next partial utterance is due.
    partial_at: usize,
    /// What was said was given out as perhaps the end, and nothing was said since.
    early: bool,
    clicks: u64,
}

impl Cutter {
    /// For a stream of `rate_hz` samples per second, a multiple of 50.
    pub fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz,
            detector: Detector::default(),
            frames: Vec::new(),
            samples: Vec::new(),
            begins: Timestamp::NEVER,
            speaking: false,
            partial_at: PARTIAL_EVERY,
            early: false,
            clicks: 0,
        }
    }

    /// Samples in a frame.
    pub fn frame_len(&self) -> usize {
        (self.rate_hz * FRAME_MS / 1000) as usize
    }

    /// Samples per second.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Whether a voice was heard and its utterance is not over.
    pub fn is_speaking(&self) -> bool {
        self.speaking
    }

    /// What was said so far, once it is more than a click, and when that began.
    pub fn voice(&self) -> Option<(Timestamp, &[i16])> {
        (self.speaking && self.is_speech(self.frames.len())).then_some((self.begins, &self.samples))
    }

    /// The frame that was taken last; empty before any.
    pub fn last_frame(&self) -> &[i16] {
        &self.samples[self.samples.len().saturating_sub(self.frame_len())..]
    }

    /// Sounds that were too short to be speech, so far.
    pub fn clicks(&self) -> u64 {
        self.clicks
    }

    /// Takes the next frame, whose first sample was heard at `heard`. A frame that is shorter than
    /// [`Cutter::frame_len`] is filled up with silence, of a longer one the rest is left out.
    pub fn push(&mut self, heard: Timestamp, samples: &[i16]) -> Option<Piece> {
        let length = self.frame_len();
        let samples = &samples[..samples.len().min(length)];
        if self.frames.is_empty() {
            self.begins = heard;
        }
        self.samples.extend_from_slice(samples);
        self.samples.resize((self.frames.len() + 1) * length, 0);
        let mean_square = kernel::mean_square(&self.samples[self.frames.len() * length..]);
        let voice = self.detector.judge(mean_square);
        let speech = matches!(voice, Voice::Opens { .. } | Voice::Open { pause: false });
        self.frames.push(Frame { mean_square, speech });
        if speech {
            self.speaking = true;
        }
        if !self.speaking {
            self.keep_from(self.frames.len().saturating_sub(PRE_ROLL));
            return None;
        }
        self.cut()
    }

    /// The stream has ended: what was being said, if it was anything.
    pub fn finish(&mut self) -> Option<Piece> {
        let piece = if self.speaking { self.end_at(self.last_speech() + 1 + POST_ROLL) } else { None };
        self.keep_from(self.frames.len());
        self.speaking = false;
        piece
    }

    /// Ends, cuts or shows the utterance, when one of it is due.
    fn cut(&mut self) -> Option<Piece> {
        let length = self.frames.len();
        let pause = length - 1 - self.last_speech();
        if pause >= if length >= LONG { END_PAUSE_LONG } else { END_PAUSE } {
            self.speaking = false;
            return self.end_at(self.last_speech() + 1 + POST_ROLL);
        }
        if length >= LENGTH_MAX {
            let place = self.quietest_place();
            let piece = self.end_at(place);
            self.speaking = self.frames.iter().any(|frame| frame.speech);
            return piece;
        }
        if pause == 0 && std::mem::take(&mut self.early) {
            return Some(Piece::GoesOn);
        }
        let next_partial = length + PARTIAL_EVERY.max(length / PARTIAL_SHARE);
        let end = self.last_speech() + 1 + POST_ROLL;
        if pause == EARLY_PAUSE && self.is_speech(end) {
            (self.early, self.partial_at) = (true, next_partial);
            return Some(Piece::Early(self.utterance(end)));
        }
        // In a pause that was given out there is nothing new.
        if length >= self.partial_at && !self.early {
            self.partial_at = next_partial;
            return self.is_speech(length).then(|| Piece::Partial(self.utterance(length)));
        }
        None
    }

    /// The frames before `end` as a whole utterance, unless they are no speech; what follows stays,
    /// as pre-roll or as the beginning of the next.
    fn end_at(&mut self, end: usize) -> Option<Piece> {
        let end = end.min(self.frames.len());
        let piece = if self.is_speech(end) {
            Some(Piece::Whole(self.utterance(end)))
        } else {
            self.clicks += 1;
            None
        };
        self.keep_from(end);
        (self.partial_at, self.early) = (PARTIAL_EVERY, false);
        piece
    }

    /// Whether there is enough speech in the first `length` frames.
    fn is_speech(&self, length: usize) -> bool {
        self.frames[..length].iter().filter(|frame| frame.speech).count() >= SPEECH_MIN
    }

    fn utterance(&self, length: usize) -> Utterance {
        let samples = self.samples[..length * self.frame_len()].to_vec();
        Utterance { begins: self.begins, rate_hz: self.rate_hz, samples }
    }

    /// The index of the last frame of speech; 0 when there is none.
    fn last_speech(&self) -> usize {
        self.frames.iter().rposition(|frame| frame.speech).unwrap_or(0)
    }

    /// The frame before which to cut long speech: in the middle of the quietest stretch.
    fn quietest_place(&self) -> usize {
        let loudness = |place: usize| -> u64 {
            let around = &self.frames[place - CUT_REACH..=place + CUT_REACH];
            around.iter().map(|frame| u64::from(frame.mean_square)).sum()
        };
        let places = CUT_FROM..self.frames.len() - CUT_REACH;
        // The last of equals: the longer an utterance, the better it is understood.
        places.rev().min_by_key(|&place| loudness(place)).unwrap_or(self.frames.len())
    }

    /// Forgets the frames before `from`.
    fn keep_from(&mut self, from: usize) {
        let length = self.frame_len();
        self.frames.drain(..from);
        self.samples.drain(..from * length);
        self.begins = self.begins.plus(Duration::from_millis(from as u64 * u64::from(FRAME_MS)));
        if self.frames.is_empty() {
            self.begins = Timestamp::NEVER;
        }
    }
}

#[cfg(test)]
mod tests;
