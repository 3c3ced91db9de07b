//! One recording on its way from the tap to its files.
//!
//! Time is the room's clock: every tick has its 20 ms in every file, whether it brought sound, brought
//! silence, was paused, or was lost on the way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::Counters;
use super::folder::{Folder, Part};
use super::ogg::OpusFile;
use super::wav::Wav;
use crate::bridge::recording::Written;
use crate::bridge::resource::RecordingFormat;
use crate::id::{ConferencecallId, LegId, RecordingId};
use crate::plane::tap::{TICK, TapMark, TapReader, TapTick};

/// Tracks of one recording; who comes later is in the mix only, and counted.
pub const TRACKS_MAX: usize = 512;
/// A leg's talk ends when it was silent for so many ticks: half a second.
const TALK_PAUSE_TICKS: u64 = 25;
/// Pauses of one recording that are remembered; taps are read long before so many have come.
const PAUSES_MAX: usize = 64;

/// A file that holds sound.
#[derive(Debug)]
enum Sound {
    Wav(Wav),
    Opus(OpusFile),
}

impl Sound {
    fn push(&mut self, frame: &[i16]) -> io::Result<()> {
        match self {
            Sound::Wav(wav) => wav.push(frame),
            Sound::Opus(opus) => opus.push(frame)?,
        }
        Ok(())
    }

    fn silence(&mut self, ticks: u64, frame: usize) -> io::Result<()> {
        match self {
            Sound::Wav(wav) => wav.silence(ticks * frame as u64),
            Sound::Opus(opus) => opus.silence(ticks),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sound::Wav(wav) => wav.flush(),
            Sound::Opus(opus) => opus.flush(),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Sound::Wav(wav) => wav.finish(),
            Sound::Opus(opus) => opus.finish(),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Sound::Wav(wav) => wav.bytes(),
            Sound::Opus(opus) => opus.bytes(),
        }
    }
}

/// The files of a recording that has heard something.
#[derive(Debug)]
struct Files {
    mix: Sound,
    /// Samples in a tick.
    frame: usize,
    tracks: Option<Tracks>,
}

/// A track of each caller, and the marks of all.
#[derive(Debug)]
struct Tracks {
    by_leg: HashMap<LegId, Track>,
    begun: usize,
    marks: File,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
    marks_bytes: u64,
    /// Bytes of tracks that are finished.
    past_bytes: u64,
}

#[derive(Debug)]
struct Track {
    wav: Wav,
    caller: ConferencecallId,
    /// Ticks written.
    ticks: u64,
    /// The last tick with sound, while it talks.
    talked: Option<u64>,
}

/// One recording that is being written.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: RecordingId,
    format: RecordingFormat,
    with_tracks: bool,
    reader: TapReader,
    tick: TapTick,
    files: Option<Files>,
    /// The number of the first tick, and of the next.
    first: u64,
    next: u64,
    /// Ticks that are in the mix and were lost on the way.
    lost: u64,
    /// From which tick on it is paused, or not.
    pauses: BTreeMap<u64, bool>,
    names: HashMap<LegId, ConferencecallId>,
    counters: Arc<Counters>,
}

/// What a look at the tap brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// The first sound has come.
    pub(super) started: bool,
    /// No more will come.
    pub(super) closed: bool,
}

