//! Flows: before the mix, at the end, and what comes in between.

use std::time::Duration;

use confab::bridge::command::{Command, ConferenceChange, NewConference, NewRecording, Refusal, Reply};
use confab::bridge::flow::outside::{Errand, ErrandResult};
use confab::bridge::flow::resource::{Activeflow, ActiveflowStatus, FlowStage, StepStatus};
use confab::bridge::flow::{DIGITS_HELD_MAX, EXECUTIONS_MAX, FLOWS_PER_CUSTOMER_MAX, STEPS_MAX};
use confab::bridge::recording::{RecordReport, Written};
use confab::bridge::resource::{Conference, ConferenceStatus, ConferenceType, ConferencecallStatus};
use confab::bridge::{Input, Settings};
use confab::id::{ConferencecallId, FlowId, LegId};
use confab::plane::{Clip, Hears, ShardCommand, ShardReport};
use serde_json::{Value, json};

use crate::scenes::{LATER, SOON, timeout_of, uri_of};
use crate::support::message::sdp;
use crate::support::{PhoneId, Recorder, Sim, Stage};
use crate::truth::{assert_events_tell_all, assert_nothing_left};

const A: &str = "11111111-1111-4111-8111-111111111111";
const B: &str = "22222222-2222-4222-8222-222222222222";
const C: &str = "33333333-3333-4333-8333-333333333333";

/// A conference with these flows; `None` for none.
pub fn conference(sim: &mut Sim, pre: Option<Value>, post: Option<Value>) -> Conference {
    let mut flow =
        |actions: Option<Value>| actions.map_or(FlowId::NIL, |actions| sim.create_flow(actions).id);
    let (pre_flow_id, post_flow_id) = (flow(pre), flow(post));
    sim.create_with(NewConference {
        pre_flow_id,
        post_flow_id,
        direct_access: true,
        ..NewConference::default()
    })
}

/// A caller, once its call is set up.
pub fn caller(sim: &mut Sim, conference: &Conference) -> PhoneId {
    let phone = sim.dial(&uri_of(conference));
    sim.run(SOON);
    phone
}

/// The only call of a conference that is not gone.
pub fn only_call(sim: &Sim, conference: &Conference) -> (ConferencecallId, ConferencecallStatus) {
    let of = sim.kept.calls.values().filter(|call| call.conference_id == conference.id);
    let open: Vec<_> = of.filter(|call| call.status != ConferencecallStatus::Leaved).collect();
    assert_eq!(open.len(), 1);
    (open[0].id, open[0].status)
}

fn only_leg(sim: &Sim) -> LegId {
    *sim.plane.legs.keys().next_back().expect("a leg")
}

fn hears(sim: &Sim) -> Hears {
    sim.plane.legs[&only_leg(sim)].hears
}

/// The runs of a stage, the first first.
fn runs(sim: &Sim, stage: FlowStage) -> Vec<Activeflow> {
    let mut runs: Vec<_> = sim.kept.activeflows.values().filter(|run| run.stage == stage).cloned().collect();
    runs.sort_by_key(|run| run.tm_create);
    runs
}

