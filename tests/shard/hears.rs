//! Who hears whom.

use confab::audio::AudioCodec::{Pcma, Pcmu};
use confab::id::LegId;
use confab::plane::{Hears, RingCadence, RoomShape, ShardCommand, ShardReport};

use crate::phones::{CONFERENCE, CONNECT, Sim};

/// A tone of amplitude 6000 is heard when it is at least this, and not heard below [`UNHEARD`].
const HEARD: f64 = 4500.0;
const UNHEARD: f64 = 60.0;

/// The tone of phone `id`: far enough apart to be told from each other in a second.
fn tone(id: u64) -> f64 {
    350.0 + 110.0 * id as f64
}

/// Asserts the whole matrix of a room: each hears every speaker but itself, and nobody else.
fn assert_matrix(sim: &Sim, room: &[u64], speakers: &[u64]) {
    for &listener in room {
        for id in 0..16 {
            let amplitude = sim.phones[&listener].hears(tone(id));
            if speakers.contains(&id) && room.contains(&id) && id != listener {
                assert!(amplitude > HEARD, "phone {listener} does not hear phone {id}: {amplitude:.0}");
            } else {
                assert!(amplitude < UNHEARD, "phone {listener} hears phone {id}: {amplitude:.0}");
            }
        }
    }
}

#[test]
fn everybody_hears_everybody_else_and_nobody_himself() {
    let mut sim = Sim::new(1);
    sim.open_room(1, CONFERENCE);
    for id in 0..6 {
        sim.add(1, id, Pcmu, 20, (id < 3).then(|| tone(id)), 700 + 3_100 * id);
    }
    sim.run(2000);
    assert_matrix(&sim, &[0, 1, 2, 3, 4, 5], &[0, 1, 2]);
}

#[test]
fn rooms_do_not_hear_each_other() {
    let mut sim = Sim::new(2);
    for room in 0..4 {
        sim.open_room(room, CONFERENCE);
        for id in 0..3 {
            sim.add(room, 3 * room + id, Pcmu, 20, Some(tone(3 * room + id)), 900 * (3 * room + id));
        }
    }
    sim.run(2000);
    for room in 0..4 {
        let members: Vec<u64> = (3 * room..3 * room + 3).collect();
        assert_matrix(&sim, &members, &members);
    }
}

#[test]
fn a_law_and_mu_law_hear_each_other_at_every_ptime() {
    let mut sim = Sim::new(3);
    sim.open_room(1, CONFERENCE);
    let ptimes = [10, 20, 30, 40, 50, 60];
    for id in 0..6 {
        let codec = if id % 2 == 0 { Pcmu } else { Pcma };
        sim.add(1, id, codec, ptimes[id as usize], Some(tone(id)), 1_300 * id);
    }
    sim.run(3000);
    assert_matrix(&sim, &[0, 1, 2, 3, 4, 5], &[0, 1, 2, 3, 4, 5]);
}

#[test]
fn two_party_rooms_pass_the_faintest_sound() {
    let mut sim = Sim::new(4);
    sim.open_room(1, CONNECT);
    sim.add(1, 0, Pcmu, 20, Some(tone(0)), 0);
    sim.add(1, 1, Pcma, 20, Some(tone(1)), 11_000);
    sim.run(2000);
    assert_matrix(&sim, &[0, 1], &[0, 1]);
}

#[test]
fn a_lone_caller_hears_silence() {
    let mut sim = Sim::new(5);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 0, Pcmu, 20, Some(tone(0)), 0);
    sim.run(2000);
    assert!(sim.phones[&0].heard(1000).iter().all(|&sample| sample == 0.0));
    assert!(sim.phones[&0].got.len() >= 98, "packets come all the same: {}", sim.phones[&0].got.len());
}

#[test]
fn who_leaves_is_not_heard_any_more_and_who_joins_is() {
    let mut sim = Sim::new(6);
    sim.open_room(1, CONFERENCE);
    for id in 0..4 {
        sim.add(1, id, Pcmu, 20, Some(tone(id)), 2_000 * id);
    }
    sim.run(1500);
    let gone = sim.remove(2);
    assert!(gone.hears(tone(0)) > HEARD);
    sim.add(1, 7, Pcma, 20, Some(tone(7)), 500);
    sim.run(1500);
    assert_matrix(&sim, &[0, 1, 3, 7], &[0, 1, 3, 7]);
    assert!(
        sim.reports
            .iter()
            .any(|r| matches!(r, ShardReport::LegClosed { leg: LegId(2), stats } if stats.packets_in > 70))
    );
}

