//! The resources as the API shows them. Every field is always present.

mod transcribe;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{ConferenceId, ConferencecallId, CustomerId, FlowId, RecordingId};
use crate::time::Timestamp;
pub use transcribe::{Transcribe, TranscribeDirection, TranscribeStatus, Transcript};

/// A conference's type. Immutable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConferenceType {
    /// Holds any number; stays until deleted or timed out.
    #[default]
    Conference,
    /// Holds two and ends when one of them leaves.
    Connect,
}

/// A conference's status. Only ever moves forward.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ConferenceStatus {
    /// Being made.
    Starting,
    /// Callers can join.
    Progressing,
    /// Closing: nobody new, those inside are leaving.
    Terminating,
    /// Closed for good.
    Terminated,
}

/// A conference, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Conference {
    /// The conference's id.
    #[schema(value_type = Uuid)]
    pub id: ConferenceId,
    /// The customer who owns it.
    #[schema(value_type = Uuid)]
    pub customer_id: CustomerId,
    /// `conference` or `connect`.
    pub r#type: ConferenceType,
    /// Where in its life it is.
    pub status: ConferenceStatus,
    /// Name, for people.
    pub name: String,
    /// Description, for people.
    pub detail: String,
    /// Free for the owner's use.
    #[schema(value_type = Object)]
    pub data: serde_json::Map<String, serde_json::Value>,
    /// Seconds from `tm_create` until it ends by itself; 0 never.
    pub timeout: u64,
    /// The flow each caller runs before the mix, or nil.
    #[schema(value_type = Uuid)]
    pub pre_flow_id: FlowId,
    /// The flow that runs when the conference ends, or nil.
    #[schema(value_type = Uuid)]
    pub post_flow_id: FlowId,
    /// The conferencecalls that are `joined`, in the order they joined.
    #[schema(value_type = Vec<Uuid>)]
    pub conferencecall_ids: Vec<ConferencecallId>,
    /// The recording that runs, or nil.
    pub recording_id: Uuid,
    /// All recordings.
    pub recording_ids: Vec<Uuid>,
    /// The transcription that runs, or nil.
    pub transcribe_id: Uuid,
    /// All transcriptions.
    pub transcribe_ids: Vec<Uuid>,
    /// The hash of the direct URI; empty while direct access is off.
    pub direct_hash: String,
    /// When it ended, or null.
    #[schema(value_type = Option<String>)]
    pub tm_end: Option<Timestamp>,
    /// When it was created.
    #[schema(value_type = String)]
    pub tm_create: Timestamp,
    /// When it last changed.
    #[schema(value_type = String)]
    pub tm_update: Timestamp,
    /// When it was deleted, or `9999-01-01 00:00:00.000000`.
    #[schema(value_type = String)]
    pub tm_delete: Timestamp,
}

/// A conferencecall's status. Only ever moves forward.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ConferencecallStatus {
    /// Answered, not yet in the mix.
    Joining,
    /// In the mix.
    Joined,
    /// On the way out.
    Leaving,
    /// Gone.
    Leaved,
}

/// One end of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Address {
    /// The kind of address: `sip`.
    pub r#type: String,
    /// The address itself, without secrets: a direct hash is never shown whole.
    pub target: String,
    /// The display name.
    pub target_name: String,
}

/// One caller's time in one conference, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Conferencecall {
    /// The conferencecall's id.
    #[schema(value_type = Uuid)]
    pub id: ConferencecallId,
    /// The customer who owns the conference.
    #[schema(value_type = Uuid)]
    pub customer_id: CustomerId,
    /// The flow run of this call, or nil.
    pub activeflow_id: Uuid,
    /// The conference.
    #[schema(value_type = Uuid)]
    pub conference_id: ConferenceId,
    /// Always `call`.
    pub reference_type: String,
    /// The call's id.
    pub reference_id: Uuid,
    /// Where in its life it is.
    pub status: ConferencecallStatus,
    /// `incoming` or `outgoing`.
    pub direction: String,
    /// Who called.
    pub source: Address,
    /// What was called.
    pub destination: Address,
    /// The codec in use, as in SDP.
    pub codec: String,
    /// Why it ended (Q.850 / SIP text); empty while in.
    pub hangup_cause: String,
    /// When it joined the mix, or null.
    #[schema(value_type = Option<String>)]
    pub tm_joined: Option<Timestamp>,
    /// When it left, or null.
    #[schema(value_type = Option<String>)]
    pub tm_leaved: Option<Timestamp>,
    /// When it was created.
    #[schema(value_type = String)]
    pub tm_create: Timestamp,
    /// When it last changed.
    #[schema(value_type = String)]
    pub tm_update: Timestamp,
    /// When it was deleted, or `9999-01-01 00:00:00.000000`.
    #[schema(value_type = String)]
    pub tm_delete: Timestamp,
}

/// A recording's status. Only ever moves forward.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum RecordingStatus {
    /// Ordered; no sound has come yet.
    Initiating,
    /// Being written.
    Recording,
    /// Told to stop; its file is being finished.
    Stopping,
    /// Its file is finished.
    Ended,
}

/// How a recording is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordingFormat {
    /// PCM of 16 bits at the room's rate.
    #[default]
    Wav,
    /// Opus in Ogg.
    Ogg,
}

/// A recording of a conference, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Recording {
    /// The recording's id.
    #[schema(value_type = Uuid)]
    pub id: RecordingId,
    /// The customer who owns it.
    #[schema(value_type = Uuid)]
    pub customer_id: CustomerId,
    /// Always empty.
    pub owner_type: String,
    /// Always nil.
    pub owner_id: Uuid,
    /// The flow run that started it, or nil.
    pub activeflow_id: Uuid,
    /// Always `conference`.
    pub reference_type: String,
    /// The conference.
    #[schema(value_type = Uuid)]
    pub reference_id: ConferenceId,
    /// Where in its life it is.
    pub status: RecordingStatus,
    /// How it is written.
    pub format: RecordingFormat,
    /// The flow that runs when it has ended, or nil.
    #[schema(value_type = Uuid)]
    pub on_end_flow_id: FlowId,
    /// The most seconds it may last, as asked for; 0 for 24 hours.
    pub duration: u64,
    /// Whether each caller has a track of its own.
    pub tracks: bool,
    /// Whether it is silent for now.
    pub paused: bool,
    /// Why it ended, where nobody stopped it.
    pub cause: String,
    /// How long it became, in milliseconds; 0 until it has ended.
    pub duration_ms: u64,
    /// Milliseconds of silence in it that stand for sound that was lost.
    pub lost_ms: u64,
    /// Bytes of all its files; 0 until it has ended.
    pub size_bytes: u64,
    /// When its first sound was written, or null.
    #[schema(value_type = Option<String>)]
    pub tm_start: Option<Timestamp>,
    /// When it ended, or null.
    #[schema(value_type = Option<String>)]
    pub tm_end: Option<Timestamp>,
    /// When it was created.
    #[schema(value_type = String)]
    pub tm_create: Timestamp,
    /// When it last changed.
    #[schema(value_type = String)]
    pub tm_update: Timestamp,
    /// When it was deleted, or `9999-01-01 00:00:00.000000`.
    #[schema(value_type = String)]
    pub tm_delete: Timestamp,
}
