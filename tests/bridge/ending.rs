//! The end of conferences, calls and the server: by owner, timeout, force and drain.

use std::time::Duration;

use confab::bridge::command::{Command, Refusal, Reply};
use confab::bridge::resource::{ConferenceStatus, ConferenceType, ConferencecallStatus};
use confab::bridge::{Level, Settings};
use confab::id::CustomerId;
use confab::time::Timestamp;

use crate::scenes::{
    LATER, SOON, direct_access, filled, member, status_of, status_of_call, timeout_of, uri_of, with_timeout,
};
use crate::support::{Sim, Stage};
use crate::truth::{assert_events_tell_all, assert_nothing_left};

const NANO: Duration = Duration::from_nanos(1);

#[test]
fn a_new_conference_has_every_field_as_promised() {
    let mut sim = Sim::new(1);
    let conference = sim.create(ConferenceType::Conference);
    assert_eq!(conference.status, ConferenceStatus::Progressing);
    assert_eq!(
        (conference.tm_update, conference.tm_delete, conference.tm_end),
        (Timestamp::NEVER, Timestamp::NEVER, None)
    );
    assert_eq!((conference.tm_create, conference.direct_hash.len()), (sim.wall(), 12));
    let statuses: Vec<_> =
        sim.kept.events[&conference.id].iter().map(|event| event.data["status"].clone()).collect();
    assert_eq!(statuses, ["starting", "progressing"]);
}

#[test]
fn deleting_an_empty_conference_goes_through_both_statuses_at_once() {
    let mut sim = Sim::new(2);
    let conference = sim.create(ConferenceType::Conference);
    let deleted = sim.delete(conference.id);
    assert_eq!((deleted.status, deleted.direct_hash.as_str()), (ConferenceStatus::Terminated, ""));
    assert_eq!((deleted.tm_end, deleted.tm_delete), (Some(sim.wall()), sim.wall()));
    assert_eq!(
        sim.kept.told(conference.id),
        ["conference_created", "conference_updated", "conference_deleted", "conference_updated"]
    );
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.delete(conference.id), deleted, "a second DELETE returns the same and changes nothing");
    assert_eq!(sim.kept.told(conference.id).len(), 4);
}

#[test]
fn deleting_a_conference_sends_everybody_off_and_then_ends() {
    let mut sim = Sim::new(3);
    let (conference, phones) = filled(&mut sim, ConferenceType::Conference, 3);
    let deleted = sim.delete(conference.id);
    assert_eq!((deleted.status, deleted.tm_end), (ConferenceStatus::Terminating, None));
    assert!(deleted.conferencecall_ids.is_empty() && deleted.tm_delete == sim.wall());
    assert_eq!(sim.kept.calls_in(conference.id, ConferencecallStatus::Leaving).len(), 3);
    sim.run(SOON);
    assert_eq!(sim.conference(conference.id).expect("kept").status, ConferenceStatus::Terminated);
    for phone in phones {
        assert_eq!(sim.phones[phone].stage, Stage::Over(200));
        assert_eq!(
            sim.phones[phone].bye_reason.as_deref(),
            Some("Q.850;cause=16;text=\"The conference ended\"")
        );
    }
    sim.run(LATER);
    assert_nothing_left(&sim);
    assert_events_tell_all(&sim);
}

#[test]
fn a_timeout_ends_the_conference_at_its_time_and_not_a_nanosecond_before() {
    let mut sim = Sim::new(4);
    let conference = sim.create_with(with_timeout(60));
    let end = sim.now + Duration::from_secs(60);
    sim.run_until(end.saturating_sub(NANO));
    assert_eq!(sim.conference(conference.id).expect("live").status, ConferenceStatus::Progressing);
    sim.run_until(end);
    let ended = sim.conference(conference.id).expect("kept");
    assert_eq!((ended.status, ended.tm_end), (ConferenceStatus::Terminated, Some(sim.wall())));
    assert_eq!((ended.tm_delete, ended.direct_hash), (Timestamp::NEVER, conference.direct_hash));
}

#[test]
fn an_invite_at_the_very_time_of_the_timeout_is_too_late() {
    let mut sim = Sim::new(5);
    let conference = sim.create_with(with_timeout(60));
    sim.run(Duration::from_secs(60) - sim.link.delay);
    assert_eq!(status_of_call(&mut sim, &uri_of(&conference)), 410);
}

