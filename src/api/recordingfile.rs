//! The files of recordings: which there are, and what is in them, wherever they lie.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_range_header::parse_range_header;
use serde::Serialize;
use tower::ServiceExt as _;
use tower_http::services::ServeFile;
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::Owner;
use super::error::{ApiError, Reason};
use super::openapi::{FileErrors, ReadErrors};
use super::page::{Params, PathId, parse_uuid};
use super::recording::{WHAT, still_running};
use super::{Shared, SharedState};
use crate::bridge::resource::RecordingStatus;
use crate::id::{ConferencecallId, RecordingId};
use crate::record::{Part, media_type};
use crate::store::RecordingFile;
use crate::time::Timestamp;

/// What is appended to a recording's id for its marks.
const MARKS_SUFFIX: &str = ".json";
/// When to come back for a file that the storage does not give.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A file of a recording.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FileOfRecording {
    /// Its name.
    name: String,
    /// The conferencecall whose track it is; nil for the mix and the marks.
    track: Uuid,
    /// Its media type.
    media_type: &'static str,
    /// Its size so far, in bytes.
    size_bytes: u64,
    /// `local`: in the data folder. `waiting`: there, and to be uploaded to storage. `stored`: in storage.
    /// `going`: to be deleted from it.
    state: &'static str,
    /// Tries to move it that failed.
    attempts: u32,
}

/// Every file of a recording.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FilesOfRecording {
    /// By name.
    result: Vec<FileOfRecording>,
}

/// Lists the files of a recording, and where each is on its way to storage.
#[utoipa::path(get, path = "/v1.0/recordings/{id}/files", tag = "recordings", params(("id" = Uuid, Path, description = "The recording")),
    responses((status = 200, description = "Its files", body = FilesOfRecording), ReadErrors))]
pub(super) async fn files(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<FilesOfRecording>, ApiError> {
    let id = shared.find_recording(customer, RecordingId(id)).await?.id;
    let folder = shared.state.recordings.clone();
    let local = tokio::task::spawn_blocking(move || folder.sizes(&[id])).await;
    let local = local.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked))).map_err(|error| {
        tracing::error!(%error, "the folder of recordings cannot be read");
        ApiError::new(Reason::Internal, "internal error")
    })?;
    let mut files: BTreeMap<String, FileOfRecording> = local
        .into_iter()
        .map(|(_, name, bytes)| (name.clone(), shown(id, name, bytes, "local", 0)))
        .collect();
    for file in shared.state.store.recording_files(id).await? {
        let (name, state) = (file.name, file.state.name());
        files.insert(name.clone(), shown(id, name, file.size_bytes, state, file.attempts));
    }
    Ok(Json(FilesOfRecording { result: files.into_values().collect() }))
}

fn shown(
    id: RecordingId,
    name: String,
    size_bytes: u64,
    state: &'static str,
    attempts: u32,
) -> FileOfRecording {
    // `<recording>.<conferencecall>.wav` is a track.
    let middle = name.strip_prefix(&id.to_string()).and_then(|rest| rest.strip_prefix('.'));
    let track = middle.and_then(|rest| parse_uuid(rest.split('.').next()?)).unwrap_or_default();
    let media_type = media_type(&name);
    FileOfRecording { name, track, media_type, size_bytes, state, attempts }
}

/// Gives a recording's file. With `.json` after the id: the marks of its tracks, a JSON object a line.
#[utoipa::path(get, path = "/v1.0/recordingfiles/{id}", tag = "recordings", params(
    ("id" = String, Path, description = "The recording, with `.json` appended for its marks",
        pattern = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(\.json)?$"),
    ("track" = Option<Uuid>, Query, description = "Only what this conferencecall said, as WAV"),
    ("Range" = Option<String>, Header, description = "Which bytes"),
    ("If-Range" = Option<String>, Header, description = "The ETag that `Range` holds for"),
), responses(
    (status = 200, description = "The file", content((Vec<u8> = "audio/wav"), (Vec<u8> = "audio/ogg"), (String = "application/x-ndjson"))),
    (status = 206, description = "A part of the file", content((Vec<u8> = "audio/wav"), (Vec<u8> = "audio/ogg"), (String = "application/x-ndjson"))),
    FileErrors))]
pub(super) async fn file(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    Path(name): Path<String>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    let (id, wants_marks) = match name.strip_suffix(MARKS_SUFFIX) {
        Some(id) => (id, true),
        None => (name.as_str(), false),
    };
    let id = parse_uuid(id)
        .map(RecordingId)
        .ok_or_else(|| ApiError::field(Reason::InvalidPath, "id", "must be a hyphened UUID"))?;
    let recording = shared.find_recording(customer, id).await?;
    if recording.tm_delete != Timestamp::NEVER {
        return Err(ApiError::no_such(WHAT));
    }
    if recording.status != RecordingStatus::Ended {
        return Err(still_running());
    }
    let part = match params.uuid("track")? {
        _ if wants_marks => Part::Marks,
        Some(call) => Part::Track(ConferencecallId(call)),
        None => Part::Mix(recording.format),
    };
    shared.serve_file(id, part, request.headers()).await
}