/// What the last run did: (type, status, result).
pub fn told(sim: &Sim, stage: FlowStage) -> Vec<(String, StepStatus, String)> {
    let runs = runs(sim, stage);
    let steps = &runs.last().expect("a run").steps;
    steps.iter().map(|step| (step.r#type.clone(), step.status, step.result.clone())).collect()
}

fn press(sim: &mut Sim, digits: &str) {
    for digit in digits.chars() {
        let leg = only_leg(sim);
        sim.report(ShardReport::Digit { leg, digit, duration_ms: 100 });
    }
}

fn clip(ms: u64) -> ErrandResult {
    ErrandResult::Clip(std::sync::Arc::new(Clip::new(8000, vec![0; ms as usize * 8])))
}

fn http(status: u16, body: &Value) -> ErrandResult {
    ErrandResult::Http { status, body: body.to_string().into_bytes(), is_cut: false }
}

pub fn sleep(ms: u64) -> Value {
    json!({"type": "sleep", "option": {"duration": ms}})
}

#[test]
fn the_flow_before_the_mix_runs_alone_and_its_end_joins() {
    let mut sim = Sim::new(1);
    let conference =
        conference(&mut sim, Some(json!([{"type": "answer"}, {"type": "beep"}, sleep(2000)])), None);
    let phone = caller(&mut sim, &conference);
    let (call, status) = only_call(&sim, &conference);
    assert_eq!((sim.phones[phone].stage, status), (Stage::InCall, ConferencecallStatus::Joining));
    assert_eq!(hears(&sim), Hears::Nothing);
    assert_eq!(sim.plane.plays.len(), 1, "the beep");
    sim.run(Duration::from_secs(1));
    assert!(sim.plane.plays.is_empty());
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joining, "it sleeps");
    sim.run(Duration::from_millis(1500));
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joined);
    assert_eq!(hears(&sim), Hears::Room);
    let run = &runs(&sim, FlowStage::Pre)[0];
    assert_eq!((run.status, run.result.as_str()), (ActiveflowStatus::Ended, "done"));
    assert_eq!(sim.kept.calls[&call].activeflow_id, run.id.0);
    assert!(run.steps.iter().all(|step| step.status == StepStatus::Done && step.tm_end.is_some()));
    sim.at_phone(phone, |phone, now| phone.hang_up(now));
    sim.run(LATER);
    assert_nothing_left(&sim);
}

#[test]
fn a_hangup_before_the_mix_keeps_the_caller_out() {
    let mut sim = Sim::new(2);
    let actions = json!([{"type": "hangup", "option": {"reason": "busy"}}, {"type": "beep"}]);
    let conference = conference(&mut sim, Some(actions), None);
    let phone = caller(&mut sim, &conference);
    assert_eq!(sim.phones[phone].stage, Stage::Over(200));
    assert!(sim.phones[phone].bye_reason.clone().expect("a BYE").contains("cause=17"));
    sim.run(LATER);
    let told = sim.kept.told(conference.id);
    assert!(!told.contains(&"conferencecall_joined"), "{told:?}");
    assert_nothing_left(&sim);
}

#[test]
fn digits_branch_wherever_they_were_pressed() {
    let actions = json!([
        {"type": "beep"},
        {"type": "digits_receive", "option": {"duration": 5000, "key": "#", "length": 4}},
        {"type": "branch", "option": {"default_target_id": A, "target_ids": {"12": B}}},
        {"type": "hangup", "id": A},
        {"type": "variable_set", "id": B, "option": {"key": "seen", "value": "<${voipbin.call.digits}>"}},
    ]);
    // Before the beep is over, all at once; or while they are awaited, and others.
    for (early, late, joins) in [
        ("12#", "", true),
        ("", "12#", true),
        ("1", "2#", true),
        ("9", "#", false),
        ("", "", false),
        ("1234", "", false),
    ] {
        let mut sim = Sim::new(3);
        let conference = conference(&mut sim, Some(actions.clone()), None);
        let phone = caller(&mut sim, &conference);
        press(&mut sim, early);
        sim.run(Duration::from_secs(1));
        press(&mut sim, late);
        sim.run(Duration::from_secs(6));
        let is_in = sim.phones[phone].stage == Stage::InCall;
        assert_eq!(is_in, joins, "{early:?} {late:?}");
        if joins {
            assert_eq!(told(&sim, FlowStage::Pre)[3].2, "<12>");
        }
    }
}

