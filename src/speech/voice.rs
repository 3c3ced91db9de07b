//! Texts, spoken: by the voice that is built in (English), or by an HTTP engine where one is set. The
//! engine gets `POST {"text","language"}` as JSON and answers with a file of sound.

use std::sync::{Arc, OnceLock};

use hyper::Method;

use crate::media::room::RATE_HZ;
use crate::net::http::{Failure, HttpClient, request};
use crate::plane::Clip;
use crate::prompt::{clip_of, resample};

/// Characters of a text that are spoken; what is over is not.
pub const TEXT_MAX: usize = 4096;
/// The language of the built-in voice.
const LANGUAGE: &str = "en";

/// The engine that an operator set up.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Where it is: the operator's choice, so it may be a private address.
    pub url: String,
    /// Asks it; what it may read limits the sound.
    pub http: HttpClient,
}

/// The voice of the server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Voice {
    engine: Option<Engine>,
}

impl Voice {
    /// This engine, or the built-in voice.
    pub fn new(engine: Option<Engine>) -> Self {
        Self { engine }
    }

    /// Whether texts are spoken in this process.
    pub fn is_built_in(&self) -> bool {
        self.engine.is_none()
    }

    /// Speaks a text.
    ///
    /// # Errors
    /// When the language is not spoken here, or the engine fails; and why.
    pub async fn speak(&self, text: &str, language: &str) -> Result<Arc<Clip>, String> {
        let text: String = text.chars().take(TEXT_MAX).collect();
        match &self.engine {
            Some(engine) => engine.speak(&text, language).await,
            None if speaks(language) => speak_here(text).await,
            None => {
                Err(format!("the built-in voice speaks {LANGUAGE}, not {language}; see speech.voice_url"))
            }
        }
    }
}

impl Engine {
    async fn speak(&self, text: &str, language: &str) -> Result<Arc<Clip>, String> {
        let failed = |failure: Failure| format!("the speech engine: {failure}");
        let body = serde_json::json!({ "text": text, "language": language }).to_string();
        let request = request(Method::POST, &self.url, "application/json", body.into()).map_err(failed)?;
        let answer = self.http.send(request).await.map_err(failed)?;
        if !answer.status.is_success() {
            return Err(format!("the speech engine answered HTTP {}", answer.status.as_u16()));
        }
        clip_of(answer.whole().map_err(failed)?.into()).await
    }
}

/// Whether the built-in voice speaks a language (BCP 47).
fn speaks(language: &str) -> bool {
    let primary = language.split(['-', '_']).next().unwrap_or_default();
    primary.is_empty() || primary.eq_ignore_ascii_case(LANGUAGE)
}

/// Speaking keeps a core busy: it runs beside the tasks.
async fn speak_here(text: String) -> Result<Arc<Clip>, String> {
    let spoken = tokio::task::spawn_blocking(move || {
        let audio = built_in().synthesize(&text);
        let samples: Vec<f32> = audio.samples.iter().map(|s| f32::from(*s) / 32_768.0).collect();
        Clip::new(RATE_HZ, resample(&samples, audio.sample_rate.max(1), RATE_HZ))
    });
    match spoken.await {
        Ok(clip) if clip.samples().is_empty() => Err("there is nothing to say in the text".to_owned()),
        Ok(clip) => Ok(Arc::new(clip)),
        Err(_) => Err("the text broke the voice".to_owned()),
    }
}

/// Built once: it reads its tables.
fn built_in() -> &'static flite_rs::Engine {
    static ENGINE: OnceLock<flite_rs::Engine> = OnceLock::new();
    ENGINE.get_or_init(flite_rs::Engine::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice() -> Voice {
        Voice::new(None)
    }

    #[tokio::test]
    async fn a_sentence_is_spoken_at_the_rooms_rate() {
        let clip = voice().speak("Welcome to the conference.", "en-US").await.expect("English");
        assert_eq!(clip.rate_hz(), RATE_HZ);
        let seconds = clip.duration().as_secs_f64();
        assert!((1.0..4.0).contains(&seconds), "{seconds} s");
        assert!(clip.samples().iter().any(|sample| sample.abs() > 3000), "it is loud enough");
    }

    #[tokio::test]
    async fn another_language_is_refused_with_what_there_is() {
        let refused = voice().speak("Hallo.", "de-DE").await.expect_err("German");
        assert!(refused.contains("speaks en"), "{refused}");
    }
}
