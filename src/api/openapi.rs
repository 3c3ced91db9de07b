//! The OpenAPI document: the handlers' own descriptions, the bodies of [`schema`](super::schema), the
//! errors they give.

use std::collections::BTreeMap;

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Ref, RefOr, Required, Schema};
use utoipa::{IntoResponses, Modify, OpenApi};

use super::error::ErrorBody;
use super::{
    accesskey, activeflow, audit, conference, conferencecall, customer, flow, probe, recording,
    recordingfile, stream, transcribe, webhook, ws,
};

/// The errors of a request that needs no key.
pub(super) struct ErrorsWithoutKey;
/// The errors of a request that reads.
pub(super) struct ReadErrors;
/// The errors of a request that changes something and has no body.
pub(super) struct ActErrors;
/// The errors of a request that changes something by its body.
pub(super) struct ChangeErrors;
/// The errors of a request for a file.
pub(super) struct FileErrors;

const WITHOUT_KEY: &[(&str, &str)] = &[
    ("429", "RESOURCE_EXHAUSTED: too many requests, or of what was asked for; see Retry-After"),
    ("500", "INTERNAL: our fault"),
    ("503", "UNAVAILABLE: not now, and why: overloaded, shutting down, or the disk cannot be used"),
];
const READ: &[(&str, &str)] = &[
    ("400", "INVALID_ARGUMENT: a value is wrong, and which"),
    ("401", "UNAUTHENTICATED: no valid key"),
    ("403", "PERMISSION_DENIED: the wrong kind of key, or one that may only read"),
    ("404", "NOT_FOUND: no such resource of this customer"),
];
const ACT: &[(&str, &str)] = &[
    ("409", "ALREADY_EXISTS or FAILED_PRECONDITION: its state does not allow it"),
    ("503", "UNAVAILABLE: not now, and why; by NOT_DURABLE it is done, but not on disk yet"),
];
const BODY: &[(&str, &str)] =
    &[("413", "INVALID_ARGUMENT: the body is too long"), ("415", "INVALID_ARGUMENT: the body is not JSON")];

const FILE: &[(&str, &str)] = &[
    ("409", "FAILED_PRECONDITION: the recording has not ended"),
    ("416", "INVALID_ARGUMENT: the range is not in the file"),
];

impl IntoResponses for ErrorsWithoutKey {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        error_responses(&[WITHOUT_KEY])
    }
}

impl IntoResponses for ReadErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        error_responses(&[WITHOUT_KEY, READ])
    }
}

impl IntoResponses for FileErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        error_responses(&[WITHOUT_KEY, READ, FILE])
    }
}

impl IntoResponses for ActErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        error_responses(&[WITHOUT_KEY, READ, ACT])
    }
}

impl IntoResponses for ChangeErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        error_responses(&[WITHOUT_KEY, READ, ACT, BODY])
    }
}

fn error_responses(sets: &[&[(&str, &str)]]) -> BTreeMap<String, RefOr<Response>> {
    let response = |description: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        ResponseBuilder::new().description(description).content("application/json", content).build()
    };
    sets.iter()
        .copied()
        .flatten()
        .map(|(code, description)| ((*code).to_owned(), RefOr::T(response(description))))
        .collect()
}

/// The ways to send a key.
struct Keys;

impl Modify for Keys {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let named = || ApiKeyValue::new("accesskey");
        components.add_security_scheme("query", SecurityScheme::ApiKey(ApiKey::Query(named())));
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(named())));
    }
}

/// Bodies that may be left out: an empty one is read as an object without keys, so it is fine wherever
/// no key is needed.
struct OptionalBodies;

impl Modify for OptionalBodies {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let schemas = openapi.components.as_ref().map(|components| components.schemas.clone());
        let needs_no_key = |schema: &RefOr<Schema>| {
            let RefOr::Ref(reference) = schema else { return false };
            let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
            let schema = schemas.as_ref().and_then(|schemas| schemas.get(name));
            matches!(schema, Some(RefOr::T(Schema::Object(object))) if object.required.is_empty())
        };
        for item in openapi.paths.paths.values_mut() {
            for operation in [&mut item.post, &mut item.put].into_iter().flatten() {
                let Some(RefOr::T(body)) = &mut operation.request_body else { continue };
                let takes_none = body.content.values().all(|content| match content {
                    RefOr::T(content) => content.schema.as_ref().is_some_and(needs_no_key),
                    _ => false,
                });
                if takes_none {
                    body.required = Some(Required::False);
                }
            }
        }
    }
}

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(title = "Confab", description = "A SIP conference bridge, driven by REST."),
    paths(
        conference::list, conference::create, conference::read, conference::update, conference::delete,
        conference::regenerate_direct_hash,
        recording::start, recording::stop, recording::pause, recording::resume,
        recording::list, recording::read, recording::delete, recordingfile::files, recordingfile::file,
        stream::open,
        transcribe::start, transcribe::stop, transcribe::list, transcribe::read, transcribe::end, transcribe::transcripts,
        conferencecall::list, conferencecall::read, conferencecall::eject,
        flow::list, flow::create, flow::read, flow::update, flow::delete, activeflow::list, activeflow::read,
        customer::own, customer::list, customer::create, customer::read, customer::update, customer::delete,
        accesskey::list, accesskey::create, accesskey::read, accesskey::update, accesskey::delete, accesskey::rotate,
        ws::open, audit::list,
        webhook::failures, webhook::replay_one, webhook::replay_all,
        probe::ping, probe::health, probe::metrics,
    ),
    components(schemas(ErrorBody)),
    security(("bearer" = []), ("query" = []), ("cookie" = [])),
    modifiers(&Keys, &OptionalBodies),
)]
struct Document;

/// The OpenAPI document, as served at `/openapi.json`.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
