//! When playing begins, and how its delay is kept near the target: by stretching time, in pauses
//! at once and in speech where it is not heard.

use super::{Playout, SPARE_PIECES};
use crate::codec::stretch::Care;

/// Beyond this much too much delay, time is compressed less gently.
const NEED_MS: u32 = 60;
/// Ticks between two stretches in speech, at ease and in need.
const STRETCH_TICKS: [u32; 2] = [6, 2];
/// In speech, less than this much too much delay is left for the next pause, in milliseconds.
const TOLERATED_MS: u32 = 3;
/// A frame this far below the level of speech is a pause: a factor on the mean square (−26 dB).
const PAUSE_BELOW_SPEECH: u32 = 400;
/// A frame of no more than this mean square is a pause whatever the speech (−64 dBov).
const PAUSE_MEAN_SQUARE: u32 = 400;
/// The level of speech falls by 1/2^n a tick while there is none: half in about 3 s.
const SPEECH_FALL_SHIFT: u32 = 7;
/// Every how many samples a frame's level is measured.
const LEVEL_STRIDE: usize = 4;

impl Playout {
    /// How many samples more the delay is than it should be.
    pub(super) fn excess(&self) -> Option<i32> {
        let offset = self.clock.wrapping_sub(self.next).wrapping_add(self.line.ahead() as u32) as i32;
        Some(offset.wrapping_sub(self.target()?))
    }

    /// The offset to play at.
    pub(super) fn target(&self) -> Option<i32> {
        Some(self.delay.target()?.wrapping_add(self.hold() as i32))
    }

    /// What is held beyond the need of the jitter, so that a gap is concealed knowing its end.
    pub(super) fn hold(&self) -> u32 {
        if self.loss.is_lossy() { self.packet } else { 0 }
    }

    /// Begins to play if it is time for the oldest packet, if need be in mid-frame.
    pub(super) fn start(&mut self, frame: u32) -> bool {
        let Some(target) = self.target() else { return false };
        loop {
            let Some(front) = self.store.front() else { return false };
            let offset = self.clock.wrapping_sub(front.timestamp) as i32;
            let over = offset.wrapping_sub(target);
            if over <= -(frame as i32) && self.store.len() < self.store_limit() {
                return false;
            }
            // What waited while nothing played is old by now.
            let is_old = over >= front.duration as i32 && self.store.len() > 1;
            let (sequence, timestamp) = (front.sequence, front.timestamp);
            self.count_gap(sequence);
            self.last_sequence = Some(sequence);
            if is_old {
                self.counts.discarded += 1;
                self.store.pop();
                continue;
            }
            self.next = timestamp;
            self.is_playing = true;
            self.line.clear();
            let (_, room) = self.line.room((-over).clamp(0, frame as i32) as usize);
            room.fill(0);
            let length = room.len();
            self.line.grow(length);
            return true;
        }
    }

    fn store_limit(&self) -> usize {
        self.store.capacity() - SPARE_PIECES as usize / 2
    }

    /// Nothing to play until the next packet.
    pub(super) fn stop(&mut self) {
        self.is_playing = false;
        self.made_up = 0;
        self.concealer.rest();
    }

    /// Brings the delay nearer to its target by stretching what comes next; tells whether it did.
    pub(super) fn keep_delay(&mut self, frame: usize) -> bool {
        self.since_stretch = self.since_stretch.saturating_add(1);
        let Some(excess) = self.excess() else { return false };
        if excess == 0 {
            return false;
        }
        if excess > 0 {
            self.decode_ahead(frame + self.stretch.longest());
        }
        let in_need = excess < 0 || excess.unsigned_abs() > NEED_MS * self.units_per_ms;
        let care = match (self.is_pause(), in_need) {
            (true, _) => Care::Pause,
            (false, true) => Care::InNeed,
            (false, false) => Care::AtEase,
        };
        if care != Care::Pause {
            let is_small = (0..(TOLERATED_MS * self.units_per_ms) as i32).contains(&excess);
            if is_small || self.since_stretch < STRETCH_TICKS[usize::from(in_need)] {
                return false;
            }
        }
        let changed =
            if excess > 0 { self.shrink(frame, excess as usize, care) } else { self.widen(-excess, care) };
        if changed {
            self.since_stretch = 0;
        }
        changed
    }

    /// Whether neither what was played last nor what comes next is speech.
    fn is_pause(&mut self) -> bool {
        let level = self.frame_level.max(mean_square(self.line.ahead_mut()));
        level <= PAUSE_MEAN_SQUARE.max(self.speech_level / PAUSE_BELOW_SPEECH)
    }

    /// Makes the line `wanted` samples long if the packets for it are at hand.
    fn decode_ahead(&mut self, wanted: usize) {
        while self.line.ahead() < wanted
            && self.store.front().is_some_and(|front| front.timestamp == self.next)
        {
            self.play(0);
        }
    }

    fn shrink(&mut self, frame: usize, excess: usize, care: Care) -> bool {
        // After the cut there must still be a frame.
        let spare = self.line.ahead().saturating_sub(frame);
        let taken = self.stretch.shorten(self.line.ahead_mut(), excess.min(spare), care);
        self.line.shrink(taken);
        self.counts.accelerated += taken as u64;
        taken > 0
    }

    fn widen(&mut self, lack: i32, care: Care) -> bool {
        let put = self.line.lengthen(&self.stretch, lack.unsigned_abs() as usize, care);
        self.counts.expanded += put as u64;
        put > 0
    }

    /// Follows the level of the speech.
    pub(super) fn measure(&mut self, frame: &[i16]) {
        self.follow(mean_square(frame));
        let is_zero = self.frame_level == 0 && frame.iter().fold(0, |any, &sample| any | sample) == 0;
        self.zeros = if is_zero { (self.zeros + frame.len()).min(self.concealer.past_len()) } else { 0 };
    }

    /// The same for a frame that is known to be zero after others.
    pub(super) fn measure_silence(&mut self) {
        self.follow(0);
    }

    fn follow(&mut self, level: u32) {
        self.frame_level = level;
        self.speech_level -= self.speech_level >> SPEECH_FALL_SHIFT;
        self.speech_level = self.speech_level.max(level);
    }
}

/// The mean square of a frame, from some of its samples.
pub(super) fn mean_square(frame: &[i16]) -> u32 {
    let (mut sum, mut count) = (0_u64, 0);
    for &sample in frame.iter().step_by(LEVEL_STRIDE) {
        sum += u64::from(sample.unsigned_abs()) * u64::from(sample.unsigned_abs());
        count += 1;
    }
    (sum / count.max(1)) as u32
}
