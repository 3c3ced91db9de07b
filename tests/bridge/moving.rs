//! `conference_join` of another conference: the call goes over, with all that holds for who joins there.

use std::time::Duration;

use confab::bridge::Settings;
use confab::bridge::command::NewConference;
use confab::bridge::flow::resource::{FlowStage, StepStatus};
use confab::bridge::resource::{Conference, ConferenceStatus, ConferenceType, ConferencecallStatus};
use confab::id::{ConferenceId, ConferencecallId, CustomerId};
use confab::plane::{Hears, ShardCommand, ShardReport};
use serde_json::{Value, json};

use crate::flows::{caller, conference, only_call, sleep, told};
use crate::scenes::{LATER, SOON, filled, status_of_call, uri_of};
use crate::support::{PhoneId, Sim, Stage};
use crate::truth::{assert_events_tell_all, assert_nothing_left};

/// Two shards, so that two conferences live in different ones.
fn sim(seed: u64) -> Sim {
    Sim::with(seed, Settings { shards: 2, ..Settings::default() })
}

fn join(conference: ConferenceId) -> Value {
    json!({"type": "conference_join", "option": {"conference_id": conference}})
}

/// A conference whose flow before the mix goes over to `to`.
fn gate(sim: &mut Sim, to: ConferenceId) -> Conference {
    conference(sim, Some(json!([join(to)])), None)
}

fn hang_up(sim: &mut Sim, phone: PhoneId) {
    sim.at_phone(phone, |phone, now| phone.hang_up(now));
    sim.run(SOON);
}

/// Ends all that live and sees to it that nothing is left.
fn end(mut sim: Sim, conferences: &[ConferenceId]) {
    for id in conferences {
        sim.delete(*id);
    }
    sim.run(LATER);
    assert_nothing_left(&sim);
    assert_events_tell_all(&sim);
}

/// The call that left this conference, and what it was told to be its cause.
fn left(sim: &Sim, conference: ConferenceId) -> (ConferencecallId, String) {
    let ids = sim.kept.calls_in(conference, ConferencecallStatus::Leaved);
    assert_eq!(ids.len(), 1);
    (ids[0], sim.kept.calls[&ids[0]].hangup_cause.clone())
}

#[test]
fn a_caller_goes_over_to_another_conference_in_another_shard() {
    let mut sim = sim(1);
    let (target, others) = filled(&mut sim, ConferenceType::Conference, 1);
    let gate = gate(&mut sim, target.id);
    let phone = caller(&mut sim, &gate);
    assert_eq!(sim.phones[phone].stage, Stage::InCall);

    let (old, cause) = left(&sim, gate.id);
    assert_eq!(cause, format!("Joined conference {}", target.id));
    let of_the_call = ["conferencecall_joining", "conferencecall_leaving", "conferencecall_leaved"];
    assert_eq!(sim.kept.told(gate.id)[2..], of_the_call);
    let in_it = sim.conference(target.id).expect("it is live").conferencecall_ids;
    assert_eq!(in_it.len(), 2);
    let new = sim.kept.calls[&in_it[1]].clone();
    let was = sim.kept.calls[&old].clone();
    assert_eq!(
        (new.reference_id, new.codec, new.source.target),
        (was.reference_id, was.codec, was.source.target)
    );
    assert_eq!(sim.kept.told(target.id)[4..], ["conferencecall_joining", "conferencecall_joined"]);
    assert_eq!(told(&sim, FlowStage::Pre)[0].1, StepStatus::Done);

    let rooms: Vec<_> = sim.plane.rooms.keys().collect();
    assert_eq!(rooms.len(), 1, "the other closed with its last leg");
    let legs: Vec<_> = sim.plane.legs.values().collect();
    assert!(legs.iter().all(|leg| leg.room == *rooms[0] && leg.hears == Hears::Room), "{legs:?}");
    let moved = sim.plane.orders.iter().find_map(|order| match order {
        ShardCommand::MoveLeg { from, .. } => Some(*from),
        _ => None,
    });
    assert_ne!(moved, Some(legs[0].shard), "it came from the other shard");

    // What the phone does, and what is said of it, goes to where it is.
    let leg = *sim.plane.legs.keys().next_back().expect("a leg");
    sim.report(ShardReport::Digit { leg, digit: '5', duration_ms: 100 });
    assert_eq!(sim.kept.told(target.id).last(), Some(&"dtmf_received"));
    hang_up(&mut sim, phone);
    assert_eq!(sim.kept.calls[&in_it[1]].status, ConferencecallStatus::Leaved);
    hang_up(&mut sim, others[0]);
    end(sim, &[gate.id, target.id]);
}

