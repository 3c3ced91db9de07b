//! WAV files: speech to play, and a record of what was heard.

use std::f64::consts::PI;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::tone::RATE_HZ;

/// Half the width of the resampler's kernel, in samples of the slower side.
const KERNEL_HALF: f64 = 24.0;
/// What is kept of the band: the rest is the kernel's slope.
const PASS_BAND: f64 = 0.94;
/// The most samples a file may have: ten minutes at 192 kHz in stereo.
const SAMPLES_MAX: u32 = 10 * 60 * 192_000 * 2;

/// Why a file cannot be played or recorded.
#[derive(Debug, thiserror::Error)]
pub enum WaveError {
    /// The file cannot be opened, or is no WAV file.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: hound::Error,
    },
    /// The file is a WAV file of a kind we do not play.
    #[error("{path} is not 16-bit PCM of at most ten minutes; convert it, for example by: sox {path} -b 16 out.wav", path = path.display())]
    Unplayable {
        /// The file.
        path: PathBuf,
    },
    /// The record cannot be written.
    #[error("cannot write {path}: {source}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: hound::Error,
    },
}

/// Reads a file as one channel at 8 kHz.
pub fn read(path: &Path) -> Result<Vec<i16>, WaveError> {
    let unreadable = |source| WaveError::Unreadable { path: path.to_owned(), source };
    let reader = hound::WavReader::open(path).map_err(unreadable)?;
    let spec = reader.spec();
    let is_pcm16 = spec.sample_format == hound::SampleFormat::Int && spec.bits_per_sample == 16;
    if !is_pcm16 || spec.channels == 0 || spec.sample_rate < 4000 || reader.len() > SAMPLES_MAX {
        return Err(WaveError::Unplayable { path: path.to_owned() });
    }
    let samples = reader.into_samples::<i16>().collect::<Result<Vec<i16>, _>>().map_err(unreadable)?;
    Ok(resample(&one_channel(&samples, usize::from(spec.channels)), spec.sample_rate))
}

/// The mean of the channels.
fn one_channel(samples: &[i16], channels: usize) -> Vec<i16> {
    let mean = |frame: &[i16]| (frame.iter().map(|s| i32::from(*s)).sum::<i32>() / frame.len() as i32) as i16;
    samples.chunks(channels.max(1)).map(mean).collect()
}

/// Brings `samples` from `rate_hz` to 8 kHz by a windowed sinc. Meant for files, not for streams.
fn resample(samples: &[i16], rate_hz: u32) -> Vec<i16> {
    if rate_hz == RATE_HZ {
        return samples.to_vec();
    }
    let step = f64::from(rate_hz) / f64::from(RATE_HZ);
    // The kernel is as wide as the slower side needs, which is what keeps aliases out.
    let scale = step.max(1.0);
    let cutoff = PASS_BAND / scale;
    let half = KERNEL_HALF * scale;
    let length = (samples.len() as f64 / step) as usize;
    let output = |n: usize| {
        let centre = n as f64 * step;
        let first = (centre - half).ceil().max(0.0) as usize;
        let last = ((centre + half) as usize).min(samples.len().saturating_sub(1));
        let taps = (first..=last).map(|k| {
            let distance = k as f64 - centre;
            let window = 0.5 + 0.5 * (PI * distance / half).cos();
            f64::from(samples[k]) * sinc(cutoff * distance) * cutoff * window
        });
        taps.sum::<f64>().round().clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
    };
    (0..length).map(output).collect()
}

/// sin(πx) / πx.
fn sinc(x: f64) -> f64 {
    if x.abs() < 1e-9 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// A file being recorded: 8 kHz, 16 bits, one channel.
pub struct Recorder {
    path: PathBuf,
    writer: hound::WavWriter<BufWriter<File>>,
}

impl Recorder {
    /// Creates the file.
    pub fn create(path: &Path) -> Result<Recorder, WaveError> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: RATE_HZ,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let writer = hound::WavWriter::create(path, spec);
        let writer = writer.map_err(|source| WaveError::Unwritable { path: path.to_owned(), source })?;
        Ok(Recorder { path: path.to_owned(), writer })
    }

    /// Appends samples.
    pub fn write(&mut self, samples: &[i16]) -> Result<(), WaveError> {
        let written = samples.iter().try_for_each(|sample| self.writer.write_sample(*sample));
        written.map_err(|source| WaveError::Unwritable { path: self.path.clone(), source })
    }

    /// Completes the file.
    pub fn finish(self) -> Result<(), WaveError> {
        let path = self.path;
        self.writer.finalize().map_err(|source| WaveError::Unwritable { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tone::{Oscillator, amplitude_at};

    #[test]
    fn what_is_recorded_can_be_played() {
        let path = std::env::temp_dir().join(format!("confab-wave-{}.wav", std::process::id()));
        let mut samples = vec![0; 800];
        Oscillator::new(440.0).fill(&mut samples);
        let mut recorder = Recorder::create(&path).expect("a temporary file");
        samples.chunks(160).for_each(|frame| recorder.write(frame).expect("room for it"));
        recorder.finish().expect("room for it");
        let read = read(&path).expect("our own file");
        std::fs::remove_file(&path).expect("our own file");
        assert_eq!(read, samples);
    }

    #[test]
    fn other_rates_keep_the_tone_and_lose_what_8_khz_cannot_carry() {
        for rate in [16_000u32, 44_100, 48_000] {
            let tone = |hz: f64| -> Vec<i16> {
                let step = 2.0 * PI * hz / f64::from(rate);
                (0..rate).map(|n| (8000.0 * (step * f64::from(n)).sin()) as i16).collect()
            };
            let kept = resample(&tone(1000.0), rate);
            assert_eq!(kept.len(), 8000, "{rate}");
            assert!((amplitude_at(&kept, 1000) - 8000.0).abs() < 100.0, "{rate}");
            let alias = resample(&tone(5000.0), rate);
            assert!(amplitude_at(&alias, 3000) < 80.0, "{rate}: {}", amplitude_at(&alias, 3000));
        }
    }

    #[test]
    fn stereo_becomes_its_mean() {
        assert_eq!(one_channel(&[100, 300, -7, -9, 5], 2), [200, -8, 5]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nonexistent/speech.wav")).expect_err("there is no such file");
        assert!(error.to_string().contains("/nonexistent/speech.wav"));
    }
}
