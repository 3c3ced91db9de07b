//! Recordings: what their owner asks, what the room is told, and how they end.

use std::time::Duration;

use confab::bridge::Input;
use confab::bridge::command::{Command, NewRecording, Refusal, Reply};
use confab::bridge::recording::{RecordOrder, RecordReport, Written};
use confab::bridge::resource::{
    Conference, ConferenceStatus, ConferenceType, Recording, RecordingFormat, RecordingStatus,
};
use confab::id::{ConferenceId, RecordingId};
use confab::plane::ShardCommand;

use crate::scenes::{LATER, SOON, filled, uri_of};
use crate::support::{Recorder, Sim};
use crate::truth::{assert_events_tell_all, assert_nothing_left};

const WRITTEN: Written = Written { bytes: 4711, duration_ms: 5000, lost_ms: 20 };

fn start(sim: &mut Sim, id: ConferenceId, new: NewRecording) -> Reply {
    let customer = sim.customer;
    sim.command(Command::StartRecording { customer, id, new })
}

fn stop(sim: &mut Sim, id: ConferenceId) -> Reply {
    let customer = sim.customer;
    sim.command(Command::StopRecording { customer, id })
}

fn pause(sim: &mut Sim, id: ConferenceId, pause: bool) -> Reply {
    let customer = sim.customer;
    sim.command(Command::PauseRecording { customer, id, pause })
}

/// Starts a recording whose first sound comes at once.
fn started(sim: &mut Sim, id: ConferenceId) -> RecordingId {
    let Reply::Conference(conference) = start(sim, id, NewRecording::default()) else {
        panic!("not started")
    };
    let recording = RecordingId(conference.recording_id);
    sim.input(Input::Recorded(RecordReport::Started { recording }));
    recording
}

fn ended(sim: &mut Sim, recording: RecordingId, fault: &str) {
    let (fault, written) = (fault.to_owned(), WRITTEN);
    sim.input(Input::Recorded(RecordReport::Ended { recording, fault, written }));
}

fn kept(sim: &Sim, recording: RecordingId) -> Recording {
    sim.kept.recordings[&recording].clone()
}

fn refusal(reply: Reply) -> Refusal {
    let Reply::Refused(refusal) = reply else { panic!("not refused: {reply:?}") };
    refusal
}

fn now(sim: &mut Sim, conference: &Conference) -> Conference {
    sim.conference(conference.id).expect("it is held")
}

#[test]
fn a_recording_is_told_of_from_its_start_to_its_end() {
    let mut sim = Sim::new(1);
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 2);
    let new = NewRecording { format: RecordingFormat::Ogg, tracks: true, ..NewRecording::default() };
    let Reply::Conference(after) = start(&mut sim, conference.id, new) else { panic!("not started") };
    let recording = RecordingId(after.recording_id);
    assert_eq!(after.recording_ids, [recording.0]);
    assert_eq!(kept(&sim, recording).status, RecordingStatus::Initiating);
    assert_eq!(sim.plane.taps.len(), 1);
    let names =
        |sim: &Sim| sim.recorder.iter().filter(|order| matches!(order, RecordOrder::Name { .. })).count();
    assert!(matches!(sim.recorder[0], RecordOrder::Start { format: RecordingFormat::Ogg, tracks: true, .. }));
    assert_eq!(names(&sim), 2);
    sim.input(Input::Recorded(RecordReport::Started { recording }));
    assert_eq!(kept(&sim, recording).status, RecordingStatus::Recording);
    assert!(kept(&sim, recording).tm_start.is_some());
    sim.dial(&uri_of(&conference));
    sim.run(SOON);
    assert_eq!(names(&sim), 3, "who joins later is named too");

    let Reply::Conference(after) = stop(&mut sim, conference.id) else { panic!("not stopped") };
    assert!(after.recording_id.is_nil());
    assert_eq!(after.recording_ids, [recording.0]);
    assert_eq!(kept(&sim, recording).status, RecordingStatus::Stopping);
    assert!(sim.plane.taps.is_empty());
    ended(&mut sim, recording, "");
    let over = kept(&sim, recording);
    assert_eq!((over.status, over.cause.as_str(), over.size_bytes), (RecordingStatus::Ended, "", 4711));
    assert_eq!((over.duration_ms, over.lost_ms, over.tm_end.is_some()), (5000, 20, true));
    let told = sim.kept.told(conference.id);
    let of: Vec<&&str> = told.iter().filter(|r#type| r#type.starts_with("recording_")).collect();
    assert_eq!(of, [&"recording_started", &"recording_finished"]);
    sim.delete(conference.id);
    sim.run(LATER);
    assert_nothing_left(&sim);
    assert_events_tell_all(&sim);
}

