//! Sources: legs without sockets are heard, hear the others, and are in the sum.

use std::f64::consts::TAU;

use confab::audio::AudioCodec;
use confab::id::{LegId, RoomId, TapId};
use confab::media::source::SOURCES_MAX;
use confab::plane::ShardCommand;
use confab::plane::feed::{Feed, FeedWriter};
use confab::plane::tap::{LegSound, Tap, TapParts, TapReader, TapTick};

use crate::phones::{CONFERENCE, CONNECT, Sim};

const ALL: TapParts = TapParts { mix: true, sum: true, legs: LegSound::Spoken };

fn source(sim: &mut Sim, room: u64, id: u64) -> (FeedWriter, TapReader) {
    let (feed, tap) = (Feed::new(), Tap::new(TapId(id), TapParts::default(), 1 << 20));
    let (writer, reader) = (feed.take_writer().expect("the first"), tap.take_reader().expect("the first"));
    sim.command(ShardCommand::AddSource { room: RoomId(room), leg: LegId(1000 + id), feed, tap });
    (writer, reader)
}

/// What was heard, silence included.
fn heard(reader: &mut TapReader) -> Vec<f64> {
    let (mut tick, mut heard) = (TapTick::default(), Vec::new());
    while reader.read(&mut tick) {
        heard.extend(tick.mix().unwrap_or(&[0; 160]).iter().map(|&sample| f64::from(sample)));
    }
    heard
}

fn strength(samples: &[f64], hz: f64) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let angle = TAU * hz * n as f64 / 8000.0;
        re += sample * angle.cos();
        im += sample * angle.sin();
    }
    2.0 * (re * re + im * im).sqrt() / samples.len().max(1) as f64
}

/// Speaks a tone for so many ticks, as unevenly as networks are.
fn speak(sim: &mut Sim, feed: &mut FeedWriter, hz: f64, ticks: usize) {
    let tone: Vec<i16> =
        (0..ticks * 160).map(|n| (6000.0 * (TAU * hz * n as f64 / 8000.0).sin()) as i16).collect();
    for (piece, sound) in tone.chunks(320).enumerate() {
        assert_eq!(feed.write(sound), sound.len());
        sim.run(if piece % 2 == 0 { 30 } else { 50 });
    }
}

#[test]
fn a_source_is_heard_and_hears_everybody_but_itself() {
    for shape in [CONFERENCE, CONNECT] {
        let mut sim = Sim::new(21);
        sim.open_room(1, shape);
        sim.add(1, 1, AudioCodec::Pcmu, 20, Some(440.0), 100);
        sim.add(1, 2, AudioCodec::Pcmu, 20, None, 200);
        let (mut feed, mut ear) = source(&mut sim, 1, 1);
        let (_silent, mut other) = source(&mut sim, 1, 2);
        speak(&mut sim, &mut feed, 1000.0, 150);
        for phone in [1, 2] {
            assert!(sim.phones[&phone].hears(1000.0) > 3000.0, "phone {phone}");
        }
        let own = heard(&mut ear).split_off(16_000);
        assert!(strength(&own, 440.0) > 3000.0 && strength(&own, 1000.0) < 100.0);
        let others = heard(&mut other).split_off(16_000);
        assert!(strength(&others, 440.0) > 3000.0 && strength(&others, 1000.0) > 3000.0);
    }
}

#[test]
fn sources_are_in_the_sum_bit_for_bit() {
    let mut sim = Sim::new(22);
    sim.open_room(1, CONFERENCE);
    sim.add(1, 1, AudioCodec::Pcmu, 20, Some(440.0), 100);
    let (mut feed, _ear) = source(&mut sim, 1, 1);
    let tap = Tap::new(TapId(9), ALL, 1 << 20);
    sim.command(ShardCommand::StartTap { room: RoomId(1), tap: tap.clone() });
    let mut reader = tap.take_reader().expect("the first");
    speak(&mut sim, &mut feed, 1000.0, 100);
    let (mut tick, mut both) = (TapTick::default(), 0);
    while reader.read(&mut tick) {
        let mut sum = [0i32; 160];
        for (_, frame) in tick.legs() {
            sum.iter_mut().zip(frame).for_each(|(total, &sample)| *total += i32::from(sample));
        }
        assert_eq!(&sum[..], tick.sum().unwrap_or(&[0; 160]));
        both += usize::from(tick.legs().count() == 2);
    }
    assert!(both > 50, "{both} ticks with both");
}

#[test]
fn a_room_of_sources_alone_ticks_and_ends_with_them() {
    let mut sim = Sim::new(23);
    sim.open_room(1, CONFERENCE);
    let (_feed, mut ear) = source(&mut sim, 1, 1);
    assert!(sim.shard.has_work());
    sim.run(1000);
    assert_eq!(heard(&mut ear).len(), 8000);
    sim.command(ShardCommand::RemoveSource { room: RoomId(1), leg: LegId(1001) });
    assert!(ear.is_closed() && !sim.shard.has_work());
    let (_feed, ear) = source(&mut sim, 1, 2);
    sim.command(ShardCommand::CloseRoom { room: RoomId(1) });
    assert!(ear.is_closed() && !sim.shard.has_work());
}

#[test]
fn sources_beyond_the_limit_and_for_no_room_are_closed_and_counted() {
    let mut sim = Sim::new(24);
    sim.open_room(1, CONFERENCE);
    let ears: Vec<TapReader> = (0..=SOURCES_MAX as u64).map(|id| source(&mut sim, 1, id).1).collect();
    assert_eq!(ears.iter().filter(|ear| ear.is_closed()).count(), 1);
    assert_eq!(sim.shard.counters().taps_refused, 1);
    assert!(source(&mut sim, 9, 99).1.is_closed());
    sim.command(ShardCommand::RemoveSource { room: RoomId(1), leg: LegId(7) });
    assert_eq!(sim.shard.counters().unknown, 2);
}
