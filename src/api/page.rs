//! What a request says beside its body: the id in its path, and the page, filters and options in its
//! query.

use std::collections::HashMap;
use std::hash::Hash;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::SharedState;
use super::error::{ApiError, Reason};
use crate::store::{Cursor, Page};

/// Rows of a page unless the request says otherwise; also the most it can say.
pub(super) const PAGE_SIZE_MAX: u32 = 100;
/// Characters of a UUID in its one accepted form.
const UUID_LENGTH: usize = 36;

/// Which page of a list, as the OpenAPI document shows it; [`Params::page`] reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the names, types and limits are what the document needs")]
pub(super) struct PageParams {
    /// Rows of the page (default 100).
    #[param(nullable = false, minimum = 1, maximum = 100)]
    page_size: Option<u32>,
    /// `next_page_token` of the page before; left out or empty for the first page.
    #[param(nullable = false, pattern = "^([A-Za-z0-9_-]{32})?$")]
    page_token: Option<String>,
}

/// The body of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ListBody<T: ToSchema> {
    /// The rows, newest first.
    result: Vec<T>,
    /// Where the next page begins; empty when there is no more.
    next_page_token: String,
}

impl<T: ToSchema> From<Page<T>> for ListBody<T> {
    fn from(page: Page<T>) -> Self {
        Self { result: page.rows, next_page_token: page.next.map(Cursor::to_token).unwrap_or_default() }
    }
}

/// Puts live resources in the place of what the disk, a moment behind, still shows of them.
pub(super) fn refresh<T, I: Eq + Hash>(rows: &mut [T], live: Vec<T>, id: impl Fn(&T) -> I) {
    let mut live: HashMap<I, T> = live.into_iter().map(|newer| (id(&newer), newer)).collect();
    for row in rows {
        if let Some(newer) = live.remove(&id(row)) {
            *row = newer;
        }
    }
}

/// The `{id}` of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathId(pub(super) Uuid);

impl FromRequestParts<SharedState> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &SharedState) -> Result<Self, ApiError> {
        let fault = || ApiError::field(Reason::InvalidPath, "id", "must be a hyphened UUID");
        let Path(text) = Path::<String>::from_request_parts(parts, shared).await.map_err(|_| fault())?;
        parse_uuid(&text).map(PathId).ok_or_else(fault)
    }
}

/// A UUID in its hyphened form; upper case is understood.
pub(super) fn parse_uuid(text: &str) -> Option<Uuid> {
    (text.len() == UUID_LENGTH).then(|| Uuid::parse_str(text).ok()).flatten()
}

/// The query of a request.
#[derive(Clone, Debug)]
pub(super) struct Params(HashMap<String, String>);

impl FromRequestParts<SharedState> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &SharedState) -> Result<Self, ApiError> {
        let Query(params) = Query::try_from_uri(&parts.uri)
            .map_err(|_| ApiError::new(Reason::InvalidQuery, "the query is not `key=value&key=value`"))?;
        Ok(Self(params))
    }
}

impl Params {
    /// The page that is asked for: where it begins, and its size.
    pub(super) fn page(&self) -> Result<(Option<Cursor>, u32), ApiError> {
        let size = match self.0.get("page_size") {
            None => PAGE_SIZE_MAX,
            Some(text) => text
                .parse()
                .ok()
                .filter(|size| (1..=PAGE_SIZE_MAX).contains(size) && text.bytes().all(|b| b.is_ascii_digit()))
                .ok_or_else(|| {
                    ApiError::field(
                        Reason::InvalidQuery,
                        "page_size",
                        format!("must be a number from 1 to {PAGE_SIZE_MAX}"),
                    )
                })?,
        };
        let after = match self.0.get("page_token").filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => Some(Cursor::from_token(token).ok_or_else(|| {
                ApiError::field(
                    Reason::InvalidQuery,
                    "page_token",
                    "must be a `next_page_token` of this list",
                )
            })?),
        };
        Ok((after, size))
    }

    /// A filter or option that is one of a few words.
    pub(super) fn choice<T: DeserializeOwned>(&self, name: &str, words: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.0.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        serde_json::from_value(serde_json::Value::String(text.clone()))
            .map(Some)
            .map_err(|_| ApiError::field(Reason::InvalidQuery, name, format!("must be one of {words}")))
    }

    /// A filter that is a UUID.
    pub(super) fn uuid(&self, name: &str) -> Result<Option<Uuid>, ApiError> {
        let Some(text) = self.0.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        parse_uuid(text)
            .map(Some)
            .ok_or_else(|| ApiError::field(Reason::InvalidQuery, name, "must be a hyphened UUID"))
    }

    /// A parameter as it was sent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}
