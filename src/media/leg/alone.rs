//! What a leg does alone, outside the mix: the sound it is played, the keys that are pressed for it,
//! itself as an echo, and the keys it presses as tones. Legs that are never alone have none of it.

use std::sync::Arc;

use crate::id::LegId;
use crate::media::room::{FRAME, RATE_HZ};
use crate::media::shard::TICK_MS;
use crate::media::tones::ToneDetector;
use crate::plane::{Clip, ShardReport};
use crate::rtp::dtmf::{DtmfSender, DtmfTiming, EventPacket};

/// Timestamp units of a millisecond.
const PER_MS: u32 = RATE_HZ / 1000;

/// What is played.
#[derive(Debug)]
enum Sound {
    Clip { clip: Arc<Clip>, at: usize },
    Keys(DtmfSender),
}

/// A play that goes on, or is over and yet to be reported.
#[derive(Debug)]
struct Play {
    play: u64,
    sound: Sound,
}

impl Play {
    fn is_over(&self) -> bool {
        match &self.sound {
            Sound::Clip { clip, at } => *at >= clip.samples().len(),
            Sound::Keys(sender) => sender.is_done(),
        }
    }

    fn report(self, leg: LegId, whole: bool) -> ShardReport {
        let clip = match self.sound {
            Sound::Clip { clip, .. } => Some(clip),
            Sound::Keys(_) => None,
        };
        ShardReport::PlayDone { leg, play: self.play, whole, clip }
    }
}

/// The state of a leg that is, or was, alone. Made and freed between ticks.
#[derive(Debug)]
pub struct Alone {
    play: Option<Play>,
    /// Its own last frame, to be heard back.
    own: [i16; FRAME],
    tones: Option<ToneDetector>,
    pressed: Option<(char, u32)>,
}

impl Alone {
    /// Nothing is played.
    pub fn new() -> Self {
        Self { play: None, own: [0; FRAME], tones: None, pressed: None }
    }

    /// Plays a clip from now on, or says why not by the report that it is over.
    pub fn play(&mut self, play: u64, clip: Arc<Clip>) -> Option<u64> {
        let fits = clip.rate_hz() == RATE_HZ;
        self.play = Some(Play { play, sound: Sound::Clip { clip, at: 0 } });
        (!fits).then_some(play)
    }

    /// Presses keys from now on; false when there is no such key.
    pub fn press(&mut self, play: u64, digits: &str, held_ms: u16, gap_ms: u16) -> bool {
        let timing = DtmfTiming {
            duration: u32::from(held_ms) * PER_MS,
            interval: u32::from(gap_ms) * PER_MS,
            packet: TICK_MS as u32 * PER_MS,
        };
        let sender = DtmfSender::new(digits, timing).ok();
        self.play = sender.map(|sender| Play { play, sound: Sound::Keys(sender) });
        self.play.is_some()
    }

    /// Ends what is played; its report.
    pub fn stop(&mut self, leg: LegId) -> Option<ShardReport> {
        let play = self.play.take()?;
        let whole = play.is_over();
        Some(play.report(leg, whole))
    }

    /// Listens for tones, or no longer.
    pub fn listen_for_tones(&mut self, on: bool) {
        self.tones = on.then(ToneDetector::default);
        self.pressed = None;
    }

    /// Whether nothing of it is in use.
    pub fn is_idle(&self) -> bool {
        self.play.is_none() && self.tones.is_none()
    }

    /// Takes the leg's next frame, which `pull` writes, telling whether it may be other than silence.
    pub fn listen(&mut self, pull: impl FnOnce(&mut [i16]) -> bool) {
        if !pull(&mut self.own) {
            self.own.fill(0);
        }
        if let Some(tones) = &mut self.tones {
            self.pressed = tones.hear(&self.own).or(self.pressed);
        }
    }

    /// A key that was pressed as tones, and for how many milliseconds.
    pub fn poll_pressed(&mut self) -> Option<(char, u32)> {
        self.pressed.take()
    }

    /// What it sent last.
    pub fn own(&self) -> &[i16] {
        &self.own
    }

    /// Writes the next frame of the clip that is played; false when none is.
    pub fn fill(&mut self, pcm: &mut [i16]) -> bool {
        let Some(Play { sound: Sound::Clip { clip, at }, .. }) = &mut self.play else { return false };
        let rest = clip.samples().get(*at..).unwrap_or_default();
        let length = rest.len().min(pcm.len());
        let (sounding, silent) = pcm.split_at_mut(length);
        sounding.copy_from_slice(rest.get(..length).unwrap_or_default());
        silent.fill(0);
        *at += length;
        true
    }

    /// The event packet to send in place of the audio that begins at `timestamp`.
    pub fn key_packet(&mut self, timestamp: u32) -> Option<EventPacket> {
        match &mut self.play {
            Some(Play { sound: Sound::Keys(sender), .. }) => sender.poll_packet(timestamp),
            _ => None,
        }
    }

    /// Lets a tick pass in which the leg is sent nothing (hold): what is played goes on unheard.
    pub fn skip(&mut self, timestamp: u32) {
        let mut unheard = [0; FRAME];
        if !self.fill(&mut unheard) {
            self.key_packet(timestamp);
        }
    }

    /// The report that what was played is over, once. Frees nothing: the report takes the clip.
    pub fn poll_over(&mut self, leg: LegId) -> Option<ShardReport> {
        let over = self.play.take_if(|play| play.is_over())?;
        Some(over.report(leg, true))
    }
}

impl Default for Alone {
    fn default() -> Self {
        Self::new()
    }
}
