//! `/v1.0/webhooks`: what could not be told, and telling it again.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::SharedState;
use super::auth::Owner;
use super::error::ApiError;
use super::openapi::{ActErrors, ReadErrors};
use super::page::{ListBody, PageParams, Params, PathId};
use crate::id::ConferenceId;
use crate::store::WebhookFailure;

/// What a dead letter is called in messages.
const WHAT: &str = "webhook failure";

/// The answer of a replay.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Replayed {
    /// How many events are on their way again.
    replayed: u64,
}

/// Lists the events that could not be told within a day, the last given up first.
#[utoipa::path(get, path = "/v1.0/webhooks/failures", tag = "webhooks", params(
    PageParams,
    ("conference_id" = Option<Uuid>, Query, description = "Only of this conference"),
), responses((status = 200, description = "A page", body = ListBody<WebhookFailure>), ReadErrors))]
pub(super) async fn failures(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    params: Params,
) -> Result<Json<ListBody<WebhookFailure>>, ApiError> {
    let (after, size) = params.page()?;
    let conference = params.uuid("conference_id")?.map(ConferenceId);
    Ok(Json(shared.state.store.webhook_failures(customer, conference, after, size).await?.into()))
}

/// Puts an event back among those to be told, behind what waits there; it is tried for a day again.
#[utoipa::path(post, path = "/v1.0/webhooks/failures/{id}/replay", tag = "webhooks",
    params(("id" = Uuid, Path, description = "The webhook failure")),
    responses((status = 200, description = "The failure as it was; it is no failure any more", body = WebhookFailure), ActErrors))]
pub(super) async fn replay_one(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
    PathId(id): PathId,
) -> Result<Json<WebhookFailure>, ApiError> {
    let replayed = shared.state.store.replay_webhook(customer, id, shared.wall()).await?;
    replayed.map(Json).ok_or_else(|| ApiError::no_such(WHAT))
}

/// Puts all of them back, up to 10000 in one call, each conference's in the order of their `seq`.
#[utoipa::path(post, path = "/v1.0/webhooks/replay", tag = "webhooks",
    responses((status = 200, description = "How many; call again until it is 0", body = Replayed), ActErrors))]
pub(super) async fn replay_all(
    State(shared): State<SharedState>,
    Owner(customer): Owner,
) -> Result<Json<Replayed>, ApiError> {
    let replayed = shared.state.store.replay_webhooks(customer, shared.wall()).await?;
    Ok(Json(Replayed { replayed }))
}
