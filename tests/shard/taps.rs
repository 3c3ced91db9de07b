//! Taps: what they carry is what the room heard, on the room's clock.

use std::collections::{BTreeMap, BTreeSet};

use confab::audio::AudioCodec;
use confab::id::{LegId, RoomId, TapId};
use confab::media::tap::TAPS_MAX;
use confab::mixer::limiter::Limiter;
use confab::plane::tap::{LegSound, Tap, TapMark, TapParts, TapReader, TapTick};
use confab::plane::{Hears, RoomShape, ShardCommand};

use crate::phones::{CONFERENCE, Sim};

const ALL: TapParts = TapParts { mix: true, sum: true, legs: LegSound::Spoken };

fn tap(sim: &mut Sim, room: u64, id: u64, parts: TapParts, words: usize) -> TapReader {
    let tap = Tap::new(TapId(id), parts, words);
    sim.command(ShardCommand::StartTap { room: RoomId(room), tap: tap.clone() });
    tap.take_reader().expect("nobody else reads")
}

fn ticks(reader: &mut TapReader) -> Vec<TapTick> {
    let mut ticks = Vec::new();
    let mut tick = TapTick::default();
    while reader.read(&mut tick) {
        ticks.push(tick.clone());
    }
    ticks
}

/// Adds eight phones of different loudness and timing; some fall silent and speak again.
fn a_lively_room(sim: &mut Sim) {
    sim.open_room(1, RoomShape { max_speakers: 3, gate: true });
    for id in 1..=8u64 {
        let codec = AudioCodec::ALL[id as usize % 2];
        sim.add(1, id, codec, [20, 10, 30][id as usize % 3], Some(300.0 + 130.0 * id as f64), 2_345 * id);
    }
}

#[test]
fn the_legs_add_up_to_the_sum_and_the_limited_sum_is_the_mix_bit_for_bit() {
    let mut sim = Sim::new(11);
    a_lively_room(&mut sim);
    let mut reader = tap(&mut sim, 1, 1, ALL, 1 << 20);
    let mut limiter = Limiter::default();
    let (mut with_sound, mut limited, mut faces) = (0, 0, BTreeSet::new());
    let mut before = None;
    for round in 0..60u64 {
        for (&id, phone) in &mut sim.phones {
            phone.mute = (round + id) % 5 < 2;
        }
        sim.run(500);
        for tick in ticks(&mut reader) {
            assert!(before.is_none_or(|before| tick.number == before + 1), "one tick every 20 ms");
            before = Some(tick.number);
            let mut sum = [0i32; 160];
            for (leg, frame) in tick.legs() {
                faces.insert(leg);
                sum.iter_mut().zip(frame).for_each(|(total, &sample)| *total += i32::from(sample));
            }
            assert_eq!(&sum[..], tick.sum().unwrap_or(&[0; 160]));
            let mut heard = [0i16; 160];
            limiter.process(&sum, &mut heard);
            assert_eq!(&heard[..], tick.mix().unwrap_or(&[0; 160]));
            with_sound += u32::from(tick.sum().is_some());
            limited += u32::from(!limiter.is_transparent());
        }
    }
    assert_eq!(reader.dropped(), 0);
    assert_eq!(faces.len(), 8);
    assert!(with_sound > 1000, "{with_sound} ticks with sound");
    assert!(limited < with_sound, "{limited} of {with_sound} ticks were limited");
}

#[test]
fn a_listener_hears_what_the_tap_of_the_mix_carries() {
    let mut sim = Sim::new(12);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 1, AudioCodec::Pcmu, 20, Some(440.0), 100);
    sim.add(1, 2, AudioCodec::Pcmu, 20, Some(1000.0), 200);
    sim.add(1, 3, AudioCodec::Pcmu, 20, None, 300);
    let mut reader = tap(&mut sim, 1, 1, TapParts { mix: true, ..TapParts::default() }, 1 << 20);
    sim.run(2000);
    let told: Vec<f64> = ticks(&mut reader)
        .iter()
        .flat_map(|tick| {
            tick.mix().map_or_else(|| vec![0.0; 160], |mix| mix.iter().map(|&s| f64::from(s)).collect())
        })
        .collect();
    let heard = sim.phones[&3].heard(1000);
    let told = &told[told.len() - heard.len()..];
    let error = told.iter().zip(&heard).map(|(told, heard)| (told - heard).abs()).fold(0.0, f64::max);
    assert!(error < 600.0, "no more than µ-law's own step apart: {error}");
}

