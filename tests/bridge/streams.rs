//! Media streams: they keep the room open, count as nobody, and end with the conference.

use std::time::Duration;

use confab::bridge::command::{Command, Refusal, Reply};
use confab::bridge::resource::ConferenceType;
use confab::bridge::stream::{STREAMS_PER_CONFERENCE_MAX, StreamEnds};
use confab::id::{ConferenceId, LegId};

use crate::scenes::{LATER, SOON, filled};
use crate::support::Sim;
use crate::truth::assert_nothing_left;

fn open(sim: &mut Sim, id: ConferenceId) -> Result<StreamEnds, Refusal> {
    let customer = sim.customer;
    match sim.command(Command::OpenStream { customer, id }) {
        Reply::Stream(ends) => Ok(*ends),
        Reply::Refused(refusal) => Err(refusal),
        other => panic!("no stream: {other:?}"),
    }
}

fn close(sim: &mut Sim, id: ConferenceId, leg: LegId) {
    let customer = sim.customer;
    sim.command(Command::CloseStream { customer, id, leg });
}

#[test]
fn a_stream_keeps_the_room_open_and_counts_as_nobody() {
    let mut sim = Sim::new(1);
    let conference = sim.create(ConferenceType::Conference);
    let ends = open(&mut sim, conference.id).expect("open");
    assert_eq!((sim.plane.rooms.len(), sim.plane.sources.len()), (1, 1));
    assert!(sim.conference(conference.id).expect("live").conferencecall_ids.is_empty());
    close(&mut sim, conference.id, ends.leg);
    close(&mut sim, conference.id, ends.leg);
    assert!(sim.plane.rooms.is_empty() && sim.plane.sources.is_empty());
    sim.delete(conference.id);
    assert_eq!(open(&mut sim, conference.id), Err(Refusal::WrongStatus("terminated")));
    assert_nothing_left(&sim);
}

#[test]
fn streams_end_with_their_conference_and_with_the_server() {
    let mut sim = Sim::new(2);
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 2);
    open(&mut sim, conference.id).expect("open");
    open(&mut sim, conference.id).expect("open");
    sim.delete(conference.id);
    assert!(sim.plane.sources.is_empty());
    sim.run(LATER);
    assert_nothing_left(&sim);
    let (other, _) = filled(&mut sim, ConferenceType::Conference, 1);
    open(&mut sim, other.id).expect("open");
    sim.drain();
    sim.run(SOON + Duration::from_secs(1));
    assert!(sim.plane.sources.is_empty() && sim.drained);
    assert_eq!(open(&mut sim, other.id), Err(Refusal::Draining));
}

#[test]
fn a_conference_has_so_many_streams_and_no_more() {
    let mut sim = Sim::new(3);
    let conference = sim.create(ConferenceType::Conference);
    for _ in 0..STREAMS_PER_CONFERENCE_MAX {
        open(&mut sim, conference.id).expect("open");
    }
    assert_eq!(open(&mut sim, conference.id), Err(Refusal::Limit("media streams of one conference")));
    let nobody = ConferenceId::random(&mut sim.rng);
    assert_eq!(open(&mut sim, nobody), Err(Refusal::NotFound));
}
