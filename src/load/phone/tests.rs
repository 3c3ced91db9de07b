//! The whole phone against the bare echo, over loopback, and what it says of each outcome.

use std::net::UdpSocket;

use clap::Parser;

use super::*;
use crate::load::echo::{Echo, free_port};
use crate::load::tone::amplitude_at;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: CallOptions,
}

fn options(line: &str) -> CallOptions {
    let words = std::iter::once("call").chain(line.split_ascii_whitespace());
    Line::try_parse_from(words).expect("a command line of a test").options
}

#[test]
fn a_call_to_an_echo_hears_and_records_its_own_tone() {
    let echo = Echo::start(22_000..=22_100);
    let path = std::env::temp_dir().join(format!("confab-call-{}.wav", std::process::id()));
    let line = format!("sip:a@{} --tone 500 --for 1500ms --quiet --record {}", echo.sip, path.display());
    let options = options(&line);
    let finished = dial(&options).expect("a call");
    let counters = echo.stop();
    let heard = wave::read(&path).expect("the record");
    std::fs::remove_file(&path).expect("our own file");
    assert_eq!((finished.outcome, counters.calls, counters.ended), (Outcome::HungUp, 1, 1));
    let quality = finished.quality.expect("it was answered");
    assert!(quality.packets > 60 && quality.sent > 70, "{quality}");
    assert!((11_500..=12_500).contains(&heard.len()), "{}", heard.len());
    assert!(amplitude_at(&heard[4000..8000], 500) > 7000.0);
}

#[test]
fn nobody_there_is_said_at_once() {
    let gone = free_port();
    for transport in ["udp", "tcp"] {
        let result = dial(&options(&format!("sip:a@{gone} --quiet --transport {transport}")));
        assert!(matches!(&result, Err(CallError::Link(address, _)) if *address == gone), "{result:?}");
    }
}

#[test]
fn silence_on_the_line_is_no_answer() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("its address");
    let finished = dial(&options(&format!("sip:a@{address} --ring 50ms --quiet"))).expect("a call");
    assert_eq!(finished, Finished { outcome: Outcome::NoAnswer, quality: None });
    let mut buffer = [0; 2000];
    let (length, _) = server.recv_from(&mut buffer).expect("an INVITE");
    assert!(buffer[..length].starts_with(b"INVITE sip:a@"));
}

#[test]
fn files_are_checked_before_anybody_rings() {
    let result = dial(&options("sip:a@127.0.0.1:1 --play /nonexistent.wav --quiet"));
    assert!(matches!(result, Err(CallError::Wave(WaveError::Unreadable { .. }))));
}

#[test]
fn outcomes_are_told_in_words_and_exit_codes() {
    let plain = options("sip:direct.ab@h");
    let timed = options("sip:direct.ab@h --for 5s");
    let refused = |status: u16| Outcome::Refused { status, reason: "R".into() };
    for (outcome, words, code, code_timed) in [
        (Outcome::HungUp, "hung up", 0, 0),
        (Outcome::NoAnswer, "no answer from sip:direct.ab@h", 1, 1),
        (refused(404), "no such conference: sip:direct.ab@h (404 R)", 1, 1),
        (refused(503), "full or going down", 1, 1),
        (refused(488), "no common codec", 1, 1),
        (refused(403), "refused: 403 R", 1, 1),
        (Outcome::Ended(Cause::normal()), "(cause 16)", 0, 2),
        (Outcome::Ended(Cause::media_timeout()), "Media timeout", 2, 2),
    ] {
        let text = Verdict { outcome: &outcome, uri: "sip:direct.ab@h" }.to_string();
        assert!(text.contains(words), "{text}");
        assert_eq!((exit_code(&outcome, &plain), exit_code(&outcome, &timed)), (code, code_timed), "{text}");
    }
}
