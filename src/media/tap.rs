//! A room's taps: what of each tick goes to whoever records or transcribes it, or streams it.
//!
//! The mix is given after the limiter, as everybody hears it who does not speak; the sum and the
//! legs' shares of it before. A tap that is full drops whole ticks, never a mark.

use crate::id::{LegId, TapId};
use crate::plane::tap::{LegSound, Tap, TapMark, TapParts, TapWriter};
use crate::time::Instant;

use super::leg::voice::Voice;
use super::shard::TICK_MS;

/// Taps of one room at most; one more is closed at once and counted.
pub const TAPS_MAX: usize = 16;
/// Marks that may wait for a tick that fits; more are dropped and counted.
pub const MARKS_MAX: usize = 8192;

/// The number of the tick at `now` on the shard's clock.
pub fn tick_number(now: Instant) -> u64 {
    now.as_nanos() / (TICK_MS * 1_000_000)
}

/// The taps of one room.
#[derive(Debug, Default)]
pub struct Taps {
    taps: Vec<OpenTap>,
    /// Marks dropped since nobody read.
    marks_dropped: u64,
}

#[derive(Debug)]
struct OpenTap {
    id: TapId,
    parts: TapParts,
    writer: TapWriter,
    /// What happened since the last tick that fitted.
    marks: Vec<TapMark>,
}

/// One tick of a room, for its taps.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The tick's number.
    pub tick: u64,
    /// Whether there is any sound.
    pub is_silent: bool,
    /// What listeners hear.
    pub mix: &'a [i16],
    /// The exact sum.
    pub sum: &'a [i32],
}

impl Taps {
    /// Whether there are none: then a tick has nothing to do here.
    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// Marks that were lost because nobody read for long.
    pub fn marks_dropped(&self) -> u64 {
        self.marks_dropped
    }

    /// Begins to write to `tap`, with the legs that are in already; false when there are too many, or
    /// somebody writes to it already. A tap that is not taken is closed.
    pub fn start(&mut self, tap: &Tap, legs: impl Iterator<Item = (LegId, bool)>) -> bool {
        let Some(writer) = tap.take_writer() else { return false };
        if self.taps.len() >= TAPS_MAX {
            return false;
        }
        let mut marks = Vec::new();
        for (leg, is_heard) in legs {
            marks.push(TapMark::Joined(leg));
            if !is_heard {
                marks.push(TapMark::Muted(leg));
            }
        }
        self.taps.push(OpenTap { id: tap.id(), parts: tap.parts(), writer, marks });
        true
    }

    /// Ends a tap; false when there is no such.
    pub fn stop(&mut self, id: TapId) -> bool {
        let before = self.taps.len();
        self.taps.retain(|tap| tap.id != id);
        self.taps.len() < before
    }

    /// Something happened between two ticks.
    pub fn mark(&mut self, mark: TapMark) {
        for tap in &mut self.taps {
            if tap.marks.len() < MARKS_MAX {
                tap.marks.push(mark);
            } else {
                self.marks_dropped += 1;
            }
        }
    }

    /// Writes one tick. `voices` gives every leg's voice.
    pub fn write<'a>(&mut self, heard: Heard<'_>, voices: impl Iterator<Item = (LegId, &'a Voice)> + Clone) {
        for tap in &mut self.taps {
            tap.write(heard, voices.clone());
        }
    }
}

impl OpenTap {
    fn write<'a>(&mut self, heard: Heard<'_>, voices: impl Iterator<Item = (LegId, &'a Voice)>) {
        let Self { parts, writer, marks, .. } = self;
        writer.begin(heard.tick);
        marks.iter().for_each(|mark| writer.mark(*mark));
        if parts.mix && !heard.is_silent {
            writer.mix(heard.mix);
        }
        if parts.sum && !heard.is_silent {
            writer.sum(heard.sum);
        }
        let sound = match parts.legs {
            LegSound::None => None,
            LegSound::Spoken => Some(Voice::heard as fn(&Voice) -> Option<&[i16]>),
            LegSound::Own => Some(Voice::own as fn(&Voice) -> Option<&[i16]>),
        };
        if let Some(sound) = sound {
            for (leg, voice) in voices {
                if let Some(frame) = sound(voice) {
                    writer.leg(leg, frame);
                }
            }
        }
        if writer.commit() {
            marks.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_that_nobody_reads_are_bounded_and_counted() {
        let mut taps = Taps::default();
        let tap = Tap::new(TapId(1), TapParts::default(), 0);
        assert!(taps.start(&tap, std::iter::once((LegId(1), true))));
        assert!(!taps.start(&tap, std::iter::empty()), "somebody writes to it already");
        for _ in 0..MARKS_MAX + 9 {
            taps.mark(TapMark::Muted(LegId(1)));
        }
        assert_eq!(taps.marks_dropped(), 10);
    }
}
