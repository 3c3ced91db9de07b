//! Flows and activeflows as the API shows them. Every field is always present.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::id::{ActiveflowId, ConferenceId, ConferencecallId, CustomerId, FlowId};
use crate::time::Timestamp;

/// One action of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FlowAction {
    /// The action's id, by which others name it as their target.
    pub id: Uuid,
    /// The action that follows; nil for the next in the list.
    pub next_id: Uuid,
    /// What it does.
    pub r#type: String,
    /// How; which keys there are depends on the type.
    #[schema(value_type = Object)]
    pub option: Map<String, Value>,
}

/// A flow, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Flow {
    /// The flow's id.
    #[schema(value_type = Uuid)]
    pub id: FlowId,
    /// The customer who owns it.
    #[schema(value_type = Uuid)]
    pub customer_id: CustomerId,
    /// Always `flow`.
    pub r#type: String,
    /// Name, for people.
    pub name: String,
    /// Description, for people.
    pub detail: String,
    /// What it does, in order.
    pub actions: Vec<FlowAction>,
    /// When it was created.
    #[schema(value_type = String)]
    pub tm_create: Timestamp,
    /// When it last changed, or `9999-01-01 00:00:00.000000`.
    #[schema(value_type = String)]
    pub tm_update: Timestamp,
    /// When it was deleted, or `9999-01-01 00:00:00.000000`.
    #[schema(value_type = String)]
    pub tm_delete: Timestamp,
}

/// Whether an activeflow goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActiveflowStatus {
    /// It runs.
    Running,
    /// It is over.
    Ended,
}

/// Why a flow runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlowStage {
    /// Before the mix (`pre_flow_id`).
    Pre,
    /// At the end of the conference (`post_flow_id`).
    Post,
    /// When a recording has ended (`on_end_flow_id`).
    #[serde(rename = "recording_end")]
    RecordingEnd,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StepStatus {
    /// It goes on.
    Running,
    /// It did what it says.
    Done,
    /// It could not; the flow went on with the next.
    Failed,
    /// It needs a call and there is none.
    Skipped,
    /// The flow was ended in the middle of it.
    Stopped,
}

/// One action that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FlowStep {
    /// The action's id.
    pub action_id: Uuid,
    /// What it does.
    pub r#type: String,
    /// How it went.
    pub status: StepStatus,
    /// What came of it, in words: digits, a status code, or why it failed.
    pub result: String,
    /// When it began.
    #[schema(value_type = String)]
    pub tm_start: Timestamp,
    /// When it was over, or null.
    #[schema(value_type = Option<String>)]
    pub tm_end: Option<Timestamp>,
}

/// One run of a flow, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Activeflow {
    /// The run's id.
    #[schema(value_type = Uuid)]
    pub id: ActiveflowId,
    /// The customer who owns the flow.
    #[schema(value_type = Uuid)]
    pub customer_id: CustomerId,
    /// The flow.
    #[schema(value_type = Uuid)]
    pub flow_id: FlowId,
    /// The conference it runs for.
    #[schema(value_type = Uuid)]
    pub conference_id: ConferenceId,
    /// The caller it runs for, or nil.
    #[schema(value_type = Uuid)]
    pub conferencecall_id: ConferencecallId,
    /// Before the mix or at the end.
    pub stage: FlowStage,
    /// Whether it goes on.
    pub status: ActiveflowStatus,
    /// Why it ended, in words; empty while it runs.
    pub result: String,
    /// What was run, in order.
    pub steps: Vec<FlowStep>,
    /// When it began.
    #[schema(value_type = String)]
    pub tm_create: Timestamp,
    /// When it last changed, or `9999-01-01 00:00:00.000000`.
    #[schema(value_type = String)]
    pub tm_update: Timestamp,
    /// When it ended, or null.
    #[schema(value_type = Option<String>)]
    pub tm_end: Option<Timestamp>,
}

impl Activeflow {
    /// Ends it, and with it the step that goes on.
    pub fn end(&mut self, now: Timestamp, result: &str) {
        if let Some(step) = self.steps.last_mut().filter(|step| step.tm_end.is_none()) {
            step.status = StepStatus::Stopped;
            result.clone_into(&mut step.result);
            step.tm_end = Some(now);
        }
        self.status = ActiveflowStatus::Ended;
        result.clone_into(&mut self.result);
        self.tm_end = Some(now);
        self.tm_update = now;
    }
}
