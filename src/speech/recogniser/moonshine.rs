//! The embedded recogniser: Moonshine tiny for English (int8 ONNX), run by `rten` on the CPU.
//!
//! The encoder turns 16 kHz audio into hidden states, about 41 a second. The decoder is a merged graph:
//! its first step also computes the keys and values of the encoder's states (`use_cache_branch` false), all
//! further steps take them, and the growing ones of its own tokens, as `past_key_values`. Decoding is
//! greedy.
//!
//! So small a model stumbles over chance details of the audio. Where it is not sure of what it heard, it
//! hears the same a little slower and a little faster, and the guess that it is surest of is taken: a sixth
//! fewer words are wrong.

use std::path::Path;
use std::sync::Arc;

use rten::{Model, NodeId, RunOptions, ThreadPool, Value, ValueOrView};

use super::engine::{Care, Engine, EngineError};
use super::models::{self, ModelFilesError};
use super::utterance::Utterance;
use super::vocabulary::{Vocabulary, VocabularyError};
use crate::codec::resample::Resampler;

/// The name of this engine, as transcriptions show it.
pub const PROVIDER: &str = "moonshine";
/// The languages it knows, as primary subtags.
pub const LANGUAGES: [&str; 1] = ["en"];
/// The rate of the audio it takes.
const RATE_HZ: u32 = 16_000;
/// The shortest audio it takes (100 ms); shorter is filled up with silence.
const SAMPLES_MIN: usize = RATE_HZ as usize / 10;
/// Tokens for each two seconds of audio, at most. A speaker in a hurry has under 6 a second; more are a
/// decoder that repeats itself.
const TOKENS_PER_2_S: usize = 13;
/// Tokens beside, for short utterances.
const TOKENS_SPARE: usize = 4;
/// A whole utterance whose guess is less sure than this (mean log-likelihood of its tokens) is heard again.
const SURE: f32 = -0.2;
/// The longest audio that is heard again, in samples (5 s): of more the text would be late.
const AGAIN_MAX: usize = 5 * RATE_HZ as usize;
/// The speeds it is heard again at.
const SPEEDS: [f32; 2] = [0.9, 1.1];
/// Samples over which the ends' loudness is measured (10 ms).
const GRAIN: usize = RATE_HZ as usize / 100;
/// What is this many times (33 dB) below the loudest is faint.
const FAINT: u64 = 2000;
/// What is left of faint ends (100 ms).
const MARGIN: usize = RATE_HZ as usize / 10;
const LAYERS: usize = 6;
const HEADS: usize = 8;
const HEAD_SIZE: usize = 36;
/// What a text begins with.
const START: u32 = 1;
/// What a text ends with.
const END: u32 = 2;

/// Why the recogniser cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MoonshineError {
    /// Its files are not there or not right.
    #[error(transparent)]
    Files(#[from] ModelFilesError),
    /// A model is not of the form it should have.
    #[error("the model cannot be loaded: {0}")]
    Model(String),
    /// The vocabulary cannot be read.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
}

/// Something the decoder remembers from step to step: where it goes in, where it comes out.
#[derive(Clone, Copy, Debug)]
struct Memory {
    past: NodeId,
    present: NodeId,
    /// Of the encoder's states: computed in the first step and the same from then on.
    is_fixed: bool,
}

/// A token and how sure the decoder is of it: 0 entirely, less the less.
#[derive(Clone, Copy, Debug)]
struct Token {
    token: u32,
    log_likelihood: f32,
}

/// What was said, and how sure the decoder is of it: the mean over its tokens.
#[derive(Clone, Debug)]
struct Guess {
    text: String,
    log_likelihood: f32,
}

/// The recogniser. About 100 MB while it is loaded.
pub struct Moonshine {
    encoder: Model,
    decoder: Model,
    vocabulary: Vocabulary,
    tokens: NodeId,
    states: NodeId,
    use_cache: NodeId,
    logits: NodeId,
    memories: Vec<Memory>,
    options: RunOptions,
}