#[test]
fn marks_tell_who_is_in_and_who_can_be_heard() {
    let mut sim = Sim::new(13);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 1, AudioCodec::Pcmu, 20, None, 0);
    sim.add(1, 2, AudioCodec::Pcmu, 20, None, 0);
    let hears = |hears| move |leg| ShardCommand::SetHears { leg: LegId(leg), hears };
    sim.command(hears(Hears::Nothing)(2));
    let mut reader = tap(&mut sim, 1, 1, ALL, 1 << 16);
    sim.run(200);
    sim.add(1, 3, AudioCodec::Pcmu, 20, None, 0);
    sim.command(hears(Hears::Room)(2));
    sim.run(200);
    sim.remove(1);
    sim.run(200);
    sim.command(ShardCommand::StopTap { room: RoomId(1), tap: TapId(1) });
    assert!(reader.is_closed());
    let marks: BTreeMap<u64, Vec<TapMark>> = ticks(&mut reader)
        .into_iter()
        .zip(0..)
        .filter(|(tick, _)| !tick.marks.is_empty())
        .map(|(tick, at)| (at, tick.marks))
        .collect();
    let [one, two, three] = [1, 2, 3].map(LegId);
    let told = [
        (0, vec![TapMark::Joined(one), TapMark::Joined(two), TapMark::Muted(two)]),
        (10, vec![TapMark::Joined(three), TapMark::Unmuted(two)]),
        (20, vec![TapMark::Left(one)]),
    ];
    assert_eq!(marks, BTreeMap::from(told));
}

#[test]
fn own_sound_is_given_though_the_room_does_not_hear_it() {
    let mut sim = Sim::new(14);
    sim.open_room(1, RoomShape { max_speakers: 1, gate: true });
    sim.add(1, 1, AudioCodec::Pcmu, 20, Some(440.0), 0);
    sim.add(1, 2, AudioCodec::Pcmu, 20, Some(880.0), 0);
    let own = TapParts { legs: LegSound::Own, ..TapParts::default() };
    let (mut own, mut spoken) = (tap(&mut sim, 1, 1, own, 1 << 18), tap(&mut sim, 1, 2, ALL, 1 << 18));
    sim.run(2000);
    let counts = |reader: &mut TapReader| {
        let last = ticks(reader).split_off(50);
        [1, 2].map(|leg| last.iter().filter(|tick| tick.legs().any(|(of, _)| of == LegId(leg))).count())
    };
    assert_eq!(counts(&mut own), [50, 50]);
    assert_eq!(counts(&mut spoken).iter().sum::<usize>(), 50, "one speaker at a time");
}

#[test]
fn a_tapped_room_without_legs_ticks_on_and_silence_is_cheap() {
    let mut sim = Sim::new(15);
    sim.open_room(1, CONFERENCE);
    sim.open_room(2, CONFERENCE);
    assert!(!sim.shard.has_work());
    // Each silent tick takes three words.
    let mut reader = tap(&mut sim, 1, 1, ALL, 4096);
    assert!(sim.shard.has_work());
    sim.run(20_000);
    let silent = ticks(&mut reader);
    assert_eq!((silent.len(), reader.dropped()), (1000, 0));
    assert!(silent.iter().all(|tick| tick.mix().is_none() && tick.legs().next().is_none()));
    sim.command(ShardCommand::CloseRoom { room: RoomId(1) });
    assert!(reader.is_closed() && !sim.shard.has_work());
}

#[test]
fn a_reader_that_is_away_sees_the_gap_by_the_clock_and_loses_no_mark() {
    let mut sim = Sim::new(16);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 1, AudioCodec::Pcmu, 20, Some(440.0), 0);
    let mut reader = tap(&mut sim, 1, 1, ALL, 1 << 13);
    sim.run(1000);
    let first = ticks(&mut reader);
    sim.run(5000);
    sim.add(1, 2, AudioCodec::Pcmu, 20, Some(550.0), 0);
    sim.run(1000);
    let kept = ticks(&mut reader);
    sim.run(200);
    let last = ticks(&mut reader);
    assert!(reader.dropped() > 100, "{} dropped", reader.dropped());
    let number = |tick: Option<&TapTick>| tick.expect("a tick").number;
    assert_eq!(number(last.last()) - number(first.first()), 359, "7.2 s, whatever was lost");
    assert_eq!(first.len() + kept.len() + last.len() + reader.dropped() as usize, 360);
    assert_eq!(last[0].marks, [TapMark::Joined(LegId(2))], "the mark waited for a tick that fits");
}

#[test]
fn taps_beyond_the_limit_and_for_no_room_are_closed_and_counted() {
    let mut sim = Sim::new(17);
    sim.open_room(1, CONFERENCE);
    let readers: Vec<TapReader> = (0..=TAPS_MAX as u64).map(|id| tap(&mut sim, 1, id, ALL, 4096)).collect();
    assert_eq!(readers.iter().filter(|reader| reader.is_closed()).count(), 1);
    assert_eq!(sim.shard.counters().taps_refused, 1);
    assert!(tap(&mut sim, 9, 99, ALL, 4096).is_closed());
    sim.command(ShardCommand::StopTap { room: RoomId(1), tap: TapId(99) });
    sim.command(ShardCommand::StopTap { room: RoomId(9), tap: TapId(0) });
    assert_eq!(sim.shard.counters().unknown, 3);
}
