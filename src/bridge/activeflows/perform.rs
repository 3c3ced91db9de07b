//! How each action is begun.

use std::sync::Arc;

use super::{Outcome, call_program, done, failed, take_digits};
use crate::bridge::command::{Refusal, Reply};
use crate::bridge::flow::action::Action;
use crate::bridge::flow::execution::{Execution, Then, Wait};
use crate::bridge::flow::outside::Errand;
use crate::bridge::flow::resource::StepStatus;
use crate::bridge::flow::variables::DIGITS;
use crate::bridge::flow::{check_url, tones};
use crate::bridge::resource::TranscribeDirection;
use crate::bridge::{Bridge, Output};
use crate::id::{ConferenceId, CustomerId};
use crate::plane::{Clip, Hears, ShardCommand};
use crate::time::{Duration, Now};

/// How long an answer of the outside is waited for; the shell itself gives up earlier.
const ERRAND_PATIENCE: Duration = Duration::from_secs(45);
/// How much longer than its sound a play may take before it is given up.
const PLAY_PATIENCE: Duration = Duration::from_secs(5);

impl Bridge {
    /// Begins an action.
    pub(super) fn perform(&mut self, now: Now, execution: &mut Execution, action: Action) -> Outcome {
        if action.needs_call() && execution.call().is_none() {
            return Outcome::Settled(StepStatus::Skipped, "there is no call".to_owned());
        }
        let variables = &execution.variables;
        match action {
            Action::Answer => done("answered before the flow began"),
            Action::Stop => Outcome::Ends("stopped".to_owned(), None),
            Action::Beep => {
                let beep = self.executions.beep();
                self.play(now, execution, beep, Vec::new())
            }
            Action::Talk { text, language } => {
                let text = variables.fill(&text);
                self.ask_for_sound(now, execution, Errand::Speech { text, language }, Vec::new())
            }
            Action::Play { urls } => self.play_next(now, execution, urls),
            Action::Sleep(time) | Action::Echo(time) if time.is_zero() => done(""),
            Action::Sleep(time) => {
                execution.wait = Wait::Time;
                Outcome::Waits(now.instant + time)
            }
            Action::Echo(time) => self.echo(now, execution, time),
            Action::DigitsReceive { within, keys, length } => {
                if execution.await_digits(keys, length) || within.is_zero() {
                    return take_digits(execution);
                }
                Outcome::Waits(now.instant + within)
            }
            Action::DigitsSend { digits, held, gap } => {
                let digits = variables.fill(&digits).to_ascii_uppercase();
                self.send_digits(now, execution, &digits, held, gap)
            }
            Action::Hangup(cause) => Outcome::Ends("hung up".to_owned(), Some(Then::Eject(cause))),
            Action::Branch { variable, default, targets } => {
                let value = variables.named(&variable);
                let target = targets.get(&value).copied().or(default);
                target.into_iter().for_each(|target| execution.jump(target));
                done(value)
            }
            Action::Goto { target, loops } => {
                let again = execution.loops_again(loops);
                if again {
                    execution.jump(target);
                }
                done(if again { "back" } else { "on" })
            }
            Action::VariableSet { key, value } => {
                let value = variables.fill(&value);
                execution.variables.set(&key, &value).map_or_else(failed, |()| done(value))
            }
            Action::ConditionVariable { condition, otherwise } => {
                let holds = condition.holds(variables);
                otherwise.filter(|_| !holds).into_iter().for_each(|target| execution.jump(target));
                done(holds.to_string())
            }
            Action::ConditionDatetime { condition, otherwise } => {
                let holds = condition.holds(now.wall);
                otherwise.filter(|_| !holds).into_iter().for_each(|target| execution.jump(target));
                done(holds.to_string())
            }
            Action::WebhookSend { .. } | Action::Fetch { .. } => self.send_request(now, execution, action),
            Action::FetchFlow(flow) => match self.flows.program(execution.record.customer_id, flow) {
                Some(program) => call_program(execution, program),
                None => failed(format!("there is no flow {flow}")),
            },
            Action::RecordingStart(new) => told(self.start_recording(now, whose(execution), new)),
            Action::RecordingStop => told(self.stop_recording(now, whose(execution))),
            Action::TranscribeStart { language } => {
                let direction = TranscribeDirection::Both;
                told(self.start_transcribe(now, whose(execution), language, direction))
            }
            Action::TranscribeStop => told(self.stop_transcribe(now, whose(execution))),
            Action::ConferenceJoin(conference) => self.join_by_flow(execution, conference),
        }
    }

    /// Joins the conference the flow belongs to, or goes over to another.
    fn join_by_flow(&mut self, execution: &Execution, conference: ConferenceId) -> Outcome {
        if conference == execution.record.conference_id {
            return match execution.then {
                Then::Join => Outcome::Ends("joins".to_owned(), None),
                _ => failed("the conference has ended"),
            };
        }
        let Some(call) = execution.call() else { return failed("there is no call") };
        match self.may_move(call, conference) {
            Ok(()) => Outcome::Ends(format!("joins {conference}"), Some(Then::Move(conference))),
            Err(why) => failed(why),
        }
    }

