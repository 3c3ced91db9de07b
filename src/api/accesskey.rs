//! `/v1.0/accesskeys`, for the admin key.

use std::time::Duration;

use axum::Json;
use axum::extract::State;

use super::SharedState;
use super::auth::Admin;
use super::body::{Fields, wrong};
use super::error::{ApiError, Reason};
use super::openapi::{ActErrors, ChangeErrors, ReadErrors};
use super::page::{ListBody, PageParams, Params, PathId};
use super::schema::{AccesskeyChanges, NewAccesskeyBody, Rotation};
use crate::id::CustomerId;
use crate::store::{Accesskey, AccesskeyChange, NewAccesskey, Scope};
use crate::time::Timestamp;

/// What an access key is called in messages.
const WHAT: &str = "access key";
/// The longest `expire` of an access key: a hundred years.
const EXPIRE_MAX_S: u64 = 100 * 365 * 86_400;
/// The longest time that two keys of a rotation work side by side: 30 days.
const OVERLAP_MAX_S: u64 = 30 * 86_400;
/// That time unless the request says otherwise: one hour.
const OVERLAP_S: u64 = 3600;

/// Lists the access keys, newest first, deleted ones left out.
#[utoipa::path(get, path = "/v1.0/accesskeys", tag = "accesskeys", params(
    PageParams,
    ("customer_id" = Option<Uuid>, Query, description = "Only of this customer"),
), responses((status = 200, description = "A page", body = ListBody<Accesskey>), ReadErrors))]
pub(super) async fn list(
    State(shared): State<SharedState>,
    _: Admin,
    params: Params,
) -> Result<Json<ListBody<Accesskey>>, ApiError> {
    let (after, size) = params.page()?;
    let customer = params.uuid("customer_id")?.map(CustomerId);
    Ok(Json(shared.state.store.accesskeys(customer, after, size).await?.into()))
}

/// Makes an access key. Its `token` is in this answer and never again.
#[utoipa::path(post, path = "/v1.0/accesskeys", tag = "accesskeys", request_body = NewAccesskeyBody,
    responses((status = 200, description = "The new access key", body = Accesskey), ChangeErrors))]
pub(super) async fn create(
    State(shared): State<SharedState>,
    _: Admin,
    mut fields: Fields,
) -> Result<Json<Accesskey>, ApiError> {
    let customer =
        fields.uuid("customer_id")?.map(CustomerId).ok_or_else(|| wrong("customer_id", "is needed"))?;
    let name = fields.text("name")?.unwrap_or_default();
    let detail = fields.text("detail")?.unwrap_or_default();
    let scope = scope(&mut fields)?.unwrap_or_default();
    let tm_expire = expiry(&mut fields, shared.wall())?.unwrap_or(Timestamp::NEVER);
    let known = shared.state.store.customer(customer).await?;
    if known.is_none_or(|customer| customer.tm_delete != Timestamp::NEVER) {
        return Err(wrong("customer_id", "names a customer that does not exist"));
    }
    let new = NewAccesskey { customer, name, detail, scope, tm_expire };
    Ok(Json(shared.state.store.create_accesskey(new, shared.wall(), &mut shared.fork_rng()).await?))
}

/// Shows an access key, without its token, also after it was deleted.
#[utoipa::path(get, path = "/v1.0/accesskeys/{id}", tag = "accesskeys", params(("id" = Uuid, Path, description = "The access key")),
    responses((status = 200, description = "The access key", body = Accesskey), ReadErrors))]
pub(super) async fn read(
    State(shared): State<SharedState>,
    _: Admin,
    PathId(id): PathId,
) -> Result<Json<Accesskey>, ApiError> {
    shared.state.store.accesskey(id).await?.map(Json).ok_or_else(|| ApiError::no_such(WHAT))
}

/// Changes the keys that are sent.
#[utoipa::path(put, path = "/v1.0/accesskeys/{id}", tag = "accesskeys", params(("id" = Uuid, Path, description = "The access key")),
    request_body = AccesskeyChanges, responses((status = 200, description = "The changed access key", body = Accesskey), ChangeErrors))]
pub(super) async fn update(
    State(shared): State<SharedState>,
    _: Admin,
    PathId(id): PathId,
    mut fields: Fields,
) -> Result<Json<Accesskey>, ApiError> {
    let change = AccesskeyChange {
        name: fields.text("name")?,
        detail: fields.text("detail")?,
        scope: scope(&mut fields)?,
        tm_expire: expiry(&mut fields, shared.wall())?,
    };
    let key = shared
        .state
        .store
        .update_accesskey(id, change, shared.wall())
        .await?
        .ok_or_else(|| ApiError::no_such(WHAT))?;
    if key.tm_delete != Timestamp::NEVER {
        return Err(ApiError::new(Reason::WrongStatus, "the access key is deleted"));
    }
    Ok(Json(key))
}

/// Deletes an access key: it stops working at once. A second time it changes nothing.
#[utoipa::path(delete, path = "/v1.0/accesskeys/{id}", tag = "accesskeys", params(("id" = Uuid, Path, description = "The access key")),
    responses((status = 200, description = "The deleted access key", body = Accesskey), ActErrors))]
pub(super) async fn delete(
    State(shared): State<SharedState>,
    _: Admin,
    PathId(id): PathId,
) -> Result<Json<Accesskey>, ApiError> {
    shared
        .state
        .store
        .delete_accesskey(id, shared.wall())
        .await?
        .map(Json)
        .ok_or_else(|| ApiError::no_such(WHAT))
}

/// Makes a new access key beside an old one, like it in all but the key itself. The old one goes on
/// working for `overlap` seconds. The new one's `token` is in this answer and never again.
#[utoipa::path(post, path = "/v1.0/accesskeys/{id}/rotate", tag = "accesskeys", params(("id" = Uuid, Path, description = "The old access key")),
    request_body = Rotation, responses((status = 200, description = "The new access key", body = Accesskey), ChangeErrors))]
pub(super) async fn rotate(
    State(shared): State<SharedState>,
    _: Admin,
    PathId(id): PathId,
    mut fields: Fields,
) -> Result<Json<Accesskey>, ApiError> {
    let overlap = Duration::from_secs(fields.number("overlap", OVERLAP_MAX_S)?.unwrap_or(OVERLAP_S));
    let store = &shared.state.store;
    if let Some(made) = store.rotate_accesskey(id, overlap, shared.wall(), &mut shared.fork_rng()).await? {
        return Ok(Json(made));
    }
    match store.accesskey(id).await? {
        Some(_) => Err(ApiError::new(Reason::WrongStatus, "the access key is deleted")),
        None => Err(ApiError::no_such(WHAT)),
    }
}

/// What a key may do.
fn scope(fields: &mut Fields) -> Result<Option<Scope>, ApiError> {
    match fields.text("scope")?.as_deref() {
        None => Ok(None),
        Some("read") => Ok(Some(Scope::Read)),
        Some("manage") => Ok(Some(Scope::Manage)),
        Some(_) => Err(wrong("scope", "must be one of read, manage")),
    }
}

/// When a key shall stop working: `expire` seconds from now (0 never), or at `tm_expire`.
fn expiry(fields: &mut Fields, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    match (fields.number("expire", EXPIRE_MAX_S)?, fields.time("tm_expire")?) {
        (Some(_), Some(_)) => Err(wrong("expire", "and `tm_expire` cannot both be sent")),
        (Some(0), None) => Ok(Some(Timestamp::NEVER)),
        (Some(seconds), None) => Ok(Some(now.plus(Duration::from_secs(seconds)))),
        (None, time) => Ok(time),
    }
}
