//! `/v1.0/recordings`, and the calls of a conference that start and stop them.

use axum::Json;
use axum::extract::State;

use super::auth::Owner;
use super::body::{Fields, wrong};
use super::error::{ApiError, Reason};
use super::openapi::{ActErrors, ChangeErrors, ReadErrors};
use super::page::{ListBody, PageParams, Params, PathId, refresh};
use super::schema::NewRecordingBody;
use super::{Answer, Shared, SharedState, unexpected};
use crate::bridge::command::{Command, NewRecording, RECORDING_MAX_S, Reply};
use crate::bridge::resource::{Conference, Recording, RecordingFormat, RecordingStatus};
use crate::id::{ConferenceId, CustomerId, FlowId, RecordingId};
use crate::store::EndedRecording;

/// What a recording is called in messages.
pub(super) const WHAT: &str = "recording";

/// Starts to record the conference. Only one that is `progressing` and not being recorded (409); only so
/// many in one conference and at once (429); the flow must be one of the customer's (400).
#[utoipa::path(post, path = "/v1.0/conferences/{id}/recording_start", tag = "recordings",
    params(("id" = Uuid, Path, description = "The conference")), request_body = NewRecordingBody,
    responses((status = 200, description = "The conference, with its `recording_id`", body = Conference), ChangeErrors))]
pub(super) async fn start(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
    mut fields: Fields,
) -> Result<Json<Conference>, ApiError> {
    let new = new_recording(&mut fields)?;
    let id = ConferenceId(id);
    shared.change_conference(customer, id, Command::StartRecording { customer, id, new }).await
}

/// Stops the recording that runs (else 409).
#[utoipa::path(post, path = "/v1.0/conferences/{id}/recording_stop", tag = "recordings",
    params(("id" = Uuid, Path, description = "The conference")),
    responses((status = 200, description = "The conference, without `recording_id`", body = Conference), ActErrors))]
pub(super) async fn stop(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Conference>, ApiError> {
    let id = ConferenceId(id);
    shared.change_conference(customer, id, Command::StopRecording { customer, id }).await
}

/// Makes the recording silent; its time goes on. 409 when it is silent already, or there is none.
#[utoipa::path(post, path = "/v1.0/conferences/{id}/recording_pause", tag = "recordings",
    params(("id" = Uuid, Path, description = "The conference")),
    responses((status = 200, description = "The conference", body = Conference), ActErrors))]
pub(super) async fn pause(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Conference>, ApiError> {
    let id = ConferenceId(id);
    shared.change_conference(customer, id, Command::PauseRecording { customer, id, pause: true }).await
}

/// Ends the recording's silence. 409 when it is not silent, or there is none.
#[utoipa::path(post, path = "/v1.0/conferences/{id}/recording_resume", tag = "recordings",
    params(("id" = Uuid, Path, description = "The conference")),
    responses((status = 200, description = "The conference", body = Conference), ActErrors))]
pub(super) async fn resume(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Conference>, ApiError> {
    let id = ConferenceId(id);
    shared.change_conference(customer, id, Command::PauseRecording { customer, id, pause: false }).await
}

/// Lists the customer's recordings, newest first, deleted ones left out.
#[utoipa::path(get, path = "/v1.0/recordings", tag = "recordings", params(
    PageParams,
    ("reference_id" = Option<Uuid>, Query, description = "Only of this conference"),
), responses((status = 200, description = "A page", body = ListBody<Recording>), ReadErrors))]
pub(super) async fn list(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    params: Params,
) -> Result<Json<ListBody<Recording>>, ApiError> {
    let (after, size) = params.page()?;
    let conference = params.uuid("reference_id")?.map(ConferenceId);
    let mut page = shared.state.store.recordings(customer, conference, after, size).await?;
    let open =
        page.rows.iter().filter(|row| row.status != RecordingStatus::Ended).map(|row| row.id).collect();
    let live = shared.live_recordings(customer, open).await?;
    refresh(&mut page.rows, live, |row| row.id);
    Ok(Json(page.into()))
}

/// Shows a recording, also after it was deleted.
#[utoipa::path(get, path = "/v1.0/recordings/{id}", tag = "recordings", params(("id" = Uuid, Path, description = "The recording")),
    responses((status = 200, description = "The recording", body = Recording), ReadErrors))]
pub(super) async fn read(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Recording>, ApiError> {
    shared.find_recording(customer, RecordingId(id)).await.map(Json)
}

/// Deletes a recording that has ended, and its files. A second time it changes nothing.
#[utoipa::path(delete, path = "/v1.0/recordings/{id}", tag = "recordings", params(("id" = Uuid, Path, description = "The recording")),
    responses((status = 200, description = "The deleted recording", body = Recording), ActErrors))]
pub(super) async fn delete(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Recording>, ApiError> {
    let id = RecordingId(id);
    if !shared.live_recordings(customer, vec![id]).await?.is_empty() {
        return Err(still_running());
    }
    match shared.state.store.delete_recording(customer, id, shared.wall()).await? {
        EndedRecording::Deleted(recording) => {
            let folder = shared.state.recordings.clone();
            let removed = tokio::task::spawn_blocking(move || folder.remove(id)).await;
            match removed.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked))) {
                Ok(()) => Ok(Json(*recording)),
                Err(error) => {
                    tracing::error!(recording = %id, %error, "the files of a deleted recording stay");
                    Err(ApiError::new(Reason::Internal, "its files could not be removed; delete it again"))
                }
            }
        }
        EndedRecording::Unknown => Err(ApiError::no_such(WHAT)),
        // It ended, but the disk could not be told yet.
        EndedRecording::Live => Err(ApiError::new(
            Reason::NotDurable,
            "the recording has ended, but that is not on disk yet; try again",
        )),
    }
}

pub(super) fn still_running() -> ApiError {
    ApiError::new(Reason::WrongStatus, "the recording has not ended; stop it first")
}

fn new_recording(fields: &mut Fields) -> Result<NewRecording, ApiError> {
    let format = match fields.text("format")?.as_deref() {
        None | Some("wav") => RecordingFormat::Wav,
        Some("ogg") => RecordingFormat::Ogg,
        Some(_) => return Err(wrong("format", "must be one of wav, ogg")),
    };
    Ok(NewRecording {
        format,
        duration_s: fields.number("duration", RECORDING_MAX_S)?.unwrap_or(0),
        on_end_flow_id: fields.flow("on_end_flow_id")?.unwrap_or(FlowId::NIL),
        tracks: fields.flag("tracks")?.unwrap_or(false),
    })
}

impl Shared {
    /// The live state of those of these recordings that have not ended.
    async fn live_recordings(
        &self,
        customer: CustomerId,
        ids: Vec<RecordingId>,
    ) -> Result<Vec<Recording>, ApiError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        match self.ask(Command::ReadRecordings { customer, ids }).await? {
            Answer::Reply(Reply::Recordings(live)) => Ok(live),
            Answer::Reply(other) => Err(unexpected(&other)),
            Answer::NotHeld => Ok(Vec::new()),
        }
    }

    /// A recording of this customer: as it is now, or as it ended.
    pub(super) async fn find_recording(
        &self,
        customer: CustomerId,
        id: RecordingId,
    ) -> Result<Recording, ApiError> {
        if let Some(live) = self.live_recordings(customer, vec![id]).await?.pop() {
            return Ok(live);
        }
        self.state.store.recording(customer, id).await?.ok_or_else(|| ApiError::no_such(WHAT))
    }
}
