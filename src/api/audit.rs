//! `/v1.0/audits`: who changed what; and how the edge comes to write it down.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode};
use tokio::sync::oneshot;

use super::auth::Identity;
use super::error::ApiError;
use super::openapi::ReadErrors;
use super::page::{ListBody, PageParams, Params};
use super::{Shared, SharedState};
use crate::id::CustomerId;
use crate::store::{Audit, Write};

/// The longest path that is written down, in characters; none of ours is longer.
const PATH_MAX: usize = 200;
/// How long an answer waits for its entry to be on disk.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a request's identity is left for the edge, once it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Actor(pub(super) Arc<OnceLock<Identity>>);

/// A changing call that is under way.
pub(super) struct Call {
    actor: Actor,
    method: Method,
    path: String,
    source: String,
}

impl Call {
    /// Notes what is asked; `None` for a call that changes nothing.
    pub(super) fn begin(request: &mut Request) -> Option<Call> {
        if request.method().is_safe() {
            return None;
        }
        let actor = Actor::default();
        request.extensions_mut().insert(actor.clone());
        let source = request.extensions().get::<ConnectInfo<SocketAddr>>();
        Some(Call {
            actor,
            method: request.method().clone(),
            path: request.uri().path().chars().take(PATH_MAX).collect(),
            source: source.map(|info| info.0.ip().to_string()).unwrap_or_default(),
        })
    }
}

/// Lists the audit log, newest first: an access key's own customer, or everything for the admin key.
#[utoipa::path(get, path = "/v1.0/audits", tag = "audits", params(
    PageParams,
    ("customer_id" = Option<Uuid>, Query, description = "Only of this customer; nil for the admin key's own"),
), responses((status = 200, description = "A page", body = ListBody<Audit>), ReadErrors))]
pub(super) async fn list(
    State(shared): State<SharedState>,
    identity: Identity,
    params: Params,
) -> Result<Json<ListBody<Audit>>, ApiError> {
    let (after, size) = params.page()?;
    let asked = params.uuid("customer_id")?.map(CustomerId);
    let customer = match identity {
        Identity::Admin => asked,
        Identity::Customer(key) if asked.is_some_and(|asked| asked != key.customer) => {
            return Err(ApiError::no_such("customer"));
        }
        Identity::Customer(key) => Some(key.customer),
    };
    Ok(Json(shared.state.store.audits(customer, after, size).await?.into()))
}

impl Shared {
    /// Writes a changing call into the audit log, and waits until it is there. Calls of nobody we know
    /// are left out, and those a rate limit refused: they changed nothing, and could be very many.
    pub(super) async fn audit(&self, call: Call, status: StatusCode, request_id: &str) {
        let Some(identity) = call.actor.0.get() else { return };
        if status == StatusCode::TOO_MANY_REQUESTS {
            return;
        }
        let (customer_id, accesskey_id) = match identity {
            Identity::Admin => (CustomerId::NIL, uuid::Uuid::nil()),
            Identity::Customer(key) => (key.customer, key.accesskey),
        };
        let audit = Audit {
            id: self.uuid(),
            customer_id,
            accesskey_id,
            method: call.method.to_string(),
            path: call.path,
            status: status.as_u16(),
            request_id: request_id.to_owned(),
            source: call.source,
            tm_create: self.wall(),
        };
        // Gone when the server is ending: nothing can be changed any more.
        let Some(writer) = self.state.writer.upgrade() else { return };
        let (done, written) = oneshot::channel();
        let write = async {
            if writer.send(Write::Audit { audit: Box::new(audit), done }).await.is_ok() {
                // A disk that cannot be written: the entry is kept and written later.
                let _ = written.await;
            }
        };
        if tokio::time::timeout(WRITE_TIMEOUT, write).await.is_err() {
            tracing::warn!(request_id, "an answer did not wait longer for its audit entry");
        }
    }
}
