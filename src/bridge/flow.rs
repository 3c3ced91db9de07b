//! Flows: what a customer has the bridge do with a caller before the mix and at the end.
//!
//! A flow's actions are parsed once into a [`program::Program`] that cannot be wrong. An
//! [`execution::Execution`] runs one for one caller, or for none; what it needs of the outside
//! leaves the bridge with a ticket and comes back as an input.

pub mod action;
pub(in crate::bridge) mod condition;
pub(in crate::bridge) mod execution;
mod label;
mod options;
pub mod outside;
pub mod program;
pub mod resource;
pub(in crate::bridge) mod tones;
pub(in crate::bridge) mod variables;

pub(in crate::bridge) use options::check_url;
pub use program::{Bad, Fault, Program};
pub use resource::{Activeflow, Flow, FlowAction};

/// Flows one customer may have that are not deleted.
pub const FLOWS_PER_CUSTOMER_MAX: usize = 1000;
/// Flows of all customers that are not deleted.
pub const FLOWS_MAX: usize = 20_000;
/// Actions of one flow, or of one answer to a `fetch`.
pub const ACTIONS_MAX: usize = 200;
/// Characters of one option's text.
pub const OPTION_TEXT_MAX: usize = 4096;
/// Characters of a URL.
pub const URL_MAX: usize = 2048;
/// Entries of an option that is a list or a map.
pub const OPTION_ENTRIES_MAX: usize = 64;
/// The longest sleep, echo, or wait for digits: one hour.
pub const DURATION_MAX_MS: u64 = 3_600_000;
/// Times a `goto` may say it goes back.
pub const LOOPS_MAX: u64 = 1000;
/// Actions that one execution runs; then it ends.
pub const STEPS_MAX: usize = 1000;
/// Flows within flows (`fetch`, `fetch_flow`).
pub const DEPTH_MAX: usize = 16;
/// Variables of one execution.
pub const VARIABLES_MAX: usize = 256;
/// Digits that wait for the next `digits_receive`; the oldest goes first.
pub const DIGITS_HELD_MAX: usize = 64;
/// Executions at once; one more does not run.
pub const EXECUTIONS_MAX: usize = 20_000;
/// Characters of a step's result in the activeflow.
pub const RESULT_MAX: usize = 256;
