//! Legs that go from room to room, within a shard and from shard to shard.

use confab::audio::AudioCodec::Pcmu;
use confab::id::{LegId, RoomId};
use confab::media::shard::Applied;
use confab::plane::{ShardCommand, ShardIndex, ShardReport};

use crate::phones::{CONFERENCE, Phone, Sim};

const HEARD: f64 = 4500.0;
const UNHEARD: f64 = 60.0;

fn tone(id: u64) -> f64 {
    350.0 + 110.0 * id as f64
}

/// Rooms with two phones each; ids go on over all.
fn sim_of(rooms: &[u64]) -> Sim {
    let mut sim = Sim::new(5);
    for &room in rooms {
        sim.open_room(room, CONFERENCE);
        for id in [2 * room, 2 * room + 1] {
            sim.add(room, id, Pcmu, 20, Some(tone(id)), 700 * id);
        }
    }
    sim
}

fn assert_hears(phone: &Phone, heard: &[u64]) {
    for id in 0..6 {
        let amplitude = phone.hears(tone(id));
        if heard.contains(&id) {
            assert!(amplitude > HEARD, "{:?} does not hear phone {id}: {amplitude:.0}", phone.leg);
        } else {
            assert!(amplitude < UNHEARD, "{:?} hears phone {id}: {amplitude:.0}", phone.leg);
        }
    }
}

/// Its RTP stream went on: each packet follows the one before it.
fn assert_one_stream(phone: &Phone) {
    for pair in phone.got.windows(2) {
        assert_eq!(pair[1].2, pair[0].2.wrapping_add(1), "the sequence of {:?}", phone.leg);
        let step = pair[1].3.wrapping_sub(pair[0].3);
        assert!(step > 0 && step <= 640, "the timestamp of {:?} goes by {step}", phone.leg);
    }
}

#[test]
fn a_leg_is_heard_in_the_room_it_moves_to_and_not_in_the_one_it_left() {
    let mut sim = sim_of(&[0, 1]);
    sim.run(500);
    sim.move_to_room(1, 1);
    sim.run(2000);
    for (id, heard) in [(0, &[][..]), (1, &[2, 3]), (2, &[1, 3]), (3, &[1, 2])] {
        assert_hears(&sim.phones[&id], heard);
        assert_one_stream(&sim.phones[&id]);
    }
    let phone = sim.remove(0);
    assert!(phone.got.len() > 100);
    sim.command(ShardCommand::CloseRoom { room: RoomId(0) });
    assert_eq!(sim.shard.counters().unknown, 0, "nobody was left in the room");
}

#[test]
fn a_leg_that_goes_to_another_shard_is_heard_there_and_its_stream_goes_on() {
    let (mut one, mut other) = (sim_of(&[0]), sim_of(&[1]));
    one.run(500);
    other.run(500);
    one.move_to_shard(1, &mut other, 1);
    one.run(2000);
    other.run(2000);
    assert_hears(&one.phones[&0], &[]);
    for (id, heard) in [(1, [2, 3]), (2, [1, 3]), (3, [1, 2])] {
        assert_hears(&other.phones[&id], &heard);
        assert_one_stream(&other.phones[&id]);
    }
    assert!(one.shard.release_leg(LegId(1)).is_none(), "it is here no longer");
    let closed = other.remove(1);
    assert_eq!(closed.leg, LegId(1));
    other.run(20);
    let stats = other.reports.iter().rev().find_map(|report| match report {
        ShardReport::LegClosed { leg: LegId(1), stats } => Some(*stats),
        _ => None,
    });
    let stats = stats.expect("it was closed");
    assert!(stats.packets_in > 120 && stats.lost_in == 0, "its counters went with it: {stats:?}");
}

#[test]
fn a_leg_that_moves_to_no_room_has_failed() {
    let mut sim = sim_of(&[0]);
    let key = sim.phones[&1].key;
    let nowhere = ShardCommand::MoveLeg { leg: LegId(1), room: RoomId(9), from: ShardIndex(0) };
    assert_eq!(sim.command(nowhere.clone()), Applied::Removed(key));
    assert_eq!(sim.shard.poll_report(), Some(ShardReport::LegFailed { leg: LegId(1) }));
    assert_eq!(sim.command(nowhere), Applied::Refused, "it is gone");
    let (_, leg) = sim.shard.release_leg(LegId(0)).expect("it is here");
    assert_eq!(sim.shard.adopt_leg(RoomId(9), leg), Applied::Refused);
    assert_eq!(sim.shard.poll_report(), Some(ShardReport::LegFailed { leg: LegId(0) }));
    assert_eq!(sim.shard.leg_count(), 0);
}
