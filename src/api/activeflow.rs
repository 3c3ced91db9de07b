//! `/v1.0/activeflows`: what flows did, when, and with what result.

use axum::Json;
use axum::extract::State;

use super::auth::Owner;
use super::error::ApiError;
use super::openapi::ReadErrors;
use super::page::{ListBody, PageParams, Params, PathId, refresh};
use super::{Answer, Shared, SharedState, unexpected};
use crate::bridge::command::{Command, Reply};
use crate::bridge::flow::Activeflow;
use crate::id::{ActiveflowId, ConferenceId, CustomerId, FlowId};

/// Lists the customer's activeflows, newest first, those that are over included.
#[utoipa::path(get, path = "/v1.0/activeflows", tag = "flows", params(
    PageParams,
    ("conference_id" = Option<Uuid>, Query, description = "Only of this conference"),
    ("flow_id" = Option<Uuid>, Query, description = "Only of this flow"),
), responses((status = 200, description = "A page", body = ListBody<Activeflow>), ReadErrors))]
pub(super) async fn list(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    params: Params,
) -> Result<Json<ListBody<Activeflow>>, ApiError> {
    let (after, size) = params.page()?;
    let conference = params.uuid("conference_id")?.map(ConferenceId);
    let flow = params.uuid("flow_id")?.map(FlowId);
    let mut page = shared.state.store.activeflows(customer, conference, flow, after, size).await?;
    let live = shared.live_activeflows(customer, page.rows.iter().map(|row| row.id).collect()).await?;
    refresh(&mut page.rows, live, |row| row.id);
    Ok(Json(page.into()))
}

/// Shows one run of a flow, also when it is over.
#[utoipa::path(get, path = "/v1.0/activeflows/{id}", tag = "flows", params(("id" = Uuid, Path, description = "The activeflow")),
    responses((status = 200, description = "The activeflow", body = Activeflow), ReadErrors))]
pub(super) async fn read(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Activeflow>, ApiError> {
    let id = ActiveflowId(id);
    // Asked first: when the bridge's answer is here, what it said before is on disk.
    if let Some(live) = shared.live_activeflows(customer, vec![id]).await?.pop() {
        return Ok(Json(live));
    }
    let stored = shared.state.store.activeflow(customer, id).await?;
    stored.map(Json).ok_or_else(|| ApiError::no_such("activeflow"))
}

impl Shared {
    async fn live_activeflows(
        &self,
        customer: CustomerId,
        ids: Vec<ActiveflowId>,
    ) -> Result<Vec<Activeflow>, ApiError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        match self.ask(Command::ReadActiveflows { customer, ids }).await? {
            Answer::Reply(Reply::Activeflows(live)) => Ok(live),
            Answer::Reply(other) => Err(unexpected(&other)),
            Answer::NotHeld => Ok(Vec::new()),
        }
    }
}
