//! Files of sound, told apart by their content: WAV, MP3, FLAC, Ogg with Vorbis or Opus. What comes
//! out is mono.

use std::io::Cursor;

use opus_pure::{OggOpusReader, Trim};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;

use super::PROMPT_MAX;

/// The rate Opus is decoded at, in hertz: what a G.711 room can hold.
const OPUS_RATE_HZ: u32 = 16_000;
/// Rates that are read, in hertz.
const RATES_HZ: std::ops::RangeInclusive<u32> = 4000..=96_000;
/// Channels that are read.
const CHANNELS_MAX: usize = 8;
/// Packets in a row that may be damaged before the file is given up.
const DAMAGED_MAX: usize = 50;
/// How the first page of an Ogg file with Opus begins (RFC 7845 §5.1), after Ogg's own header.
const OPUS_HEAD: &[u8] = b"OpusHead";

/// A sound: mono samples from −1 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Samples a second.
    pub rate_hz: u32,
    /// The samples.
    pub samples: Vec<f32>,
}

/// Why a file is not played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is none of the kinds we know.
    #[error("it is no WAV, MP3, FLAC or Ogg (Vorbis, Opus): {0}")]
    Unknown(String),
    /// It is damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It has a rate or a number of channels that we do not read.
    #[error("it has {rate_hz} Hz and {channels} channels")]
    Shape {
        /// Samples a second.
        rate_hz: u32,
        /// Channels.
        channels: usize,
    },
    /// It has no sound in it.
    #[error("there is no sound in it")]
    Empty,
}

/// Decodes a file, up to [`PROMPT_MAX`] of it.
///
/// # Errors
/// When it is no file of a kind we know.
pub fn decode(bytes: Vec<u8>) -> Result<Sound, DecodeError> {
    let begins = bytes.get(..64).unwrap_or(&bytes);
    let is_opus = begins.starts_with(b"OggS") && begins.windows(OPUS_HEAD.len()).any(|at| at == OPUS_HEAD);
    let sound = if is_opus { decode_opus(&bytes)? } else { decode_other(bytes)? };
    if sound.samples.is_empty() { Err(DecodeError::Empty) } else { Ok(sound) }
}

fn check(rate_hz: u32, channels: usize) -> Result<usize, DecodeError> {
    if !RATES_HZ.contains(&rate_hz) || !(1..=CHANNELS_MAX).contains(&channels) {
        return Err(DecodeError::Shape { rate_hz, channels });
    }
    Ok(rate_hz as usize * PROMPT_MAX.as_secs() as usize)
}

/// Adds interleaved frames, mixed to one channel.
fn mix(samples: &mut Vec<f32>, interleaved: &[f32], channels: usize) {
    let share = 1.0 / channels as f32;
    samples.extend(interleaved.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() * share));
}

fn decode_opus(bytes: &[u8]) -> Result<Sound, DecodeError> {
    let damaged = |error: opus_pure::Error| DecodeError::Damaged(error.to_string());
    let mut reader = OggOpusReader::new(bytes).map_err(damaged)?;
    let head = reader.head().clone();
    let channels = usize::from(head.channel_count);
    let longest = check(OPUS_RATE_HZ, channels)?;
    let mut decoder = head.decoder(OPUS_RATE_HZ as i32).map_err(damaged)?;
    let mut trim = Trim::new(&head, OPUS_RATE_HZ as i32, channels).map_err(damaged)?;
    // 120 ms, the longest packet there is (RFC 6716 §3.2.5).
    let frame = OPUS_RATE_HZ as usize * 120 / 1000;
    let mut pcm = vec![0.0; frame * channels];
    let mut samples = Vec::new();
    while samples.len() < longest {
        // A file that is cut off ends where it is cut off.
        let Ok(Some(packet)) = reader.read_packet() else { break };
        let Ok(decoded) = decoder.decode(&packet.data, frame, &mut pcm) else { continue };
        let kept = trim.keep(&packet, pcm.get(..decoded * channels).unwrap_or_default());
        mix(&mut samples, kept, channels);
    }
    Ok(Sound { rate_hz: OPUS_RATE_HZ, samples })
}

