//! Hears the taps of all transcriptions, cuts each caller's audio into utterances and hands them to the
//! queue. Never waits for the recogniser: what does not fit is left out there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::counters::Counters;
use super::queue::{Job, Queue};
use super::utterance::{Cutter, FRAME_MS, Piece};
use crate::bridge::SpeechOrder;
use crate::id::{ConferencecallId, LegId, TranscribeId};
use crate::plane::tap::{Tap, TapMark, TapReader, TapTick};
use crate::time::{Duration, Now, Timestamp};

/// Callers heard at once (200 KB each while they speak); one more is not heard.
pub const CALLERS_MAX: usize = 1024;
/// The longest gap, in ticks, that is heard as silence; more is left out.
const GAP_MAX: u64 = 50;
/// How long after its end a transcription's tap is awaited.
const CLOSING: Duration = Duration::from_secs(5);
/// Frames of a second.
const FRAMES_PER_S: usize = 1000 / FRAME_MS as usize;

/// One transcription.
struct Stream {
    language: Arc<str>,
    reader: TapReader,
    /// Whose audio a leg's is.
    names: HashMap<LegId, ConferencecallId>,
    callers: HashMap<LegId, Caller>,
    /// Legs for which there was no room.
    refused: HashSet<LegId>,
    before: Option<u64>,
    /// Ended; by when its tap must be closed.
    ends_by: Option<crate::time::Instant>,
}

/// One caller of it.
struct Caller {
    cutter: Cutter,
    rate_hz: u32,
    tick: u64,
}

/// All transcriptions that are heard.
pub struct Ear {
    streams: BTreeMap<TranscribeId, Stream>,
    tick: TapTick,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
}

impl Ear {
    /// An ear that hears nothing yet.
    pub fn new(queue: Arc<Queue>, counters: Arc<Counters>) -> Self {
        Self { streams: BTreeMap::new(), tick: TapTick::default(), queue, counters }
    }

    /// Whether there is anything to hear.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// Takes an order.
    pub fn order(&mut self, now: Now, order: SpeechOrder) {
        match order {
            SpeechOrder::Begin { transcribe, language, tap } => self.begin(transcribe, &language, &tap),
            SpeechOrder::Name { transcribe, leg, conferencecall } => {
                if let Some(stream) = self.streams.get_mut(&transcribe) {
                    stream.names.insert(leg, conferencecall);
                }
            }
            SpeechOrder::End { transcribe } => match self.streams.get_mut(&transcribe) {
                Some(stream) => stream.ends_by = Some(now.instant + CLOSING),
                None => self.queue.push_finish(transcribe),
            },
        }
    }

    fn begin(&mut self, transcribe: TranscribeId, language: &str, tap: &Tap) {
        let Some(reader) = tap.take_reader() else { return };
        self.streams.insert(
            transcribe,
            Stream {
                language: language.into(),
                reader,
                names: HashMap::new(),
                callers: HashMap::new(),
                refused: HashSet::new(),
                before: None,
                ends_by: None,
            },
        );
    }

    /// Hears what has come by every tap.
    pub fn hear(&mut self, now: Now) {
        let ids: Vec<TranscribeId> = self.streams.keys().copied().collect();
        let mut callers = self.streams.values().map(|stream| stream.callers.len()).sum::<usize>();
        for id in ids {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let closed = stream.reader.is_closed();
            let dropped = stream.reader.dropped();
            while stream.reader.read(&mut self.tick) {
                stream.hear(id, now, &self.tick, &self.queue, &self.counters, &mut callers);
            }
            self.counters.lost_ticks.fetch_add(stream.reader.dropped() - dropped, Relaxed);
            let over = stream.ends_by.is_some_and(|by| closed || now.instant >= by);
            if over && let Some(stream) = self.streams.remove(&id) {
                stream.finish(id, &self.queue);
            }
        }
        self.counters.callers.store(callers as u64, Relaxed);
    }
}