#[test]
fn a_wait_for_digits_ends_with_its_time() {
    let mut sim = Sim::new(4);
    let actions = json!([{"type": "digits_receive", "option": {"duration": 3000}}, {"type": "stop"}, {"type": "hangup"}]);
    let conference = conference(&mut sim, Some(actions), None);
    caller(&mut sim, &conference);
    press(&mut sim, &"7".repeat(DIGITS_HELD_MAX + 9));
    sim.run(Duration::from_millis(2600));
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joining);
    sim.run(SOON);
    assert_eq!(
        only_call(&sim, &conference).1,
        ConferencecallStatus::Joined,
        "stop ends the flow, not the call"
    );
    assert_eq!(told(&sim, FlowStage::Pre)[0].2, "7".repeat(DIGITS_HELD_MAX));
}

#[test]
fn the_flow_at_the_end_runs_for_everybody_before_the_bye() {
    let mut sim = Sim::new(5);
    let conference = conference(&mut sim, None, Some(json!([{"type": "beep"}, sleep(1000)])));
    let phones = [caller(&mut sim, &conference), caller(&mut sim, &conference)];
    sim.delete(conference.id);
    sim.run(Duration::from_millis(700));
    assert_eq!(sim.conference(conference.id).expect("held").status, ConferenceStatus::Terminating);
    assert!(phones.iter().all(|phone| sim.phones[*phone].stage == Stage::InCall));
    assert!(sim.plane.legs.values().all(|leg| leg.hears == Hears::Nothing));
    assert_eq!(crate::scenes::status_of_call(&mut sim, &uri_of(&conference)), 480);
    sim.run(Duration::from_millis(1500));
    assert!(phones.iter().all(|phone| sim.phones[*phone].stage == Stage::Over(200)));
    assert_eq!(sim.conference(conference.id).expect("held").status, ConferenceStatus::Terminated);
    assert_eq!(runs(&sim, FlowStage::Post).len(), 2);
    sim.run(LATER);
    assert_nothing_left(&sim);
    assert_events_tell_all(&sim);
}

#[test]
fn without_callers_the_flow_at_the_end_runs_once_and_skips_what_needs_a_call() {
    let mut sim = Sim::new(6);
    let webhook = json!({"type": "webhook_send", "option": {
        "sync": true, "uri": "https://a.example/x", "data": "{\"name\": \"${voipbin.conference.name}\"}"}});
    let post = sim.create_flow(json!([{"type": "beep"}, webhook, {"type": "hangup"}])).id;
    let name = "a \"quoted\" name".to_owned();
    let conference =
        sim.create_with(NewConference { post_flow_id: post, name, timeout_s: 5, ..NewConference::default() });
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.conference(conference.id).expect("held").status, ConferenceStatus::Terminated, "at once");
    let Errand::Http { body, .. } = sim.answer_errand(http(200, &json!({}))) else { panic!("not HTTP") };
    assert_eq!(body, r#"{"name": "a \"quoted\" name"}"#);
    let told = told(&sim, FlowStage::Post);
    let statuses: Vec<_> = told.iter().map(|(_, status, _)| *status).collect();
    assert_eq!(statuses, [StepStatus::Skipped, StepStatus::Done, StepStatus::Skipped]);
    assert_eq!(sim.bridge.gauges().activeflows, 0);
}

#[test]
fn a_flow_without_a_call_ends_with_the_drain_timeout() {
    let mut sim = Sim::with(7, Settings { drain_timeout: Duration::from_secs(10), ..Settings::default() });
    let conference = conference(&mut sim, None, Some(json!([sleep(60_000), {"type": "stop"}])));
    sim.delete(conference.id);
    sim.run(Duration::from_millis(9900));
    assert_eq!(sim.bridge.gauges().activeflows, 1);
    sim.run(Duration::from_millis(200));
    assert_eq!(sim.bridge.gauges().activeflows, 0);
    assert_eq!(runs(&sim, FlowStage::Post)[0].result, "its time was over");
}

