//! Texts, spoken: by the voice that is built in (English), or by an HTTP engine where one is set. The
//! engine gets `POST {"text","language"}` as JSON and answers with a file of sound.

use std::sync::{Arc, OnceLock};

use crate::bridge::flow::outside::Method;
use crate::errand::http::HttpClient;
use crate::media::room::RATE_HZ;
use crate::plane::Clip;
use crate::prompt::{FETCH_MAX_BYTES, clip_of, resample};

/// Characters of a text that are spoken; what is over is not.
pub const TEXT_MAX: usize = 4096;
/// The language of the built-in voice.
const LANGUAGE: &str = "en";

/// The voice of the server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Voice {
    http: HttpClient,
    engine_url: Option<String>,
}

impl Voice {
    /// The built-in voice, or the engine at this URL.
    pub fn new(http: HttpClient, engine_url: Option<String>) -> Self {
        Self { http, engine_url }
    }

    /// Speaks a text.
    ///
    /// # Errors
    /// When the language is not spoken here, or the engine fails; and why.
    pub async fn speak(&self, text: &str, language: &str) -> Result<Arc<Clip>, String> {
        let text: String = text.chars().take(TEXT_MAX).collect();
        match &self.engine_url {
            Some(url) => self.ask(url, &text, language).await,
            None if speaks(language) => speak_here(text).await,
            None => {
                Err(format!("the built-in voice speaks {LANGUAGE}, not {language}; see speech.voice_url"))
            }
        }
    }

    async fn ask(&self, url: &str, text: &str, language: &str) -> Result<Arc<Clip>, String> {
        let body = serde_json::json!({ "text": text, "language": language }).to_string();
        let answer = self.http.send(Method::Post, url, "application/json", body, FETCH_MAX_BYTES).await;
        let answer = answer.map_err(|error| format!("the speech engine: {error}"))?;
        if !(200..300).contains(&answer.status) || answer.is_cut {
            return Err(format!("the speech engine answered HTTP {}", answer.status));
        }
        clip_of(answer.body).await
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
        let audio = engine().synthesize(&text);
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
fn engine() -> &'static flite_rs::Engine {
    static ENGINE: OnceLock<flite_rs::Engine> = OnceLock::new();
    ENGINE.get_or_init(flite_rs::Engine::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice() -> Voice {
        Voice::new(HttpClient::new(false), None)
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