impl Session {
    pub(super) fn new(
        id: RecordingId,
        format: RecordingFormat,
        with_tracks: bool,
        reader: TapReader,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            id,
            format,
            with_tracks,
            reader,
            tick: TapTick::default(),
            files: None,
            first: 0,
            next: 0,
            lost: 0,
            pauses: BTreeMap::new(),
            names: HashMap::new(),
            counters,
        }
    }

    /// Whose leg this is.
    pub(super) fn name(&mut self, leg: LegId, caller: ConferencecallId) {
        self.names.insert(leg, caller);
    }

    /// Whether it is paused from this tick on.
    pub(super) fn pause(&mut self, tick: u64, paused: bool) {
        self.pauses.insert(tick, paused);
        if self.pauses.len() > PAUSES_MAX {
            self.pauses.pop_first();
        }
    }

    /// Takes what has come by the tap.
    pub(super) fn poll(&mut self, folder: &Folder) -> io::Result<Progress> {
        // Asked first: then what is read is all there was.
        let closed = self.reader.is_closed();
        let mut started = false;
        let mut tick = std::mem::take(&mut self.tick);
        let mut result = Ok(());
        while result.is_ok() && self.reader.read(&mut tick) {
            started |= self.files.is_none();
            result = self.take(folder, &tick);
        }
        self.tick = tick;
        result.map(|()| Progress { started, closed })
    }

    /// Puts what has come into the files.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(files) = &mut self.files else { return Ok(()) };
        files.mix.flush()?;
        let Some(tracks) = &mut files.tracks else { return Ok(()) };
        for track in tracks.by_leg.values_mut() {
            track.wav.flush()?;
        }
        tracks.flush_marks()
    }

    /// Finishes the files, and measures them.
    pub(super) fn finish(&mut self) -> (io::Result<()>, Written) {
        let length = self.next - self.first;
        let result = self.files.as_mut().map_or(Ok(()), |files| files.finish(length));
        let ms = |ticks: u64| ticks * TICK.as_millis() as u64;
        let written = Written {
            bytes: self.files.as_ref().map_or(0, Files::bytes),
            duration_ms: ms(length),
            lost_ms: ms(self.lost),
        };
        (result, written)
    }

    fn take(&mut self, folder: &Folder, tick: &TapTick) -> io::Result<()> {
        if self.files.is_none() {
            self.begin(folder, tick)?;
        }
        let paused = self.is_paused(tick.number);
        let Some(files) = &mut self.files else { return Ok(()) };
        let lost = tick.number.saturating_sub(self.next);
        if lost > 0 {
            self.lost += lost;
            self.counters.lost_ticks.fetch_add(lost, Ordering::Relaxed);
            files.mix.silence(lost, files.frame)?;
        }
        self.next = tick.number + 1;
        match tick.mix().filter(|_| !paused) {
            Some(mix) if mix.len() == files.frame => files.mix.push(mix)?,
            Some(mix) => files.mix.push(&fitted(mix, files.frame))?,
            None => files.mix.silence(1, files.frame)?,
        }
        let at = tick.number - self.first;
        if let Some(tracks) = &mut files.tracks {
            tracks.take(folder, self.id, tick, (at, files.frame, paused), &self.names, &self.counters)?;
        }
        for mark in &tick.marks {
            if let TapMark::Left(leg) = mark {
                self.names.remove(leg);
            }
        }
        Ok(())
    }

    fn begin(&mut self, folder: &Folder, tick: &TapTick) -> io::Result<()> {
        let file = folder.create(self.id, Part::Mix(self.format))?;
        let mix = match self.format {
            RecordingFormat::Wav => Sound::Wav(Wav::begin(file, tick.rate_hz)?),
            RecordingFormat::Ogg => {
                // Any number will do: there is one stream in the file.
                let serial = self.id.0.as_u128() as u32;
                Sound::Opus(OpusFile::begin(file, tick.rate_hz, serial)?)
            }
        };
        let tracks = if self.with_tracks { Some(Tracks::begin(folder, self.id)?) } else { None };
        self.files = Some(Files { mix, frame: tick.rate_hz as usize / 50, tracks });
        (self.first, self.next) = (tick.number, tick.number);
        Ok(())
    }

    /// Whether this tick is to be silent; what was said of earlier ones is forgotten.
    fn is_paused(&mut self, tick: u64) -> bool {
        let Some((&since, &paused)) = self.pauses.range(..=tick).next_back() else { return false };
        self.pauses = self.pauses.split_off(&since);
        paused
    }
}

impl Files {
    fn bytes(&self) -> u64 {
        self.mix.bytes() + self.tracks.as_ref().map_or(0, Tracks::bytes)
    }

    fn finish(&mut self, length: u64) -> io::Result<()> {
        let tracks = self.tracks.as_mut().map_or(Ok(()), |tracks| tracks.finish(length, self.frame));
        self.mix.finish().and(tracks)
    }
}

impl Tracks {
    fn begin(folder: &Folder, id: RecordingId) -> io::Result<Self> {
        Ok(Self {
            by_leg: HashMap::new(),
            begun: 0,
            marks: folder.create(id, Part::Marks)?,
            lines: Vec::new(),
            marks_bytes: 0,
            past_bytes: 0,
        })
    }

