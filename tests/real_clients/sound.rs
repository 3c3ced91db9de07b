//! Tones, and what of them arrives.

use std::fs;
use std::path::Path;

use confab::codec::g711;

/// Samples per second of telephony.
pub const RATE_HZ: u32 = 8_000;
/// How loud tones are played; full scale is 32767.
const TONE_PEAK: f64 = 8_000.0;
/// A tone counts as heard from this amplitude on ...
const HEARD_PEAK: f64 = 1_000.0;
/// ... and as not heard below this one: what an encoder leaves of other tones is less.
const UNHEARD_PEAK: f64 = 160.0;

/// One or more seconds of a tone of a whole number of hertz.
pub fn tone(hz: u32, seconds: u32) -> Vec<i16> {
    let turn = f64::from(hz) * std::f64::consts::TAU / f64::from(RATE_HZ);
    (0..RATE_HZ * seconds).map(|n| (f64::from(n) * turn).sin() * TONE_PEAK).map(|s| s as i16).collect()
}

/// Writes a tone as a WAV file.
pub fn write_wav(path: &Path, hz: u32, seconds: u32) {
    write_samples(path, tone(hz, seconds));
}

/// Writes a WAV file of a phone's rate.
pub fn write_samples(path: &Path, samples: impl IntoIterator<Item = i16>) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec).expect("the folder is ours");
    for sample in samples {
        file.write_sample(sample).expect("space for a sound");
    }
    file.finalize().expect("space for a sound");
}

/// Writes a second of a tone as bare µ-law, which SIPp repeats.
pub fn write_ulaw(path: &Path, hz: u32) {
    let samples = tone(hz, 1);
    let mut payload = vec![0; samples.len()];
    g711::encode_ulaw(&samples, &mut payload);
    fs::write(path, payload).expect("the folder is ours");
}

/// What was heard, at some sample rate.
pub struct Heard {
    samples: Vec<i16>,
    rate_hz: u32,
}

impl Heard {
    /// Samples at the rate of telephony.
    pub fn of(samples: Vec<i16>) -> Heard {
        Heard { samples, rate_hz: RATE_HZ }
    }

    /// A recording. One that was not closed is read as far as it goes.
    pub fn recorded(path: &Path) -> Heard {
        let mut file = hound::WavReader::open(path)
            .unwrap_or_else(|error| panic!("no recording {}: {error}", path.display()));
        let spec = file.spec();
        assert_eq!((spec.channels, spec.bits_per_sample), (1, 16), "{}", path.display());
        let samples = file.samples().map_while(Result::ok).collect();
        Heard { samples, rate_hz: spec.sample_rate }
    }

    /// The loudest that a tone is over any half of a second, as its amplitude. Over that long,
    /// tones a few hertz apart are told from one another.
    pub fn peak(&self, hz: u32) -> f64 {
        let window = self.rate_hz as usize / 2;
        let steps = self.samples.len().saturating_sub(window) / (window / 2);
        (0..=steps)
            .filter_map(|step| self.samples.get(step * window / 2..)?.get(..window))
            .map(|window| goertzel(window, self.rate_hz, hz))
            .fold(0.0, f64::max)
    }

    /// # Panics
    /// When `tone` was not heard.
    pub fn assert_hears(&self, who: &str, tone_hz: u32) {
        let peak = self.peak(tone_hz);
        assert!(peak > HEARD_PEAK, "{who} hears {tone_hz} Hz at {peak:.0} in {}", self.length());
    }

    /// # Panics
    /// When `tone` was heard.
    pub fn assert_does_not_hear(&self, who: &str, tone_hz: u32) {
        let peak = self.peak(tone_hz);
        assert!(peak < UNHEARD_PEAK, "{who} hears {tone_hz} Hz at {peak:.0} in {}", self.length());
    }

    /// How long it is.
    pub fn duration(&self) -> std::time::Duration {
        std::time::Duration::from_secs_f64(self.samples.len() as f64 / f64::from(self.rate_hz))
    }

    /// Its samples.
    pub fn samples(&self) -> &[i16] {
        &self.samples
    }

    fn length(&self) -> String {
        format!("{} samples at {} Hz", self.samples.len(), self.rate_hz)
    }
}

/// The amplitude of one tone in these samples (Goertzel's filter).
fn goertzel(samples: &[i16], rate_hz: u32, hz: u32) -> f64 {
    let turn = std::f64::consts::TAU * f64::from(hz) / f64::from(rate_hz);
    let factor = 2.0 * turn.cos();
    let (last, before) = samples
        .iter()
        .fold((0.0, 0.0), |(last, before), &sample| (f64::from(sample) + factor * last - before, last));
    let power = last * last + before * before - factor * last * before;
    2.0 * power.max(0.0).sqrt() / samples.len() as f64
}

#[test]
fn a_tone_is_told_from_its_neighbours() {
    let heard = Heard::of(tone(600, 2));
    heard.assert_hears("a tone", 600);
    for other in [580, 620, 1000, 440] {
        heard.assert_does_not_hear("a tone", other);
    }
}