impl Stream {
    /// Hears one tick of the room.
    fn hear(
        &mut self,
        id: TranscribeId,
        now: Now,
        tick: &TapTick,
        queue: &Queue,
        counters: &Counters,
        callers: &mut usize,
    ) {
        let heard_at = time_of(now, tick.number);
        let gap = self.before.map_or(0, |before| tick.number.saturating_sub(before + 1)).min(GAP_MAX);
        self.before = Some(tick.number);
        for mark in &tick.marks {
            if let TapMark::Left(leg) = mark {
                if let Some(mut caller) = self.callers.remove(leg) {
                    *callers -= 1;
                    self.hand_on(id, *leg, caller.cutter.finish().into_iter().collect(), queue);
                }
                self.names.remove(leg);
                self.refused.remove(leg);
            }
        }
        for (leg, samples) in tick.legs() {
            if !self.callers.contains_key(&leg) {
                if *callers >= CALLERS_MAX {
                    // Once a caller: it is heard when there is room.
                    if self.refused.insert(leg) {
                        counters.callers_refused.fetch_add(1, Relaxed);
                    }
                    continue;
                }
                *callers += 1;
                self.callers.insert(leg, Caller::new(rate_of(samples)));
            }
            let Some(caller) = self.callers.get_mut(&leg) else { continue };
            caller.tick = tick.number;
            let pieces = caller.hear(heard_at, gap, samples);
            self.hand_on(id, leg, pieces, queue);
        }
        let silent: Vec<LegId> =
            self.callers.iter().filter(|(_, c)| c.tick != tick.number).map(|(leg, _)| *leg).collect();
        for leg in silent {
            let Some(caller) = self.callers.get_mut(&leg) else { continue };
            let pieces = caller.hear(heard_at, gap, &[]);
            self.hand_on(id, leg, pieces, queue);
        }
    }

    /// Hands on what a leg said. Its name was sent before its first sound, but may be read after it.
    fn hand_on(&self, transcribe: TranscribeId, leg: LegId, pieces: Vec<Piece>, queue: &Queue) {
        let Some(&conferencecall) = self.names.get(&leg) else { return };
        let job = |utterance| Job { transcribe, conferencecall, language: self.language.clone(), utterance };
        for piece in pieces {
            match piece {
                Piece::Whole(utterance) => queue.push_whole(job(utterance)),
                Piece::Partial(utterance) => queue.push_partial(job(utterance)),
            }
        }
    }

    /// Everybody's last words.
    fn finish(mut self, id: TranscribeId, queue: &Queue) {
        let mut callers = std::mem::take(&mut self.callers);
        for (leg, caller) in &mut callers {
            let piece = caller.cutter.finish();
            self.hand_on(id, *leg, piece.into_iter().collect(), queue);
        }
        queue.push_finish(id);
    }
}

impl Caller {
    fn new(rate_hz: u32) -> Self {
        Self { cutter: Cutter::new(rate_hz), rate_hz, tick: 0 }
    }

    /// Hears a frame after `gap` lost ones; no samples are silence.
    fn hear(&mut self, heard_at: Timestamp, gap: u64, samples: &[i16]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if !samples.is_empty() && rate_of(samples) != self.rate_hz {
            // The room's rate has changed.
            pieces.extend(self.cutter.finish());
            *self = Self { tick: self.tick, ..Self::new(rate_of(samples)) };
        }
        for _ in 0..gap {
            pieces.extend(self.cutter.push(heard_at, &[]));
        }
        pieces.extend(self.cutter.push(heard_at, samples));
        pieces
    }
}

/// The rate of a frame of 20 ms.
fn rate_of(samples: &[i16]) -> u32 {
    u32::try_from(samples.len() * FRAMES_PER_S).unwrap_or(u32::MAX)
}

/// The wall-clock time of a tick of the room's clock, which is the monotonic one in steps of 20 ms.
fn time_of(now: Now, tick: u64) -> Timestamp {
    let at = Duration::from_millis(tick.saturating_mul(u64::from(FRAME_MS)));
    let ago = Duration::from_nanos(now.instant.as_nanos()).saturating_sub(at);
    Timestamp::from_micros(now.wall.as_micros() - i64::try_from(ago.as_micros()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
