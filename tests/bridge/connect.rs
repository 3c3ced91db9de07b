//! `connect`: two parties, ringback while the first waits, and the end when one leaves.

use confab::bridge::resource::{ConferenceStatus, ConferenceType};
use confab::bridge::{Level, Settings};
use confab::plane::{Hears, ShardCommand, ShardReport};

use crate::scenes::{SOON, filled, member, status_of_call, uri_of};
use crate::support::{Sim, Stage};
use crate::truth::{assert_events_tell_all, assert_nothing_left};

fn hears(sim: &Sim) -> Vec<Hears> {
    sim.plane.legs.values().map(|leg| leg.hears).collect()
}

#[test]
fn the_first_hears_ringback_until_the_second_joins() {
    let mut sim = Sim::new(1);
    let ring = Settings::default().ring;
    let connect = sim.create(ConferenceType::Connect);
    let uri = uri_of(&connect);
    sim.dial(&uri);
    sim.run(SOON);
    assert_eq!(hears(&sim), [Hears::Ringback(ring)]);
    sim.dial(&uri);
    sim.run(SOON);
    assert_eq!(hears(&sim), [Hears::Room, Hears::Room]);
    let gates: Vec<bool> = sim.plane.rooms.values().map(|(_, shape)| shape.gate).collect();
    assert_eq!(gates, [false], "two people need no gate");
}

#[test]
fn a_first_caller_who_leaves_alone_ends_nothing() {
    let mut sim = Sim::new(2);
    let (connect, phones) = filled(&mut sim, ConferenceType::Connect, 1);
    sim.at_phone(phones[0], |phone, now| phone.hang_up(now));
    sim.run(SOON);
    assert_eq!(sim.conference(connect.id).expect("live").status, ConferenceStatus::Progressing);
    assert_eq!(status_of_call(&mut sim, &uri_of(&connect)), 200);
    assert!(matches!(hears(&sim)[..], [Hears::Ringback(_)]), "the next is the first again");
}

#[test]
fn whoever_of_two_leaves_for_whatever_reason_the_other_is_sent_off_and_it_ends() {
    type Leave = fn(&mut Sim, usize);
    let ways: [(&str, Leave); 4] = [
        ("hangs up", |sim, phone| sim.at_phone(phone, |phone, now| phone.hang_up(now))),
        ("is ejected", |sim, _| {
            let id = *sim.kept.calls.iter().next().expect("there are two").0;
            let customer = sim.customer;
            sim.command(confab::bridge::command::Command::EjectConferencecall { customer, id });
        }),
        ("sends no media", |sim, _| {
            let leg = *sim.plane.legs.keys().next().expect("there are two");
            sim.report(ShardReport::MediaTimeout { leg });
        }),
        ("loses its leg", |sim, _| {
            let leg = *sim.plane.legs.keys().next().expect("there are two");
            sim.plane.legs.remove(&leg);
            sim.ports.carried.remove(&leg);
            sim.report(ShardReport::LegFailed { leg });
        }),
    ];
    for (how, leave) in ways {
        for leaver in 0..2 {
            let mut sim = Sim::new(3);
            let (connect, phones) = filled(&mut sim, ConferenceType::Connect, 2);
            leave(&mut sim, phones[leaver]);
            sim.run(SOON);
            let ended = sim.conference(connect.id).expect("kept for a while");
            assert_eq!(ended.status, ConferenceStatus::Terminated, "{how}");
            assert!(phones.iter().all(|phone| sim.phones[*phone].stage == Stage::Over(200)), "{how}");
            assert_eq!(status_of_call(&mut sim, &uri_of(&connect)), 410, "{how}");
            let causes: Vec<&str> = sim.kept.calls.values().map(|call| call.hangup_cause.as_str()).collect();
            assert!(causes.contains(&"The other party left"), "{how}: {causes:?}");
            sim.run(crate::scenes::LATER);
            assert_nothing_left(&sim);
            assert_events_tell_all(&sim);
        }
    }
}

#[test]
fn the_other_is_told_why_in_the_bye() {
    let mut sim = Sim::new(4);
    let (_, phones) = filled(&mut sim, ConferenceType::Connect, 2);
    sim.at_phone(phones[0], |phone, now| phone.hang_up(now));
    sim.run(SOON);
    let reason = sim.phones[phones[1]].bye_reason.clone().expect("a BYE came");
    assert_eq!(reason, "Q.850;cause=16;text=\"The other party left\"");
}

#[test]
fn one_that_comes_and_goes_before_a_second_joins_never_pairs() {
    let mut sim = Sim::new(5);
    let (connect, phones) = filled(&mut sim, ConferenceType::Connect, 1);
    // A second that never answers our offer is joining, not joined.
    let silent = sim.phone();
    sim.phones[silent].acknowledges = false;
    let uri = uri_of(&connect);
    sim.at_phone(silent, |phone, now| phone.dial_with(now, &uri, "", ""));
    sim.run(SOON);
    assert_eq!(status_of_call(&mut sim, &uri), 486, "it holds its place");
    sim.run(std::time::Duration::from_secs(40));
    assert_eq!(sim.conference(connect.id).expect("live").status, ConferenceStatus::Progressing);
    assert_eq!(sim.phones[phones[0]].stage, Stage::InCall);
    assert_eq!(
        member(&mut sim, &connect, 0),
        *sim.kept
            .calls_in(connect.id, confab::bridge::resource::ConferencecallStatus::Joined)
            .first()
            .expect("one")
    );
    assert!(matches!(hears(&sim)[..], [Hears::Ringback(_)]));
}

#[test]
fn a_leg_that_fails_at_once_ends_its_call_with_a_cause_and_an_error_in_the_log() {
    let mut sim = Sim::new(6);
    sim.plane.failing = 1;
    let conference = sim.create(ConferenceType::Conference);
    let phone = sim.dial(&uri_of(&conference));
    sim.run(SOON);
    assert_eq!(sim.phones[phone].stage, Stage::Over(200));
    assert_eq!(
        sim.phones[phone].bye_reason.as_deref(),
        Some("Q.850;cause=47;text=\"No media resources\", SIP;cause=503")
    );
    assert!(sim.notes.iter().any(|note| note.level == Level::Error && note.text.contains("leg")));
    let removed = sim.plane.orders.iter().any(|order| matches!(order, ShardCommand::RemoveLeg { .. }));
    assert!(!removed, "a leg that failed needs no removal");
    sim.run(crate::scenes::LATER);
    assert_nothing_left(&sim);
}
