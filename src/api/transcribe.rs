//! `/v1.0/transcribes` and `/v1.0/transcripts`: who said what, and the calls that begin and end it.

use axum::Json;
use axum::extract::State;

use super::auth::Owner;
use super::body::{Fields, wrong};
use super::error::{ApiError, ErrorBody, Reason};
use super::openapi::{ActErrors, ChangeErrors, ReadErrors};
use super::page::{ListBody, PageParams, Params, PathId, refresh};
use super::schema::TranscribeStart;
use super::{Answer, Shared, SharedState, unexpected};
use crate::bridge::command::{Command, Reply};
use crate::bridge::resource::{Conference, Transcribe, TranscribeDirection, TranscribeStatus, Transcript};
use crate::id::{ConferenceId, CustomerId, TranscribeId};

/// What a transcription is called in messages.
const WHAT: &str = "transcribe";
/// The longest language tag that is read (RFC 5646 §4.4.1).
const LANGUAGE_MAX: usize = 35;

/// Starts to transcribe what each caller says. Only in a conference that is `progressing` and not being
/// transcribed (409), only so many in one (429), and only in a language the recogniser knows (400).
#[utoipa::path(post, path = "/v1.0/conferences/{id}/transcribe_start", tag = "transcribes",
    params(("id" = Uuid, Path, description = "The conference")), request_body = TranscribeStart,
    responses((status = 200, description = "The conference, being transcribed", body = Conference), ChangeErrors,
        (status = 503, description = "UNAVAILABLE: not now, and why; NO_TRANSCRIBER where there is no recogniser", body = ErrorBody)))]
pub(super) async fn start(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
    mut fields: Fields,
) -> Result<Json<Conference>, ApiError> {
    let id = ConferenceId(id);
    let language = language(&mut fields)?;
    let direction = direction(&mut fields)?;
    let command = Command::StartTranscribe { customer, id, language, direction };
    shared.change_conference(customer, id, command).await
}

/// Stops the transcription that runs (else 409); its last transcripts follow within seconds.
#[utoipa::path(post, path = "/v1.0/conferences/{id}/transcribe_stop", tag = "transcribes",
    params(("id" = Uuid, Path, description = "The conference")),
    responses((status = 200, description = "The conference", body = Conference), ActErrors))]
pub(super) async fn stop(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Conference>, ApiError> {
    let id = ConferenceId(id);
    shared.change_conference(customer, id, Command::StopTranscribe { customer, id }).await
}

/// Lists the customer's transcriptions, newest first.
#[utoipa::path(get, path = "/v1.0/transcribes", tag = "transcribes", params(
    PageParams,
    ("reference_id" = Option<Uuid>, Query, description = "Only of this conference"),
), responses((status = 200, description = "A page", body = ListBody<Transcribe>), ReadErrors))]
pub(super) async fn list(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    params: Params,
) -> Result<Json<ListBody<Transcribe>>, ApiError> {
    let (after, size) = params.page()?;
    let conference = params.uuid("reference_id")?.map(ConferenceId);
    let mut page = shared.state.store.transcribes(customer, conference, after, size).await?;
    let ids = page.rows.iter().filter(|row| row.status != TranscribeStatus::Done).map(|row| row.id).collect();
    let live = shared.live_transcribes(customer, ids).await?;
    refresh(&mut page.rows, live, |row| row.id);
    Ok(Json(page.into()))
}

/// Shows a transcription.
#[utoipa::path(get, path = "/v1.0/transcribes/{id}", tag = "transcribes", params(("id" = Uuid, Path, description = "The transcription")),
    responses((status = 200, description = "The transcription", body = Transcribe), ReadErrors))]
pub(super) async fn read(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Transcribe>, ApiError> {
    let id = TranscribeId(id);
    if let Some(live) = shared.live_transcribes(customer, vec![id]).await?.pop() {
        return Ok(Json(live));
    }
    shared.stored_transcribe(customer, id).await
}

/// Stops a transcription. It is `done` when its last transcript is there; a second time changes nothing.
#[utoipa::path(post, path = "/v1.0/transcribes/{id}/stop", tag = "transcribes", params(("id" = Uuid, Path, description = "The transcription")),
    responses((status = 200, description = "The transcription", body = Transcribe), ActErrors))]
pub(super) async fn end(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Transcribe>, ApiError> {
    let id = TranscribeId(id);
    match shared.ask(Command::EndTranscribe { customer, id }).await? {
        Answer::Reply(Reply::Transcribe(transcribe)) => Ok(Json(*transcribe)),
        Answer::Reply(other) => Err(unexpected(&other)),
        Answer::NotHeld => shared.stored_transcribe(customer, id).await,
    }
}

/// Lists what was said in a transcription, newest first.
#[utoipa::path(get, path = "/v1.0/transcripts", tag = "transcribes", params(
    ("transcribe_id" = Uuid, Query, description = "The transcription"),
    PageParams,
), responses((status = 200, description = "A page", body = ListBody<Transcript>), ReadErrors))]
pub(super) async fn transcripts(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    params: Params,
) -> Result<Json<ListBody<Transcript>>, ApiError> {
    let (after, size) = params.page()?;
    let Some(id) = params.uuid("transcribe_id")?.map(TranscribeId) else {
        return Err(ApiError::field(Reason::InvalidQuery, "transcribe_id", "must name a transcription"));
    };
    if shared.live_transcribes(customer, vec![id]).await?.is_empty() {
        shared.stored_transcribe(customer, id).await.map(drop)?;
    }
    let page = shared.state.store.transcripts(customer, id, after, size).await?;
    Ok(Json(page.into()))
}

impl Shared {
    /// The live state of those of these transcriptions that the bridge holds.
    async fn live_transcribes(
        &self,
        customer: CustomerId,
        ids: Vec<TranscribeId>,
    ) -> Result<Vec<Transcribe>, ApiError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        match self.ask(Command::ReadTranscribes { customer, ids }).await? {
            Answer::Reply(Reply::Transcribes(live)) => Ok(live),
            Answer::Reply(other) => Err(unexpected(&other)),
            Answer::NotHeld => Ok(Vec::new()),
        }
    }

    async fn stored_transcribe(
        &self,
        customer: CustomerId,
        id: TranscribeId,
    ) -> Result<Json<Transcribe>, ApiError> {
        self.state.store.transcribe(customer, id).await?.map(Json).ok_or_else(|| ApiError::no_such(WHAT))
    }
}

/// A language tag that is well-formed (RFC 5646 §2.1, of which the first part is held exactly).
fn language(fields: &mut Fields) -> Result<String, ApiError> {
    let Some(tag) = fields.text("language")? else {
        return Err(wrong("language", "must be given, such as `en-US`"));
    };
    let mut parts = tag.split('-');
    let primary = parts.next().unwrap_or_default();
    let is_primary = (2..=3).contains(&primary.len()) && primary.bytes().all(|b| b.is_ascii_alphabetic());
    let are_subtags =
        parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    if is_primary && are_subtags && tag.len() <= LANGUAGE_MAX {
        Ok(tag)
    } else {
        Err(wrong("language", "must be a language tag such as `en-US`"))
    }
}

fn direction(fields: &mut Fields) -> Result<TranscribeDirection, ApiError> {
    match fields.text("direction")?.as_deref() {
        None | Some("both") => Ok(TranscribeDirection::Both),
        Some("in") => Ok(TranscribeDirection::In),
        Some(_) => Err(wrong(
            "direction",
            "must be both or in: callers are heard, the conference says nothing itself",
        )),
    }
}
