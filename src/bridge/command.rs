//! What the API asks of the bridge and what it answers.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::flow::{Activeflow, Flow, Program};
use super::resource::{
    Conference, ConferenceType, Conferencecall, Recording, RecordingFormat, Transcribe, TranscribeDirection,
};
use super::stream::StreamEnds;
use crate::id::{
    ActiveflowId, ConferenceId, ConferencecallId, CustomerId, FlowId, LegId, RecordingId, TranscribeId,
};

/// A request of one customer, with parsed and range-checked values.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Makes a conference.
    CreateConference {
        /// Its owner.
        customer: CustomerId,
        /// What is asked for.
        new: NewConference,
    },
    /// Changes the keys that were sent.
    UpdateConference {
        /// The owner.
        customer: CustomerId,
        /// The conference.
        id: ConferenceId,
        /// The changes.
        change: ConferenceChange,
    },
    /// Ends and deletes it.
    DeleteConference {
        /// The owner.
        customer: CustomerId,
        /// The conference.
        id: ConferenceId,
    },
    /// A new direct hash; the old one dies.
    RegenerateDirectHash {
        /// The owner.
        customer: CustomerId,
        /// The conference.
        id: ConferenceId,
    },
    /// The live state of these conferences; those the bridge does not hold are left out.
    ReadConferences {
        /// The owner.
        customer: CustomerId,
        /// Which.
        ids: Vec<ConferenceId>,
    },
    /// Ejects a caller.
    EjectConferencecall {
        /// The owner.
        customer: CustomerId,
        /// The conferencecall.
        id: ConferencecallId,
    },
    /// The live state of these conferencecalls; those the bridge does not hold are left out.
    ReadConferencecalls {
        /// The owner.
        customer: CustomerId,
        /// Which.
        ids: Vec<ConferencecallId>,
    },
    /// Makes a flow.
    CreateFlow {
        /// Its owner.
        customer: CustomerId,
        /// What is asked for.
        new: NewFlow,
    },
    /// Changes the keys of a flow that were sent.
    UpdateFlow {
        /// The owner.
        customer: CustomerId,
        /// The flow.
        id: FlowId,
        /// The changes.
        change: FlowChange,
    },
    /// Deletes a flow; those that run it go on.
    DeleteFlow {
        /// The owner.
        customer: CustomerId,
        /// The flow.
        id: FlowId,
    },
    /// These flows as they are now; those that are deleted are left out.
    ReadFlows {
        /// The owner.
        customer: CustomerId,
        /// Which.
        ids: Vec<FlowId>,
    },
    /// The live state of these activeflows; those that do not run are left out.
    ReadActiveflows {
        /// The owner.
        customer: CustomerId,
        /// Which.
        ids: Vec<ActiveflowId>,
    },
    /// Starts to record a conference.
    StartRecording {
        /// The owner.
        customer: CustomerId,
        /// The conference.
        id: ConferenceId,
        /// How.
        new: NewRecording,
    },
    /// Stops the recording that runs.
    StopRecording {
        /// The owner.
        customer: CustomerId,
        /// The conference.
        id: ConferenceId,
    },
    /// From now on the recording is silent, or not any more; its time goes on.
    PauseRecording {
        /// The owner.
        customer: CustomerId,
        /// The conference.
        id: ConferenceId,
        /// Silent, or not.
        pause: bool,
    },
    /// Opens a media stream of a conference.
    OpenStream {
        /// The owner.
        customer: CustomerId,
        /// The conference.
        id: ConferenceId,
    },
    /// Ends a media stream. One that has ended already changes nothing.
    CloseStream {
        /// The owner.
        customer: CustomerId,
        /// The conference.
        id: ConferenceId,
        /// The stream.
        leg: LegId,
    },
    /// The live state of these recordings; those that have ended are left out.
    ReadRecordings {
        /// The owner.
        customer: CustomerId,
        /// Which.
        ids: Vec<RecordingId>,
    },
    /// Starts to transcribe a conference.
    StartTranscribe {
        /// The owner.
        customer: CustomerId,
        /// The conference.
        id: ConferenceId,
        /// The language callers speak: a well-formed tag of BCP 47.
        language: String,
        /// Whose audio.
        direction: TranscribeDirection,
    },
    /// Stops the transcription of a conference.
    StopTranscribe {
        /// The owner.
        customer: CustomerId,
        /// The conference.
        id: ConferenceId,
    },
    /// Stops a transcription; one that stops or has stopped already stays as it is.
    EndTranscribe {
        /// The owner.
        customer: CustomerId,
        /// The transcription.
        id: TranscribeId,
    },
    /// The live state of these transcriptions; those the bridge does not hold are left out.
    ReadTranscribes {
        /// The owner.
        customer: CustomerId,
        /// Which.
        ids: Vec<TranscribeId>,
    },
}