#[test]
fn a_changed_timeout_counts_from_the_creation_and_one_in_the_past_ends_it_now() {
    let mut sim = Sim::new(6);
    let conference = sim.create_with(with_timeout(60));
    sim.run(Duration::from_secs(30));
    sim.update(conference.id, timeout_of(40));
    sim.run(Duration::from_secs(10) - NANO);
    assert_eq!(sim.conference(conference.id).expect("live").status, ConferenceStatus::Progressing);
    sim.run(NANO);
    assert_eq!(sim.conference(conference.id).expect("kept").status, ConferenceStatus::Terminated);
    let other = sim.create(ConferenceType::Conference);
    sim.run(Duration::from_secs(30));
    assert_eq!(sim.update(other.id, timeout_of(30)).status, ConferenceStatus::Terminated);
    let never = sim.create_with(with_timeout(60));
    sim.update(never.id, timeout_of(0));
    sim.run(Duration::from_secs(600));
    assert_eq!(sim.conference(never.id).expect("live").status, ConferenceStatus::Progressing);
}

#[test]
fn a_conference_whose_callers_do_not_go_is_ended_by_force_at_the_drain_timeout() {
    let mut sim = Sim::with(7, Settings { drain_timeout: Duration::from_secs(5), ..Settings::default() });
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 2);
    sim.plane.silent = true;
    sim.delete(conference.id);
    let end = sim.now + Duration::from_secs(5);
    sim.run_until(end.saturating_sub(NANO));
    assert_eq!(sim.conference(conference.id).expect("held").status, ConferenceStatus::Terminating);
    sim.run_until(end);
    assert_eq!(sim.conference(conference.id).expect("kept").status, ConferenceStatus::Terminated);
    assert_eq!(sim.bridge.gauges().legs_given_up_total, 2);
    assert_eq!(sim.notes.iter().filter(|note| note.level == Level::Error).count(), 2);
    sim.run(LATER);
    assert_nothing_left(&sim);
}

#[test]
fn ejecting_a_caller_is_leaving_then_leaved_and_idempotent() {
    let mut sim = Sim::new(8);
    let (conference, phones) = filled(&mut sim, ConferenceType::Conference, 2);
    let (id, customer) = (member(&mut sim, &conference, 0), sim.customer);
    let eject = Command::EjectConferencecall { customer, id };
    let Reply::Conferencecall(call) = sim.command(eject.clone()) else { panic!("no conferencecall") };
    assert_eq!((call.status, call.tm_delete), (ConferencecallStatus::Leaving, sim.wall()));
    let events = sim.kept.told(conference.id).len();
    assert_eq!(sim.command(eject.clone()), Reply::Conferencecall(call));
    assert_eq!(sim.kept.told(conference.id).len(), events);
    sim.run(SOON);
    assert_eq!(status_of(&sim, id), ConferencecallStatus::Leaved);
    assert!(matches!(sim.command(eject), Reply::Conferencecall(_)));
    let stages: Vec<Stage> = phones.iter().map(|phone| sim.phones[*phone].stage).collect();
    assert_eq!(stages, [Stage::Over(200), Stage::InCall]);
    assert_eq!(sim.kept.calls[&id].hangup_cause, "Ejected from the conference");
}

#[test]
fn another_customers_resources_do_not_exist() {
    let mut sim = Sim::new(9);
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 1);
    let call = member(&mut sim, &conference, 0);
    let customer = CustomerId::random(&mut sim.rng);
    let id = conference.id;
    let commands = [
        Command::UpdateConference { customer, id, change: timeout_of(1) },
        Command::DeleteConference { customer, id },
        Command::RegenerateDirectHash { customer, id },
        Command::EjectConferencecall { customer, id: call },
    ];
    for command in commands {
        assert_eq!(sim.command(command), Reply::Refused(Refusal::NotFound));
    }
    let read = Command::ReadConferences { customer, ids: vec![id] };
    assert_eq!(sim.command(read), Reply::Conferences(vec![]));
    let read = Command::ReadConferencecalls { customer, ids: vec![call] };
    assert_eq!(sim.command(read), Reply::Conferencecalls(vec![]));
}

#[test]
fn what_has_ended_cannot_be_changed_and_an_id_cannot_be_taken_twice() {
    let mut sim = Sim::new(10);
    let conference = sim.create_with(with_timeout(1));
    let (id, customer) = (conference.id, sim.customer);
    let mut again = with_timeout(0);
    again.id = Some(id);
    assert_eq!(
        sim.command(Command::CreateConference { customer, new: again.clone() }),
        Reply::Refused(Refusal::IdTaken)
    );
    sim.run(Duration::from_secs(2));
    assert_eq!(
        sim.command(Command::CreateConference { customer, new: again }),
        Reply::Refused(Refusal::IdTaken)
    );
    let wrong = Reply::Refused(Refusal::WrongStatus("terminated"));
    assert_eq!(sim.command(Command::UpdateConference { customer, id, change: direct_access(true) }), wrong);
    assert_eq!(sim.command(Command::RegenerateDirectHash { customer, id }), wrong);
}