#[test]
fn the_drain_timeout_bounds_the_flow_at_the_end() {
    let mut sim = Sim::with(8, Settings { drain_timeout: Duration::from_secs(10), ..Settings::default() });
    let conference = conference(&mut sim, None, Some(json!([sleep(3_600_000)])));
    let phone = caller(&mut sim, &conference);
    sim.delete(conference.id);
    sim.run(Duration::from_millis(9900));
    assert_eq!(sim.phones[phone].stage, Stage::InCall);
    sim.run(SOON);
    assert_eq!(sim.phones[phone].stage, Stage::Over(200));
    assert_eq!(sim.conference(conference.id).expect("held").status, ConferenceStatus::Terminated);
    assert_eq!(runs(&sim, FlowStage::Post)[0].status, ActiveflowStatus::Ended);
    sim.run(LATER);
    assert_nothing_left(&sim);
}

#[test]
fn a_bye_in_a_prompt_ends_flow_and_call() {
    let mut sim = Sim::new(9);
    let play = json!([{"type": "play", "option": {"stream_urls": ["http://a.example/1.wav"]}}]);
    let conference = conference(&mut sim, Some(play), None);
    let phone = caller(&mut sim, &conference);
    sim.answer_errand(clip(60_000));
    assert_eq!(sim.plane.plays.len(), 1);
    sim.at_phone(phone, |phone, now| phone.hang_up(now));
    sim.run(LATER);
    let run = &runs(&sim, FlowStage::Pre)[0];
    assert_eq!((run.result.as_str(), run.steps[0].status), ("the call ended", StepStatus::Stopped));
    assert!(sim.plane.plays.is_empty());
    assert_nothing_left(&sim);
}

#[test]
fn an_answer_that_comes_after_the_call_is_nobodys() {
    let mut sim = Sim::new(10);
    let talk = json!([{"type": "talk", "option": {"text": "hello", "language": "en-US"}}]);
    let conference = conference(&mut sim, Some(talk), None);
    let phone = caller(&mut sim, &conference);
    sim.at_phone(phone, |phone, now| phone.hang_up(now));
    sim.run(SOON);
    let errand = sim.answer_errand(clip(100));
    assert_eq!(errand, Errand::Speech { text: "hello".to_owned(), language: "en-US".to_owned() });
    sim.run(LATER);
    assert_nothing_left(&sim);
}

#[test]
fn an_answer_to_a_fetch_that_is_too_long_says_so() {
    let mut sim = Sim::new(12);
    let fetch =
        json!({"type": "fetch", "option": {"event_url": "http://web.example/", "event_method": "GET"}});
    let conference = conference(&mut sim, Some(json!([fetch])), None);
    caller(&mut sim, &conference);
    sim.answer_errand(ErrandResult::Http { status: 200, body: vec![b'['; 65_536], is_cut: true });
    let step = told(&sim, FlowStage::Pre).remove(0);
    assert_eq!(
        (step.1, step.2.as_str()),
        (StepStatus::Failed, "the answer is longer than the 65536 bytes that are read of it")
    );
}

#[test]
fn a_conference_that_is_deleted_takes_callers_from_the_flow_before_to_that_at_the_end() {
    let mut sim = Sim::new(11);
    let conference = conference(
        &mut sim,
        Some(json!([sleep(60_000)])),
        Some(json!([{"type": "beep"}, {"type": "conference_join", "option": {"conference_id": A}}])),
    );
    let phone = caller(&mut sim, &conference);
    sim.delete(conference.id);
    sim.run(Duration::from_millis(200));
    assert_eq!(runs(&sim, FlowStage::Pre)[0].result, "the conference ended");
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joining);
    sim.run(Duration::from_secs(1));
    assert_eq!(sim.phones[phone].stage, Stage::Over(200));
    assert_eq!(told(&sim, FlowStage::Post)[1].1, StepStatus::Failed);
    sim.run(LATER);
    assert_nothing_left(&sim);
    assert_events_tell_all(&sim);
}