#[test]
fn only_one_runs_at_a_time_and_only_in_progressing() {
    let mut sim = Sim::new(2);
    let conference = sim.create(ConferenceType::Conference);
    assert!(matches!(refusal(stop(&mut sim, conference.id)), Refusal::Conflict(_)));
    let first = started(&mut sim, conference.id);
    assert!(matches!(refusal(start(&mut sim, conference.id, NewRecording::default())), Refusal::Conflict(_)));
    stop(&mut sim, conference.id);
    // Its file is not finished yet, but the next may begin.
    let second = started(&mut sim, conference.id);
    ended(&mut sim, first, "");
    assert_eq!(now(&mut sim, &conference).recording_id, second.0);
    sim.delete(conference.id);
    assert_eq!(
        refusal(start(&mut sim, conference.id, NewRecording::default())),
        Refusal::WrongStatus("terminating")
    );
    let nobody = ConferenceId::random(&mut sim.rng);
    assert_eq!(refusal(start(&mut sim, nobody, NewRecording::default())), Refusal::NotFound);
}

#[test]
fn an_empty_room_is_recorded_and_closes_after_the_last_tap() {
    let mut sim = Sim::new(3);
    let (conference, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    let recording = started(&mut sim, conference.id);
    sim.at_phone(phones[0], |phone, now| phone.hang_up(now));
    sim.run(SOON);
    assert_eq!(sim.plane.rooms.len(), 1, "silence is recorded too");
    sim.dial(&uri_of(&conference));
    sim.run(SOON);
    assert_eq!(sim.plane.rooms.len(), 1, "in the same room");
    stop(&mut sim, conference.id);
    assert_eq!(sim.plane.rooms.len(), 1);
    ended(&mut sim, recording, "");
    sim.delete(conference.id);
    sim.run(LATER);
    assert_nothing_left(&sim);
}

#[test]
fn a_conference_terminates_when_its_recording_has_ended() {
    let mut sim = Sim::new(4);
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 2);
    let recording = started(&mut sim, conference.id);
    sim.delete(conference.id);
    sim.run(Duration::from_secs(5));
    assert_eq!(now(&mut sim, &conference).status, ConferenceStatus::Terminating);
    ended(&mut sim, recording, "");
    assert_eq!(now(&mut sim, &conference).status, ConferenceStatus::Terminated);
    assert_eq!(kept(&sim, recording).cause, "the conference ended");
    let told = sim.kept.told(conference.id);
    assert_eq!(told[told.len() - 2..], ["recording_finished", "conference_updated"]);
}

#[test]
fn a_recorder_that_does_not_answer_holds_nothing_up_for_ever() {
    let mut sim = Sim::new(5);
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 1);
    let recording = started(&mut sim, conference.id);
    sim.delete(conference.id);
    sim.run(Duration::from_secs(29));
    assert_eq!(now(&mut sim, &conference).status, ConferenceStatus::Terminating);
    sim.run(Duration::from_secs(2));
    assert_eq!(now(&mut sim, &conference).status, ConferenceStatus::Terminated);
    assert_eq!(kept(&sim, recording).cause, "the recorder did not finish the file in time");
    assert!(sim.recorder.contains(&RecordOrder::Abandon { recording }));
    assert_eq!(sim.bridge.gauges().recordings_total, [1, 1]);
    ended(&mut sim, recording, "");
    assert_eq!(sim.kept.told(conference.id).iter().filter(|told| **told == "recording_finished").count(), 1);
}

