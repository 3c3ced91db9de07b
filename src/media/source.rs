//! A source: a leg without sockets. What it says comes from a feed, and what it hears, the mix without
//! itself, goes to a tap of its own.

use crate::id::LegId;
use crate::mixer::limiter::Limiter;
use crate::mixer::room::Mix;
use crate::plane::feed::FeedReader;
use crate::plane::tap::TapWriter;

use super::leg::voice::{Voice, Voiced};
use super::room::{FRAME, RATE_HZ};

/// Sources of one room at most; one more is closed at once and counted.
pub const SOURCES_MAX: usize = 64;
/// Where sources begin among the indices of a room's voices; legs end long before.
const INDEX_BASE: u32 = u32::MAX - SOURCES_MAX as u32;

/// One source of a room.
#[derive(Debug)]
pub struct Source {
    pub(super) id: LegId,
    pub(super) voice: Voice,
    feed: FeedReader,
    out: TapWriter,
    limiter: Limiter,
}

impl Source {
    /// A source that has said nothing yet.
    pub fn new(id: LegId, feed: FeedReader, out: TapWriter) -> Self {
        Self { id, voice: Voice::new(), feed, out, limiter: Limiter::default() }
    }

    /// Takes its next frame and says whether its voice is open.
    pub fn listen(&mut self, gate: bool) -> Voiced {
        let feed = &mut self.feed;
        self.voice.listen(gate, |frame| feed.read(frame))
    }

    /// Gives it what it is to hear: `shared` unless it speaks itself.
    pub fn hear(&mut self, tick: u64, mix: &mut Mix, shared: &[i16]) {
        self.out.begin(tick, RATE_HZ);
        match self.voice.heard() {
            // Nobody else speaks: silence.
            Some(_) if mix.voices() == 1 => {}
            Some(own) => {
                let mut others = [0; FRAME];
                mix.without(own, &mut self.limiter, &mut others);
                self.out.mix(&others);
            }
            None if mix.voices() > 0 => self.out.mix(shared),
            None => {}
        }
        self.out.commit();
    }
}

/// The index of a source among the voices of its room.
pub(super) fn index_of(place: usize) -> u32 {
    INDEX_BASE + place as u32
}

/// The source that an index stands for, if it does not stand for a leg.
pub(super) fn place_of(index: u32) -> Option<usize> {
    index.checked_sub(INDEX_BASE).map(|place| place as usize)
}