impl Shared {
    /// Streams a file, or the part of it that is asked for (RFC 9110 §14): from the data folder, or from
    /// the storage it was moved to.
    async fn serve_file(&self, id: RecordingId, part: Part, asked: &HeaderMap) -> Result<Response, ApiError> {
        let name = part.name(id);
        if let Some(response) = self.serve_local(id, &name, asked).await? {
            return Ok(response);
        }
        let files = self.state.store.recording_files(id).await?;
        let file = files.into_iter().find(|file| file.name == name);
        let file = file.ok_or_else(|| ApiError::no_such("file of this recording"))?;
        self.serve_stored(&file, asked).await
    }

    /// From the data folder, if it is there.
    async fn serve_local(
        &self,
        id: RecordingId,
        name: &str,
        asked: &HeaderMap,
    ) -> Result<Option<Response>, ApiError> {
        let path = self.state.recordings.file(name);
        let Ok(size) = tokio::fs::metadata(&path).await.map(|file| file.len()) else { return Ok(None) };
        let etag = etag(id, size);
        let mut request = Request::new(Body::empty());
        if let Some(range) = range_asked(asked, &etag) {
            request.headers_mut().insert(RANGE, range.clone());
        }
        let mime = media_type(name).parse().map_err(|_| ApiError::new(Reason::Internal, "internal error"))?;
        let served = ServeFile::new_with_mime(&path, &mime).oneshot(request).await;
        let mut response = served.into_response();
        match response.status() {
            // Moved to the storage this very moment.
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(out_of_range(size)),
            _ => {}
        }
        name_file(&mut response, name, &etag);
        Ok(Some(response))
    }

    /// From the storage, in the same parts and by the same headers.
    async fn serve_stored(&self, file: &RecordingFile, asked: &HeaderMap) -> Result<Response, ApiError> {
        let size = file.size_bytes;
        let etag = etag(file.recording, size);
        let range = match range_asked(asked, &etag) {
            None => 0..size,
            Some(range) => one_range(range, size).ok_or_else(|| out_of_range(size))?,
        };
        let unavailable = |why: String| {
            tracing::warn!(recording = %file.recording, location = file.location, "a file of a recording cannot be fetched: {why}");
            let message = "the storage of recordings does not give the file; try again later";
            ApiError::new(Reason::StorageUnavailable, message).retry_after(RETRY_AFTER)
        };
        let body = if range.is_empty() {
            Body::empty()
        } else {
            let storage = self.state.storage.as_ref();
            let storage = storage.ok_or_else(|| unavailable("record.storage is not set".to_owned()))?;
            let found = storage.remote.read(&file.location, range.clone(), size).await;
            let pieces = found.map_err(|refused| unavailable(refused.to_string()))?;
            Body::from_stream(pieces.ok_or_else(|| unavailable("it is not there".to_owned()))?)
        };
        let is_part = range_asked(asked, &etag).is_some();
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(&file.name)));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if is_part {
            let last = range.end.saturating_sub(1);
            if let Ok(part) = HeaderValue::from_str(&format!("bytes {}-{last}/{size}", range.start)) {
                headers.insert(CONTENT_RANGE, part);
            }
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        name_file(&mut response, &file.name, &etag);
        Ok(response)
    }
}

/// The tag of a file of an ended recording, which never changes, wherever it lies.
fn etag(id: RecordingId, size: u64) -> String {
    format!("\"{id}-{size}\"")
}

/// The `Range` that holds for the file with this tag (RFC 9110 §13.1.5).
fn range_asked<'a>(asked: &'a HeaderMap, etag: &str) -> Option<&'a HeaderValue> {
    let holds = asked.get(IF_RANGE).is_none_or(|wanted| wanted.as_bytes() == etag.as_bytes());
    asked.get(RANGE).filter(|_| holds)
}

/// The one range that is asked for of so many bytes; `None` when there is none, or several.
fn one_range(asked: &HeaderValue, size: u64) -> Option<std::ops::Range<u64>> {
    let ranges = parse_range_header(asked.to_str().ok()?).ok()?.validate(size).ok()?;
    let [range] = ranges.as_slice() else { return None };
    Some(*range.start()..range.end() + 1)
}

fn out_of_range(size: u64) -> ApiError {
    ApiError::new(Reason::RangeNotSatisfiable, format!("the file has {size} bytes; `Range` asks for others"))
}

fn name_file(response: &mut Response, name: &str, etag: &str) {
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(ETAG, etag);
    }
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
}
