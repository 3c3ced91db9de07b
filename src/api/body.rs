//! The JSON body of a request, read key by key, so that an error names the key and what it must be.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse as _;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::{ApiError, Reason};
use super::page::parse_uuid;
use super::{BODY_MAX_BYTES, SharedState};
use crate::bridge::command::TIMEOUT_MAX_S;
use crate::id::FlowId;
use crate::time::Timestamp;

/// The keys of a body. An empty body is an empty object; unknown keys are never looked at.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

impl FromRequest<SharedState> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &SharedState) -> Result<Self, ApiError> {
        let is_json =
            request.headers().get(CONTENT_TYPE).is_none_or(|value| value.to_str().is_ok_and(is_json_type));
        let bytes = Bytes::from_request(request, shared).await.map_err(|rejection| {
            if rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::new(
                    Reason::BodyTooLarge,
                    format!("the body must not be longer than {BODY_MAX_BYTES} bytes"),
                )
            } else {
                ApiError::new(Reason::InvalidBody, "the body could not be read")
            }
        })?;
        // A form sent from a foreign page with the user's cookie has another type: it is refused.
        if !is_json && !bytes.is_empty() {
            return Err(ApiError::new(
                Reason::UnsupportedMediaType,
                "the body must be JSON: `Content-Type: application/json`",
            ));
        }
        Self::parse(&bytes)
    }
}

/// Whether a Content-Type is JSON.
fn is_json_type(text: &str) -> bool {
    let media_type = text.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json") || media_type.to_ascii_lowercase().ends_with("+json")
}

impl Fields {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.is_empty() {
            return Ok(Self(Map::new()));
        }
        // serde_json bounds the depth at 128 and names the line and column of every fault.
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::new(Reason::InvalidBody, "the body must be a JSON object")),
            Err(error) => Err(ApiError::new(Reason::InvalidBody, format!("the body is not JSON: {error}"))),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, ApiError> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(key, "must be a string")),
        }
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, ApiError> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(wrong(key, "must be true or false")),
        }
    }

    pub(super) fn object(&mut self, key: &str) -> Result<Option<Map<String, Value>>, ApiError> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(wrong(key, "must be an object")),
        }
    }

    /// A whole number from 0 to `max`. `60.0` is one, as JSON Schema has it.
    pub(super) fn number(&mut self, key: &str, max: u64) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.0.remove(key) else { return Ok(None) };
        let Value::Number(number) = value else { return Err(wrong(key, "must be an integer")) };
        let whole = match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => whole,
            (None, Some(float)) if float.fract() != 0.0 => return Err(wrong(key, "must be an integer")),
            // Zero comes as -0.0 too.
            (None, Some(float)) if (0.0..=max as f64).contains(&float) => float as u64,
            _ => u64::MAX,
        };
        if whole > max {
            return Err(wrong(key, format!("must be from 0 to {max}")));
        }
        Ok(Some(whole))
    }

    pub(super) fn uuid(&mut self, key: &str) -> Result<Option<Uuid>, ApiError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        parse_uuid(&text).map(Some).ok_or_else(|| wrong(key, "must be a hyphened UUID"))
    }

    pub(super) fn time(&mut self, key: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let time = Timestamp::parse(&text).filter(|time| *time <= Timestamp::NEVER);
        time.map(Some)
            .ok_or_else(|| wrong(key, "must be a time like `2022-02-03 06:08:56.672025` or RFC 3339"))
    }

    /// A conference's timeout in seconds.
    pub(super) fn timeout(&mut self) -> Result<Option<u64>, ApiError> {
        self.number("timeout", TIMEOUT_MAX_S)
    }

    /// A flow's id; nil stands for none.
    pub(super) fn flow(&mut self, key: &str) -> Result<Option<FlowId>, ApiError> {
        Ok(self.uuid(key)?.map(FlowId))
    }

    /// A value of any kind.
    pub(super) fn value(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key)
    }
}

/// A key with a wrong value.
pub(super) fn wrong(key: &str, fault: impl Into<String>) -> ApiError {
    ApiError::field(Reason::InvalidField, key, fault)
}
