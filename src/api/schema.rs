//! Request bodies as the OpenAPI document shows them. The handlers read them key by key, so that an
//! error can name the key.

use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use crate::bridge::flow::action::Action;
use crate::bridge::resource::{ConferenceType, RecordingFormat, TranscribeDirection};
use crate::store::Scope;
use crate::webhook::request::METHODS;

/// The body of POST /conferences.
#[derive(ToSchema)]
#[schema(as = NewConference)]
pub struct NewConferenceBody {
    /// Chosen by the client; made by the server when left out.
    #[schema(nullable = false)]
    pub id: Option<Uuid>,
    /// `conference` (default) or `connect`.
    #[schema(nullable = false)]
    pub r#type: Option<ConferenceType>,
    /// Name, for people.
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// Description, for people.
    #[schema(nullable = false)]
    pub detail: Option<String>,
    /// Free for the owner's use.
    #[schema(value_type = Option<Object>, nullable = false)]
    pub data: Option<Map<String, Value>>,
    /// Seconds until it ends by itself; 0 (default) never.
    #[schema(nullable = false, minimum = 0, maximum = 2_592_000)]
    pub timeout: Option<u64>,
    /// The flow each caller runs before the mix; nil (default) for none.
    #[schema(nullable = false)]
    pub pre_flow_id: Option<Uuid>,
    /// The flow that runs when the conference ends; nil (default) for none.
    #[schema(nullable = false)]
    pub post_flow_id: Option<Uuid>,
    /// Whether it can be dialled by a direct URI (default true).
    #[schema(nullable = false)]
    pub direct_access: Option<bool>,
}

/// The body of PUT /conferences/{id}: what is left out stays.
#[derive(ToSchema)]
pub struct ConferenceChanges {
    /// New name.
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// New description.
    #[schema(nullable = false)]
    pub detail: Option<String>,
    /// New free data.
    #[schema(value_type = Option<Object>, nullable = false)]
    pub data: Option<Map<String, Value>>,
    /// New timeout, in seconds from the conference's creation; 0 never.
    #[schema(nullable = false, minimum = 0, maximum = 2_592_000)]
    pub timeout: Option<u64>,
    /// New flow before the mix; nil for none.
    #[schema(nullable = false)]
    pub pre_flow_id: Option<Uuid>,
    /// New flow at the end; nil for none.
    #[schema(nullable = false)]
    pub post_flow_id: Option<Uuid>,
    /// Direct access on or off.
    #[schema(nullable = false)]
    pub direct_access: Option<bool>,
}

/// One action of a flow, as sent.
#[derive(ToSchema)]
pub struct NewFlowAction {
    /// By which other actions name it as their target: a hyphened UUID, or any other name of at most 64
    /// bytes, for which the server makes one and puts it wherever the flow names this action. Made by
    /// the server when left out or empty.
    pub id: Option<String>,
    /// The action that follows, by its id; nil, empty or left out for the next in the list.
    pub next_id: Option<String>,
    /// What it does.
    #[schema(value_type = ActionType)]
    pub r#type: String,
    /// How; which keys there are depends on the type.
    #[schema(value_type = Option<Object>)]
    pub option: Option<Map<String, Value>>,
}

/// What a flow's type may be.
pub struct FlowType;

impl PartialSchema for FlowType {
    fn schema() -> RefOr<Schema> {
        words(["", "flow"])
    }
}

impl ToSchema for FlowType {}

/// How a webhook may be sent.
pub struct WebhookMethod;

impl PartialSchema for WebhookMethod {
    fn schema() -> RefOr<Schema> {
        words([""].into_iter().chain(METHODS))
    }
}

impl ToSchema for WebhookMethod {}

/// A text that is one of these.
fn words(words: impl IntoIterator<Item = &'static str>) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
    text.enum_values(Some(words)).into()
}

/// The types of actions: [`Action::TYPES`].
pub struct ActionType;

impl PartialSchema for ActionType {
    fn schema() -> RefOr<Schema> {
        words(Action::TYPES)
    }
}

impl ToSchema for ActionType {}

/// The body of POST /flows.
#[derive(ToSchema)]
#[schema(as = NewFlow)]
pub struct NewFlowBody {
    /// Always `flow`; may be empty.
    #[schema(value_type = Option<FlowType>, nullable = false)]
    pub r#type: Option<String>,
    /// Name, for people.
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// Description, for people.
    #[schema(nullable = false)]
    pub detail: Option<String>,
    /// What it does, in order; at most 200.
    #[schema(nullable = false, max_items = 200)]
    pub actions: Option<Vec<NewFlowAction>>,
}

