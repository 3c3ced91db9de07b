//! Hears the taps of all transcriptions, cuts each caller's audio into utterances and hands them to the
//! queue; where the recogniser listens along, it hands on each voice as it comes instead. Never waits for
//! the recogniser: what does not fit is left out there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::counters::Counters;
use super::live::{Live, Talks, Voice};
use super::queue::{Job, Queue};
use super::utterance::{Cutter, FRAME_MS, Piece};
use crate::bridge::SpeechOrder;
use crate::id::{ConferencecallId, LegId, TranscribeId, TranscriptId};
use crate::plane::tap::{Tap, TapMark, TapReader, TapTick};
use crate::rng::Rng;
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
    id: TranscribeId,
    language: Arc<str>,
    /// Where the recogniser listens along.
    talks: Option<Talks>,
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
    /// What it says now becomes this transcript.
    transcript: TranscriptId,
    /// What goes to a recogniser that listens along.
    voice: Voice,
}

/// A piece of what a caller said, and which transcript it is of.
type Said = (TranscriptId, Piece);

/// All transcriptions that are heard.
pub struct Ear {
    streams: BTreeMap<TranscribeId, Stream>,
    tick: TapTick,
    desk: Desk,
}

/// What all transcriptions share.
struct Desk {
    queue: Arc<Queue>,
    live: Option<Live>,
    counters: Arc<Counters>,
    rng: Rng,
    /// Callers heard now.
    callers: usize,
}

