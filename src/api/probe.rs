//! What machines ask: is it there, is it ready, how is it.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::FromRequestParts as _;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{Admin, Anyone};
use super::error::{ApiError, FieldFault, Reason};
use super::openapi::{ErrorsWithoutKey, ReadErrors};
use super::{Shared, SharedState};

/// The type of Prometheus' text form.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer of `/ping`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Pong {
    /// Always `pong`.
    message: &'static str,
}

/// The answer of `/health` when all is well.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Ready {
    /// Always `ready`.
    status: &'static str,
    /// What an operator should know all the same, each in a sentence, such as recordings that wait to be
    /// moved to storage.
    notes: Vec<String>,
}

/// Whether the server is there.
#[utoipa::path(get, path = "/ping", tag = "server", security(()),
    responses((status = 200, description = "It is there", body = Pong), ErrorsWithoutKey))]
pub(super) async fn ping(_: Anyone) -> Json<Pong> {
    Json(Pong { message: "pong" })
}

/// Whether the server is ready for calls; if not, 503 and why not.
#[utoipa::path(get, path = "/health", tag = "server", security(()),
    responses((status = 200, description = "Ready", body = Ready), ErrorsWithoutKey))]
pub(super) async fn health(State(shared): State<SharedState>, _: Anyone) -> Result<Json<Ready>, ApiError> {
    let mut reasons = (shared.state.health)().reasons;
    if !shared.state.store.is_durable() {
        reasons.push("the store cannot write: changes are kept in memory (is the disk full?)".to_owned());
    }
    if reasons.is_empty() {
        let storage = shared.state.storage.as_ref();
        let notes = storage.and_then(|storage| storage.counters.note()).into_iter().collect();
        return Ok(Json(Ready { status: "ready", notes }));
    }
    let mut error = ApiError::new(Reason::NotReady, reasons.join("; "));
    error.details =
        reasons.into_iter().map(|message| FieldFault { field: "health".to_owned(), message }).collect();
    Err(error)
}

/// The server's metrics in Prometheus' text form. Needs the admin key unless the server is set to
/// show them to anyone.
#[utoipa::path(get, path = "/metrics", tag = "server",
    security((), ("bearer" = []), ("query" = []), ("cookie" = [])),
    responses((status = 200, description = "Prometheus' text form", body = String, content_type = "text/plain"), ReadErrors))]
pub(super) async fn metrics(
    State(shared): State<SharedState>,
    mut parts: Parts,
) -> Result<Response, ApiError> {
    let is_open = shared.settings().metrics_open;
    if is_open {
        Anyone::from_request_parts(&mut parts, &shared).await?;
    } else {
        Admin::from_request_parts(&mut parts, &shared).await?;
    }
    let mut text = (shared.state.metrics)();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    shared.counts.write(&mut text);
    shared.write_store_metrics(&mut text);
    shared.write_socket_metrics(&mut text);
    shared.write_stream_metrics(&mut text);
    Ok(([(CONTENT_TYPE, METRICS_TYPE)], text).into_response())
}

impl Shared {
    fn write_store_metrics(&self, text: &mut String) {
        let counters = self.state.store.counters();
        let overflowed = self.sources.overflowed() + self.keys.overflowed();
        let rows: [(&str, &str, &str, u64); 8] = [
            (
                "confab_http_bucket_overflows_total",
                "counter",
                "Requests whose address or key found no rate bucket of its own.",
                overflowed,
            ),
            ("confab_store_commits_total", "counter", "Batches committed.", counters.commits),
            ("confab_store_changes_total", "counter", "Changes committed.", counters.changes),
            (
                "confab_store_commit_failures_total",
                "counter",
                "Batches that could not be committed.",
                counters.commit_failures,
            ),
            (
                "confab_store_changes_dropped_total",
                "counter",
                "Changes lost while the disk could not be written.",
                counters.changes_dropped,
            ),
            (
                "confab_store_events_trimmed_total",
                "counter",
                "Events deleted by a retention limit.",
                counters.events_trimmed,
            ),
            (
                "confab_audits_trimmed_total",
                "counter",
                "Entries of the audit log deleted by a retention limit.",
                counters.audits_trimmed,
            ),
            (
                "confab_store_durable",
                "gauge",
                "1 while changes reach the disk.",
                u64::from(self.state.store.is_durable()),
            ),
        ];
        for (name, kind, help, value) in rows {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    }
}