    fn echo(&mut self, now: Now, execution: &mut Execution, time: Duration) -> Outcome {
        let leg = execution.call().and_then(|call| Some((call, self.leg_of(call)?)));
        let Some((call, leg)) = leg else { return failed("the call has no media") };
        self.order_leg(call, ShardCommand::SetHears { leg, hears: Hears::Echo });
        execution.wait = Wait::Time;
        Outcome::Waits(now.instant + time)
    }

    /// Fetches the next of several sounds.
    pub(super) fn play_next(
        &mut self,
        now: Now,
        execution: &mut Execution,
        mut urls: Vec<String>,
    ) -> Outcome {
        if urls.is_empty() {
            return done("played");
        }
        let url = execution.variables.fill(&urls.remove(0));
        self.ask_for_sound(now, execution, Errand::Sound { url }, urls)
    }

    fn ask_for_sound(
        &mut self,
        now: Now,
        execution: &mut Execution,
        errand: Errand,
        rest: Vec<String>,
    ) -> Outcome {
        let ticket = self.send_on(execution.record.customer_id, errand);
        execution.wait = Wait::Sound { ticket, rest };
        Outcome::Waits(now.instant + ERRAND_PATIENCE)
    }

    fn send_on(&mut self, customer: CustomerId, errand: Errand) -> u64 {
        let ticket = self.executions.ticket();
        self.journal.push(Output::Errand { ticket, customer, errand });
        ticket
    }

    pub(super) fn play(
        &mut self,
        now: Now,
        execution: &mut Execution,
        clip: Arc<Clip>,
        rest: Vec<String>,
    ) -> Outcome {
        let leg = execution.call().and_then(|call| Some((call, self.leg_of(call)?)));
        let Some((call, leg)) = leg else { return failed("the call has no media") };
        let play = self.executions.ticket();
        let until = now.instant + clip.duration() + PLAY_PATIENCE;
        self.order_leg(call, ShardCommand::Play { leg, play, clip });
        execution.wait = Wait::Play { play, rest };
        Outcome::Waits(until)
    }

    /// Presses keys: as telephone events where the peer takes them, else as tones.
    fn send_digits(
        &mut self,
        now: Now,
        execution: &mut Execution,
        digits: &str,
        held: Duration,
        gap: Duration,
    ) -> Outcome {
        let leg = execution.call().and_then(|call| Some((call, self.leg_of(call)?)));
        let Some((call, leg)) = leg else { return failed("the call has no media") };
        if digits.is_empty() || digits.len() > crate::rtp::dtmf::MAX_DIGITS {
            return failed(format!("{} keys cannot be pressed", digits.len()));
        }
        if let Some(wrong) = digits.chars().find(|key| !matches!(key, '0'..='9' | '*' | '#' | 'A'..='D')) {
            return failed(format!("there is no key {wrong:?}"));
        }
        if !self.calls.get(&call).is_some_and(|call| call.telephone_event) {
            let clip = Arc::new(tones::keys(digits, held, gap));
            return self.play(now, execution, clip, Vec::new());
        }
        let play = self.executions.ticket();
        let (held_ms, gap_ms) = (held.as_millis() as u16, gap.as_millis() as u16);
        let time = (held + gap) * u32::try_from(digits.len()).unwrap_or(u32::MAX);
        let digits = digits.to_owned();
        self.order_leg(call, ShardCommand::SendDigits { leg, play, digits, held_ms, gap_ms });
        execution.wait = Wait::Play { play, rest: Vec::new() };
        Outcome::Waits(now.instant + time + PLAY_PATIENCE)
    }

    fn send_request(&mut self, now: Now, execution: &mut Execution, action: Action) -> Outcome {
        let variables = &execution.variables;
        let (errand, sync, fetches) = match action {
            Action::WebhookSend { sync, uri, method, data_type, data } => {
                let is_json = data_type.contains("json");
                let body = if is_json { variables.fill_json(&data) } else { variables.fill(&data) };
                (
                    Errand::Http { method, url: variables.fill(&uri), content_type: data_type, body },
                    sync,
                    false,
                )
            }
            Action::Fetch { url, method } => {
                let of = &execution.record;
                let body = serde_json::json!({
                    "activeflow_id": of.id,
                    "flow_id": of.flow_id,
                    "conference_id": of.conference_id,
                    "conferencecall_id": of.conferencecall_id,
                    "stage": of.stage,
                    "digits": variables.value(DIGITS),
                });
                let (url, body) = (variables.fill(&url), body.to_string());
                (Errand::Http { method, url, content_type: "application/json".to_owned(), body }, true, true)
            }
            _ => return failed("it is no request"),
        };
        if let Errand::Http { url, .. } = &errand
            && let Err(fault) = check_url(url)
        {
            return failed(format!("{url:.100} {fault}"));
        }
        let ticket = self.send_on(execution.record.customer_id, errand);
        if !sync {
            return done("sent");
        }
        execution.wait = if fetches { Wait::Actions { ticket } } else { Wait::Webhook { ticket } };
        Outcome::Waits(now.instant + ERRAND_PATIENCE)
    }
}

/// The conference that a flow runs for, and its owner.
fn whose(execution: &Execution) -> (CustomerId, ConferenceId) {
    (execution.record.customer_id, execution.record.conference_id)
}

/// What came of an order that is the same as a REST call's.
fn told(reply: Result<Reply, Refusal>) -> Outcome {
    reply.map_or_else(|refusal| failed(refusal.to_string()), |_| done(""))
}
