//! `/v1.0/customers`, for the admin key; and `/v1.0/customer`, by which an access key sees whom it
//! acts for.

use axum::Json;
use axum::extract::State;

use super::SharedState;
use super::auth::{Admin, Identity, Owner};
use super::body::{Fields, wrong};
use super::error::{ApiError, Reason};
use super::openapi::{ActErrors, ChangeErrors, ReadErrors};
use super::page::{ListBody, PageParams, Params, PathId};
use super::schema::CustomerBody;
use crate::id::CustomerId;
use crate::store::{Customer, CustomerChange, NewCustomer, Page};
use crate::time::Timestamp;
use crate::webhook::request::{METHODS, check_uri};

/// What a customer is called in messages.
const WHAT: &str = "customer";
/// The longest secret, in bytes.
const SECRET_MAX: usize = 256;

/// Shows the customer that the access key acts for.
#[utoipa::path(get, path = "/v1.0/customer", tag = "customers",
    responses((status = 200, description = "The customer", body = Customer), ReadErrors))]
pub(super) async fn own(
    State(shared): State<SharedState>,
    Owner(id): Owner,
) -> Result<Json<Customer>, ApiError> {
    shared.state.store.customer(id).await?.map(Json).ok_or_else(|| ApiError::no_such(WHAT))
}

/// Lists the customers, newest first, deleted ones left out. An access key sees its own only.
#[utoipa::path(get, path = "/v1.0/customers", tag = "customers", params(PageParams), responses((status = 200, description = "A page", body = ListBody<Customer>), ReadErrors))]
pub(super) async fn list(
    State(shared): State<SharedState>,
    identity: Identity,
    params: Params,
) -> Result<Json<ListBody<Customer>>, ApiError> {
    let (after, size) = params.page()?;
    let page = match identity {
        Identity::Admin => shared.state.store.customers(after, size).await?,
        Identity::Customer(key) => {
            let own = shared.state.store.customer(key.customer).await?.filter(|_| after.is_none());
            Page { rows: own.into_iter().collect(), next: None }
        }
    };
    Ok(Json(page.into()))
}

/// Makes a customer.
#[utoipa::path(post, path = "/v1.0/customers", tag = "customers", request_body = CustomerBody,
    responses((status = 200, description = "The new customer", body = Customer), ChangeErrors))]
pub(super) async fn create(
    State(shared): State<SharedState>,
    _: Admin,
    mut fields: Fields,
) -> Result<Json<Customer>, ApiError> {
    let CustomerChange { name, detail, email, webhook_uri, webhook_method, webhook_secret } =
        change(&mut fields)?;
    let new = NewCustomer {
        name: name.unwrap_or_default(),
        detail: detail.unwrap_or_default(),
        email: email.unwrap_or_default(),
        webhook_uri: webhook_uri.unwrap_or_default(),
        webhook_method: webhook_method.unwrap_or_default(),
        webhook_secret: webhook_secret.unwrap_or_default(),
    };
    Ok(Json(shared.state.store.create_customer(CustomerId(shared.uuid()), new, shared.wall()).await?))
}

/// Shows a customer, also after it was deleted. An access key sees its own only.
#[utoipa::path(get, path = "/v1.0/customers/{id}", tag = "customers", params(("id" = Uuid, Path, description = "The customer")),
    responses((status = 200, description = "The customer", body = Customer), ReadErrors))]
pub(super) async fn read(
    State(shared): State<SharedState>,
    identity: Identity,
    PathId(id): PathId,
) -> Result<Json<Customer>, ApiError> {
    let id = CustomerId(id);
    if let Identity::Customer(key) = identity
        && key.customer != id
    {
        return Err(ApiError::no_such(WHAT));
    }
    shared.state.store.customer(id).await?.map(Json).ok_or_else(|| ApiError::no_such(WHAT))
}

/// Changes the keys that are sent.
#[utoipa::path(put, path = "/v1.0/customers/{id}", tag = "customers", params(("id" = Uuid, Path, description = "The customer")),
    request_body = CustomerBody, responses((status = 200, description = "The changed customer", body = Customer), ChangeErrors))]
pub(super) async fn update(
    State(shared): State<SharedState>,
    _: Admin,
    PathId(id): PathId,
    mut fields: Fields,
) -> Result<Json<Customer>, ApiError> {
    let change = change(&mut fields)?;
    let customer = shared
        .state
        .store
        .update_customer(CustomerId(id), change, shared.wall())
        .await?
        .ok_or_else(|| ApiError::no_such(WHAT))?;
    if customer.tm_delete != Timestamp::NEVER {
        return Err(ApiError::new(Reason::WrongStatus, "the customer is deleted"));
    }
    Ok(Json(customer))
}

/// Deletes a customer that has no live conferences, and its access keys. A second time it changes
/// nothing.
#[utoipa::path(delete, path = "/v1.0/customers/{id}", tag = "customers", params(("id" = Uuid, Path, description = "The customer")),
    responses((status = 200, description = "The deleted customer", body = Customer), ActErrors))]
pub(super) async fn delete(
    State(shared): State<SharedState>,
    _: Admin,
    PathId(id): PathId,
) -> Result<Json<Customer>, ApiError> {
    let id = CustomerId(id);
    if shared.state.store.has_live_conferences(id).await? {
        return Err(ApiError::new(Reason::WrongStatus, "the customer has conferences that have not ended"));
    }
    shared
        .state
        .store
        .delete_customer(id, shared.wall())
        .await?
        .map(Json)
        .ok_or_else(|| ApiError::no_such(WHAT))
}

/// The keys of a body that makes or changes a customer.
fn change(fields: &mut Fields) -> Result<CustomerChange, ApiError> {
    let change = CustomerChange {
        name: fields.text("name")?,
        detail: fields.text("detail")?,
        email: fields.text("email")?,
        webhook_uri: fields.text("webhook_uri")?,
        webhook_method: fields.text("webhook_method")?,
        webhook_secret: fields.text("webhook_secret")?,
    };
    if let Some(uri) = change.webhook_uri.as_deref().filter(|uri| !uri.is_empty()) {
        check_uri(uri).map_err(|fault| wrong("webhook_uri", fault))?;
    }
    if change.webhook_method.as_deref().is_some_and(|method| !method.is_empty() && !METHODS.contains(&method))
    {
        return Err(wrong(
            "webhook_method",
            format!("must be one of {}, or empty for POST", METHODS.join(", ")),
        ));
    }
    if change.webhook_secret.as_ref().is_some_and(|secret| secret.len() > SECRET_MAX) {
        return Err(wrong("webhook_secret", format!("must not be longer than {SECRET_MAX} bytes")));
    }
    Ok(change)
}