fn decode_other(bytes: Vec<u8>) -> Result<Sound, DecodeError> {
    let unknown = |error: Error| DecodeError::Unknown(error.to_string());
    let source = MediaSourceStream::new(Box::new(Cursor::new(bytes)), MediaSourceStreamOptions::default());
    let mut format = symphonia::default::get_probe()
        .probe(&Hint::new(), source, FormatOptions::default(), MetadataOptions::default())
        .map_err(unknown)?;
    let track = format.default_track(TrackType::Audio).ok_or(DecodeError::Empty)?;
    let id = track.id;
    let params = track.codec_params.as_ref().and_then(|params| params.audio()).ok_or(DecodeError::Empty)?;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(params, &AudioDecoderOptions::default())
        .map_err(unknown)?;
    let (mut samples, mut interleaved) = (Vec::new(), Vec::<f32>::new());
    let (mut rate_hz, mut longest, mut damaged) = (0, usize::MAX, 0);
    while samples.len() < longest {
        // A file that is cut off ends where it is cut off.
        let Ok(Some(packet)) = format.next_packet() else { break };
        if packet.track_id != id {
            continue;
        }
        let decoded = match decoder.decode(&packet) {
            Ok(decoded) => decoded,
            Err(error) => {
                damaged += 1;
                if damaged > DAMAGED_MAX {
                    return Err(DecodeError::Damaged(error.to_string()));
                }
                continue;
            }
        };
        damaged = 0;
        let (rate, channels) = (decoded.spec().rate(), decoded.spec().channels().count());
        if rate_hz == 0 {
            longest = check(rate, channels)?;
            rate_hz = rate;
        } else if rate != rate_hz {
            break;
        }
        decoded.copy_to_vec_interleaved(&mut interleaved);
        mix(&mut samples, &interleaved, channels.max(1));
    }
    samples.truncate(longest);
    Ok(Sound { rate_hz: rate_hz.max(1), samples })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::resample;
    use crate::rng::Rng;

    /// Half a second of 1000 Hz at four tenths of full scale, in every kind of file (libsndfile wrote
    /// them).
    const FILES: [(&str, &[u8]); 5] = [
        ("MP3, stereo, 44.1 kHz", include_bytes!("../../fixtures/prompt/tone.mp3")),
        ("FLAC, 22.05 kHz", include_bytes!("../../fixtures/prompt/tone.flac")),
        ("Ogg Vorbis, 32 kHz", include_bytes!("../../fixtures/prompt/tone-vorbis.ogg")),
        ("Ogg Opus, stereo, 48 kHz", include_bytes!("../../fixtures/prompt/tone-opus.ogg")),
        ("WAV, A-law", include_bytes!("../../fixtures/prompt/tone-alaw.wav")),
    ];

    #[test]
    fn every_kind_of_file_sounds_the_same() {
        for (name, bytes) in FILES {
            let sound = decode(bytes.to_vec()).unwrap_or_else(|error| panic!("{name}: {error}"));
            let out = resample(&sound.samples, sound.rate_hz, 8000);
            assert!((3900..=4600).contains(&out.len()), "{name}: {} samples", out.len());
            let inner = &out[1000..3000];
            let peak = inner.iter().map(|sample| i32::from(*sample).abs()).max().unwrap_or(0);
            assert!((11_500..=14_700).contains(&peak), "{name}: peak {peak}");
            let rising = inner.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
            assert!((248..=252).contains(&rising), "{name}: {rising} periods in a quarter of a second");
        }
    }

    #[test]
    fn what_is_no_sound_is_told() {
        for bytes in [&b""[..], b"<html>not found</html>", &[0; 4096], b"OggS but no more, OpusHead"] {
            assert!(decode(bytes.to_vec()).is_err());
        }
    }

    #[test]
    fn damaged_files_break_nothing() {
        let mut rng = Rng::from_number(5);
        for (_, bytes) in FILES {
            for length in (0..bytes.len()).step_by(293) {
                let _ = decode(bytes[..length].to_vec());
            }
            for _ in 0..40 {
                let mut damaged = bytes.to_vec();
                for _ in 0..8 {
                    let at = rng.below(damaged.len() as u64) as usize;
                    damaged[at] ^= 1 << rng.below(8);
                }
                let _ = decode(damaged);
            }
        }
    }
}
