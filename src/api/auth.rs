//! Who asks: the key of a request, and whom it acts for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, Query};
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use uuid::Uuid;

use super::audit::Actor;
use super::error::{ApiError, Reason};
use super::limit::SourceKey;
use super::{Shared, SharedState};
use crate::id::CustomerId;
use crate::store::{KeyOwner, Scope, key_digest};

/// The name of the key in queries and cookies.
const KEY_NAME: &str = "accesskey";
/// No key is longer; what is longer is not looked at.
const KEY_LENGTH_MAX: usize = 256;
/// The admin key's name among the buckets of keys: no access key has the nil id.
const ADMIN_BUCKET: Uuid = Uuid::nil();

/// Whom a valid key acts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// A customer, by an access key.
    Customer(KeyOwner),
    /// The operator, by the admin key.
    Admin,
}

/// A request with an access key: the customer it acts for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner(pub(super) CustomerId);

/// A request with an access key: the key itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder(pub(super) KeyOwner);

/// A request with the admin key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admin;

/// A request that needs no key, counted against its address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anyone;

impl FromRequestParts<SharedState> for Identity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &SharedState) -> Result<Self, ApiError> {
        authenticate(parts, shared).await
    }
}

impl FromRequestParts<SharedState> for Owner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &SharedState) -> Result<Self, ApiError> {
        let Holder(key) = Holder::from_request_parts(parts, shared).await?;
        Ok(Owner(key.customer))
    }
}

impl FromRequestParts<SharedState> for Holder {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &SharedState) -> Result<Self, ApiError> {
        match authenticate(parts, shared).await? {
            Identity::Customer(key) => Ok(Holder(key)),
            Identity::Admin => Err(ApiError::new(
                Reason::PermissionDenied,
                "the admin key manages customers and access keys; this needs an access key",
            )),
        }
    }
}

impl FromRequestParts<SharedState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &SharedState) -> Result<Self, ApiError> {
        match authenticate(parts, shared).await? {
            Identity::Admin => Ok(Admin),
            Identity::Customer(_) => Err(ApiError::new(Reason::PermissionDenied, "this needs the admin key")),
        }
    }
}

impl FromRequestParts<SharedState> for Anyone {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &SharedState) -> Result<Self, ApiError> {
        charge_source(parts, shared)?;
        Ok(Anyone)
    }
}

/// Finds out who asks, leaves it for the audit log, and sees to it that a key that may only read does
/// nothing else.
async fn authenticate(parts: &Parts, shared: &Shared) -> Result<Identity, ApiError> {
    let identity = identify(parts, shared).await?;
    if let Some(actor) = parts.extensions.get::<Actor>() {
        // Asked a second time, it is the same.
        let _ = actor.0.set(identity);
    }
    if let Identity::Customer(KeyOwner { scope: Scope::Read, .. }) = identity
        && changes_something(parts)
    {
        return Err(ApiError::new(
            Reason::ReadOnlyKey,
            "this access key may only read; use one with the scope `manage`",
        ));
    }
    Ok(identity)
}

/// Whether a request is more than a look: by its method, and the one that speaks into a conference.
fn changes_something(parts: &Parts) -> bool {
    !parts.method.is_safe() || parts.uri.path().ends_with("/media_stream")
}

/// Finds out who asks. Whoever has not shown a valid key before is charged to its address, so that
/// guessing is slow and cannot load the store; a known key is charged to itself.
async fn identify(parts: &Parts, shared: &Shared) -> Result<Identity, ApiError> {
    let Some(key) = presented_key(parts) else {
        charge_source(parts, shared)?;
        return Err(unauthenticated(
            "an access key is needed: `Authorization: Bearer vb_…`, or `accesskey` as query or cookie",
        ));
    };
    let digest = key_digest(&key);
    if shared.state.store.is_admin_key(&digest) {
        charge_key(ADMIN_BUCKET, shared)?;
        return Ok(Identity::Admin);
    }
    let cached = shared.state.store.cached_key(&digest);
    let found = match cached {
        Some(owner) => Some(owner),
        None => {
            charge_source(parts, shared)?;
            shared.state.store.find_key(&digest).await?
        }
    };
    let Some(owner) = found else { return Err(unauthenticated("this access key is not valid")) };
    charge_key(owner.accesskey, shared)?;
    if owner.tm_expire <= shared.wall() {
        return Err(unauthenticated("this access key has expired"));
    }
    Ok(Identity::Customer(owner))
}

/// The key of the request: of the header, else the query, else the cookie.
fn presented_key(parts: &Parts) -> Option<String> {
    let key = match parts.headers.get(AUTHORIZATION) {
        // A header that is no bearer token is a wrong key, not an absent one.
        Some(value) => {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        }
        None => query_key(parts).or_else(|| cookie_key(parts)),
    };
    key.filter(|key| !key.is_empty() && key.len() <= KEY_LENGTH_MAX)
}

fn query_key(parts: &Parts) -> Option<String> {
    let Query(mut query) = Query::<HashMap<String, String>>::try_from_uri(&parts.uri).ok()?;
    query.remove(KEY_NAME)
}

fn cookie_key(parts: &Parts) -> Option<String> {
    let cookies = parts.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == KEY_NAME)
        .map(|(_, value)| value.to_owned())
}

fn charge_source(parts: &Parts, shared: &Shared) -> Result<(), ApiError> {
    let ip = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip());
    let rate = shared.settings().rate_per_source();
    let taken = shared.sources.take(rate, SourceKey::from(ip), shared.now().instant);
    taken.map_err(|wait| rate_limited("this address", wait))
}

pub(super) fn charge_key(key: Uuid, shared: &Shared) -> Result<(), ApiError> {
    let rate = shared.settings().rate_per_key();
    let taken = shared.keys.take(rate, key, shared.now().instant);
    taken.map_err(|wait| rate_limited("this access key", wait))
}

fn rate_limited(who: &str, wait: Duration) -> ApiError {
    ApiError::new(Reason::RateLimited, format!("too many requests of {who}")).retry_after(wait)
}

fn unauthenticated(message: &str) -> ApiError {
    ApiError::new(Reason::Unauthenticated, message)
}
