//! `/v1.0/conferences`: live state from the bridge, what has ended from the store.

use axum::Json;
use axum::extract::State;

use super::auth::Owner;
use super::body::{Fields, wrong};
use super::error::{ApiError, Reason};
use super::openapi::{ActErrors, ChangeErrors, ReadErrors};
use super::page::{ListBody, PageParams, Params, PathId, refresh};
use super::schema::{ConferenceChanges, NewConferenceBody};
use super::{Answer, Shared, SharedState, unexpected};
use crate::bridge::command::{Command, ConferenceChange, NewConference, Reply};
use crate::bridge::resource::{Conference, ConferenceStatus, ConferenceType};
use crate::id::{ConferenceId, CustomerId, FlowId};
use crate::store::Ended;
use crate::time::Timestamp;

/// What a conference is called in messages.
const WHAT: &str = "conference";

/// Lists the customer's conferences, newest first, deleted ones left out.
#[utoipa::path(get, path = "/v1.0/conferences", tag = "conferences", params(
    PageParams,
    ("type" = Option<ConferenceType>, Query, description = "Only this type"),
    ("status" = Option<ConferenceStatus>, Query, description = "Only this status"),
), responses((status = 200, description = "A page", body = ListBody<Conference>), ReadErrors))]
pub(super) async fn list(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    params: Params,
) -> Result<Json<ListBody<Conference>>, ApiError> {
    let (after, size) = params.page()?;
    let r#type = params.choice("type", "conference, connect")?;
    let status = params.choice("status", "starting, progressing, terminating, terminated")?;
    let mut page = shared.state.store.conferences(customer, r#type, status, after, size).await?;
    let ids =
        page.rows.iter().filter(|row| row.status != ConferenceStatus::Terminated).map(|row| row.id).collect();
    let live = shared.live_conferences(customer, ids).await?;
    refresh(&mut page.rows, live, |row| row.id);
    // The disk is a moment behind: what it still showed may not belong here any more.
    page.rows
        .retain(|row| row.tm_delete == Timestamp::NEVER && status.is_none_or(|status| row.status == status));
    Ok(Json(page.into()))
}

/// Makes a conference.
#[utoipa::path(post, path = "/v1.0/conferences", tag = "conferences", request_body = NewConferenceBody,
    responses((status = 200, description = "The new conference", body = Conference), ChangeErrors))]
pub(super) async fn create(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    mut fields: Fields,
) -> Result<Json<Conference>, ApiError> {
    let new = new_conference(&mut fields)?;
    if let Some(id) = new.id
        && shared.state.store.is_conference_id_taken(id).await?
    {
        return Err(ApiError::new(Reason::IdTaken, "a conference with this id exists already"));
    }
    match shared.ask(Command::CreateConference { customer, new }).await? {
        Answer::Reply(Reply::Conference(conference)) => Ok(Json(*conference)),
        Answer::Reply(other) => Err(unexpected(&other)),
        Answer::NotHeld => Err(ApiError::no_such(WHAT)),
    }
}

/// Shows a conference, also after it ended or was deleted.
#[utoipa::path(get, path = "/v1.0/conferences/{id}", tag = "conferences", params(("id" = Uuid, Path, description = "The conference")),
    responses((status = 200, description = "The conference", body = Conference), ReadErrors))]
pub(super) async fn read(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Conference>, ApiError> {
    shared.find_conference(customer, ConferenceId(id)).await.map(Json)
}

/// Changes the keys that are sent.
#[utoipa::path(put, path = "/v1.0/conferences/{id}", tag = "conferences", params(("id" = Uuid, Path, description = "The conference")),
    request_body = ConferenceChanges, responses((status = 200, description = "The changed conference", body = Conference), ChangeErrors))]
pub(super) async fn update(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
    mut fields: Fields,
) -> Result<Json<Conference>, ApiError> {
    let change = conference_change(&mut fields)?;
    let id = ConferenceId(id);
    shared.change_conference(customer, id, Command::UpdateConference { customer, id, change }).await
}

/// Ends and deletes a conference. A second time it changes nothing.
#[utoipa::path(delete, path = "/v1.0/conferences/{id}", tag = "conferences", params(("id" = Uuid, Path, description = "The conference")),
    responses((status = 200, description = "The deleted conference", body = Conference), ActErrors))]
