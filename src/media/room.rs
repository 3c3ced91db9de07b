//! A room: the legs that hear each other, and its tick.

use slab::Slab;

use super::leg::Leg;
use super::leg::voice::Voiced;
use super::shard::{LegKey, Outbound, TICK_MS};
use super::source::{self, Source};
use super::tap::{Heard, Taps};
use crate::audio::AudioCodec;
use crate::codec::g711;
use crate::mixer::limiter::Limiter;
use crate::mixer::room::Mix;
use crate::mixer::speakers::Choice;
use crate::plane::RoomShape;
use crate::plane::tap::tick_number;
use crate::time::Instant;

/// The sampling rate of a room whose members all speak G.711.
pub const RATE_HZ: u32 = 8000;
/// Samples in one tick's frame.
pub const FRAME: usize = (RATE_HZ / 1000) as usize * TICK_MS as usize;

/// The legs of one conference.
#[derive(Debug)]
pub struct Room {
    pub(super) shape: RoomShape,
    /// Which of the shard's lanes it ticks in.
    pub(super) lane: usize,
    pub(super) legs: Vec<LegKey>,
    pub(super) taps: Taps,
    pub(super) sources: Vec<Source>,
    limiter: Limiter,
}

/// The buffers of a tick, shared by all rooms of a shard.
#[derive(Debug)]
pub struct Scratch {
    mix: Mix,
    choice: Choice,
    own_pcm: [i16; FRAME],
    own_payload: [u8; FRAME],
    shared: SharedSound,
}

/// What everybody who does not speak hears: mixed once, encoded once per codec.
#[derive(Debug)]
struct SharedSound {
    pcm: [i16; FRAME],
    is_mixed: bool,
    payloads: [[u8; FRAME]; AudioCodec::ALL.len()],
    is_encoded: [bool; AudioCodec::ALL.len()],
}

impl SharedSound {
    fn clear(&mut self) {
        self.is_mixed = false;
        self.is_encoded = [false; AudioCodec::ALL.len()];
    }

    /// The shared mix, made once.
    fn limited(&mut self, mix: &Mix, limiter: &mut Limiter) -> &[i16] {
        if !self.is_mixed {
            mix.shared(limiter, &mut self.pcm);
            self.is_mixed = true;
        }
        &self.pcm
    }

    /// The shared mix in `codec`, made for its first listener and reused for all others.
    fn payload(&mut self, codec: AudioCodec, mix: &Mix, limiter: &mut Limiter) -> &[u8] {
        self.limited(mix, limiter);
        let index = codec as usize;
        if !self.is_encoded[index] {
            g711::encode(codec, &self.pcm, &mut self.payloads[index]);
            self.is_encoded[index] = true;
        }
        &self.payloads[index]
    }
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            mix: Mix::new(FRAME),
            choice: Choice::with_capacity(0),
            own_pcm: [0; FRAME],
            own_payload: [0; FRAME],
            shared: SharedSound {
                pcm: [0; FRAME],
                is_mixed: false,
                payloads: [[0; FRAME]; AudioCodec::ALL.len()],
                is_encoded: [false; AudioCodec::ALL.len()],
            },
        }
    }

    /// Makes room for the choice among `legs` legs, so that no tick allocates.
    pub(super) fn reserve(&mut self, legs: usize) {
        self.choice.reserve(legs);
    }
}

impl Room {
    pub(super) fn new(shape: RoomShape, lane: usize) -> Self {
        let limiter = Limiter::default();
        Self { shape, lane, legs: Vec::new(), taps: Taps::default(), sources: Vec::new(), limiter }
    }

    /// One tick: everybody's next frame in, everybody's next packet out.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        legs: &mut Slab<Leg>,
        scratch: &mut Scratch,
        out: &mut impl Outbound,
    ) {
        self.listen(now, legs, scratch);
        self.mix(legs, scratch);
        if !self.taps.is_empty() {
            self.tap(now, legs, scratch);
        }
        if !self.sources.is_empty() {
            self.tell_sources(now, scratch);
        }
        self.speak(now, legs, scratch, out);
    }

    /// Takes every leg's next frame and collects whose voice is open.
    fn listen(&mut self, now: Instant, legs: &mut Slab<Leg>, scratch: &mut Scratch) {
        scratch.choice.clear();
        for &key in &self.legs {
            let leg = &mut legs[key.index()];
            if let Voiced::Open { level, incumbent } = leg.listen(now, self.shape.gate) {
                scratch.choice.add(key.0, level, incumbent);
            }
        }
        for (place, source) in self.sources.iter_mut().enumerate() {
            if let Voiced::Open { level, incumbent } = source.listen(self.shape.gate) {
                scratch.choice.add(source::index_of(place), level, incumbent);
            }
        }
    }

    /// Sums the loudest voices.
    fn mix(&mut self, legs: &mut Slab<Leg>, scratch: &mut Scratch) {
        let Scratch { mix, choice, shared, .. } = scratch;
        mix.clear();
        shared.clear();
        for index in choice.loudest(usize::from(self.shape.max_speakers)) {
            match source::place_of(index) {
                Some(place) => self.sources[place].voice.choose(),
                None => legs[index as usize].voice.choose(),
            }
        }
        for &key in &self.legs {
            if let Some(frame) = legs[key.index()].voice.speak() {
                mix.add(frame);
            }
        }
        for source in &mut self.sources {
            if let Some(frame) = source.voice.speak() {
                mix.add(frame);
            }
        }
    }

    /// Writes the tick to the room's taps.
    fn tap(&mut self, now: Instant, legs: &Slab<Leg>, scratch: &mut Scratch) {
        let Scratch { mix, shared, .. } = scratch;
        let heard = Heard {
            tick: tick_number(now),
            is_silent: mix.voices() == 0,
            mix: shared.limited(mix, &mut self.limiter),
            sum: mix.sum(),
        };
        let voices = self.legs.iter().map(|key| &legs[key.index()]).map(|leg| (leg.id(), &leg.voice));
        let sources = self.sources.iter().map(|source| (source.id, &source.voice));
        self.taps.write(heard, voices.chain(sources));
    }

    /// Gives every source what it is to hear.
    fn tell_sources(&mut self, now: Instant, scratch: &mut Scratch) {
        let Scratch { mix, shared, .. } = scratch;
        let everybody = shared.limited(mix, &mut self.limiter);
        for source in &mut self.sources {
            source.hear(tick_number(now), mix, everybody);
        }
    }

    /// Sends every leg what it is to hear.
    fn speak(&mut self, now: Instant, legs: &mut Slab<Leg>, scratch: &mut Scratch, out: &mut impl Outbound) {
        let Scratch { mix, own_pcm, own_payload, shared, .. } = scratch;
        for &key in &self.legs {
            let leg = &mut legs[key.index()];
            if !leg.sends() {
                leg.skip(FRAME);
                continue;
            }
            let codec = leg.codec();
            let payload = if leg.hears_of_its_own(mix, own_pcm) {
                g711::encode(codec, own_pcm, own_payload);
                &own_payload[..]
            } else {
                shared.payload(codec, mix, &mut self.limiter)
            };
            leg.send(now, key, payload, out);
        }
    }
}
