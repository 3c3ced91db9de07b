//! Request bodies as the OpenAPI document shows them. The handlers read them key by key, so that an
//! error can name the key.

use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::bridge::resource::{ConferenceType, TranscribeDirection};

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

/// The body of POST /conferences/{id}/transcribe_start.
#[derive(ToSchema)]
pub struct TranscribeStart {
    /// The language callers speak (BCP 47), such as `en-US`.
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
    /// Seconds from now until it stops working; 0 never.
    #[schema(nullable = false, minimum = 0, maximum = 3_153_600_000u64)]
    pub expire: Option<u64>,
    /// When it stops working, instead of `expire`.
    #[schema(nullable = false)]
    pub tm_expire: Option<String>,
}