#[test]
fn several_sounds_are_played_one_after_the_other_and_one_that_fails_is_told() {
    let mut sim = Sim::new(12);
    let urls = json!(["http://a.example/1.wav", "http://a.example/${voipbin.call.direction}.wav"]);
    let conference = conference(
        &mut sim,
        Some(json!([
            {"type": "play", "option": {"stream_urls": urls}},
            {"type": "play", "option": {"stream_urls": ["http://a.example/3.wav"]}},
        ])),
        None,
    );
    caller(&mut sim, &conference);
    sim.answer_errand(clip(1000));
    sim.run(Duration::from_millis(900));
    assert!(sim.errands.is_empty(), "the first is played");
    sim.run(SOON);
    let second = sim.answer_errand(clip(1000));
    assert_eq!(second, Errand::Sound { url: "http://a.example/incoming.wav".to_owned() });
    sim.run(Duration::from_millis(1100));
    sim.answer_errand(ErrandResult::Failed("HTTP 404".to_owned()));
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joined);
    let told = told(&sim, FlowStage::Pre);
    assert_eq!(
        (told[0].1, told[1].1, told[1].2.as_str()),
        (StepStatus::Done, StepStatus::Failed, "HTTP 404")
    );
    assert!(sim.notes.iter().any(|note| note.text.contains("play failed, going on: HTTP 404")));
}

#[test]
fn what_never_answers_does_not_hold_a_caller_for_ever() {
    let mut sim = Sim::new(13);
    sim.plane.endless = true;
    let conference = conference(
        &mut sim,
        Some(json!([{"type": "beep"}, {"type": "fetch", "option": {"event_url": "http://a.example/"}}])),
        None,
    );
    caller(&mut sim, &conference);
    sim.run(Duration::from_secs(60));
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joined);
    let told = told(&sim, FlowStage::Pre);
    assert!(told.iter().all(|(_, status, _)| *status == StepStatus::Failed), "{told:?}");
}

#[test]
fn fetched_actions_and_other_flows_run_in_their_place() {
    let mut sim = Sim::new(14);
    let inner = sim.create_flow(json!([{"type": "variable_set", "option": {"key": "a", "value": "1"}}])).id;
    let conference = conference(
        &mut sim,
        Some(json!([
            {"type": "fetch_flow", "option": {"flow_id": inner}},
            {"type": "fetch", "option": {"event_url": "https://a.example/${a}", "event_method": "POST"}},
            {"type": "fetch", "option": {"event_url": "https://a.example/", "event_method": "GET"}},
            {"type": "fetch_flow", "option": {"flow_id": A}},
            {"type": "webhook_send", "option": {"uri": "https://a.example/w", "method": "PUT", "data_type": "text/plain", "data": "${b}"}},
        ])),
        None,
    );
    caller(&mut sim, &conference);
    let fetched = json!({"actions": [{"type": "variable_set", "option": {"key": "b", "value": "two"}}]});
    let Errand::Http { url, body, .. } = sim.answer_errand(http(200, &fetched)) else { panic!("not HTTP") };
    assert_eq!(url, "https://a.example/1");
    assert!(body.contains(&conference.id.to_string()), "{body}");
    sim.answer_errand(http(200, &json!([{"type": "dance"}])));
    let Errand::Http { body, content_type, .. } = sim.answer_errand(http(500, &json!({}))) else {
        panic!("not HTTP")
    };
    assert_eq!((body.as_str(), content_type.as_str()), ("two", "text/plain"));
    let told = told(&sim, FlowStage::Pre);
    let rows: Vec<_> = told.iter().map(|(name, status, _)| (name.as_str(), *status)).collect();
    assert_eq!(
        rows,
        [
            ("fetch_flow", StepStatus::Done),
            ("variable_set", StepStatus::Done),
            ("fetch", StepStatus::Done),
            ("variable_set", StepStatus::Done),
            ("fetch", StepStatus::Failed),
            ("fetch_flow", StepStatus::Failed),
            ("webhook_send", StepStatus::Done),
        ]
    );
    assert!(told[4].2.contains("actions[0].type"), "{}", told[4].2);
}

