//! One run of a flow: where it is, what it knows, what it waits for. It decides what comes next;
//! the bridge does it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::action::Target;
use super::program::{Program, Step};
use super::resource::{Activeflow, ActiveflowStatus, FlowStage, FlowStep, StepStatus};
use super::variables::Variables;
use super::{DEPTH_MAX, DIGITS_HELD_MAX, RESULT_MAX, STEPS_MAX};
use crate::id::{ActiveflowId, ConferenceId, ConferencecallId, CustomerId, FlowId};
use crate::sip::Cause;
use crate::time::{Instant, Timestamp};

/// What happens to the caller when the flow is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::bridge) enum Then {
    /// It joins the conference.
    Join,
    /// It goes over to another conference.
    Move(ConferenceId),
    /// It is sent off.
    Eject(Cause),
    /// There is no caller.
    Nothing,
}

/// What the action that runs waits for. Its deadline is a timer of the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::bridge) enum Wait {
    /// Nothing: the next action may run.
    Nothing,
    /// Its time.
    Time,
    /// Keys.
    Digits {
        /// Any of these ends it.
        keys: String,
        /// So many end it; 0: none do.
        length: usize,
        /// Those so far.
        got: String,
    },
    /// The sound that is fetched or spoken, and what is to be played after it.
    Sound {
        /// Names the answer.
        ticket: u64,
        /// URLs yet to be played.
        rest: Vec<String>,
    },
    /// The sound that is played, and what is to be played after it.
    Play {
        /// Names the play.
        play: u64,
        /// URLs yet to be played.
        rest: Vec<String>,
    },
    /// The answer to a webhook.
    Webhook {
        /// Names the answer.
        ticket: u64,
    },
    /// The actions that a server answers with.
    Actions {
        /// Names the answer.
        ticket: u64,
    },
}

impl Wait {
    /// The ticket of the answer it waits for.
    pub(in crate::bridge) fn ticket(&self) -> Option<u64> {
        match self {
            Wait::Sound { ticket, .. } | Wait::Webhook { ticket } | Wait::Actions { ticket } => Some(*ticket),
            _ => None,
        }
    }
}

/// A program that runs, or waits for one that it called.
#[derive(Clone, Debug)]
struct Frame {
    program: Arc<Program>,
    at: Target,
    /// Times each `goto` went back.
    loops: BTreeMap<Target, u32>,
}

/// What comes next.
#[derive(Clone, Debug)]
pub(in crate::bridge) enum Next {
    /// This action.
    Run(Step),
    /// Nothing: the flow is through.
    Through,
    /// Nothing: it ran too many actions.
    TooMany,
}

/// One run of a flow.
#[derive(Clone, Debug)]
pub(in crate::bridge) struct Execution {
    /// As the API shows it.
    pub(in crate::bridge) record: Activeflow,
    /// What follows it.
    pub(in crate::bridge) then: Then,
    /// What it knows.
    pub(in crate::bridge) variables: Variables,
    /// What it waits for.
    pub(in crate::bridge) wait: Wait,
    /// When it is over whatever it waits for; a flow without a call has one.
    pub(in crate::bridge) ends_by: Option<Instant>,
    /// In-band tones are listened for.
    pub(in crate::bridge) hears_tones: bool,
    /// Keys that were pressed before they were asked for.
    early: String,
    frames: Vec<Frame>,
    /// Where the action that runs is.
    running: Target,
}

/// For whom a flow runs.
#[derive(Clone, Copy, Debug)]
pub(in crate::bridge) struct Subject {
    pub(in crate::bridge) customer: CustomerId,
    pub(in crate::bridge) conference: ConferenceId,
    /// Nil without a caller.
    pub(in crate::bridge) call: ConferencecallId,
    pub(in crate::bridge) stage: FlowStage,
}

impl Execution {
    /// A run that has not begun.
    pub(in crate::bridge) fn new(
        id: ActiveflowId,
        (flow, program): (FlowId, Arc<Program>),
        of: Subject,
        then: Then,
        now: Timestamp,
    ) -> Self {
        Self {
            record: Activeflow {
                id,
                customer_id: of.customer,
                flow_id: flow,
                conference_id: of.conference,
                conferencecall_id: of.call,
                stage: of.stage,
                status: ActiveflowStatus::Running,
                result: String::new(),
                steps: Vec::new(),
                tm_create: now,
                tm_update: Timestamp::NEVER,
                tm_end: None,
            },
            then,
            variables: Variables::default(),
            wait: Wait::Nothing,
            ends_by: None,
            hears_tones: false,
            early: String::new(),
            frames: vec![Frame { program, at: 0, loops: BTreeMap::new() }],
            running: 0,
        }
    }

    /// The caller it runs for.
    pub(in crate::bridge) fn call(&self) -> Option<ConferencecallId> {
        Some(self.record.conferencecall_id).filter(|call| !call.is_nil())
    }

    /// Goes to the next action, which begins now.
    pub(in crate::bridge) fn advance(&mut self, now: Timestamp) -> Next {
        while let Some(frame) = self.frames.last_mut() {
            let Some((step, name)) = frame.program.step(frame.at) else {
                self.frames.pop();
                continue;
            };
            if self.record.steps.len() >= STEPS_MAX {
                return Next::TooMany;
            }
            let step = step.clone();
            self.record.steps.push(FlowStep {
                action_id: step.id,
                r#type: name.to_owned(),
                status: StepStatus::Running,
                result: String::new(),
                tm_start: now,
                tm_end: None,
            });
            self.record.tm_update = now;
            self.running = frame.at;
            frame.at = step.next.unwrap_or(frame.at + 1);
            return Next::Run(step);
        }
        Next::Through
    }

