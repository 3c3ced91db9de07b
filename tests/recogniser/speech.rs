//! Speech as a bridge gets it, and what the recogniser makes of it.

use std::path::PathBuf;

use confab::audio::AudioCodec;
use confab::codec::g711;
use confab::speech::recogniser::engine::{Care, Engine as _};
use confab::speech::recogniser::moonshine::Moonshine;
use confab::speech::recogniser::utterance::{Cutter, Piece};
use confab::time::{Duration, Timestamp};

/// The rate of a G.711 call.
pub const RATE_HZ: u32 = 8000;
const FRAME: usize = 160;

/// The recogniser; fails loudly where the models are missing.
pub fn recogniser() -> Moonshine {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models");
    Moonshine::load(&folder, 1)
        .unwrap_or_else(|error| panic!("\n\nthe speech models are needed: run `make models`\n({error})\n\n"))
}

/// `text` as the embedded voice says it.
pub fn say(voice: &flite_rs::Engine, text: &str) -> Vec<i16> {
    let audio = voice.synthesize(text);
    assert_eq!(audio.sample_rate, RATE_HZ);
    audio.samples
}

/// Samples after a way through G.711 µ-law.
pub fn over_g711(samples: &[i16]) -> Vec<i16> {
    let (mut wire, mut heard) = (vec![0; samples.len()], vec![0; samples.len()]);
    g711::encode(AudioCodec::Pcmu, samples, &mut wire);
    g711::decode(AudioCodec::Pcmu, &wire, &mut heard);
    heard
}

/// The texts of a stream, cut and recognised as in a conference.
pub fn hear(recogniser: &mut Moonshine, samples: &[i16]) -> Vec<String> {
    let mut cutter = Cutter::new(RATE_HZ);
    let mut pieces = Vec::new();
    for (number, frame) in (0..).zip(samples.chunks(FRAME)) {
        pieces.extend(cutter.push(Timestamp::from_micros(0).plus(Duration::from_millis(20 * number)), frame));
    }
    pieces.extend(cutter.finish());
    let whole = |piece| if let Piece::Whole(utterance) = piece { Some(utterance) } else { None };
    pieces
        .into_iter()
        .filter_map(whole)
        .map(|utterance| recogniser.recognise(&utterance, "en", Care::Thorough).expect("it runs"))
        .collect()
}
