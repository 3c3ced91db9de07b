//! The flows that run: each is taken from action to action until it has to wait, and goes on when
//! what it waits for has come. How one begins is in `begin`, how each action is begun in `perform`,
//! and how one goes on in `resume`.

mod begin;
mod perform;
mod resume;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::command::Reply;
use super::event::Change;
use super::flow::execution::{Execution, Next, Then, Wait};
use super::flow::resource::StepStatus;
use super::flow::variables::DIGITS;
use super::flow::{Activeflow, Program, tones};
use super::media::LegState;
use super::timers::Timer;
use super::{Bridge, Level, Output};
use crate::id::{ActiveflowId, ConferencecallId, CustomerId, LegId};
use crate::plane::{Clip, Hears, PortSource, ShardCommand};
use crate::time::{Instant, Now, Timestamp};

/// The owner of all flows that run.
#[derive(Debug, Default)]
pub(super) struct Executions {
    by_id: BTreeMap<ActiveflowId, Execution>,
    by_call: HashMap<ConferencecallId, ActiveflowId>,
    by_ticket: HashMap<u64, ActiveflowId>,
    /// Names errands and plays.
    next_ticket: u64,
    /// Made for the first who hears it.
    beep: Option<Arc<Clip>>,
}

impl Executions {
    /// How many run.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn beep(&mut self) -> Arc<Clip> {
        self.beep.get_or_insert_with(|| Arc::new(tones::beep())).clone()
    }
}

/// How an action went when it was begun.
enum Outcome {
    /// It is over.
    Settled(StepStatus, String),
    /// It waits, until then at most.
    Waits(Instant),
    /// It ends the flow; what follows may be another than was meant.
    Ends(String, Option<Then>),
}

fn done(result: impl Into<String>) -> Outcome {
    Outcome::Settled(StepStatus::Done, result.into())
}

fn failed(result: impl Into<String>) -> Outcome {
    Outcome::Settled(StepStatus::Failed, result.into())
}

impl Bridge {
    /// Runs action after action, until one has to wait or the flow is over.
    fn go_on_flow(&mut self, now: Now, mut execution: Execution, ports: &mut dyn PortSource) {
        loop {
            let step = match execution.advance(now.wall) {
                Next::Run(step) => step,
                Next::Through => return self.finish_flow(now, execution, "done", None, ports),
                Next::TooMany => {
                    return self.finish_flow(now, execution, "it ran as many actions as it may", None, ports);
                }
            };
            match self.perform(now, &mut execution, step.action) {
                Outcome::Settled(status, result) => self.settle_step(now, &mut execution, status, &result),
                Outcome::Waits(until) => return self.park_flow(execution, until),
                Outcome::Ends(result, then) => {
                    self.settle_step(now, &mut execution, StepStatus::Done, &result);
                    return self.finish_flow(now, execution, &result, then, ports);
                }
            }
        }
    }

