//! What happened, in order: the truth that the store keeps and that owners are told.

use serde::{Deserialize, Serialize};

use super::flow::{Activeflow, Flow};
use super::resource::{Conference, Conferencecall, Recording, Transcribe, Transcript};
use crate::id::{ConferenceId, CustomerId};
use crate::time::Timestamp;

/// An event as owners see it: `{"type","data","seq","tm_event"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `conference_created`, `conferencecall_joined`, `dtmf_received`, …
    pub r#type: String,
    /// The whole resource.
    pub data: serde_json::Value,
    /// Grows by one per conference, without gaps, from 1.
    pub seq: u64,
    /// When it happened.
    pub tm_event: Timestamp,
}

/// One step of the store's projection, in the order the bridge made them.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A conference was made or changed: replaces the stored one.
    Conference(Box<ConferenceRecord>),
    /// A conferencecall was made or changed: replaces the stored one.
    Conferencecall(Box<Conferencecall>),
    /// A flow was made, changed or deleted: replaces the stored one.
    Flow(Box<Flow>),
    /// A flow runs, went on or ended: replaces the stored one.
    Activeflow(Box<Activeflow>),
    /// A recording was made or changed: replaces the stored one.
    Recording(Box<Recording>),
    /// A transcription was started or changed: replaces the stored one.
    Transcribe(Box<Transcribe>),
    /// Something was said.
    Transcript(Box<Transcript>),
    /// An event happened in a conference.
    Event {
        /// The owner.
        customer: CustomerId,
        /// The conference.
        conference: ConferenceId,
        /// The event.
        event: Box<Event>,
    },
}

/// A conference with what only the server needs to know, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConferenceRecord {
    /// The conference as the API shows it, but for `conferencecall_ids`: who is in is known live only.
    pub conference: Conference,
    /// The `seq` of its last event.
    pub event_seq: u64,
}