impl Moonshine {
    /// Loads the models from `folder`. Takes a fraction of a second. Computes on `threads` threads, which
    /// inherit the caller's niceness.
    ///
    /// # Errors
    /// When a file is missing or wrong.
    pub fn load(folder: &Path, threads: usize) -> Result<Self, MoonshineError> {
        let files = models::read(folder)?;
        let unusable = |error: &dyn std::error::Error| MoonshineError::Model(error.to_string());
        let encoder = Model::load(files.encoder).map_err(|error| unusable(&error))?;
        let decoder = Model::load(files.decoder).map_err(|error| unusable(&error))?;
        let node = |name: &str| decoder.node_id(name).map_err(|error| unusable(&error));
        let mut memories = Vec::with_capacity(LAYERS * 4);
        for layer in 0..LAYERS {
            for (of, is_fixed) in [("decoder", false), ("encoder", true)] {
                for what in ["key", "value"] {
                    memories.push(Memory {
                        past: node(&format!("past_key_values.{layer}.{of}.{what}"))?,
                        present: node(&format!("present.{layer}.{of}.{what}"))?,
                        is_fixed,
                    });
                }
            }
        }
        Ok(Self {
            tokens: node("input_ids")?,
            states: node("encoder_hidden_states")?,
            use_cache: node("use_cache_branch")?,
            logits: node("logits")?,
            memories,
            options: RunOptions::default()
                .with_thread_pool(Some(Arc::new(ThreadPool::with_num_threads(threads.max(1))))),
            vocabulary: Vocabulary::parse(&files.tokenizer)?,
            encoder,
            decoder,
        })
    }

    /// What is said in 16 kHz audio of full scale 1.0.
    fn guess(&self, mut audio: Vec<f32>, care: Care<'_>) -> Result<Guess, EngineError> {
        audio.resize(audio.len().max(SAMPLES_MIN), 0.0);
        let tokens_max = audio.len() * TOKENS_PER_2_S / (2 * RATE_HZ as usize) + TOKENS_SPARE;
        let audio = value([1, audio.len()], audio)?;
        let states =
            self.encoder.run_one(audio.into(), Some(self.options.clone())).map_err(|error| failed(&error))?;
        let mut remembered: Vec<Value> = Vec::with_capacity(self.memories.len());
        for _ in &self.memories {
            remembered.push(value([0, HEADS, 1, HEAD_SIZE], Vec::<f32>::new())?);
        }
        let mut tokens = Vec::with_capacity(tokens_max);
        let (mut token, mut steps, mut likelihood) = (START, 0, 0.0);
        while steps < tokens_max {
            if care.is_over() {
                return Err(EngineError::GivenUp);
            }
            let next = self.step(token, steps > 0, &states, &mut remembered)?;
            (token, likelihood, steps) = (next.token, likelihood + next.log_likelihood, steps + 1);
            if token == END {
                break;
            }
            tokens.push(token);
        }
        Ok(Guess { text: self.vocabulary.text(&tokens), log_likelihood: likelihood / steps as f32 })
    }

    /// One step of the decoder: the next token. `remembered` goes from step to step.
    fn step(
        &self,
        token: u32,
        use_cache: bool,
        states: &Value,
        remembered: &mut [Value],
    ) -> Result<Token, EngineError> {
        let token = i32::try_from(token).unwrap_or_default();
        let mut inputs: Vec<(NodeId, ValueOrView<'_>)> = vec![
            (self.tokens, value([1, 1], vec![token])?.into()),
            (self.states, states.into()),
            (self.use_cache, value([1], vec![i32::from(use_cache)])?.into()),
        ];
        let mut outputs = vec![self.logits];
        for (memory, value) in self.memories.iter().zip(remembered.iter()) {
            inputs.push((memory.past, value.into()));
            if !(memory.is_fixed && use_cache) {
                outputs.push(memory.present);
            }
        }
        let given =
            self.decoder.run(inputs, &outputs, Some(self.options.clone())).map_err(|error| failed(&error))?;
        let mut given = given.into_iter();
        let logits = given.next().ok_or_else(|| EngineError::Passing("the model gave nothing".to_owned()))?;
        for (memory, value) in self.memories.iter().zip(remembered) {
            if !(memory.is_fixed && use_cache)
                && let Some(new) = given.next()
            {
                *value = new;
            }
        }
        likeliest(logits)
    }
}