    /// The action that runs is over.
    pub(in crate::bridge) fn settle(&mut self, now: Timestamp, status: StepStatus, result: &str) {
        self.wait = Wait::Nothing;
        self.record.tm_update = now;
        if let Some(step) = self.record.steps.last_mut() {
            step.status = status;
            step.result = result.chars().take(RESULT_MAX).collect();
            step.tm_end = Some(now);
        }
    }

    /// Goes on at this action of the program that runs.
    pub(in crate::bridge) fn jump(&mut self, to: Target) {
        if let Some(frame) = self.frames.last_mut() {
            frame.at = to;
        }
    }

    /// Whether the `goto` that runs goes back once more. One that is through begins anew when it is
    /// come to again.
    pub(in crate::bridge) fn loops_again(&mut self, loops: u32) -> bool {
        let running = self.running;
        let Some(frame) = self.frames.last_mut() else { return false };
        let done = frame.loops.entry(running).or_default();
        if *done < loops {
            *done += 1;
            return true;
        }
        frame.loops.remove(&running);
        false
    }

    /// Runs another program; when it is through, this one goes on.
    ///
    /// # Errors
    /// When programs call each other too deep.
    pub(in crate::bridge) fn call_program(&mut self, program: Arc<Program>) -> Result<(), String> {
        if self.frames.len() >= DEPTH_MAX {
            return Err(format!("flows within flows are {DEPTH_MAX} deep already"));
        }
        self.frames.push(Frame { program, at: 0, loops: BTreeMap::new() });
        Ok(())
    }

    /// Takes a key; true when that ends what it waits for.
    pub(in crate::bridge) fn press(&mut self, digit: char) -> bool {
        let Wait::Digits { keys, length, got } = &mut self.wait else {
            if self.early.len() >= DIGITS_HELD_MAX {
                self.early.remove(0);
            }
            self.early.push(digit);
            return false;
        };
        if keys.contains(digit) {
            return true;
        }
        if got.len() < DIGITS_HELD_MAX {
            got.push(digit);
        }
        *length > 0 && got.len() >= *length
    }

    /// Begins to wait for keys, of which some may have come early; true when they are enough.
    pub(in crate::bridge) fn await_digits(&mut self, keys: String, length: usize) -> bool {
        self.wait = Wait::Digits { keys, length, got: String::new() };
        while !self.early.is_empty() {
            let digit = self.early.remove(0);
            if self.press(digit) {
                return true;
            }
        }
        false
    }

    /// The keys that were waited for.
    pub(in crate::bridge) fn digits(&self) -> String {
        match &self.wait {
            Wait::Digits { got, .. } => got.clone(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rng::Rng;

    fn execution(actions: &serde_json::Value) -> Execution {
        let program = Arc::new(Program::parse(actions, &mut Rng::from_number(1)).expect("actions"));
        let of = Subject {
            customer: CustomerId::NIL,
            conference: ConferenceId::NIL,
            call: ConferencecallId::NIL,
            stage: FlowStage::Pre,
        };
        Execution::new(ActiveflowId::NIL, (FlowId::NIL, program), of, Then::Nothing, Timestamp::NEVER)
    }

    fn run(execution: &mut Execution) -> Vec<String> {
        while let Next::Run(_) = execution.advance(Timestamp::NEVER) {
            execution.settle(Timestamp::NEVER, StepStatus::Done, "");
        }
        execution.record.steps.iter().map(|step| step.r#type.clone()).collect()
    }

    #[test]
    fn actions_run_in_order_or_where_next_id_says() {
        let (a, c) = ("11111111-1111-4111-8111-111111111111", "33333333-3333-4333-8333-333333333333");
        let actions =
            json!([{"type": "answer", "id": a, "next_id": c}, {"type": "beep"}, {"type": "stop", "id": c}]);
        assert_eq!(run(&mut execution(&actions)), ["answer", "stop"]);
    }

    #[test]
    fn a_loop_without_end_ends_at_the_limit() {
        let a = "11111111-1111-4111-8111-111111111111";
        let mut endless = execution(&json!([{"type": "answer", "id": a, "next_id": a}]));
        assert_eq!(run(&mut endless).len(), STEPS_MAX);
        assert!(matches!(endless.advance(Timestamp::NEVER), Next::TooMany));
    }

    #[test]
    fn a_goto_goes_back_as_often_as_it_says_each_time_it_is_come_to() {
        let mut looping = execution(&json!([{"type": "answer"}]));
        for _ in 0..2 {
            let again: Vec<bool> = (0..4).map(|_| looping.loops_again(3)).collect();
            assert_eq!(again, [true, true, true, false]);
        }
    }

    #[test]
    fn flows_within_flows_end_somewhere() {
        let mut deep = execution(&json!([]));
        let inner = Arc::new(Program::default());
        let called = (0..100).take_while(|_| deep.call_program(inner.clone()).is_ok()).count();
        assert_eq!(called, DEPTH_MAX - 1);
    }

    #[test]
    fn keys_that_come_early_are_kept_and_no_more_than_so_many() {
        let mut execution = execution(&json!([]));
        for digit in "123#".chars() {
            assert!(!execution.press(digit));
        }
        assert!(execution.await_digits("#".to_owned(), 0));
        assert_eq!(execution.digits(), "123");
        execution.settle(Timestamp::NEVER, StepStatus::Done, "");
        for _ in 0..DIGITS_HELD_MAX {
            execution.press('1');
        }
        execution.press('2');
        assert!(!execution.await_digits(String::new(), 0));
        assert_eq!((execution.digits().len(), execution.digits().pop()), (DIGITS_HELD_MAX, Some('2')));
    }
}