    fn take(
        &mut self,
        folder: &Folder,
        id: RecordingId,
        tick: &TapTick,
        (at, frame, paused): (u64, usize, bool),
        names: &HashMap<LegId, ConferencecallId>,
        counters: &Counters,
    ) -> io::Result<()> {
        for mark in &tick.marks {
            match *mark {
                TapMark::Joined(leg) => self.open(folder, (id, tick.rate_hz), at, leg, names, counters)?,
                TapMark::Left(leg) => self.close(at, leg, frame)?,
                TapMark::Muted(leg) => self.mark_leg(at, leg, "mute"),
                TapMark::Unmuted(leg) => self.mark_leg(at, leg, "unmute"),
            }
        }
        let mut spoke = HashSet::new();
        for (leg, samples) in tick.legs().filter(|_| !paused) {
            let Some(track) = self.by_leg.get_mut(&leg) else { continue };
            spoke.insert(leg);
            track.wav.silence((at - track.ticks) * frame as u64)?;
            if samples.len() == frame {
                track.wav.push(samples)
            } else {
                track.wav.push(&fitted(samples, frame))
            }
            track.ticks = at + 1;
        }
        for leg in spoke {
            let was_silent =
                self.by_leg.get_mut(&leg).is_some_and(|track| track.talked.replace(at).is_none());
            if was_silent {
                self.mark_leg(at, leg, "talk_start");
            }
        }
        let over = |track: &Track| track.talked.is_some_and(|talked| at - talked >= TALK_PAUSE_TICKS);
        let ended: Vec<LegId> =
            self.by_leg.iter().filter(|(_, track)| over(track)).map(|(leg, _)| *leg).collect();
        for leg in ended {
            self.end_talk(leg);
        }
        Ok(())
    }

    fn open(
        &mut self,
        folder: &Folder,
        (id, rate_hz): (RecordingId, u32),
        at: u64,
        leg: LegId,
        names: &HashMap<LegId, ConferencecallId>,
        counters: &Counters,
    ) -> io::Result<()> {
        // A leg without a caller is not one who was called: it is in the mix only.
        let Some(&caller) = names.get(&leg) else { return Ok(()) };
        self.line(at, caller, "join");
        if self.begun >= TRACKS_MAX {
            counters.tracks_refused.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.begun += 1;
        let wav = Wav::begin(folder.create(id, Part::Track(caller))?, rate_hz)?;
        self.by_leg.insert(leg, Track { wav, caller, ticks: 0, talked: None });
        Ok(())
    }

    fn close(&mut self, at: u64, leg: LegId, frame: usize) -> io::Result<()> {
        self.end_talk(leg);
        let Some(mut track) = self.by_leg.remove(&leg) else { return Ok(()) };
        self.line(at, track.caller, "leave");
        track.wav.silence((at - track.ticks) * frame as u64)?;
        track.wav.finish()?;
        self.past_bytes += track.wav.bytes();
        Ok(())
    }

    fn end_talk(&mut self, leg: LegId) {
        let Some(track) = self.by_leg.get_mut(&leg) else { return };
        if let Some(talked) = track.talked.take() {
            let caller = track.caller;
            self.line(talked + 1, caller, "talk_end");
        }
    }

    fn mark_leg(&mut self, at: u64, leg: LegId, what: &str) {
        if let Some(caller) = self.by_leg.get(&leg).map(|track| track.caller) {
            self.line(at, caller, what);
        }
    }

    fn line(&mut self, at: u64, caller: ConferencecallId, what: &str) {
        let ms = at * TICK.as_millis() as u64;
        let line = json!({ "ms": ms, "type": what, "conferencecall_id": caller });
        // Writing to memory cannot fail.
        let _ = writeln!(self.lines, "{line}");
    }

    fn flush_marks(&mut self) -> io::Result<()> {
        self.marks.write_all(&self.lines)?;
        self.marks_bytes += self.lines.len() as u64;
        self.lines.clear();
        Ok(())
    }

    fn finish(&mut self, length: u64, frame: usize) -> io::Result<()> {
        let legs: Vec<LegId> = self.by_leg.keys().copied().collect();
        for leg in legs {
            self.close(length, leg, frame)?;
        }
        self.flush_marks()
    }

    fn bytes(&self) -> u64 {
        let open: u64 = self.by_leg.values().map(|track| track.wav.bytes()).sum();
        open + self.past_bytes + self.marks_bytes
    }
}

/// A frame of another rate, brought to `length` samples: the room changed its rate, the file cannot.
fn fitted(frame: &[i16], length: usize) -> Vec<i16> {
    let last = frame.len().saturating_sub(1);
    (0..length)
        .map(|at| {
            let place = at * frame.len();
            let (index, rest) = (place / length, (place % length) as i32);
            let (from, to) = (i32::from(frame[index.min(last)]), i32::from(frame[(index + 1).min(last)]));
            (from + (to - from) * rest / length as i32) as i16
        })
        .collect()
}
