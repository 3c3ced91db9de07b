//! The flows that run: each is taken from action to action until it has to wait, and goes on when
//! what it waits for has come.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::command::{NewRecording, Reply};
use super::event::Change;
use super::flow::action::{Action, RecordingOptions};
use super::flow::execution::{Execution, Next, Subject, Then, Wait};
use super::flow::outside::{Errand, ErrandResult};
use super::flow::resource::{FlowStage, StepStatus};
use super::flow::variables::DIGITS;
use super::flow::{Activeflow, EXECUTIONS_MAX, Program, tones};
use super::media::LegState;
use super::resource::RecordingFormat;
use super::timers::Timer;
use super::{Bridge, Level, Output};
use crate::id::{ActiveflowId, ConferenceId, ConferencecallId, CustomerId, FlowId, LegId};
use crate::plane::{Clip, Hears, PortSource, ShardCommand};
use crate::sip::Cause;
use crate::time::{Duration, Instant, Now, Timestamp};

/// How long an answer of the outside is waited for; the shell itself gives up earlier.
const ERRAND_PATIENCE: Duration = Duration::from_secs(45);
/// How much longer than its sound a play may take before it is given up.
const PLAY_PATIENCE: Duration = Duration::from_secs(5);

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
    /// Runs a flow. False when there is no such flow, or too many run: then nothing follows.
    pub(super) fn start_flow(
        &mut self,
        now: Now,
        flow: FlowId,
        of: Subject,
        then: Then,
        ports: &mut dyn PortSource,
    ) -> bool {
        if self.draining {
            return false;
        }
        let Some(program) = self.flows.program(of.customer, flow) else {
            let text = format!("flow {flow} is not there any more: the conference goes on without it");
            self.journal.note_call(Level::Warn, "", of.conference, of.call, text);
            return false;
        };
        if self.executions.len() >= EXECUTIONS_MAX {
            self.tally.flows_refused_total += 1;
            let text = format!("flow {flow} does not run: {EXECUTIONS_MAX} flows run already");
            self.journal.note_call(Level::Error, "", of.conference, of.call, text);
            return false;
        }
        let id = ActiveflowId::random(&mut self.rng);
        let wants_digits = program.any(|action| {
            matches!(action, Action::DigitsReceive { .. } | Action::Fetch { .. } | Action::FetchFlow(_))
        });
        let mut execution = Execution::new(id, (flow, program), of, then, now.wall);
        self.tally.activeflows_total += 1;
        self.introduce(&mut execution);
        if let Some(call) = execution.call() {
            self.executions.by_call.insert(call, id);
            execution.hears_tones = wants_digits && self.listen_for_tones(call, true);
            if let Some(call) = self.calls.get_mut(call) {
                call.resource.activeflow_id = id.0;
                call.resource.tm_update = now.wall;
                self.journal.keep_call(&call.resource);
            }
        } else {
            execution.ends_by = Some(now.instant + self.settings.drain_timeout);
        }
        self.go_on_flow(now, execution, ports);
        true
    }

    /// Sets the variables that every flow has.
    fn introduce(&mut self, execution: &mut Execution) {
        let mut set = |name: &str, value: &str| {
            let cut: String = value.chars().take(super::ADDRESS_TEXT_MAX).collect();
            execution.variables.set(name, &cut).expect("a new execution has room, and the value is short");
        };
        if let Some(conference) = self.conferences.get(&execution.record.conference_id) {
            set("voipbin.conference.id", &conference.resource.id.to_string());
            set("voipbin.conference.name", &conference.resource.name);
        }
        if let Some(call) = self.calls.get(&execution.record.conferencecall_id) {
            let of = &call.resource;
            set("voipbin.call.id", &of.reference_id.to_string());
            set("voipbin.call.direction", &of.direction);
            set(DIGITS, "");
            set("voipbin.call.source.target", &of.source.target);
            set("voipbin.call.source.target_name", &of.source.target_name);
            set("voipbin.call.destination.target", &of.destination.target);
        }
        set("voipbin.activeflow.id", &execution.record.id.to_string());
        set("voipbin.activeflow.flow_id", &execution.record.flow_id.to_string());
    }

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

    /// Begins an action.
    fn perform(&mut self, now: Now, execution: &mut Execution, action: Action) -> Outcome {
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
            Action::RecordingStart(options) => self.told(now, execution, FlowOrder::RecordingStart(options)),
            Action::RecordingStop => self.told(now, execution, FlowOrder::RecordingStop),
            Action::TranscribeStart { language } => {
                self.told(now, execution, FlowOrder::TranscribeStart { language })
            }
            Action::TranscribeStop => self.told(now, execution, FlowOrder::TranscribeStop),
            Action::ConferenceJoin(conference) => self.join_by_flow(execution, conference),
        }
    }

    /// Joins the conference the flow belongs to; another cannot be joined from here.
    fn join_by_flow(&mut self, execution: &Execution, conference: ConferenceId) -> Outcome {
        if conference != execution.record.conference_id {
            return failed("UNAVAILABLE: a caller can join only the conference it dialled");
        }
        match execution.then {
            Then::Join => Outcome::Ends("joins".to_owned(), None),
            _ => failed("the conference has ended"),
        }
    }

    /// Does what a flow asks of its conference's recording or transcription, as the REST call would.
    fn told(&mut self, now: Now, execution: &Execution, order: FlowOrder) -> Outcome {
        let whose = (execution.record.customer_id, execution.record.conference_id);
        let reply = match order {
            FlowOrder::RecordingStart(options) => {
                let new = NewRecording {
                    format: if options.format == "ogg" { RecordingFormat::Ogg } else { RecordingFormat::Wav },
                    duration_s: options.duration_s,
                    on_end_flow_id: options.on_end_flow_id,
                    tracks: false,
                };
                self.start_recording(now, whose, new)
            }
            FlowOrder::RecordingStop => self.stop_recording(now, whose),
            FlowOrder::TranscribeStart { .. } | FlowOrder::TranscribeStop => {
                return failed("UNAVAILABLE: transcription is not available in this version");
            }
        };
        reply.map_or_else(|refusal| failed(refusal.to_string()), |_| done(""))
    }

    fn echo(&mut self, now: Now, execution: &mut Execution, time: Duration) -> Outcome {
        let leg = execution.call().and_then(|call| Some((call, self.leg_of(call)?)));
        let Some((call, leg)) = leg else { return failed("the call has no media") };
        self.order_leg(call, ShardCommand::SetHears { leg, hears: Hears::Echo });
        execution.wait = Wait::Time;
        Outcome::Waits(now.instant + time)
    }

    /// Fetches the next of several sounds.
    fn play_next(&mut self, now: Now, execution: &mut Execution, mut urls: Vec<String>) -> Outcome {
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
        let ticket = self.send_on(errand);
        execution.wait = Wait::Sound { ticket, rest };
        Outcome::Waits(now.instant + ERRAND_PATIENCE)
    }

    fn send_on(&mut self, errand: Errand) -> u64 {
        let ticket = self.executions.ticket();
        self.journal.push(Output::Errand { ticket, errand });
        ticket
    }

    fn play(&mut self, now: Now, execution: &mut Execution, clip: Arc<Clip>, rest: Vec<String>) -> Outcome {
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
            && let Err(fault) = super::flow::check_url(url)
        {
            return failed(format!("{url:.100} {fault}"));
        }
        let ticket = self.send_on(errand);
        if !sync {
            return done("sent");
        }
        execution.wait = if fetches { Wait::Actions { ticket } } else { Wait::Webhook { ticket } };
        Outcome::Waits(now.instant + ERRAND_PATIENCE)
    }

    /// The answer of the outside to an errand. One that nobody waits for any more is dropped.
    pub(super) fn handle_errand(
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
            (Wait::Actions { .. }, ErrandResult::Http { status: 200..=299, body }) => {
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
    pub(super) fn flow_digit(
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
    pub(super) fn flow_played(
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
    pub(super) fn flow_timer(&mut self, now: Now, id: ActiveflowId, ports: &mut dyn PortSource) {
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

    /// Runs the flow at the end for a caller. False when it cannot: then the caller is to go.
    pub(super) fn start_post_flow(
        &mut self,
        now: Now,
        call: ConferencecallId,
        cause: Cause,
        ports: &mut dyn PortSource,
    ) -> bool {
        self.stop_flow(now, call, "the conference ended");
        let Some((of, flow)) = self.subject(call, FlowStage::Post) else { return false };
        if let Some(leg) = self.leg_of(call) {
            self.order_leg(call, ShardCommand::SetHears { leg, hears: Hears::Nothing });
        }
        self.start_flow(now, flow, of, Then::Eject(cause), ports)
    }

    /// Runs the flow before the mix for a caller. False when it cannot: then the caller joins.
    pub(super) fn start_pre_flow(
        &mut self,
        now: Now,
        call: ConferencecallId,
        flow: FlowId,
        ports: &mut dyn PortSource,
    ) -> bool {
        let Some((of, _)) = self.subject(call, FlowStage::Pre) else { return false };
        self.start_flow(now, flow, of, Then::Join, ports)
    }

    /// Runs the flow at the end of a conference in which nobody is.
    pub(super) fn start_lone_post_flow(&mut self, now: Now, id: ConferenceId, ports: &mut dyn PortSource) {
        let Some(conference) = self.conferences.get(&id) else { return };
        let (flow, customer) = (conference.resource.post_flow_id, conference.resource.customer_id);
        if !flow.is_nil() {
            self.start_lone_flow(now, (customer, id), flow, FlowStage::Post, ports);
        }
    }

    /// Runs a flow of a conference without a call.
    pub(super) fn start_lone_flow(
        &mut self,
        now: Now,
        (customer, conference): (CustomerId, ConferenceId),
        flow: FlowId,
        stage: FlowStage,
        ports: &mut dyn PortSource,
    ) {
        let of = Subject { customer, conference, call: ConferencecallId::NIL, stage };
        self.start_flow(now, flow, of, Then::Nothing, ports);
    }

    /// A caller with media, and the flow at the end of its conference.
    fn subject(&self, call: ConferencecallId, stage: FlowStage) -> Option<(Subject, FlowId)> {
        self.leg_of(call)?;
        let of = self.calls.get(&call).filter(|call| call.is_in())?;
        let conference = self.conferences.get(&of.resource.conference_id)?;
        let flow = conference.resource.post_flow_id;
        if stage == FlowStage::Post && flow.is_nil() {
            return None;
        }
        let (customer, conference) = (of.resource.customer_id, conference.resource.id);
        Some((Subject { customer, conference, call, stage }, flow))
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

/// What a flow asks of a conference's recording or transcription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FlowOrder {
    /// Start a recording.
    RecordingStart(RecordingOptions),
    /// Stop it.
    RecordingStop,
    /// Start a transcription.
    TranscribeStart {
        /// Its language (BCP 47), or empty.
        language: String,
    },
    /// Stop it.
    TranscribeStop,
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

fn http_outcome(status: u16) -> Outcome {
    let status_text = format!("HTTP {status}");
    if (200..300).contains(&status) { done(status_text) } else { failed(status_text) }
}