#[test]
fn an_update_changes_the_keys_that_were_sent_and_no_keys_change_nothing() {
    let mut sim = Sim::new(11);
    let conference = sim.create(ConferenceType::Conference);
    sim.run(SOON);
    let unchanged = sim.update(conference.id, confab::bridge::command::ConferenceChange::default());
    assert_eq!(unchanged, conference);
    let change = confab::bridge::command::ConferenceChange { name: Some("x".into()), ..Default::default() };
    let changed = sim.update(conference.id, change);
    assert_eq!((changed.name.as_str(), changed.tm_update), ("x", sim.wall()));
    assert_eq!(changed.direct_hash, conference.direct_hash);
    assert_eq!(sim.kept.told(conference.id).len(), 3);
}

#[test]
fn a_drain_ends_every_call_and_keeps_every_conference() {
    let mut sim = Sim::new(12);
    let (conference, phones) = filled(&mut sim, ConferenceType::Conference, 3);
    sim.drain();
    assert!(!sim.drained, "BYEs are not answered yet");
    sim.run(SOON);
    assert!(sim.drained);
    for phone in phones {
        assert_eq!(sim.phones[phone].stage, Stage::Over(200));
        assert_eq!(
            sim.phones[phone].bye_reason.as_deref(),
            Some("Q.850;cause=41;text=\"Server shutting down\", SIP;cause=503")
        );
    }
    assert_eq!(sim.conference(conference.id).expect("live").status, ConferenceStatus::Progressing);
    let customer = sim.customer;
    let create = Command::CreateConference { customer, new: with_timeout(0) };
    assert_eq!(sim.command(create), Reply::Refused(Refusal::Draining));
    sim.drain();
    sim.run(LATER);
    assert_nothing_left(&sim);
}

#[test]
fn a_server_without_calls_drains_at_once() {
    let mut sim = Sim::new(13);
    sim.drain();
    assert!(sim.drained);
}

#[test]
fn a_drain_that_nobody_answers_is_over_at_the_drain_timeout() {
    let mut sim = Sim::with(14, Settings { drain_timeout: Duration::from_secs(5), ..Settings::default() });
    let (_, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    sim.phones[phones[0]].answers = false;
    sim.drain();
    let end = sim.now + Duration::from_secs(5);
    sim.run_until(end.saturating_sub(NANO));
    assert!(!sim.drained);
    sim.run_until(end);
    assert!(sim.drained);
}

#[test]
fn media_that_stops_ends_the_call_with_its_cause() {
    let mut sim = Sim::new(15);
    let (_, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    let leg = *sim.plane.legs.keys().next().expect("one leg");
    sim.report(confab::plane::ShardReport::MediaTimeout { leg });
    sim.run(SOON);
    assert_eq!(sim.phones[phones[0]].bye_reason.as_deref(), Some("Q.850;cause=102;text=\"Media timeout\""));
    let call = sim.kept.calls.values().next().expect("one call");
    assert_eq!((call.status, call.hangup_cause.as_str()), (ConferencecallStatus::Leaved, "Media timeout"));
}

#[test]
fn a_200_that_is_never_acknowledged_ends_the_call_after_64_t1() {
    let mut sim = Sim::new(16);
    let conference = sim.create(ConferenceType::Conference);
    let phone = sim.phone();
    sim.phones[phone].acknowledges = false;
    let uri = uri_of(&conference);
    sim.at_phone(phone, |phone, now| phone.dial(now, &uri));
    // The 200 goes out when the INVITE arrives.
    let end = sim.now + sim.link.delay + Duration::from_secs(32);
    sim.run_until(end.saturating_sub(NANO));
    assert_eq!(
        sim.kept.calls_in(conference.id, ConferencecallStatus::Joined).len(),
        1,
        "mixed without waiting for ACK"
    );
    sim.run_until(end);
    sim.run(SOON);
    let call = sim.kept.calls.values().next().expect("one call");
    assert_eq!((call.status, call.hangup_cause.as_str()), (ConferencecallStatus::Leaved, "ACK never came"));
    sim.run(LATER);
    assert_nothing_left(&sim);
}

#[test]
fn the_log_tells_how_a_call_was() {
    let mut sim = Sim::new(17);
    let (_, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    sim.run(Duration::from_secs(60));
    sim.at_phone(phones[0], |phone, now| phone.hang_up(now));
    sim.run(SOON);
    let lines: Vec<&str> =
        sim.notes.iter().filter(|note| !note.call_id.is_empty()).map(|note| note.text.as_str()).collect();
    let [joined, left] = lines[..] else { panic!("{lines:?}") };
    assert_eq!(joined, "joined: sip:phone1@192.0.2.20:5060 (PCMU), 1 in");
    assert!(
        left.starts_with(
            "left: Normal call clearing (Q.850 16) after 60.3 s; 50 packets in, 50 out, 0.00 % lost"
        ),
        "{left}"
    );
    let gauges = sim.bridge.gauges();
    assert_eq!((gauges.past_media.packets_in, gauges.leaved_total), (50, vec![(16, 1)]));
}