#[test]
fn the_duration_limit_stops_it_at_its_time() {
    let mut sim = Sim::new(6);
    let conference = sim.create(ConferenceType::Conference);
    let new = NewRecording { duration_s: 60, ..NewRecording::default() };
    start(&mut sim, conference.id, new);
    let recording = RecordingId(now(&mut sim, &conference).recording_id);
    sim.run(Duration::from_nanos(59_999_999_999));
    assert_eq!(now(&mut sim, &conference).recording_id, recording.0);
    sim.run(Duration::from_nanos(1));
    assert!(now(&mut sim, &conference).recording_id.is_nil());
    ended(&mut sim, recording, "");
    assert_eq!(kept(&sim, recording).cause, "its duration limit was reached");
    let day = started(&mut sim, conference.id);
    sim.run(Duration::from_secs(86_399));
    assert_eq!(now(&mut sim, &conference).recording_id, day.0);
    sim.run(Duration::from_secs(1));
    assert!(now(&mut sim, &conference).recording_id.is_nil(), "24 hours are the most");
}

#[test]
fn a_recording_that_fails_ends_with_its_cause_and_the_call_goes_on() {
    let mut sim = Sim::new(7);
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 2);
    let recording = started(&mut sim, conference.id);
    ended(&mut sim, recording, "the disk is full");
    assert_eq!(kept(&sim, recording).cause, "the disk is full");
    let after = now(&mut sim, &conference);
    assert!(after.recording_id.is_nil() && after.conferencecall_ids.len() == 2);
    assert!(sim.plane.taps.is_empty());
    started(&mut sim, conference.id);
}

#[test]
fn pause_and_resume_name_the_tick() {
    let mut sim = Sim::new(8);
    let conference = sim.create(ConferenceType::Conference);
    assert!(matches!(refusal(pause(&mut sim, conference.id, true)), Refusal::Conflict(_)));
    let recording = started(&mut sim, conference.id);
    assert!(matches!(refusal(pause(&mut sim, conference.id, false)), Refusal::Conflict(_)));
    pause(&mut sim, conference.id, true);
    assert!(kept(&sim, recording).paused);
    assert!(matches!(refusal(pause(&mut sim, conference.id, true)), Refusal::Conflict(_)));
    sim.run(Duration::from_secs(2));
    pause(&mut sim, conference.id, false);
    assert!(!kept(&sim, recording).paused);
    let [.., RecordOrder::Pause { tick: from, .. }, RecordOrder::Resume { tick: to, .. }] = sim.recorder[..]
    else {
        panic!("{:?}", sim.recorder)
    };
    assert_eq!(to - from, 101, "100 ticks, and the one that runs");
}

#[test]
fn a_killed_server_ends_its_recordings_with_what_their_files_hold() {
    let mut sim = Sim::new(9);
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 1);
    let recording = started(&mut sim, conference.id);
    sim.restart(Duration::from_secs(60), Recorder::default());
    let after = now(&mut sim, &conference);
    assert!(after.recording_id.is_nil());
    assert_eq!(after.recording_ids, [recording.0]);
    let over = kept(&sim, recording);
    assert_eq!((over.status, over.cause.as_str()), (RecordingStatus::Ended, "the server restarted"));
    assert_eq!(over.tm_end, over.tm_start, "as long as its file, which is empty here");
    assert!(sim.kept.told(conference.id).contains(&"recording_finished"));
}

#[test]
fn a_server_that_stops_waits_for_its_recordings() {
    let mut sim = Sim::new(10);
    let conference = sim.create(ConferenceType::Conference);
    let recording = started(&mut sim, conference.id);
    sim.drain();
    assert!(!sim.drained);
    assert_eq!(refusal(start(&mut sim, conference.id, NewRecording::default())), Refusal::Draining);
    ended(&mut sim, recording, "");
    assert!(sim.drained);
    assert_eq!(kept(&sim, recording).cause, "the server stopped");
}

#[test]
fn no_more_run_at_once_than_may() {
    let settings = confab::bridge::Settings { max_recordings: 2, ..Default::default() };
    let mut sim = Sim::with(11, settings);
    for _ in 0..2 {
        let conference = sim.create(ConferenceType::Conference);
        started(&mut sim, conference.id);
    }
    let conference = sim.create(ConferenceType::Conference);
    assert_eq!(
        refusal(start(&mut sim, conference.id, NewRecording::default())),
        Refusal::Limit("recordings at once")
    );
    let starts = sim.plane.orders.iter().filter(|order| matches!(order, ShardCommand::StartTap { .. }));
    assert_eq!(starts.count(), 2);
}
