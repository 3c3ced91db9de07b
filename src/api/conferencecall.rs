//! `/v1.0/conferencecalls`: who is, and was, in which conference.

use axum::Json;
use axum::extract::State;

use super::auth::Owner;
use super::error::ApiError;
use super::openapi::{ActErrors, ReadErrors};
use super::page::{ListBody, PageParams, Params, PathId, refresh};
use super::{Answer, Shared, SharedState, unexpected};
use crate::bridge::command::{Command, Reply};
use crate::bridge::resource::{Conferencecall, ConferencecallStatus};
use crate::id::{ConferenceId, ConferencecallId, CustomerId};

/// What a conferencecall is called in messages.
const WHAT: &str = "conferencecall";

/// Lists the customer's conferencecalls, newest first, those that have left included.
#[utoipa::path(get, path = "/v1.0/conferencecalls", tag = "conferencecalls", params(
    PageParams,
    ("conference_id" = Option<Uuid>, Query, description = "Only of this conference"),
    ("status" = Option<ConferencecallStatus>, Query, description = "Only this status"),
), responses((status = 200, description = "A page", body = ListBody<Conferencecall>), ReadErrors))]
pub(super) async fn list(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    params: Params,
) -> Result<Json<ListBody<Conferencecall>>, ApiError> {
    let (after, size) = params.page()?;
    let conference = params.uuid("conference_id")?.map(ConferenceId);
    let status = params.choice("status", "joining, joined, leaving, leaved")?;
    let mut page = shared.state.store.conferencecalls(customer, conference, status, after, size).await?;
    let ids =
        page.rows.iter().filter(|row| row.status != ConferencecallStatus::Leaved).map(|row| row.id).collect();
    let live = shared.live_conferencecalls(customer, ids).await?;
    refresh(&mut page.rows, live, |row| row.id);
    // The disk is a moment behind: what it still showed may not belong here any more.
    page.rows.retain(|row| status.is_none_or(|status| row.status == status));
    Ok(Json(page.into()))
}

/// Shows a conferencecall, also after it left.
#[utoipa::path(get, path = "/v1.0/conferencecalls/{id}", tag = "conferencecalls", params(("id" = Uuid, Path, description = "The conferencecall")),
    responses((status = 200, description = "The conferencecall", body = Conferencecall), ReadErrors))]
pub(super) async fn read(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Conferencecall>, ApiError> {
    let id = ConferencecallId(id);
    if let Some(live) = shared.live_conferencecalls(customer, vec![id]).await?.pop() {
        return Ok(Json(live));
    }
    shared.stored_conferencecall(customer, id).await
}

/// Ejects the caller. A second time it changes nothing.
#[utoipa::path(delete, path = "/v1.0/conferencecalls/{id}", tag = "conferencecalls", params(("id" = Uuid, Path, description = "The conferencecall")),
    responses((status = 200, description = "The conferencecall on its way out", body = Conferencecall), ActErrors))]
pub(super) async fn eject(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Conferencecall>, ApiError> {
    let id = ConferencecallId(id);
    match shared.ask(Command::EjectConferencecall { customer, id }).await? {
        Answer::Reply(Reply::Conferencecall(call)) => Ok(Json(*call)),
        Answer::Reply(other) => Err(unexpected(&other)),
        Answer::NotHeld => shared.stored_conferencecall(customer, id).await,
    }
}

impl Shared {
    /// The live state of those of these conferencecalls that the bridge holds.
    async fn live_conferencecalls(
        &self,
        customer: CustomerId,
        ids: Vec<ConferencecallId>,
    ) -> Result<Vec<Conferencecall>, ApiError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        match self.ask(Command::ReadConferencecalls { customer, ids }).await? {
            Answer::Reply(Reply::Conferencecalls(live)) => Ok(live),
            Answer::Reply(other) => Err(unexpected(&other)),
            Answer::NotHeld => Ok(Vec::new()),
        }
    }

    async fn stored_conferencecall(
        &self,
        customer: CustomerId,
        id: ConferencecallId,
    ) -> Result<Json<Conferencecall>, ApiError> {
        self.state.store.conferencecall(customer, id).await?.map(Json).ok_or_else(|| ApiError::no_such(WHAT))
    }
}
