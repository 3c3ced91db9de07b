//! What a leg does alone: prompts, echo, keys sent and keys heard as tones.

use std::sync::Arc;

use confab::audio::AudioCodec::{Pcma, Pcmu};
use confab::id::LegId;
use confab::plane::{Clip, Hears, ShardCommand, ShardReport};

use crate::phones::{CONFERENCE, Sim};

/// A tone of amplitude 6000 is heard when it is at least this, and not heard below [`UNHEARD`].
const HEARD: f64 = 4500.0;
const UNHEARD: f64 = 60.0;
const LEG: LegId = LegId(0);

fn tone(hz: f64, ms: usize) -> Arc<Clip> {
    let sample = |at: usize| ((at as f64 / 8000.0 * hz * std::f64::consts::TAU).sin() * 6000.0) as i16;
    Arc::new(Clip::new(8000, (0..ms * 8).map(sample).collect()))
}

/// A room with a phone alone and one that is in the mix; each speaks a tone of its own.
fn sim(seed: u64) -> Sim {
    let mut sim = Sim::new(seed);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 0, Pcmu, 20, Some(500.0), 0);
    sim.add(1, 1, Pcma, 20, Some(700.0), 3000);
    sim.command(ShardCommand::SetHears { leg: LEG, hears: Hears::Nothing });
    sim
}

fn plays_done(sim: &Sim) -> Vec<(u64, bool, bool)> {
    let done = sim.reports.iter().filter_map(|report| match report {
        ShardReport::PlayDone { leg: LEG, play, whole, clip } => Some((*play, *whole, clip.is_some())),
        _ => None,
    });
    done.collect()
}

#[test]
fn a_prompt_is_heard_by_one_alone_to_its_end_and_told() {
    let mut sim = sim(1);
    sim.command(ShardCommand::Play { leg: LEG, play: 7, clip: tone(1000.0, 1310) });
    sim.run(1200);
    assert!(sim.phones[&0].hears(1000.0) > HEARD);
    assert!(sim.phones[&0].hears(700.0) < UNHEARD, "nor does it hear the room");
    assert!(sim.phones[&1].hears(1000.0) < UNHEARD && sim.phones[&1].hears(500.0) < UNHEARD);
    assert_eq!(plays_done(&sim), []);
    sim.run(200);
    assert_eq!(plays_done(&sim), [(7, true, true)], "with its clip, so that it is not freed here");
    sim.run(1100);
    assert!(sim.phones[&0].heard(1000).iter().all(|sample| *sample == 0.0), "then silence");
    sim.command(ShardCommand::SetHears { leg: LEG, hears: Hears::Room });
    sim.run(1500);
    assert!(sim.phones[&0].hears(700.0) > HEARD && sim.phones[&1].hears(500.0) > HEARD);
}

#[test]
fn a_play_that_is_replaced_stopped_or_cut_off_is_told_as_such() {
    let mut sim = sim(2);
    for play in 1..=3 {
        sim.command(ShardCommand::Play { leg: LEG, play, clip: tone(900.0, 5000) });
        sim.run(100);
    }
    sim.command(ShardCommand::StopPlay { leg: LEG });
    sim.command(ShardCommand::Play { leg: LEG, play: 4, clip: Arc::new(Clip::new(16_000, vec![0; 16_000])) });
    sim.command(ShardCommand::Play { leg: LEG, play: 5, clip: tone(900.0, 5000) });
    sim.run(40);
    assert_eq!(
        plays_done(&sim),
        [(1, false, true), (2, false, true), (3, false, true), (4, false, true)],
        "a clip of another rate than the room's is not played"
    );
    sim.remove(0);
    sim.run(40);
    assert_eq!(plays_done(&sim).last(), Some(&(5, false, true)));
    let reports = sim.reports.len();
    assert!(
        matches!(sim.reports[reports - 1], ShardReport::LegClosed { leg: LEG, .. }),
        "told before the end"
    );
}

