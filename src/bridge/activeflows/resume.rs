//! What a flow waited for has come: an answer, a key, the end of a sound, or the end of its time.

use std::sync::Arc;

use super::{Outcome, call_program, done, failed, take_digits};
use crate::bridge::Bridge;
use crate::bridge::flow::Program;
use crate::bridge::flow::execution::{Execution, Wait};
use crate::bridge::flow::outside::ErrandResult;
use crate::bridge::flow::resource::StepStatus;
use crate::id::{ActiveflowId, ConferencecallId};
use crate::plane::PortSource;
use crate::time::Now;

impl Bridge {
    /// The answer of the outside to an errand. One that nobody waits for any more is dropped.
    pub(in crate::bridge) fn handle_errand(
        &mut self,
        now: Now,
        ticket: u64,
        result: ErrandResult,
        ports: &mut dyn PortSource,
    ) {
        let id = self.executions.by_ticket.get(&ticket).copied();
        let Some(mut execution) = id.and_then(|id| self.unpark_flow(id)) else { return };
        let wait = std::mem::replace(&mut execution.wait, Wait::Nothing);
        let outcome = match (wait, result) {
            (_, ErrandResult::Failed(why)) => failed(why),
            (Wait::Sound { rest, .. }, ErrandResult::Clip(clip)) => {
                self.play(now, &mut execution, clip, rest)
            }
            (Wait::Webhook { .. }, ErrandResult::Http { status, .. }) => http_outcome(status),
            (Wait::Actions { .. }, ErrandResult::Http { status: 200..=299, body, is_cut: true }) => {
                failed(format!("the answer is longer than the {} bytes that are read of it", body.len()))
            }
            (Wait::Actions { .. }, ErrandResult::Http { status: 200..=299, body, .. }) => {
                self.run_fetched(&mut execution, &body)
            }
            (Wait::Actions { .. }, ErrandResult::Http { status, .. }) => http_outcome(status),
            _ => failed("the answer is to another question"),
        };
        self.resume_flow(now, execution, outcome, ports);
    }

    /// Runs the actions of an answer to a `fetch`: a list of them, or an object with `actions`.
    fn run_fetched(&mut self, execution: &mut Execution, body: &[u8]) -> Outcome {
        let value: serde_json::Value = match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(error) => return failed(format!("the answer is not JSON: {error}")),
        };
        let actions = value.get("actions").unwrap_or(&value);
        match Program::parse(actions, &mut self.rng) {
            Ok(program) => call_program(execution, Arc::new(program)),
            Err(bad) => failed(format!("the answer: {bad}")),
        }
    }

    /// An action that waited has come to something.
    fn resume_flow(
        &mut self,
        now: Now,
        mut execution: Execution,
        outcome: Outcome,
        ports: &mut dyn PortSource,
    ) {
        match outcome {
            Outcome::Settled(status, result) => {
                self.settle_step(now, &mut execution, status, &result);
                self.go_on_flow(now, execution, ports);
            }
            Outcome::Waits(until) => self.park_flow(execution, until),
            Outcome::Ends(result, then) => {
                self.settle_step(now, &mut execution, StepStatus::Done, &result);
                self.finish_flow(now, execution, &result, then, ports);
            }
        }
    }

    /// A caller pressed a key.
    pub(in crate::bridge) fn flow_digit(
        &mut self,
        now: Now,
        call: ConferencecallId,
        digit: char,
        ports: &mut dyn PortSource,
    ) {
        let Some(id) = self.executions.by_call.get(&call).copied() else { return };
        if self.executions.by_id.get_mut(&id).is_some_and(|execution| execution.press(digit)) {
            self.take_parked_digits(now, id, ports);
        }
    }

    fn take_parked_digits(&mut self, now: Now, id: ActiveflowId, ports: &mut dyn PortSource) {
        let Some(mut execution) = self.unpark_flow(id) else { return };
        let outcome = take_digits(&mut execution);
        self.resume_flow(now, execution, outcome, ports);
    }

    /// A shard has played what it was told to.
    pub(in crate::bridge) fn flow_played(
        &mut self,
        now: Now,
        (call, play): (ConferencecallId, u64),
        whole: bool,
        ports: &mut dyn PortSource,
    ) {
        let Some(id) = self.executions.by_call.get(&call).copied() else { return };
        let waits = self.executions.by_id.get(&id).is_some_and(
            |execution| matches!(execution.wait, Wait::Play { play: awaited, .. } if awaited == play),
        );
        if !waits {
            return;
        }
        let Some(mut execution) = self.unpark_flow(id) else { return };
        let outcome = match std::mem::replace(&mut execution.wait, Wait::Nothing) {
            Wait::Play { rest, .. } if whole => self.play_next(now, &mut execution, rest),
            _ => failed("the sound could not be played"),
        };
        self.resume_flow(now, execution, outcome, ports);
    }

    /// The time of what a flow waits for is over.
    pub(in crate::bridge) fn flow_timer(&mut self, now: Now, id: ActiveflowId, ports: &mut dyn PortSource) {
        let Some(mut execution) = self.unpark_flow(id) else { return };
        if execution.ends_by.is_some_and(|ends| ends <= now.instant) {
            return self.finish_flow(now, execution, "its time was over", None, ports);
        }
        let outcome = match &execution.wait {
            Wait::Digits { .. } => take_digits(&mut execution),
            Wait::Time => {
                if let Some(call) = execution.call() {
                    self.quiet(call, &Wait::Time);
                }
                done("")
            }
            Wait::Play { .. } => {
                if let Some(call) = execution.call() {
                    let wait = execution.wait.clone();
                    self.quiet(call, &wait);
                }
                failed("the sound did not end in time")
            }
            _ => failed("no answer came in time"),
        };
        self.resume_flow(now, execution, outcome, ports);
    }
}

fn http_outcome(status: u16) -> Outcome {
    let status_text = format!("HTTP {status}");
    if (200..300).contains(&status) { done(status_text) } else { failed(status_text) }
}
