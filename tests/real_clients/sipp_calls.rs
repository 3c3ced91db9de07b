//! SIPp: calls that go well, and those that end in odd ways.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::ear::Ear;
use crate::process::{pass, wait_for};
use crate::server::{Server, text};
use crate::sipp::{Over, Sipp, TONE_HZ};

/// Packets per second of a call.
const PACKETS_PER_SECOND: usize = 50;

/// Two calls: one plays a tone, the other hears it.
fn a_talker_is_heard(address: IpAddr, over: Over) {
    let server = Server::start_at(address, 16);
    let conference = server.conference("conference");
    let call = |scenario| Sipp::new(scenario, server.sip, &conference.user()).over(over);
    let talker = call("call").holding(Duration::from_millis(3_500)).start();
    conference.wait_for_joined(1);
    let ear = Ear::open(address);
    let listener = call("listen").key("listen_port", ear.port).holding(Duration::from_millis(2_000)).start();
    for joined in conference.wait_for_joined(2) {
        assert_eq!(text(&joined, "codec"), "PCMU");
        assert_eq!(text(&joined, "direction"), "incoming");
        assert!(joined["tm_joined"].is_string(), "{joined:#}");
    }
    listener.finish();
    talker.finish();
    let left = conference.wait_for_all_left(2);
    assert!(left.iter().all(|call| text(call, "hangup_cause") == "Normal call clearing"), "{left:#?}");
    assert_eq!(conference.now()["status"], "progressing");
    let (packets, heard) = ear.close();
    assert!((90..=120).contains(&packets), "{packets} packets in 2 s");
    heard.assert_hears("the listener", TONE_HZ);
}

#[test]
fn a_call_over_udp() {
    a_talker_is_heard(Ipv4Addr::LOCALHOST.into(), Over::Udp);
}

#[test]
fn a_call_over_tcp() {
    a_talker_is_heard(Ipv4Addr::LOCALHOST.into(), Over::Tcp);
}

#[test]
fn a_call_over_udp_on_ipv6() {
    a_talker_is_heard(Ipv6Addr::LOCALHOST.into(), Over::Udp);
}

#[test]
fn hold_in_three_ways_and_back_at_another_port() {
    let server = Server::start();
    for over in [Over::Udp, Over::Tcp] {
        let conference = server.conference("conference");
        let call = |scenario| Sipp::new(scenario, server.sip, &conference.user()).over(over);
        let talker = call("call").holding(Duration::from_millis(4_500)).start();
        conference.wait_for_joined(1);
        let [first, held, resumed] = [(); 3].map(|()| Ear::open(server.sip.ip()));
        let phone = call("hold")
            .key("first_port", first.port)
            .key("held_port", held.port)
            .key("resumed_port", resumed.port)
            .start();
        conference.wait_for_joined(2);
        phone.finish();
        conference.wait_for_joined(1);
        talker.finish();
        conference.wait_for_all_left(2);

        for (name, ear) in [("before hold", first), ("after hold", resumed)] {
            let (packets, heard) = ear.close();
            assert!((40..=70).contains(&packets), "{packets} packets in 1 s {name} over {over:?}");
            heard.assert_hears(name, TONE_HZ);
        }
        let (packets, _) = held.close();
        assert_eq!(packets, 0, "RTP to a phone that put us on hold, over {over:?}");
    }
}

#[test]
fn cancel_on_the_heels_of_invite() {
    let server = Server::start_at(Ipv4Addr::LOCALHOST.into(), 64);
    for over in [Over::Udp, Over::Tcp] {
        let conference = server.conference("conference");
        // What comes between the two requests SIPp would take for a failure: it is not waiting yet.
        Sipp::new("cancel", server.sip, &conference.user())
            .over(over)
            .calls(20, 20)
            .option(["-default_behaviors", "all,-abortunexp"])
            .run();
        let calls = wait_for("all to have left", Duration::from_secs(5), || {
            let calls = conference.calls();
            calls.iter().all(|call| call["status"] == "leaved").then_some(calls)
        });
        assert!(calls.len() <= 20, "{} conferencecalls of 20 calls", calls.len());
        conference.wait_for_joined(0);
    }
}

#[test]
fn a_late_bye_finds_no_call() {
    let server = Server::start();
    for over in [Over::Udp, Over::Tcp] {
        let conference = server.conference("conference");
        Sipp::new("late_bye", server.sip, &conference.user()).over(over).run();
        conference.wait_for_all_left(1);
    }
}

#[test]
fn an_ejected_caller_gets_bye_also_while_it_hangs_up_itself() {
    let server = Server::start();
    for (scenario, over) in [
        ("ejected", Over::Udp),
        ("ejected", Over::Tcp),
        ("crossing_bye", Over::Udp),
        ("crossing_bye", Over::Tcp),
    ] {
        let conference = server.conference("conference");
        let caller = Sipp::new(scenario, server.sip, &conference.user()).over(over).start();
        let joined = conference.wait_for_joined(1);
        pass(Duration::from_millis(200));
        conference.eject(&joined[0]);
        caller.finish();
        let left = conference.wait_for_all_left(1);
        let again = conference.eject(&left[0]);
        assert_eq!(again, left[0], "a second DELETE changes nothing");
        assert_eq!(conference.now()["status"], "progressing");
    }
}

#[test]
fn a_deleted_conference_says_bye_to_all() {
    let server = Server::start();
    let conference = server.conference("conference");
    let callers = [Over::Udp, Over::Tcp]
        .map(|over| Sipp::new("ejected", server.sip, &conference.user()).over(over).start());
    conference.wait_for_joined(2);
    conference.delete();
    for caller in callers {
        caller.finish();
    }
    conference.wait_for_end();
    conference.wait_for_all_left(2);
}

/// The calls send back all they get, and SIPp counts it.
#[test]
fn fifty_calls_with_media() {
    const CALLS: usize = 50;
    let server = Server::start_at(Ipv4Addr::LOCALHOST.into(), 128);
    let conference = server.conference("conference");
    let callers = Sipp::new("echo", server.sip, &conference.user())
        .calls(CALLS as u32, 50)
        .holding(Duration::from_secs(5))
        .option(["-rtp_echo"])
        .start();
    for call in conference.wait_for_joined(CALLS) {
        assert_eq!(text(&call, "codec"), "PCMU");
    }
    let all_are_in = Instant::now();
    pass(Duration::from_millis(2_500));
    let expected = all_are_in.elapsed().as_millis() as usize * PACKETS_PER_SECOND * CALLS / 1_000;
    let echoed = callers.count("Total echo RTP pckts 1st stream");
    callers.finish();
    conference.wait_for_all_left(CALLS);
    assert!(echoed >= expected * 98 / 100, "{echoed} packets came to SIPp of {expected}");
}