impl Ear {
    /// An ear that hears nothing yet, for a recogniser that listens along, if one is given, or the one
    /// behind the queue. `rng` gives the transcripts' ids.
    pub fn new(queue: Arc<Queue>, live: Option<Live>, counters: Arc<Counters>, rng: Rng) -> Self {
        let desk = Desk { queue, live, counters, rng, callers: 0 };
        Self { streams: BTreeMap::new(), tick: TapTick::default(), desk }
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
                None => self.desk.finish(transcribe, self.desk.talks(transcribe, &"".into())),
            },
        }
    }

    fn begin(&mut self, transcribe: TranscribeId, language: &str, tap: &Tap) {
        let Some(reader) = tap.take_reader() else { return };
        let language: Arc<str> = language.into();
        self.streams.insert(
            transcribe,
            Stream {
                id: transcribe,
                talks: self.desk.talks(transcribe, &language),
                language,
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
        for id in ids {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let closed = stream.reader.is_closed();
            let dropped = stream.reader.dropped();
            while stream.reader.read(&mut self.tick) {
                stream.hear(now, &self.tick, &mut self.desk);
            }
            self.desk.counters.lost_ticks.fetch_add(stream.reader.dropped() - dropped, Relaxed);
            let over = stream.ends_by.is_some_and(|by| closed || now.instant >= by);
            if over && let Some(stream) = self.streams.remove(&id) {
                stream.finish(now.wall, &mut self.desk);
            }
        }
        self.desk.counters.callers.store(self.desk.callers as u64, Relaxed);
    }
}

impl Desk {
    /// The talks of a transcription, where the recogniser listens along.
    fn talks(&self, transcribe: TranscribeId, language: &Arc<str>) -> Option<Talks> {
        self.live.as_ref().map(|live| live.talks(transcribe, language.clone()))
    }

    /// Nothing more comes of a transcription.
    fn finish(&self, transcribe: TranscribeId, talks: Option<Talks>) {
        match talks {
            Some(talks) => talks.finish(),
            None => self.queue.push_finish(transcribe),
        }
    }
}

impl Stream {
    /// Hears one tick of the room.
    fn hear(&mut self, now: Now, tick: &TapTick, desk: &mut Desk) {
        let heard_at = time_of(now, tick.number);
        let gap = self.before.map_or(0, |before| tick.number.saturating_sub(before + 1)).min(GAP_MAX);
        self.before = Some(tick.number);
        for mark in &tick.marks {
            if let TapMark::Left(leg) = mark {
                if let Some(mut caller) = self.callers.remove(leg) {
                    desk.callers -= 1;
                    self.hand_on(*leg, caller.finish(heard_at, desk), desk);
                }
                self.names.remove(leg);
                self.refused.remove(leg);
            }
        }
        for (leg, samples) in tick.legs() {
            if !self.callers.contains_key(&leg) && !self.admit(leg, samples, desk) {
                continue;
            }
            let Some(caller) = self.callers.get_mut(&leg) else { continue };
            caller.tick = tick.number;
            let listens = self.talks.as_ref().zip(self.names.get(&leg).copied());
            let said = caller.hear(heard_at, gap, samples, (listens, desk));
            self.hand_on(leg, said, desk);
        }
        let silent: Vec<LegId> =
            self.callers.iter().filter(|(_, c)| c.tick != tick.number).map(|(leg, _)| *leg).collect();
        for leg in silent {
            let Some(caller) = self.callers.get_mut(&leg) else { continue };
            let listens = self.talks.as_ref().zip(self.names.get(&leg).copied());
            let said = caller.hear(heard_at, gap, &[], (listens, desk));
            self.hand_on(leg, said, desk);
        }
    }

    /// Makes a caller of a leg, if there is room for one more.
    fn admit(&mut self, leg: LegId, samples: &[i16], desk: &mut Desk) -> bool {
        if desk.callers >= CALLERS_MAX {
            // Counted once a caller: it is heard when there is room.
            if self.refused.insert(leg) {
                desk.counters.callers_refused.fetch_add(1, Relaxed);
            }
            return false;
        }
        desk.callers += 1;
        self.callers.insert(leg, Caller::new(rate_of(samples), &mut desk.rng));
        true
    }

    /// Hands on what a leg said. Its name was sent before its first sound, but may be read after it.
    fn hand_on(&self, leg: LegId, said: Vec<Said>, desk: &Desk) {
        let Some(&conferencecall) = self.names.get(&leg).filter(|_| self.talks.is_none()) else { return };
        for (transcript, piece) in said {
            let language = self.language.clone();
            let job =
                |utterance| Job { transcribe: self.id, conferencecall, transcript, language, utterance };
            match piece {
                Piece::Whole(utterance) => desk.queue.push_whole(job(utterance)),
                Piece::Early(utterance) => desk.queue.push_early(job(utterance)),
                Piece::GoesOn => desk.queue.withdraw(transcript),
                Piece::Partial(utterance) => desk.queue.push_partial(job(utterance)),
            }
        }
    }

    /// Everybody's last words.
    fn finish(mut self, wall: Timestamp, desk: &mut Desk) {
        let mut callers = std::mem::take(&mut self.callers);
        desk.callers -= callers.len();
        for (leg, caller) in &mut callers {
            self.hand_on(*leg, caller.finish(wall, desk), desk);
        }
        desk.finish(self.id, self.talks);
    }
}

impl Caller {
    fn new(rate_hz: u32, rng: &mut Rng) -> Self {
        let transcript = TranscriptId::random(rng);
        Self { cutter: Cutter::new(rate_hz), rate_hz, tick: 0, transcript, voice: Voice::default() }
    }

    /// Hears a frame after `gap` lost ones; no samples are silence.
    fn hear(
        &mut self,
        heard_at: Timestamp,
        gap: u64,
        samples: &[i16],
        (listens, desk): (Option<(&Talks, ConferencecallId)>, &mut Desk),
    ) -> Vec<Said> {
        let mut said = Vec::new();
        if !samples.is_empty() && rate_of(samples) != self.rate_hz {
            // The room's rate has changed.
            said.extend(self.finish(heard_at, desk));
            *self = Self { tick: self.tick, ..Self::new(rate_of(samples), &mut desk.rng) };
        }
        let lost = std::iter::repeat_n(&[][..], usize::try_from(gap).unwrap_or_default());
        for frame in lost.chain([samples]) {
            let piece = self.cutter.push(heard_at, frame);
            if let Some(listens) = listens {
                self.voice.follow(&self.cutter, (heard_at, piece.as_ref()), listens, &mut desk.rng);
            }
            said.extend(self.named(piece, &mut desk.rng));
        }
        said
    }

    /// Its last words.
    fn finish(&mut self, heard_at: Timestamp, desk: &mut Desk) -> Vec<Said> {
        self.voice.end(heard_at, &desk.counters);
        let piece = self.cutter.finish();
        self.named(piece, &mut desk.rng).into_iter().collect()
    }

    /// A piece with its transcript; after a whole one another begins.
    fn named(&mut self, piece: Option<Piece>, rng: &mut Rng) -> Option<Said> {
        let piece = piece?;
        let transcript = self.transcript;
        if matches!(piece, Piece::Whole(_)) {
            self.transcript = TranscriptId::random(rng);
        }
        Some((transcript, piece))
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
