//! Every limit has a name, a count, and here a test that hits it.

use std::time::Duration;

use confab::bridge::command::{Command, NewConference, Refusal, Reply};
use confab::bridge::resource::ConferenceType;
use confab::bridge::{
    ADDRESS_TEXT_MAX, ENDED_KEPT, ENDED_KEPT_MAX, LEAVED_KEPT, REFUSAL_NOTES_PER_S, Settings,
};

use crate::scenes::{SOON, filled, status_of_call, uri_of};
use crate::support::Sim;

#[test]
fn one_member_too_many_is_486_until_one_leaves() {
    let mut sim = Sim::with(1, Settings { max_members: 2, ..Settings::default() });
    let (conference, phones) = filled(&mut sim, ConferenceType::Conference, 2);
    let uri = uri_of(&conference);
    assert_eq!(status_of_call(&mut sim, &uri), 486);
    sim.at_phone(phones[0], |phone, now| phone.hang_up(now));
    sim.run(SOON);
    assert_eq!(status_of_call(&mut sim, &uri), 200);
    assert!(sim.bridge.gauges().refused_total.contains(&("members", 1)));
}

#[test]
fn one_conference_too_many_is_refused_until_one_ends() {
    let mut sim = Sim::with(2, Settings { max_conferences: 1, ..Settings::default() });
    let first = sim.create(ConferenceType::Conference);
    let customer = sim.customer;
    let create = Command::CreateConference { customer, new: NewConference::default() };
    assert_eq!(sim.command(create.clone()), Reply::Refused(Refusal::Limit("conferences")));
    sim.delete(first.id);
    assert!(matches!(sim.command(create), Reply::Conference(_)));
}

#[test]
fn what_ended_is_kept_for_its_time_or_until_crowded_out() {
    let mut sim = Sim::new(3);
    let first = sim.create(ConferenceType::Conference);
    sim.delete(first.id);
    sim.run(ENDED_KEPT - Duration::from_nanos(1));
    assert!(sim.conference(first.id).is_some());
    sim.run(Duration::from_nanos(1));
    assert!(sim.conference(first.id).is_none());
    let crowd: Vec<_> = (0..=ENDED_KEPT_MAX).map(|_| sim.bridge_only_create_and_delete()).collect();
    assert!(sim.conference(crowd[0]).is_none());
    assert!(sim.conference(crowd[1]).is_some());
    let gauges = sim.bridge.gauges();
    assert_eq!((gauges.crowded_out_total[0], gauges.conferences), (1, [0, 0, 0, ENDED_KEPT_MAX]));
}

#[test]
fn a_conferencecall_is_kept_for_a_while_after_it_left() {
    let mut sim = Sim::new(4);
    let (conference, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    let call = crate::scenes::member(&mut sim, &conference, 0);
    sim.at_phone(phones[0], |phone, now| phone.hang_up(now));
    // The BYE takes 10 ms, the shard a tick.
    sim.run(Duration::from_millis(30) + LEAVED_KEPT - Duration::from_nanos(1));
    assert!(sim.call(call).is_some());
    sim.run(Duration::from_nanos(1));
    assert!(sim.call(call).is_none());
}

#[test]
fn a_flood_of_refused_calls_does_not_flood_the_log() {
    let mut sim = Sim::new(5);
    let flood = REFUSAL_NOTES_PER_S + 20;
    for _ in 0..flood {
        sim.dial("sip:direct.000000000000@sip.voipbin.net");
    }
    sim.run(SOON);
    assert_eq!(sim.notes.len(), REFUSAL_NOTES_PER_S as usize);
    assert!(sim.bridge.gauges().refused_total.contains(&("hash", u64::from(flood))));
    sim.run(Duration::from_secs(1));
    status_of_call(&mut sim, "sip:direct.000000000000@sip.voipbin.net");
    assert!(sim.notes.last().expect("notes").text.contains("(20 more refusals"));
}

#[test]
fn a_callers_name_is_cut_at_its_limit() {
    let mut sim = Sim::new(6);
    let uri = uri_of(&sim.create(ConferenceType::Conference));
    let phone = sim.phone();
    sim.phones[phone].from = format!("sip:{}@192.0.2.20", "x".repeat(2 * ADDRESS_TEXT_MAX));
    sim.at_phone(phone, |phone, now| phone.dial(now, &uri));
    sim.run(SOON);
    let call = sim.kept.calls.values().next().expect("one call");
    assert_eq!(call.source.target.chars().count(), ADDRESS_TEXT_MAX);
}

#[test]
fn rooms_are_spread_over_the_shards_by_their_legs() {
    let mut sim = Sim::with(7, Settings { shards: 2, ..Settings::default() });
    filled(&mut sim, ConferenceType::Conference, 3);
    filled(&mut sim, ConferenceType::Conference, 2);
    filled(&mut sim, ConferenceType::Conference, 1);
    let loads: Vec<(usize, usize)> =
        sim.bridge.gauges().shards.iter().map(|load| (load.legs, load.rooms)).collect();
    assert_eq!(loads, [(3, 1), (3, 2)]);
}