#[test]
fn a_flow_that_calls_itself_ends() {
    let mut sim = Sim::new(15);
    let actions = json!([{"type": "answer", "id": A}, {"type": "goto", "option": {"target_id": A, "loop_count": 1000}}]);
    let conference = conference(&mut sim, Some(actions), None);
    caller(&mut sim, &conference);
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joined);
    let run = &runs(&sim, FlowStage::Pre)[0];
    assert_eq!((run.steps.len(), run.result.as_str()), (STEPS_MAX, "it ran as many actions as it may"));
}

#[test]
fn conditions_gotos_and_echo_take_their_way() {
    let mut sim = Sim::new(16);
    let condition = json!({"variable": "n", "value_type": "length", "value_length": 3, "false_target_id": A});
    let conference = conference(
        &mut sim,
        Some(json!([
            {"type": "variable_set", "id": A, "option": {"key": "n", "value": "${n}x"}},
            {"type": "condition_variable", "option": condition},
            {"type": "condition_datetime", "option": {"condition": ">=", "month": 1, "false_target_id": C}},
            {"type": "echo", "id": B, "option": {"duration": 1000}},
            {"type": "stop", "id": C},
        ])),
        None,
    );
    caller(&mut sim, &conference);
    assert_eq!(hears(&sim), Hears::Echo);
    sim.run(Duration::from_millis(1100));
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joined);
    assert_eq!(hears(&sim), Hears::Room);
    let set = told(&sim, FlowStage::Pre).iter().filter(|(name, ..)| name == "variable_set").count();
    assert_eq!(set, 3);
}

#[test]
fn keys_are_sent_as_events_or_as_tones() {
    for (events, is_tones) in [("0 96", false), ("0", true)] {
        let mut sim = Sim::new(17);
        let send = json!([{"type": "digits_send", "option": {"digits": "12${voipbin.call.digits}", "duration": 100, "interval": 100}},
            {"type": "digits_receive", "option": {"duration": 1000, "length": 1}}]);
        let conference = conference(&mut sim, Some(send), None);
        let attributes: &[&str] = if is_tones { &[] } else { &["rtpmap:96 telephone-event/8000"] };
        sim.dial_with(&uri_of(&conference), &sdp("192.0.2.20", 4000, events, attributes));
        sim.run(SOON);
        let orders = &sim.plane.orders;
        assert_eq!(orders.iter().any(|order| matches!(order, ShardCommand::SendDigits { .. })), !is_tones);
        assert_eq!(orders.iter().any(|order| matches!(order, ShardCommand::Play { .. })), is_tones);
        assert_eq!(
            sim.plane.listening.len(),
            usize::from(is_tones),
            "only who sends no events is listened to"
        );
        sim.run(Duration::from_secs(3));
        assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joined);
        assert!(sim.plane.listening.is_empty());
    }
}

#[test]
fn a_flow_records_its_conference_as_the_rest_call_does() {
    let mut sim = Sim::new(18);
    let at_end =
        sim.create_flow(json!([{"type": "variable_set", "option": {"key": "over", "value": "yes"}}]));
    let start = json!({"type": "recording_start", "option": {"on_end_flow_id": at_end.id.to_string()}});
    let stop = json!({"type": "recording_stop"});
    let conference = conference(&mut sim, Some(json!([stop, start, start, stop])), None);
    caller(&mut sim, &conference);
    let told = told(&sim, FlowStage::Pre);
    let (failed, done) = (StepStatus::Failed, StepStatus::Done);
    assert_eq!(told.iter().map(|step| step.1).collect::<Vec<_>>(), [failed, done, failed, done]);
    assert_eq!(told[0].2, "the conference is not being recorded");
    assert_eq!(told[2].2, "the conference is being recorded already");
    let recording = *sim.kept.recordings.keys().next().expect("one was made");
    assert!(runs(&sim, FlowStage::RecordingEnd).is_empty(), "its file is not finished yet");
    let written = Written { bytes: 1, duration_ms: 1, lost_ms: 0 };
    sim.input(Input::Recorded(RecordReport::Ended { recording, fault: String::new(), written }));
    sim.run(SOON);
    let run = &runs(&sim, FlowStage::RecordingEnd)[0];
    assert_eq!((run.flow_id, run.status), (at_end.id, ActiveflowStatus::Ended));
}