/// The body of PUT /flows/{id}: what is left out stays.
#[derive(ToSchema)]
pub struct FlowChanges {
    /// Always `flow`; may be empty.
    #[schema(value_type = Option<FlowType>, nullable = false)]
    pub r#type: Option<String>,
    /// New name.
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// New description.
    #[schema(nullable = false)]
    pub detail: Option<String>,
    /// What it does from now on; at most 200.
    #[schema(nullable = false, max_items = 200)]
    pub actions: Option<Vec<NewFlowAction>>,
}

/// The body of POST /conferences/{id}/recording_start.
#[derive(ToSchema)]
#[schema(as = NewRecording)]
pub struct NewRecordingBody {
    /// `wav` (default) or `ogg`.
    #[schema(nullable = false)]
    pub format: Option<RecordingFormat>,
    /// Seconds after which it stops by itself; 0 (default) for 24 hours.
    #[schema(nullable = false, minimum = 0, maximum = 86_400)]
    pub duration: Option<u64>,
    /// The flow that runs when it has ended; nil (default) for none.
    #[schema(nullable = false)]
    pub on_end_flow_id: Option<Uuid>,
    /// Whether each caller gets a track of its own (default false).
    #[schema(nullable = false)]
    pub tracks: Option<bool>,
}

/// The body of POST /conferences/{id}/transcribe_start.
#[derive(ToSchema)]
pub struct TranscribeStart {
    /// The language callers speak (BCP 47), such as `en-US`.
    #[schema(max_length = 35, pattern = "^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", example = "en-US")]
    pub language: String,
    /// Whose audio: `both` (default) and `in` are the callers'.
    #[schema(nullable = false)]
    pub direction: Option<TranscribeDirection>,
}

/// The body of POST /customers and PUT /customers/{id}.
#[derive(ToSchema)]
#[schema(as = CustomerChanges)]
pub struct CustomerBody {
    /// Name, for people.
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// Description, for people.
    #[schema(nullable = false)]
    pub detail: Option<String>,
    /// Where people of it are reached; not checked.
    #[schema(nullable = false)]
    pub email: Option<String>,
    /// Where its events are sent: an http or https URI, at most 2048 characters; empty for nowhere.
    #[schema(nullable = false, max_length = 2048)]
    pub webhook_uri: Option<String>,
    /// By which method; empty for POST.
    #[schema(value_type = Option<WebhookMethod>, nullable = false)]
    pub webhook_method: Option<String>,
    /// Signs every event: `X-VoIPBIN-Signature` is then `sha256=` and the hex HMAC-SHA256 of the body.
    /// Empty for no signature. Never shown.
    #[schema(nullable = false, max_length = 256, write_only)]
    pub webhook_secret: Option<String>,
}

/// The body of POST /accesskeys.
#[derive(ToSchema)]
#[schema(as = NewAccesskey)]
pub struct NewAccesskeyBody {
    /// The customer it acts for.
    pub customer_id: Uuid,
    /// Name, for people.
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// Description, for people.
    #[schema(nullable = false)]
    pub detail: Option<String>,
    /// What it may do: `read` or `manage` (default).
    #[schema(nullable = false)]
    pub scope: Option<Scope>,
    /// Seconds from now until it stops working; 0 (default) never.
    #[schema(nullable = false, minimum = 0, maximum = 3_153_600_000u64)]
    pub expire: Option<u64>,
    /// When it stops working, instead of `expire`.
    #[schema(nullable = false)]
    pub tm_expire: Option<String>,
}

/// The body of PUT /accesskeys/{id}: what is left out stays.
#[derive(ToSchema)]
pub struct AccesskeyChanges {
    /// New name.
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// New description.
    #[schema(nullable = false)]
    pub detail: Option<String>,
    /// New scope.
    #[schema(nullable = false)]
    pub scope: Option<Scope>,
    /// Seconds from now until it stops working; 0 never.
    #[schema(nullable = false, minimum = 0, maximum = 3_153_600_000u64)]
    pub expire: Option<u64>,
    /// When it stops working, instead of `expire`.
    #[schema(nullable = false)]
    pub tm_expire: Option<String>,
}

/// The body of POST /accesskeys/{id}/rotate.
#[derive(ToSchema)]
pub struct Rotation {
    /// Seconds that the old key goes on working, at most 30 days (default one hour; 0 not at all).
    #[schema(nullable = false, minimum = 0, maximum = 2_592_000)]
    pub overlap: Option<u64>,
}