pub(super) async fn delete(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Conference>, ApiError> {
    let id = ConferenceId(id);
    match shared.ask(Command::DeleteConference { customer, id }).await? {
        Answer::Reply(Reply::Conference(conference)) => return Ok(Json(*conference)),
        Answer::Reply(other) => return Err(unexpected(&other)),
        Answer::NotHeld => {}
    }
    match shared.state.store.delete_ended_conference(customer, id, shared.wall()).await? {
        Ended::Deleted(conference) => Ok(Json(*conference)),
        Ended::Unknown => Err(ApiError::no_such(WHAT)),
        // It ended, but the disk could not be told yet.
        Ended::Live(_) => Err(ApiError::new(
            Reason::NotDurable,
            "the conference has ended, but that is not on disk yet; try again",
        )),
    }
}

/// Gives the conference a new direct hash; the old one stops working at once.
#[utoipa::path(post, path = "/v1.0/conferences/{id}/direct-hash-regenerate", tag = "conferences",
    params(("id" = Uuid, Path, description = "The conference")),
    responses((status = 200, description = "The conference with its new hash", body = Conference), ActErrors))]
pub(super) async fn regenerate_direct_hash(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Conference>, ApiError> {
    let id = ConferenceId(id);
    shared.change_conference(customer, id, Command::RegenerateDirectHash { customer, id }).await
}

impl Shared {
    /// The live state of those of these conferences that the bridge holds.
    async fn live_conferences(
        &self,
        customer: CustomerId,
        ids: Vec<ConferenceId>,
    ) -> Result<Vec<Conference>, ApiError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        match self.ask(Command::ReadConferences { customer, ids }).await? {
            Answer::Reply(Reply::Conferences(live)) => Ok(live),
            Answer::Reply(other) => Err(unexpected(&other)),
            Answer::NotHeld => Ok(Vec::new()),
        }
    }

    /// A conference of this customer: as it is now, or as it ended.
    pub(super) async fn find_conference(
        &self,
        customer: CustomerId,
        id: ConferenceId,
    ) -> Result<Conference, ApiError> {
        if let Some(live) = self.live_conferences(customer, vec![id]).await?.pop() {
            return Ok(live);
        }
        self.state.store.conference(customer, id).await?.ok_or_else(|| ApiError::no_such(WHAT))
    }

    /// Has the bridge change a conference. One that only the store knows has ended.
    pub(super) async fn change_conference(
        &self,
        customer: CustomerId,
        id: ConferenceId,
        command: Command,
    ) -> Result<Json<Conference>, ApiError> {
        match self.ask(command).await? {
            Answer::Reply(Reply::Conference(conference)) => return Ok(Json(*conference)),
            Answer::Reply(other) => return Err(unexpected(&other)),
            Answer::NotHeld => {}
        }
        match self.state.store.conference(customer, id).await? {
            Some(_) => Err(ApiError::new(Reason::WrongStatus, "the conference has ended")),
            None => Err(ApiError::no_such(WHAT)),
        }
    }
}

fn new_conference(fields: &mut Fields) -> Result<NewConference, ApiError> {
    let r#type = match fields.text("type")?.as_deref() {
        None | Some("conference") => ConferenceType::Conference,
        Some("connect") => ConferenceType::Connect,
        Some(_) => return Err(wrong("type", "must be one of conference, connect")),
    };
    let id = match fields.uuid("id")? {
        Some(id) if id.is_nil() => return Err(wrong("id", "must not be the nil UUID")),
        id => id.map(ConferenceId),
    };
    Ok(NewConference {
        id,
        r#type,
        name: fields.text("name")?.unwrap_or_default(),
        detail: fields.text("detail")?.unwrap_or_default(),
        data: fields.object("data")?.unwrap_or_default(),
        timeout_s: fields.timeout()?.unwrap_or(0),
        pre_flow_id: fields.flow("pre_flow_id")?.unwrap_or(FlowId::NIL),
        post_flow_id: fields.flow("post_flow_id")?.unwrap_or(FlowId::NIL),
        direct_access: fields.flag("direct_access")?.unwrap_or(true),
    })
}

fn conference_change(fields: &mut Fields) -> Result<ConferenceChange, ApiError> {
    if fields.has("type") {
        return Err(wrong("type", "cannot be changed"));
    }
    Ok(ConferenceChange {
        name: fields.text("name")?,
        detail: fields.text("detail")?,
        timeout_s: fields.timeout()?,
        data: fields.object("data")?,
        pre_flow_id: fields.flow("pre_flow_id")?,
        post_flow_id: fields.flow("post_flow_id")?,
        direct_access: fields.flag("direct_access")?,
    })
}
