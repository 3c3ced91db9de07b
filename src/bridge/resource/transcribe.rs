//! Transcriptions of conferences, and what was heard in them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{ConferencecallId, CustomerId, TranscribeId, TranscriptId};
use crate::time::Timestamp;

/// A transcription's status. Only ever moves forward.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TranscribeStatus {
    /// Callers are heard, or what they said last is being recognised.
    Progressing,
    /// Every transcript is there.
    Done,
}

/// Whose audio is transcribed. A conference is heard through its callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TranscribeDirection {
    /// What comes from the callers; a conference says nothing of its own.
    #[default]
    Both,
    /// What comes from the callers.
    In,
}

impl TranscribeDirection {
    /// The word for it, as in the API.
    pub const fn word(self) -> &'static str {
        match self {
            TranscribeDirection::Both => "both",
            TranscribeDirection::In => "in",
        }
    }
}

/// A transcription of a conference, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Transcribe {
    /// The transcription's id.
    #[schema(value_type = Uuid)]
    pub id: TranscribeId,
    /// The customer who owns the conference.
    #[schema(value_type = Uuid)]
    pub customer_id: CustomerId,
    /// Always `conference`.
    pub reference_type: String,
    /// The conference's id.
    pub reference_id: Uuid,
    /// `progressing`, or `done` once every transcript is there.
    pub status: TranscribeStatus,
    /// The language callers speak, as it was asked for (BCP 47).
    pub language: String,
    /// Whose audio is transcribed: `both` or `in`.
    pub direction: TranscribeDirection,
    /// What recognises: `moonshine` (embedded), `http` or `websocket`.
    pub provider: String,
    /// When it was started.
    #[schema(value_type = String)]
    pub tm_create: Timestamp,
    /// When it last changed.
    #[schema(value_type = String)]
    pub tm_update: Timestamp,
    /// When it was deleted, or `9999-01-01 00:00:00.000000`.
    #[schema(value_type = String)]
    pub tm_delete: Timestamp,
}

/// What one caller said between two pauses, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Transcript {
    /// The transcript's id.
    #[schema(value_type = Uuid)]
    pub id: TranscriptId,
    /// The customer who owns the conference.
    #[schema(value_type = Uuid)]
    pub customer_id: CustomerId,
    /// The transcription it belongs to.
    #[schema(value_type = Uuid)]
    pub transcribe_id: TranscribeId,
    /// Always `in`: it came from a caller.
    pub direction: String,
    /// What was said.
    pub message: String,
    /// Who said it.
    #[schema(value_type = Uuid)]
    pub conferencecall_id: ConferencecallId,
    /// When it began to be said.
    #[schema(value_type = String)]
    pub tm_transcript: Timestamp,
    /// When it was recognised.
    #[schema(value_type = String)]
    pub tm_create: Timestamp,
}