#[test]
fn within_one_shard_the_leg_moves_too() {
    let mut sim = Sim::new(2);
    let target = sim.create(ConferenceType::Conference);
    let gate = gate(&mut sim, target.id);
    let phone = caller(&mut sim, &gate);
    assert_eq!(only_call(&sim, &target).1, ConferencecallStatus::Joined);
    assert!(sim.plane.legs.values().all(|leg| leg.hears == Hears::Room));
    assert_eq!(sim.bridge.gauges().moved_total, 1);
    hang_up(&mut sim, phone);
    end(sim, &[gate.id, target.id]);
}

#[test]
fn a_connect_takes_two_and_is_busy_for_the_third_whose_flow_goes_on() {
    let mut sim = sim(3);
    let target = sim.create(ConferenceType::Connect);
    let gate = gate(&mut sim, target.id);
    let first = caller(&mut sim, &gate);
    assert!(matches!(sim.plane.legs.values().next().expect("a leg").hears, Hears::Ringback(_)));
    let second = caller(&mut sim, &gate);
    assert!(sim.plane.legs.values().all(|leg| leg.hears == Hears::Room));
    let third = caller(&mut sim, &gate);
    let step = told(&sim, FlowStage::Pre).remove(0);
    assert_eq!((step.1, step.2.as_str()), (StepStatus::Failed, "busy: the connect holds two already"));
    assert_eq!(only_call(&sim, &gate).1, ConferencecallStatus::Joined, "it joins what it dialled");
    assert_eq!(status_of_call(&mut sim, &uri_of(&target)), 486);
    hang_up(&mut sim, first);
    sim.run(SOON);
    assert_eq!(sim.phones[second].stage, Stage::Over(200), "the other is ejected");
    assert_eq!(sim.kept.conferences[&target.id].conference.status, ConferenceStatus::Terminated);
    hang_up(&mut sim, third);
    end(sim, &[gate.id]);
}

#[test]
fn what_is_full_ended_unknown_or_anothers_is_not_joined() {
    let mut sim = Sim::with(4, Settings { shards: 2, max_members: 2, ..Settings::default() });
    let own = sim.customer;
    sim.customer = CustomerId::random(&mut sim.rng);
    let anothers = sim.create(ConferenceType::Conference);
    sim.customer = own;
    let full = filled(&mut sim, ConferenceType::Conference, 2).0;
    let ended = sim.create(ConferenceType::Conference);
    sim.delete(ended.id);
    let unknown = ConferenceId::random(&mut sim.rng);
    let actions: Vec<Value> = [full.id, ended.id, anothers.id, unknown].map(join).into();
    let gate = conference(&mut sim, Some(Value::Array(actions)), None);
    caller(&mut sim, &gate);
    let told: Vec<String> = told(&sim, FlowStage::Pre).into_iter().map(|(_, _, result)| result).collect();
    let none = |id: ConferenceId| format!("there is no conference {id}");
    assert_eq!(
        told,
        [
            "busy: the conference holds as many as it may".to_owned(),
            "the conference has ended".to_owned(),
            none(anothers.id),
            none(unknown)
        ]
    );
    assert_eq!(only_call(&sim, &gate).1, ConferencecallStatus::Joined);
    assert_eq!(sim.bridge.gauges().moved_total, 0);
    end(sim, &[gate.id, full.id]);
}