/// The body of POST /flows, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewFlow {
    /// Name.
    pub name: String,
    /// Description.
    pub detail: String,
    /// What it does.
    pub program: Arc<Program>,
}

/// The body of PUT /flows/{id}, checked: `None` leaves a key as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowChange {
    /// New name.
    pub name: Option<String>,
    /// New description.
    pub detail: Option<String>,
    /// What it does from now on.
    pub program: Option<Arc<Program>>,
}

/// The body of POST /conferences/{id}/recording_start, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewRecording {
    /// How the mix is written.
    pub format: RecordingFormat,
    /// Seconds, 0 to [`RECORDING_MAX_S`]; 0 for the most.
    pub duration_s: u64,
    /// The flow that runs when it has ended, or nil.
    pub on_end_flow_id: FlowId,
    /// Whether each caller gets a track of its own.
    pub tracks: bool,
}

/// The longest recording: 24 hours.
pub const RECORDING_MAX_S: u64 = 86_400;

/// The body of POST /conferences, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewConference {
    /// Chosen by the client, or made here.
    pub id: Option<ConferenceId>,
    /// `conference` or `connect`.
    pub r#type: ConferenceType,
    /// Name.
    pub name: String,
    /// Description.
    pub detail: String,
    /// Free for the owner's use.
    pub data: Map<String, Value>,
    /// Seconds, 0 to [`TIMEOUT_MAX_S`].
    pub timeout_s: u64,
    /// Flow before the mix, or nil.
    pub pre_flow_id: FlowId,
    /// Flow at the end, or nil.
    pub post_flow_id: FlowId,
    /// Whether it can be dialled by a direct URI.
    pub direct_access: bool,
}

/// The longest timeout of a conference: 30 days.
pub const TIMEOUT_MAX_S: u64 = 30 * 86_400;

/// The body of PUT /conferences/{id}, checked: `None` leaves a key as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConferenceChange {
    /// New name.
    pub name: Option<String>,
    /// New description.
    pub detail: Option<String>,
    /// New timeout in seconds.
    pub timeout_s: Option<u64>,
    /// New free data.
    pub data: Option<Map<String, Value>>,
    /// New flow before the mix.
    pub pre_flow_id: Option<FlowId>,
    /// New flow at the end.
    pub post_flow_id: Option<FlowId>,
    /// Direct access on or off.
    pub direct_access: Option<bool>,
}

/// What the bridge answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The conference after the change.
    Conference(Box<Conference>),
    /// Live conferences.
    Conferences(Vec<Conference>),
    /// The conferencecall after the change.
    Conferencecall(Box<Conferencecall>),
    /// Live conferencecalls.
    Conferencecalls(Vec<Conferencecall>),
    /// The flow after the change.
    Flow(Box<Flow>),
    /// Flows that are not deleted.
    Flows(Vec<Flow>),
    /// Activeflows that run.
    Activeflows(Vec<Activeflow>),
    /// A media stream's outer ends.
    Stream(Box<StreamEnds>),
    /// Live recordings.
    Recordings(Vec<Recording>),
    /// The transcription after the change.
    Transcribe(Box<Transcribe>),
    /// Live transcriptions.
    Transcribes(Vec<Transcribe>),
    /// Nothing was changed, and why.
    Refused(Refusal),
}

/// Why the bridge refuses a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such resource for this customer among the live ones (the store may know it from before).
    #[error("not found")]
    NotFound,
    /// The chosen id is taken.
    #[error("a conference with this id exists already")]
    IdTaken,
    /// The conference's status does not allow it.
    #[error("the conference is {0}")]
    WrongStatus(&'static str),
    /// The key names a flow that this customer does not have.
    #[error("`{0}` names a flow that does not exist")]
    NoSuchFlow(&'static str),
    /// Something else of its state does not allow it.
    #[error("{0}")]
    Conflict(&'static str),
    /// A limit is reached, named.
    #[error("limit reached: {0}")]
    Limit(&'static str),
    /// The bridge is draining.
    #[error("the server is shutting down")]
    Draining,
    /// Nothing can transcribe now, and what would help.
    #[error("transcription is not available: {0}")]
    NoTranscriber(String),
    /// The recogniser does not know the language; these it knows.
    #[error("is not a language the recogniser knows; it knows {}", .0.join(", "))]
    UnknownLanguage(Vec<String>),
}