#[test]
fn ringback_is_heard_alone_until_the_room_is() {
    let mut sim = Sim::new(7);
    sim.open_room(1, CONNECT);
    sim.add(1, 0, Pcmu, 20, Some(tone(0)), 0);
    let cadence = RingCadence { tones_hz: [425, 0], on_off_ms: [1000, 4000, 0, 0] };
    sim.command(ShardCommand::SetHears { leg: LegId(0), hears: Hears::Ringback(cadence) });
    sim.run(960);
    assert!(sim.phones[&0].hears(425.0) > 3000.0);
    sim.add(1, 1, Pcmu, 20, Some(tone(1)), 0);
    sim.run(100);
    assert!(sim.phones[&1].hears(tone(0)) < UNHEARD, "who hears ringback is not in the mix");
    sim.command(ShardCommand::SetHears { leg: LegId(0), hears: Hears::Room });
    sim.run(2000);
    assert_matrix(&sim, &[0, 1], &[0, 1]);
}

#[test]
fn a_held_leg_is_sent_nothing_and_may_be_silent() {
    let mut sim = Sim::new(8);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 0, Pcmu, 20, Some(tone(0)), 0);
    sim.add(1, 1, Pcmu, 20, Some(tone(1)), 3_000);
    sim.run(1500);
    let mut held = sim.phones[&0].media.clone();
    (held.send, held.receive) = (false, false);
    sim.command(ShardCommand::UpdateLeg { leg: LegId(0), media: held.clone() });
    sim.phones.get_mut(&0).expect("there").mute = true;
    let before = sim.phones[&0].got.len();
    sim.run(60_000);
    assert_eq!(sim.phones[&0].got.len(), before, "nothing is sent to a held leg");
    assert!(!sim.reports.iter().any(|r| matches!(r, ShardReport::MediaTimeout { .. })));
    (held.send, held.receive) = (true, true);
    sim.command(ShardCommand::UpdateLeg { leg: LegId(0), media: held });
    sim.phones.get_mut(&0).expect("there").mute = false;
    sim.run(2000);
    assert_matrix(&sim, &[0, 1], &[0, 1]);
}

#[test]
fn only_the_loudest_are_mixed_when_too_many_speak() {
    let mut sim = Sim::new(9);
    sim.open_room(1, RoomShape { max_speakers: 3, gate: true });
    for id in 0..8 {
        sim.add(1, id, Pcmu, 20, Some(tone(id)), 1_700 * id);
    }
    sim.add(1, 9, Pcmu, 20, None, 0);
    sim.run(3000);
    let heard = (0..8).filter(|&id| sim.phones[&9].hears(tone(id)) > HEARD).count();
    assert_eq!(heard, 3);
}

#[test]
fn a_leg_without_media_times_out_once_and_rtp_or_rtcp_keeps_it() {
    let mut sim = Sim::new(10);
    sim.open_room(1, CONFERENCE);
    for id in 0..3 {
        sim.add(1, id, Pcmu, 20, Some(tone(id)), 0);
    }
    sim.run(1000);
    sim.phones.get_mut(&0).expect("there").mute = true;
    sim.phones.get_mut(&1).expect("there").mute = true;
    for _ in 0..40 {
        sim.run(1000);
        // Phone 1 sends RTCP only: an empty receiver report (RFC 3550 §6.4.2).
        let report = [0x80, 201, 0, 1, 0, 0, 0x10, 1];
        let from = sim.phones[&1].media.remote_rtcp.expect("set");
        let key = sim.phones[&1].key;
        sim.shard.receive(sim.now, key, confab::media::shard::Channel::Rtcp, Some(from), &report);
    }
    let timeouts: Vec<&ShardReport> =
        sim.reports.iter().filter(|r| matches!(r, ShardReport::MediaTimeout { .. })).collect();
    assert_eq!(timeouts, [&ShardReport::MediaTimeout { leg: LegId(0) }]);
}

#[test]
fn a_room_of_two_thousand_hears_its_two_speakers() {
    let mut sim = Sim::new(11);
    sim.open_room(1, CONFERENCE);
    for id in 0..2000 {
        sim.add(1, id, Pcmu, 20, (id < 2).then(|| tone(id)), 10 * id);
    }
    sim.run(1200);
    for id in [0, 1, 2, 999, 1999] {
        for speaker in 0..2 {
            let amplitude = sim.phones[&id].hears(tone(speaker));
            assert_eq!(amplitude > HEARD, speaker != id, "phone {id} and speaker {speaker}: {amplitude:.0}");
        }
    }
}