#[test]
fn the_targets_own_flow_runs_first_and_none_runs_twice() {
    let mut sim = sim(5);
    let (one, other) = (ConferenceId::random(&mut sim.rng), ConferenceId::random(&mut sim.rng));
    for (id, next) in [(one, other), (other, one)] {
        let pre = sim.create_flow(json!([sleep(1000), join(next)])).id;
        let new =
            NewConference { id: Some(id), pre_flow_id: pre, direct_access: true, ..NewConference::default() };
        sim.create_with(new);
    }
    let dialled = sim.conference(one).expect("it is live");
    let phone = caller(&mut sim, &dialled);
    sim.run(Duration::from_millis(1500));
    assert_eq!(sim.kept.calls_in(other, ConferencecallStatus::Joining).len(), 1, "its flow runs");
    assert_eq!(sim.plane.legs.values().next().expect("a leg").hears, Hears::Nothing);
    sim.run(Duration::from_millis(1000));
    assert_eq!(sim.kept.calls_in(one, ConferencecallStatus::Joined).len(), 1, "it came back and joins");
    assert_eq!(sim.bridge.gauges().moved_total, 2);
    assert_eq!(sim.bridge.gauges().activeflows, 0);
    hang_up(&mut sim, phone);
    end(sim, &[one, other]);
}

#[test]
fn a_call_goes_over_so_often_and_no_more() {
    let mut sim = sim(6);
    let ids: Vec<ConferenceId> = (0..20).map(|_| ConferenceId::random(&mut sim.rng)).collect();
    for (place, id) in ids.iter().enumerate() {
        let pre = sim.create_flow(json!([join(ids[(place + 1) % ids.len()])])).id;
        let new = NewConference {
            id: Some(*id),
            pre_flow_id: pre,
            direct_access: true,
            ..NewConference::default()
        };
        sim.create_with(new);
    }
    let first = sim.conference(ids[0]).expect("it is live");
    caller(&mut sim, &first);
    assert_eq!(sim.bridge.gauges().moved_total, 16);
    assert_eq!(sim.kept.calls_in(ids[16], ConferencecallStatus::Joined).len(), 1, "there it stays");
    let last = sim.kept.activeflows.values().find(|run| run.conference_id == ids[16]).expect("a run");
    assert_eq!(last.steps[0].result, "the call has gone over to another conference 16 times");
    end(sim, &ids);
}

#[test]
fn a_flow_at_the_end_may_take_its_caller_to_another_conference() {
    let mut sim = sim(7);
    let target = sim.create(ConferenceType::Conference);
    let ending = conference(&mut sim, None, Some(json!([join(target.id)])));
    let phone = caller(&mut sim, &ending);
    sim.delete(ending.id);
    sim.run(SOON);
    assert_eq!(sim.phones[phone].stage, Stage::InCall, "no BYE");
    assert_eq!(sim.kept.conferences[&ending.id].conference.status, ConferenceStatus::Terminated);
    assert_eq!(only_call(&sim, &target).1, ConferencecallStatus::Joined);
    hang_up(&mut sim, phone);
    end(sim, &[target.id]);
}

#[test]
fn a_leg_that_is_lost_on_its_way_ends_the_call_where_it_was_going() {
    let mut sim = sim(8);
    let target = sim.create(ConferenceType::Conference);
    let gate = gate(&mut sim, target.id);
    let phone = caller(&mut sim, &gate);
    let leg = *sim.plane.legs.keys().next().expect("a leg");
    sim.plane.legs.remove(&leg);
    sim.ports.carried.remove(&leg);
    sim.report(ShardReport::LegFailed { leg });
    sim.run(SOON);
    assert!(matches!(sim.phones[phone].stage, Stage::Over(_)), "{:?}", sim.phones[phone].stage);
    assert_eq!(left(&sim, target.id).1, "No media resources");
    end(sim, &[gate.id, target.id]);
}