#[test]
fn a_recording_that_a_kill_cut_off_runs_its_flow_after_the_restart() {
    let mut sim = Sim::new(21);
    let at_end =
        sim.create_flow(json!([{"type": "variable_set", "option": {"key": "over", "value": "yes"}}]));
    let conference = sim.create(ConferenceType::Conference);
    let new = NewRecording { on_end_flow_id: at_end.id, ..NewRecording::default() };
    let customer = sim.customer;
    sim.command(Command::StartRecording { customer, id: conference.id, new });
    sim.restart(Duration::from_secs(3), Recorder::default());
    let run = &runs(&sim, FlowStage::RecordingEnd)[0];
    assert_eq!((run.flow_id, run.status), (at_end.id, ActiveflowStatus::Ended));
    assert_eq!(run.conference_id, conference.id);
    sim.restart(Duration::from_secs(3), Recorder::default());
    assert_eq!(runs(&sim, FlowStage::RecordingEnd).len(), 1, "once");
}

#[test]
fn the_flow_at_the_end_of_a_recording_must_be_there() {
    let mut sim = Sim::new(20);
    let conference = sim.create(ConferenceType::Conference);
    let missing = FlowId(uuid::Uuid::from_u128(7));
    let new = NewRecording { on_end_flow_id: missing, ..NewRecording::default() };
    let customer = sim.customer;
    let reply = sim.command(Command::StartRecording { customer, id: conference.id, new });
    assert_eq!(reply, Reply::Refused(Refusal::NoSuchFlow("on_end_flow_id")));
}

#[test]
fn an_invite_without_an_offer_runs_the_flow_after_its_ack() {
    let mut sim = Sim::new(19);
    let conference = conference(&mut sim, Some(json!([sleep(1000)])), None);
    let phone = sim.phone();
    sim.phones[phone].late_answer = sdp("192.0.2.20", 4004, "8", &[]);
    let uri = uri_of(&conference);
    sim.at_phone(phone, |phone, now| phone.dial_with(now, &uri, "", ""));
    sim.run(SOON);
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joining);
    sim.run(Duration::from_millis(1100));
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joined);
}

#[test]
fn without_an_ack_no_flow_begins_and_a_deleted_one_is_no_hindrance() {
    let mut sim = Sim::new(20);
    let conference = conference(&mut sim, Some(json!([{"type": "beep"}])), None);
    let phone = sim.phone();
    sim.phones[phone].acknowledges = false;
    let uri = uri_of(&conference);
    sim.at_phone(phone, |phone, now| phone.dial(now, &uri));
    sim.run(Duration::from_secs(5));
    assert!(sim.kept.activeflows.is_empty());
    sim.run(LATER);
    assert_nothing_left(&sim);
    let customer = sim.customer;
    sim.command(Command::DeleteFlow { customer, id: conference.pre_flow_id });
    caller(&mut sim, &conference);
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joined);
    assert!(sim.notes.iter().any(|note| note.text.contains("is not there any more")));
}

#[test]
fn the_first_of_a_connect_hears_ringback_after_its_flow() {
    let mut sim = Sim::new(21);
    let pre_flow_id = sim.create_flow(json!([sleep(1000)])).id;
    let conference = sim.create_with(NewConference {
        r#type: ConferenceType::Connect,
        pre_flow_id,
        direct_access: true,
        ..NewConference::default()
    });
    caller(&mut sim, &conference);
    caller(&mut sim, &conference);
    assert!(sim.plane.legs.values().all(|leg| leg.hears == Hears::Nothing));
    sim.run(Duration::from_millis(550));
    assert!(sim.plane.legs.values().any(|leg| matches!(leg.hears, Hears::Ringback(_))));
    sim.run(SOON);
    assert!(sim.plane.legs.values().all(|leg| leg.hears == Hears::Room));
}

