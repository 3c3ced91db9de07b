//! A recogniser reached by HTTP, of the shape that most have (`POST /v1/audio/transcriptions`): a form with
//! a WAV file, a model and a language, answered with `{"text": "…"}`.

use std::io::Cursor;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use tokio::runtime::Handle;

use super::engine::{Care, Engine, EngineError};
use super::utterance::Utterance;
use crate::net::http::{self, HttpClient, Trust, request};
use crate::time::Duration;

/// The name of this engine, as transcriptions show it.
pub const PROVIDER: &str = "http";
/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 64 << 10;
/// The longest text that is taken of it, in characters.
const TEXT_MAX: usize = 4096;
/// What stands between the parts of the form (RFC 2046 §5.1.1): no WAV of ours has it.
const BOUNDARY: &str = "confab-7d2f1c0b9a5e4836b0c4e1f2a3d49586";

/// Where it is and how it is asked.
#[derive(Clone, PartialEq)]
pub struct HttpEngineSettings {
    /// The URL that is posted to; the operator's choice, so it may be a private address.
    pub url: String,
    /// Sent as a bearer token, when there is one.
    pub key: Option<String>,
    /// The model that is asked for.
    pub model: String,
    /// How long one utterance may take.
    pub timeout: Duration,
    /// Whose certificates are trusted.
    pub trust: Trust,
}

/// The recogniser.
#[derive(Debug)]
pub struct HttpEngine {
    url: String,
    authorization: Option<HeaderValue>,
    model: String,
    http: HttpClient,
    runtime: Handle,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

impl HttpEngine {
    /// One that asks as `settings` say, by this runtime.
    ///
    /// # Errors
    /// When the key cannot be sent in a header, or there can be no TLS.
    pub fn new(settings: HttpEngineSettings, runtime: Handle) -> Result<Self, String> {
        let limits = http::Settings {
            timeout: settings.timeout,
            allow_private: true,
            answer_max: ANSWER_MAX,
            redirects_max: 0,
        };
        let bearer = |key: String| {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| "keys.transcribe cannot be sent in a header".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        Ok(Self {
            url: settings.url,
            authorization: settings.key.map(bearer).transpose()?,
            model: settings.model,
            http: HttpClient::trusting(limits, &settings.trust).map_err(|error| error.to_string())?,
            runtime,
        })
    }

    async fn ask(&self, body: Bytes) -> Result<String, String> {
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let mut request =
            request(Method::POST, &self.url, &content_type, body).map_err(|failure| failure.to_string())?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        let answer = self.http.send(request).await.map_err(|failure| failure.to_string())?;
        if !answer.status.is_success() {
            return Err(format!("it answered {}", answer.status));
        }
        let body = answer.whole().map_err(|failure| failure.to_string())?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| format!("its answer has no text: {error}"))?;
        Ok(answer.text.trim().chars().take(TEXT_MAX).collect())
    }
}

impl Engine for HttpEngine {
    fn recognise(
        &mut self,
        utterance: &Utterance,
        language: &str,
        _: Care<'_>,
    ) -> Result<String, EngineError> {
        let failed = |why: String| EngineError::Passing(format!("the HTTP recogniser: {why}"));
        let body = form(&wav(utterance).map_err(failed)?, &self.model, language);
        self.runtime.block_on(self.ask(body.into())).map_err(failed)
    }

    /// Each one would be sent, and maybe paid, again and again.
    fn takes_partials(&self) -> bool {
        false
    }
}

/// An utterance as a WAV file.
fn wav(utterance: &Utterance) -> Result<Vec<u8>, String> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: utterance.rate_hz,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let written = hound::WavWriter::new(&mut file, spec).and_then(|mut writer| {
        for &sample in &utterance.samples {
            writer.write_sample(sample)?;
        }
        writer.finalize()
    });
    written.map_err(|error| error.to_string()).map(|()| file.into_inner())
}

/// The form (RFC 7578).
fn form(wav: &[u8], model: &str, language: &str) -> Vec<u8> {
    let primary = language.split('-').next().unwrap_or_default().to_ascii_lowercase();
    let mut body = Vec::with_capacity(wav.len() + 1024);
    for (name, value) in [("model", model), ("language", primary.as_str()), ("response_format", "json")] {
        let part =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"utterance.wav\"\r\n\
         Content-Type: audio/wav\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(wav);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    body
}

#[cfg(test)]
mod tests;