impl Engine for Moonshine {
    fn recognise(&mut self, utterance: &Utterance, _: &str, care: Care<'_>) -> Result<String, EngineError> {
        let mut resampler = Resampler::new(utterance.rate_hz, RATE_HZ)
            .map_err(|error| EngineError::Passing(error.to_string()))?;
        let mut samples = vec![0; resampler.output_len(utterance.samples.len())];
        resampler.process(&utterance.samples, &mut samples);
        let audio: Vec<f32> = trimmed(&samples).iter().map(|&sample| f32::from(sample) / 32_768.0).collect();
        let mut best = self.guess(audio.clone(), care)?;
        let unsure = best.log_likelihood < SURE || best.text.is_empty();
        if matches!(care, Care::Thorough) && unsure && audio.len() <= AGAIN_MAX {
            for speed in SPEEDS {
                let other = self.guess(at_speed(&audio, speed), care)?;
                // That nothing was said is the poorest of guesses: a voice was heard.
                let rank = |guess: &Guess| (!guess.text.is_empty(), guess.log_likelihood);
                if rank(&other) > rank(&best) {
                    best = other;
                }
            }
        }
        Ok(best.text)
    }
}

/// The audio without what is faint at its ends, but for [`MARGIN`]: the model, trained on clips that
/// begin and end with speech, hears less of one that does not.
fn trimmed(samples: &[i16]) -> &[i16] {
    let energies: Vec<u64> = samples
        .chunks(GRAIN)
        .map(|grain| grain.iter().map(|&s| u64::from(s.unsigned_abs()).pow(2)).sum())
        .collect();
    let faint = energies.iter().max().copied().unwrap_or_default() / FAINT;
    let is_loud = |energy: &u64| *energy > faint;
    let first = energies.iter().position(is_loud).unwrap_or(0) * GRAIN;
    let last = energies.iter().rposition(is_loud).map_or(samples.len(), |grain| (grain + 1) * GRAIN);
    &samples[first.saturating_sub(MARGIN)..(last + MARGIN).min(samples.len())]
}

/// Audio as it sounds when it is played this much faster: tempo and pitch.
fn at_speed(audio: &[f32], speed: f32) -> Vec<f32> {
    let length = (audio.len() as f32 / speed) as usize;
    let sample = |index: usize| {
        let place = index as f32 * speed;
        let (before, share) = (place as usize, place.fract());
        let of = |index: usize| audio.get(index).copied().unwrap_or_default();
        of(before) * (1.0 - share) + of(before + 1) * share
    };
    (0..length).map(sample).collect()
}

/// A tensor.
fn value<T, const N: usize>(shape: [usize; N], data: Vec<T>) -> Result<Value, EngineError>
where
    Value: From<rten_tensor::Tensor<T>>,
{
    Value::from_shape(shape, data).map_err(|error| EngineError::Passing(error.to_string()))
}

/// The token with the greatest logit, of the last position.
fn likeliest(logits: Value) -> Result<Token, EngineError> {
    let ([_, positions, size], logits) =
        logits.into_shape_vec::<f32, 3>().map_err(|error| EngineError::Passing(error.to_string()))?;
    let last = logits.get(positions.saturating_sub(1) * size..).unwrap_or_default();
    let best = (0u32..).zip(last).max_by(|(_, a), (_, b)| a.total_cmp(b));
    let (token, &logit) = best.unwrap_or((END, &0.0));
    let sum: f32 = last.iter().map(|other| (other - logit).exp()).sum();
    Ok(Token { token, log_likelihood: -sum.ln() })
}

fn failed(error: &rten::RunError) -> EngineError {
    EngineError::Passing(format!("the model cannot be run: {error}"))
}