#[test]
fn a_restart_goes_on_with_the_flows_and_closes_the_runs() {
    let mut sim = Sim::new(22);
    let conference = conference(&mut sim, Some(json!([sleep(60_000)])), Some(json!([{"type": "stop"}])));
    caller(&mut sim, &conference);
    assert_eq!(runs(&sim, FlowStage::Pre)[0].status, ActiveflowStatus::Running);
    sim.restart(Duration::from_secs(1), Default::default());
    let run = &runs(&sim, FlowStage::Pre)[0];
    assert_eq!((run.status, run.result.as_str()), (ActiveflowStatus::Ended, "the server restarted"));
    assert_eq!(run.steps[0].status, StepStatus::Stopped);
    sim.update(conference.id, timeout_of(3));
    sim.run(Duration::from_secs(5));
    assert_eq!(runs(&sim, FlowStage::Post).len(), 1, "the flow at the end is still known");
}

#[test]
fn a_conference_names_only_flows_that_are_there() {
    let mut sim = Sim::new(23);
    let unknown: FlowId = A.parse().expect("an id");
    let customer = sim.customer;
    let new = NewConference { pre_flow_id: unknown, ..NewConference::default() };
    let refused = sim.command(Command::CreateConference { customer, new });
    assert!(format!("{refused:?}").contains("NoSuchFlow(\"pre_flow_id\")"), "{refused:?}");
    let conference = conference(&mut sim, None, None);
    let change = ConferenceChange { post_flow_id: Some(unknown), ..ConferenceChange::default() };
    let refused = sim.command(Command::UpdateConference { customer, id: conference.id, change });
    assert!(format!("{refused:?}").contains("NoSuchFlow(\"post_flow_id\")"), "{refused:?}");
}

#[test]
fn a_customer_has_so_many_flows_and_no_more() {
    let mut sim = Sim::new(24);
    for _ in 0..FLOWS_PER_CUSTOMER_MAX {
        sim.create_flow(json!([]));
    }
    let customer = sim.customer;
    let refused = sim.command(Command::CreateFlow { customer, new: Default::default() });
    assert!(format!("{refused:?}").contains("Limit"), "{refused:?}");
    let id = *sim.kept.flows.keys().next().expect("a flow");
    sim.command(Command::DeleteFlow { customer, id });
    sim.create_flow(json!([]));
}

#[test]
fn a_stopping_server_ends_flows_too() {
    let mut sim = Sim::new(25);
    let conference = conference(&mut sim, Some(json!([sleep(60_000)])), Some(json!([sleep(60_000)])));
    let phone = caller(&mut sim, &conference);
    sim.drain();
    sim.run(SOON);
    assert_eq!(sim.phones[phone].stage, Stage::Over(200));
    assert!(sim.drained);
    assert_eq!(sim.bridge.gauges().activeflows, 0);
    assert!(sim.kept.activeflows.values().all(|run| run.status == ActiveflowStatus::Ended));
}

#[test]
fn no_more_flows_run_than_the_limit() {
    let mut sim = Sim::new(26);
    let flow = sim.create_flow(json!([sleep(60_000)])).id;
    for _ in 0..=EXECUTIONS_MAX {
        sim.bridge_only_end_with(flow);
    }
    let gauges = sim.bridge.gauges();
    assert_eq!((gauges.activeflows, gauges.flows_refused_total), (EXECUTIONS_MAX, 1));
}

#[test]
fn what_takes_no_time_is_over_at_once() {
    let mut sim = Sim::new(27);
    let nothing = json!({"duration": 0});
    let types = ["sleep", "echo", "digits_receive"];
    let actions: Vec<_> = types.iter().map(|name| json!({"type": name, "option": nothing})).collect();
    let conference = conference(&mut sim, Some(json!(actions)), None);
    caller(&mut sim, &conference);
    assert_eq!(only_call(&sim, &conference).1, ConferencecallStatus::Joined);
}
