//! After a kill: conferences, hashes and timeouts are there, calls are closed with a cause.

use std::time::Duration;

use confab::bridge::command::Command;
use confab::bridge::resource::{ConferenceStatus, ConferenceType, ConferencecallStatus};

use crate::scenes::{LATER, SOON, filled, status_of_call, timeout_of, uri_of, with_timeout};
use crate::support::{Recorder, Sim, Stage};
use crate::truth::{assert_events_tell_all, assert_nothing_left};

fn restart(sim: &mut Sim, down: Duration) {
    sim.restart(down, Recorder::default());
}

#[test]
fn a_killed_server_goes_on_with_its_conferences_and_closes_its_calls() {
    let mut sim = Sim::new(1);
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 3);
    restart(&mut sim, Duration::from_secs(3));
    let after = sim.conference(conference.id).expect("it goes on");
    assert_eq!(
        (after.status, after.direct_hash.as_str()),
        (ConferenceStatus::Progressing, conference.direct_hash.as_str())
    );
    assert!(after.conferencecall_ids.is_empty());
    let leaved = sim.kept.calls_in(conference.id, ConferencecallStatus::Leaved);
    assert_eq!(leaved.len(), 3);
    assert!(leaved.iter().all(|id| sim.kept.calls[id].hangup_cause == "The server restarted"));
    assert_eq!(status_of_call(&mut sim, &uri_of(&conference)), 200, "the hash still opens it");
    // The old phones learn at their next request that their calls are gone.
    for phone in 0..4 {
        sim.at_phone(phone, |phone, now| phone.hang_up(now));
    }
    sim.run(LATER);
    assert_nothing_left(&sim);
    assert_events_tell_all(&sim);
}

#[test]
fn a_phone_of_before_is_told_481() {
    let mut sim = Sim::new(2);
    let (_, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    restart(&mut sim, Duration::from_secs(1));
    sim.at_phone(phones[0], |phone, now| phone.hang_up(now));
    sim.run(SOON);
    assert_eq!(sim.phones[phones[0]].stage, Stage::Over(200));
    assert!(sim.phones[phones[0]].heard.contains(&(481, "BYE".to_owned())));
}

#[test]
fn a_timeout_survives_and_one_that_passed_meanwhile_ends_the_conference_at_the_start() {
    let mut sim = Sim::new(3);
    let soon = sim.create_with(with_timeout(60));
    let later = sim.create_with(with_timeout(600));
    sim.run(Duration::from_secs(30));
    restart(&mut sim, Duration::from_secs(30));
    assert_eq!(sim.conference(soon.id).expect("kept").status, ConferenceStatus::Terminated);
    assert_eq!(status_of_call(&mut sim, &uri_of(&soon)), 410);
    let end = sim.now + later.tm_create.plus(Duration::from_secs(600)).since(sim.wall());
    sim.run_until(end.saturating_sub(Duration::from_nanos(1)));
    assert_eq!(sim.conference(later.id).expect("live").status, ConferenceStatus::Progressing);
    sim.run_until(end);
    assert_eq!(sim.conference(later.id).expect("kept").status, ConferenceStatus::Terminated);
}

#[test]
fn the_hash_of_an_ended_conference_is_still_410_and_of_a_deleted_one_404() {
    let mut sim = Sim::new(4);
    let (ended, deleted) = (sim.create_with(with_timeout(1)), sim.create(ConferenceType::Conference));
    let dead = sim.create_with(with_timeout(1));
    sim.run(Duration::from_secs(2));
    sim.delete(deleted.id);
    restart(&mut sim, Duration::from_secs(1));
    assert_eq!(status_of_call(&mut sim, &uri_of(&ended)), 410);
    assert_eq!(status_of_call(&mut sim, &uri_of(&deleted)), 404);
    // The bridge does not hold it any more, but its owner may still free the hash.
    assert_eq!(sim.conference(dead.id), None);
    let customer = sim.customer;
    sim.command(Command::DeleteConference { customer, id: dead.id });
    assert_eq!(status_of_call(&mut sim, &uri_of(&dead)), 404);
}

#[test]
fn a_conference_that_was_ending_ends() {
    let mut sim = Sim::new(5);
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 2);
    sim.plane.silent = true;
    sim.update(conference.id, timeout_of(1));
    sim.run(Duration::from_secs(1));
    assert_eq!(sim.kept.conferences[&conference.id].conference.status, ConferenceStatus::Terminating);
    restart(&mut sim, Duration::from_secs(1));
    assert_eq!(sim.conference(conference.id).expect("kept").status, ConferenceStatus::Terminated);
    assert_eq!(sim.kept.calls_in(conference.id, ConferencecallStatus::Leaved).len(), 2);
    assert_events_tell_all(&sim);
}

#[test]
fn a_connect_that_was_paired_ends_and_one_with_a_single_caller_waits_on() {
    for (callers, status) in [(1, ConferenceStatus::Progressing), (2, ConferenceStatus::Terminated)] {
        let mut sim = Sim::new(6);
        let (connect, _) = filled(&mut sim, ConferenceType::Connect, callers);
        restart(&mut sim, Duration::from_secs(1));
        assert_eq!(sim.conference(connect.id).expect("held").status, status, "{callers} callers");
    }
}

#[test]
fn seq_goes_on_where_it_was() {
    let mut sim = Sim::new(7);
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 1);
    let before = sim.kept.conferences[&conference.id].event_seq;
    restart(&mut sim, Duration::from_secs(1));
    status_of_call(&mut sim, &uri_of(&conference));
    // Leaving and leaved of the old call, joining and joined of the new: the store checks each step.
    assert_eq!(sim.kept.conferences[&conference.id].event_seq, before + 4);
}
