//! What went wrong, by whose fault, and how HTTP says it. The edge turns an [`ApiError`] into its body.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::StoreError;

/// Why a request failed: the machine's word, under one of the API's statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    InvalidBody,
    InvalidField,
    InvalidPath,
    InvalidQuery,
    BodyTooLarge,
    RangeNotSatisfiable,
    UnsupportedMediaType,
    MethodNotAllowed,
    Unauthenticated,
    PermissionDenied,
    ReadOnlyKey,
    NotFound,
    IdTaken,
    WrongStatus,
    RateLimited,
    LimitReached,
    Busy,
    NotDurable,
    NotReady,
    NoTranscriber,
    Draining,
    TimedOut,
    StoreUnavailable,
    StorageUnavailable,
    Internal,
}

impl Reason {
    /// (HTTP code, the API's status, the reason as shown).
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Reason::InvalidBody => (S::BAD_REQUEST, "INVALID_ARGUMENT", "INVALID_BODY"),
            Reason::InvalidField => (S::BAD_REQUEST, "INVALID_ARGUMENT", "INVALID_FIELD"),
            Reason::InvalidPath => (S::BAD_REQUEST, "INVALID_ARGUMENT", "INVALID_PATH"),
            Reason::InvalidQuery => (S::BAD_REQUEST, "INVALID_ARGUMENT", "INVALID_QUERY"),
            Reason::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "INVALID_ARGUMENT", "BODY_TOO_LARGE"),
            Reason::RangeNotSatisfiable => {
                (S::RANGE_NOT_SATISFIABLE, "INVALID_ARGUMENT", "RANGE_NOT_SATISFIABLE")
            }
            Reason::UnsupportedMediaType => {
                (S::UNSUPPORTED_MEDIA_TYPE, "INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE")
            }
            Reason::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "INVALID_ARGUMENT", "METHOD_NOT_ALLOWED"),
            Reason::Unauthenticated => (S::UNAUTHORIZED, "UNAUTHENTICATED", "INVALID_ACCESS_KEY"),
            Reason::PermissionDenied => (S::FORBIDDEN, "PERMISSION_DENIED", "WRONG_KIND_OF_KEY"),
            Reason::ReadOnlyKey => (S::FORBIDDEN, "PERMISSION_DENIED", "READ_ONLY_KEY"),
            Reason::NotFound => (S::NOT_FOUND, "NOT_FOUND", "RESOURCE_NOT_FOUND"),
            Reason::IdTaken => (S::CONFLICT, "ALREADY_EXISTS", "ID_TAKEN"),
            Reason::WrongStatus => (S::CONFLICT, "FAILED_PRECONDITION", "WRONG_STATUS"),
            Reason::RateLimited => (S::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", "RATE_LIMITED"),
            Reason::LimitReached => (S::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", "LIMIT_REACHED"),
            Reason::Busy => (S::SERVICE_UNAVAILABLE, "UNAVAILABLE", "OVERLOADED"),
            Reason::NotDurable => (S::SERVICE_UNAVAILABLE, "UNAVAILABLE", "NOT_DURABLE"),
            Reason::NotReady => (S::SERVICE_UNAVAILABLE, "UNAVAILABLE", "NOT_READY"),
            Reason::NoTranscriber => (S::SERVICE_UNAVAILABLE, "UNAVAILABLE", "NO_TRANSCRIBER"),
            Reason::Draining => (S::SERVICE_UNAVAILABLE, "UNAVAILABLE", "SHUTTING_DOWN"),
            Reason::TimedOut => (S::SERVICE_UNAVAILABLE, "UNAVAILABLE", "TIMED_OUT"),
            Reason::StoreUnavailable => (S::SERVICE_UNAVAILABLE, "UNAVAILABLE", "STORE_UNAVAILABLE"),
            Reason::StorageUnavailable => (S::SERVICE_UNAVAILABLE, "UNAVAILABLE", "STORAGE_UNAVAILABLE"),
            Reason::Internal => (S::INTERNAL_SERVER_ERROR, "INTERNAL", "INTERNAL"),
        }
    }

    /// The reason for a failure that came from below the handlers with an HTTP code only.
    pub(super) fn from_http(code: StatusCode) -> Reason {
        match code {
            StatusCode::NOT_FOUND => Reason::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Reason::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Reason::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Reason::UnsupportedMediaType,
            code if code.is_client_error() => Reason::InvalidPath,
            _ => Reason::Internal,
        }
    }
}

/// A failed request.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) details: Vec<FieldFault>,
    pub(super) retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), details: Vec::new(), retry_after: None }
    }

    /// A key of the body, the query or the path that has a wrong value.
    pub(super) fn field(reason: Reason, field: &str, fault: impl Into<String>) -> Self {
        let fault = fault.into();
        let details = vec![FieldFault { field: field.to_owned(), message: fault.clone() }];
        Self { reason, message: format!("`{field}` {fault}"), details, retry_after: None }
    }

    /// No resource of this kind with this id belongs to who asks.
    pub(super) fn no_such(what: &str) -> Self {
        Self::new(Reason::NotFound, format!("there is no such {what}"))
    }

    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub(super) fn http(&self) -> StatusCode {
        self.reason.row().0
    }

    /// The body, with the id of the request it answers.
    pub(super) fn body(&self, request_id: &str) -> ErrorBody {
        let (_, status, reason) = self.reason.row();
        ErrorBody {
            error: ErrorDescription {
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: self.message.clone(),
                request_id: request_id.to_owned(),
                details: (!self.details.is_empty()).then(|| self.details.clone()),
            },
        }
    }
}

impl IntoResponse for ApiError {
    /// Only the code and the error itself: the edge, which knows the request id, makes the rest.
    fn into_response(self) -> Response {
        let mut response = self.http().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_passing() {
            tracing::warn!(%error, "the store is not available");
            ApiError::new(
                Reason::StoreUnavailable,
                "the store cannot answer now (is the disk full, or the database away?)",
            )
        } else {
            tracing::error!(%error, "the store failed");
            ApiError::new(Reason::Internal, "internal error")
        }
    }
}

/// The body of every failed request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What failed.
    error: ErrorDescription,
}

/// What failed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorDescription {
    /// The class: `INVALID_ARGUMENT`, `UNAUTHENTICATED`, `PERMISSION_DENIED`, `NOT_FOUND`, `ALREADY_EXISTS`,
    /// `FAILED_PRECONDITION`, `RESOURCE_EXHAUSTED`, `UNAVAILABLE` or `INTERNAL`.
    status: String,
    /// The finer cause, for programs.
    reason: String,
    /// The cause, for people.
    message: String,
    /// The id of this request, as in `X-Request-Id`.
    request_id: String,
    /// Which keys were wrong, where that is the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    details: Option<Vec<FieldFault>>,
}

/// A key with a wrong value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldFault {
    /// The key.
    pub(super) field: String,
    /// What is wrong with it.
    pub(super) message: String,
}