    /// The action that runs is over; what failed is logged.
    fn settle_step(&mut self, now: Now, execution: &mut Execution, status: StepStatus, result: &str) {
        execution.settle(now.wall, status, result);
        self.tally.flow_steps_total[status as usize] += 1;
        if status == StepStatus::Failed {
            let name = execution.record.steps.last().map_or("", |step| step.r#type.as_str());
            let text = format!("flow {}: {name} failed, going on: {result}", execution.record.flow_id);
            let (conference, call) = (execution.record.conference_id, execution.record.conferencecall_id);
            self.journal.note_call(Level::Warn, "", conference, call, text);
        }
    }

    /// Puts a flow away until what it waits for has come.
    fn park_flow(&mut self, execution: Execution, until: Instant) {
        let id = execution.record.id;
        let until = execution.ends_by.map_or(until, |ends| ends.min(until));
        self.timers.set(Timer::Activeflow(id), until);
        if let Some(ticket) = execution.wait.ticket() {
            self.executions.by_ticket.insert(ticket, id);
        }
        self.keep_activeflow(&execution.record);
        self.executions.by_id.insert(id, execution);
    }

    /// Takes a flow out that was put away.
    fn unpark_flow(&mut self, id: ActiveflowId) -> Option<Execution> {
        let execution = self.executions.by_id.remove(&id)?;
        self.timers.cancel(Timer::Activeflow(id));
        if let Some(ticket) = execution.wait.ticket() {
            self.executions.by_ticket.remove(&ticket);
        }
        Some(execution)
    }

    fn keep_activeflow(&mut self, record: &Activeflow) {
        self.journal.push(Output::Persist(Change::Activeflow(Box::new(record.clone()))));
    }

    /// The flow is over: what was to follow it does.
    fn finish_flow(
        &mut self,
        now: Now,
        mut execution: Execution,
        result: &str,
        then: Option<Then>,
        ports: &mut dyn PortSource,
    ) {
        let then = then.unwrap_or_else(|| execution.then.clone());
        let call = execution.call();
        self.end_flow(now, &mut execution, result);
        match (then, call) {
            (Then::Join, Some(call)) => self.join_after_flow(now, call, ports),
            (Then::Move(to), Some(call)) => self.move_call(now, call, to, ports),
            (Then::Eject(cause), Some(call)) => self.eject(now, call, cause, ports),
            _ => {}
        }
    }

    /// Closes the books of a flow.
    fn end_flow(&mut self, now: Now, execution: &mut Execution, result: &str) {
        let id = execution.record.id;
        if let Some(call) = execution.call() {
            if self.executions.by_call.get(&call) == Some(&id) {
                self.executions.by_call.remove(&call);
            }
            if std::mem::take(&mut execution.hears_tones) {
                self.listen_for_tones(call, false);
            }
            self.quiet(call, &execution.wait);
        }
        execution.record.end(now.wall, result);
        self.keep_activeflow(&execution.record);
        let text = format!(
            "flow {} ended after {} actions: {result}",
            execution.record.flow_id,
            execution.record.steps.len()
        );
        let (conference, call) = (execution.record.conference_id, execution.record.conferencecall_id);
        self.journal.note_call(Level::Info, "", conference, call, text);
    }

    /// Stops what a flow has its caller hear.
    fn quiet(&mut self, call: ConferencecallId, wait: &Wait) {
        let echoes = *wait == Wait::Time;
        if let (Wait::Play { .. }, Some(leg)) = (wait, self.leg_of(call)) {
            self.order_leg(call, ShardCommand::StopPlay { leg });
        }
        if let (true, Some(leg)) = (echoes, self.leg_of(call)) {
            self.order_leg(call, ShardCommand::SetHears { leg, hears: Hears::Nothing });
        }
    }

    /// Ends a caller's flow in the middle; what was to follow it does not.
    pub(super) fn stop_flow(&mut self, now: Now, call: ConferencecallId, why: &str) {
        let id = self.executions.by_call.get(&call).copied();
        if let Some(mut execution) = id.and_then(|id| self.unpark_flow(id)) {
            self.end_flow(now, &mut execution, why);
        }
    }

    /// Ends every flow in the middle: the server stops.
    pub(super) fn stop_all_flows(&mut self, now: Now) {
        let all: Vec<ActiveflowId> = self.executions.by_id.keys().copied().collect();
        for id in all {
            if let Some(mut execution) = self.unpark_flow(id) {
                self.end_flow(now, &mut execution, "the server stops");
            }
        }
    }

    /// The caller's leg, while it has one.
    fn leg_of(&self, call: ConferencecallId) -> Option<LegId> {
        match self.calls.get(&call)?.leg {
            LegState::Active(leg) => Some(leg.id),
            _ => None,
        }
    }

    /// Orders something of the caller's leg.
    fn order_leg(&mut self, call: ConferencecallId, command: ShardCommand) {
        if let Some(LegState::Active(leg)) = self.calls.get(&call).map(|call| call.leg) {
            self.journal.push(Output::Shard { shard: leg.shard, command });
        }
    }

    /// Has the leg of a peer that sends no telephone events listen for tones, or no longer. Returns
    /// whether it does.
    fn listen_for_tones(&mut self, call: ConferencecallId, on: bool) -> bool {
        if self.calls.get(&call).is_none_or(|call| call.telephone_event && on) {
            return false;
        }
        let Some(leg) = self.leg_of(call) else { return false };
        self.order_leg(call, ShardCommand::ListenForTones { leg, on });
        on
    }

    /// The live state of those of these activeflows that run.
    pub(super) fn read_activeflows(&self, customer: CustomerId, ids: &[ActiveflowId]) -> Reply {
        let held = ids.iter().filter_map(|id| self.executions.by_id.get(id)).map(|run| &run.record);
        Reply::Activeflows(held.filter(|record| record.customer_id == customer).cloned().collect())
    }

    /// An activeflow that was cut off by the end of the process.
    pub(super) fn close_restored_flow(&mut self, now: Timestamp, mut record: Activeflow) {
        record.end(now, "the server restarted");
        self.keep_activeflow(&record);
    }
}

/// The digits that were waited for go into their variable.
fn take_digits(execution: &mut Execution) -> Outcome {
    let digits = execution.digits();
    execution.variables.set(DIGITS, &digits).map_or_else(failed, |()| done(digits))
}

fn call_program(execution: &mut Execution, program: Arc<Program>) -> Outcome {
    let actions = program.shown().len();
    execution.call_program(program).map_or_else(failed, |()| done(format!("{actions} actions")))
}