#[test]
fn a_prompt_goes_on_while_the_leg_is_held() {
    let mut sim = sim(3);
    let mut held = sim.phones[&0].media.clone();
    held.send = false;
    sim.command(ShardCommand::UpdateLeg { leg: LEG, media: held });
    sim.command(ShardCommand::Play { leg: LEG, play: 1, clip: tone(900.0, 1000) });
    sim.run(1100);
    assert_eq!(plays_done(&sim), [(1, true, true)]);
}

#[test]
fn an_echo_is_heard_by_who_spoke_and_nobody_else() {
    let mut sim = sim(4);
    sim.command(ShardCommand::SetHears { leg: LEG, hears: Hears::Echo });
    sim.run(2000);
    assert!(sim.phones[&0].hears(500.0) > HEARD && sim.phones[&0].hears(700.0) < UNHEARD);
    assert!(sim.phones[&1].hears(500.0) < UNHEARD);
    sim.command(ShardCommand::SetHears { leg: LEG, hears: Hears::Nothing });
    sim.run(1100);
    assert!(sim.phones[&0].hears(500.0) < UNHEARD);
}

#[test]
fn keys_are_sent_as_events_that_a_receiver_reads_once_each() {
    let mut sim = sim(5);
    sim.run(200);
    let digits = "19*#D".to_owned();
    sim.command(ShardCommand::SendDigits { leg: LEG, play: 3, digits, held_ms: 100, gap_ms: 80 });
    sim.run(1500);
    assert_eq!(plays_done(&sim), [(3, true, false)]);
    let events: Vec<_> = sim.phones[&0].got.iter().filter(|got| got.0 == 101).collect();
    let mut keys: Vec<(u32, u8)> = events.iter().map(|got| (got.3, got.4[0])).collect();
    keys.dedup();
    assert_eq!(keys.iter().map(|(_, code)| *code).collect::<Vec<_>>(), [1, 9, 10, 11, 15]);
    assert_eq!(events.iter().filter(|got| got.1).count(), 5, "a marker for each key");
    assert_eq!(events.iter().filter(|got| got.4[1] & 0x80 != 0).count(), 15, "each end three times");
    let sequences: Vec<u16> = sim.phones[&0].got.iter().map(|got| got.2).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "one stream, no gaps");
    let audio: Vec<u32> = sim.phones[&0].got.iter().filter(|got| got.0 == 0).map(|got| got.3).collect();
    assert!(audio.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) % 160 == 0), "one clock");
}

#[test]
fn keys_are_refused_where_the_peer_takes_no_events() {
    let mut sim = sim(6);
    let mut deaf = sim.phones[&0].media.clone();
    deaf.telephone_event_out = None;
    sim.command(ShardCommand::UpdateLeg { leg: LEG, media: deaf });
    let digits = "1".to_owned();
    sim.command(ShardCommand::SendDigits { leg: LEG, play: 9, digits, held_ms: 100, gap_ms: 80 });
    sim.run(20);
    assert_eq!(plays_done(&sim), [(9, false, false)]);
}

#[test]
fn keys_pressed_as_tones_are_heard_while_they_are_listened_for() {
    let mut sim = Sim::new(7);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 0, Pcmu, 20, None, 0);
    sim.command(ShardCommand::SetHears { leg: LEG, hears: Hears::Nothing });
    sim.run(500);
    for on in [true, false] {
        sim.command(ShardCommand::ListenForTones { leg: LEG, on });
        sim.phones.get_mut(&0).expect("there").tones_hz = Some([770.0, 1336.0]);
        sim.run(300);
        sim.phones.get_mut(&0).expect("there").tones_hz = None;
        sim.run(500);
    }
    let digits: Vec<_> =
        sim.reports.iter().filter(|report| matches!(report, ShardReport::Digit { digit: '5', .. })).collect();
    assert_eq!(digits.len(), 1, "{:?}", sim.reports);
    let ShardReport::Digit { duration_ms, .. } = digits[0] else { panic!("filtered") };
    assert!((250..=350).contains(duration_ms), "{duration_ms} ms");
}
