//! The edge around every handler: request id, deadline, error body, count and log line.

use std::any::Any;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::audit::Call;
use super::error::{ApiError, Reason};
use super::{Shared, SharedState};

/// How long a request may take, its body included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// The header that names a request.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id that is taken over from a request.
const REQUEST_ID_MAX: usize = 128;

/// Requests, by the hundreds of their answer's code.
#[derive(Debug, Default)]
pub(super) struct Counts {
    by_hundred: [AtomicU64; 6],
    rate_limited: AtomicU64,
}

impl Counts {
    fn count(&self, code: StatusCode) {
        if let Some(counter) = self.by_hundred.get(usize::from(code.as_u16() / 100)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if code == StatusCode::TOO_MANY_REQUESTS {
            self.rate_limited.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts in Prometheus' text form.
    pub(super) fn write(&self, text: &mut String) {
        text.push_str("# HELP confab_http_requests_total HTTP requests answered.\n# TYPE confab_http_requests_total counter\n");
        for (hundred, counter) in self.by_hundred.iter().enumerate().skip(2) {
            let count = counter.load(Ordering::Relaxed);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "confab_http_requests_total{{code=\"{hundred}xx\"}} {count}");
        }
        let limited = self.rate_limited.load(Ordering::Relaxed);
        let _ = writeln!(
            text,
            "# HELP confab_http_rate_limited_total HTTP requests refused by a rate limit.\n\
             # TYPE confab_http_rate_limited_total counter\nconfab_http_rate_limited_total {limited}"
        );
    }
}

/// Wraps every request.
pub(super) async fn edge(State(shared): State<SharedState>, mut request: Request, next: Next) -> Response {
    let started = shared.now().instant;
    let request_id = request_id(request.headers(), &shared);
    let method = request.method().clone();
    let path = path_pattern(request.uri().path());
    let call = Call::begin(&mut request);
    let response = match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            Reason::TimedOut,
            "the request took too long; a change it asked for may still happen",
        )
        .into_response(),
    };
    let mut response = finish(response, &request_id);
    if let Some(call) = call {
        shared.audit(call, response.status(), &request_id).await;
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(X_REQUEST_ID, value);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let code = response.status();
    shared.counts.count(code);
    let duration_us = shared.now().instant.since(started).as_micros() as u64;
    tracing::info!(target: "confab::access", %request_id, %method, %path, status = code.as_u16(), duration_us, "request");
    response
}

/// The words of our paths; whatever else stands in a path is an id, or nothing of ours.
const PATH_WORDS: &[&str] = &[
    "ping",
    "health",
    "metrics",
    "docs",
    "openapi.json",
    "v1.0",
    "conferences",
    "conferencecalls",
    "flows",
    "activeflows",
    "customer",
    "customers",
    "accesskeys",
    "webhooks",
    "failures",
    "replay",
    "ws",
    "audits",
    "rotate",
    "direct-hash-regenerate",
    "recording_start",
    "recording_stop",
    "recording_pause",
    "recording_resume",
    "recordings",
    "recordingfiles",
    "transcribe_start",
    "transcribe_stop",
    "transcribes",
    "transcripts",
    "stop",
    "media_stream",
];
/// Parts of a path that are logged; none of ours has more.
const PATH_PARTS_MAX: usize = 6;

/// A path as it may be logged: our own words, and `{}` for the rest, which could be anything.
fn path_pattern(path: &str) -> String {
    let parts = path.split('/').skip(1).take(PATH_PARTS_MAX);
    parts.fold(String::new(), |pattern, part| {
        pattern + "/" + PATH_WORDS.iter().find(|word| **word == part).unwrap_or(&"{}")
    })
}

/// The client's own request id where it is fit to be repeated, else a new one.
fn request_id(headers: &HeaderMap, shared: &Shared) -> String {
    let fit = |text: &&str| {
        (1..=REQUEST_ID_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    let own = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(fit);
    own.map_or_else(|| shared.uuid().to_string(), str::to_owned)
}

/// Gives a failed response its body and headers; leaves others alone.
fn finish(mut response: Response, request_id: &str) -> Response {
    let code = response.status();
    if !code.is_client_error() && !code.is_server_error() {
        return response;
    }
    let error = response.extensions_mut().remove::<ApiError>().unwrap_or_else(|| {
        let message = match code {
            StatusCode::METHOD_NOT_ALLOWED => "this path does not have this method; see the Allow header",
            StatusCode::NOT_FOUND => "there is nothing at this path; see /openapi.json",
            code => code.canonical_reason().unwrap_or("the request failed"),
        };
        ApiError::new(Reason::from_http(code), message)
    });
    let mut finished = (error.http(), Json(error.body(request_id))).into_response();
    if let Some(allow) = response.headers().get(ALLOW) {
        finished.headers_mut().insert(ALLOW, allow.clone());
    }
    if error.http() == StatusCode::UNAUTHORIZED {
        finished.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"confab\""));
    }
    if let Some(wait) = error.retry_after {
        // Whole seconds, and never so early that it would be refused again (RFC 9110 §10.2.3).
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        finished.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    finished
}

/// A handler that panicked is our fault; the server goes on.
pub(super) fn answer_panic(panic: Box<dyn Any + Send>) -> Response {
    let message =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(message = message.unwrap_or("unknown"), "a request handler panicked");
    ApiError::new(Reason::Internal, "internal error").into_response()
}
