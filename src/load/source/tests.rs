//! The whole load source against the bare echo, over loopback, and its parts on their own.

use std::collections::BTreeSet;

use clap::Parser;

use super::*;
use crate::load::echo::Echo;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: LoadOptions,
}

fn options(line: &str) -> LoadOptions {
    let words = std::iter::once("load").chain(line.split_ascii_whitespace());
    Line::try_parse_from(words).expect("a command line of a test").options
}

#[test]
fn every_call_to_an_echo_is_answered_heard_and_measured() {
    let echo = Echo::start(21_000..=21_400);
    let line =
        format!("sip:a@{sip} sip:b@{sip} --calls 24 --talkers 2 --for 2 --cps 500 --quiet", sip = echo.sip);
    let report = measure(&options(&line)).expect("a run");
    assert_eq!((report.answered, report.ended_early, report.bye_unanswered), (24, 0, 0), "{report}");
    assert!(report.failed.is_empty(), "{report}");
    assert_eq!(report.packets_expected, 24 * 100);
    assert!(report.packets_back > 0.9 && report.packets_back < 1.1, "{report}");
    assert_eq!((report.heard.listeners, report.heard.expected), (24, 4), "{report}");
    assert_eq!((report.heard.missing, report.heard.wrong, report.heard.echo), (0, 0, true), "{report}");
    assert!(report.latency_ms.count > 0, "{report}");
    assert!(report.setup_ms.max > 0.0 && report.gap_ms.p50 > 0.0, "{report}");
}

#[test]
fn loss_on_our_side_is_seen_in_what_comes_back() {
    let echo = Echo::start(21_500..=21_900);
    let line = format!(
        "sip:a@{} --calls 20 --talkers 0 --for 2 --cps 500 --loss 20 --jitter 30 --epoll --quiet",
        echo.sip
    );
    let report = measure(&options(&line)).expect("a run");
    assert_eq!(report.answered, 20, "{report}");
    assert!((0.1..0.3).contains(&report.loss), "{report}");
    assert!(report.reordered > 0, "{report}");
    assert_eq!(report.load.backend, "epoll");
}

#[test]
fn a_run_that_cannot_be_made_says_why() {
    let missing = measure(&options("--uris /nonexistent/rooms.txt"));
    assert!(matches!(missing, Err(LoadError::Uris { .. })));
    let mixed = measure(&options("sip:a@127.0.0.1 sip:a@[::1]"));
    assert!(matches!(mixed, Err(LoadError::MixedFamilies(uri)) if uri.contains("::1")));
    let nobody = measure(&options(&format!("sip:a@127.0.0.1 --pid {}", u32::MAX)));
    assert!(matches!(nobody, Err(LoadError::Process { .. })));
}

#[test]
fn rooms_are_cut_to_the_number_asked_for() {
    let targets =
        targets(&options("sip:a@127.0.0.1 sip:b@127.0.0.1 sip:c@127.0.0.1 --rooms 2")).expect("addresses");
    assert_eq!(targets.len(), 2);
}

#[test]
fn calls_are_dealt_over_rooms_slots_and_tones() {
    let options = options("sip:a@127.0.0.1 sip:b@127.0.0.1 --calls 100 --talkers 3 --slot 1000");
    let (rooms, calls) = engine::deal(&options);
    assert!(rooms.iter().all(|room| room.talkers.len() == 3));
    let tones: BTreeSet<u8> = calls.iter().filter_map(|call| call.tone).collect();
    assert_eq!(tones.len(), 6, "no two talkers of the two rooms speak the same tone");
    for slot in 0..20 {
        assert_eq!(calls.iter().filter(|call| call.speaker.slot == slot).count(), 5, "slot {slot}");
    }
    let (_, again) = engine::deal(&options);
    assert!(
        calls
            .iter()
            .zip(&again)
            .all(|(a, b)| (a.speaker.ssrc, a.speaker.slot) == (b.speaker.ssrc, b.speaker.slot))
    );
}

#[test]
fn a_talker_must_hear_the_others_and_a_listener_all() {
    let (rooms, mut calls) = engine::deal(&options("sip:a@127.0.0.1 --calls 5 --talkers 2"));
    for call in &mut calls {
        call.state = call::State::Talking;
    }
    let tones = |index| media::tones_for(index, &calls, &rooms[0], false);
    assert_eq!((tones(0), tones(1), tones(4)), (0b10, 0b01, 0b11));
    let echoed = |index| media::tones_for(index, &calls, &rooms[0], true);
    assert_eq!((echoed(0), echoed(1), echoed(4)), (0b01, 0b10, 0));
}
