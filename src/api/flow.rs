//! `/v1.0/flows`: what a conference does with its callers before the mix and at the end.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::auth::Owner;
use super::body::{Fields, wrong};
use super::error::{ApiError, Reason};
use super::openapi::{ActErrors, ChangeErrors, ReadErrors};
use super::page::{ListBody, PageParams, Params, PathId, refresh};
use super::schema::{FlowChanges, NewFlowBody};
use super::{Answer, Shared, SharedState, unexpected};
use crate::bridge::command::{Command, FlowChange, NewFlow, Reply};
use crate::bridge::flow::{Bad, Flow, Program};
use crate::id::{CustomerId, FlowId};
use crate::time::Timestamp;

/// What a flow is called in messages.
const WHAT: &str = "flow";

/// Lists the customer's flows, newest first, deleted ones left out.
#[utoipa::path(get, path = "/v1.0/flows", tag = "flows", params(PageParams), responses((status = 200, description = "A page", body = ListBody<Flow>), ReadErrors))]
pub(super) async fn list(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    params: Params,
) -> Result<Json<ListBody<Flow>>, ApiError> {
    let (after, size) = params.page()?;
    let mut page = shared.state.store.flows(customer, after, size).await?;
    let live = shared.live_flows(customer, page.rows.iter().map(|row| row.id).collect()).await?;
    refresh(&mut page.rows, live, |row| row.id);
    page.rows.retain(|row| row.tm_delete == Timestamp::NEVER);
    Ok(Json(page.into()))
}

/// Makes a flow.
#[utoipa::path(post, path = "/v1.0/flows", tag = "flows", request_body = NewFlowBody,
    responses((status = 200, description = "The new flow", body = Flow), ChangeErrors))]
pub(super) async fn create(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    mut fields: Fields,
) -> Result<Json<Flow>, ApiError> {
    check_type(&mut fields)?;
    let new = NewFlow {
        name: fields.text("name")?.unwrap_or_default(),
        detail: fields.text("detail")?.unwrap_or_default(),
        program: shared.program(&mut fields)?.unwrap_or_default(),
    };
    match shared.ask(Command::CreateFlow { customer, new }).await? {
        Answer::Reply(Reply::Flow(flow)) => Ok(Json(*flow)),
        Answer::Reply(other) => Err(unexpected(&other)),
        Answer::NotHeld => Err(ApiError::no_such(WHAT)),
    }
}

/// Shows a flow, also after it was deleted.
#[utoipa::path(get, path = "/v1.0/flows/{id}", tag = "flows", params(("id" = Uuid, Path, description = "The flow")),
    responses((status = 200, description = "The flow", body = Flow), ReadErrors))]
pub(super) async fn read(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Flow>, ApiError> {
    let id = FlowId(id);
    if let Some(live) = shared.live_flows(customer, vec![id]).await?.pop() {
        return Ok(Json(live));
    }
    shared.stored_flow(customer, id).await
}

/// Changes the keys that are sent. Callers who are in the flow go on with what it was.
#[utoipa::path(put, path = "/v1.0/flows/{id}", tag = "flows", params(("id" = Uuid, Path, description = "The flow")),
    request_body = FlowChanges, responses((status = 200, description = "The changed flow", body = Flow), ChangeErrors))]
pub(super) async fn update(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
    mut fields: Fields,
) -> Result<Json<Flow>, ApiError> {
    check_type(&mut fields)?;
    let id = FlowId(id);
    let change = FlowChange {
        name: fields.text("name")?,
        detail: fields.text("detail")?,
        program: shared.program(&mut fields)?,
    };
    match shared.ask(Command::UpdateFlow { customer, id, change }).await? {
        Answer::Reply(Reply::Flow(flow)) => return Ok(Json(*flow)),
        Answer::Reply(other) => return Err(unexpected(&other)),
        Answer::NotHeld => {}
    }
    match shared.state.store.flow(customer, id).await? {
        Some(_) => Err(ApiError::new(Reason::WrongStatus, "the flow is deleted")),
        None => Err(ApiError::no_such(WHAT)),
    }
}

/// Deletes a flow. Callers who are in it go on; a conference that names it goes on without. A second
/// time it changes nothing.
#[utoipa::path(delete, path = "/v1.0/flows/{id}", tag = "flows", params(("id" = Uuid, Path, description = "The flow")),
    responses((status = 200, description = "The deleted flow", body = Flow), ActErrors))]
pub(super) async fn delete(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<Flow>, ApiError> {
    let id = FlowId(id);
    match shared.ask(Command::DeleteFlow { customer, id }).await? {
        Answer::Reply(Reply::Flow(flow)) => Ok(Json(*flow)),
        Answer::Reply(other) => Err(unexpected(&other)),
        Answer::NotHeld => shared.stored_flow(customer, id).await,
    }
}

/// The type of a flow, which is always the same.
fn check_type(fields: &mut Fields) -> Result<(), ApiError> {
    match fields.text("type")?.as_deref() {
        None | Some("" | "flow") => Ok(()),
        Some(_) => Err(wrong("type", "must be flow")),
    }
}

impl Shared {
    /// The `actions` of a body, as they will run.
    fn program(&self, fields: &mut Fields) -> Result<Option<Arc<Program>>, ApiError> {
        let Some(actions) = fields.value("actions") else { return Ok(None) };
        match Program::parse(&actions, &mut self.fork_rng()) {
            Ok(program) => Ok(Some(Arc::new(program))),
            Err(bad @ Bad::List) => Err(wrong("actions", bad.to_string())),
            Err(Bad::Action(fault)) => {
                Err(wrong(&format!("actions[{}].{}", fault.action, fault.key), fault.fault))
            }
        }
    }

    async fn live_flows(&self, customer: CustomerId, ids: Vec<FlowId>) -> Result<Vec<Flow>, ApiError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        match self.ask(Command::ReadFlows { customer, ids }).await? {
            Answer::Reply(Reply::Flows(live)) => Ok(live),
            Answer::Reply(other) => Err(unexpected(&other)),
            Answer::NotHeld => Ok(Vec::new()),
        }
    }

    async fn stored_flow(&self, customer: CustomerId, id: FlowId) -> Result<Json<Flow>, ApiError> {
        self.state.store.flow(customer, id).await?.map(Json).ok_or_else(|| ApiError::no_such(WHAT))
    }
}
