//! Offers and answers within calls, and key presses.

use confab::audio::AudioCodec;
use confab::bridge::Settings;
use confab::bridge::resource::{ConferenceType, ConferencecallStatus};
use confab::plane::{LegMedia, ShardReport};

use crate::scenes::{LATER, SOON, filled, final_status, uri_of};
use crate::support::message::sdp;
use crate::support::{PhoneId, Sim, Stage};
use crate::truth::assert_nothing_left;

/// The media of the only leg.
fn media(sim: &Sim) -> LegMedia {
    let legs: Vec<_> = sim.plane.legs.values().collect();
    assert_eq!(legs.len(), 1);
    legs[0].media.clone()
}

fn reinvite(sim: &mut Sim, phone: PhoneId, body: &str) -> u16 {
    sim.at_phone(phone, |phone, now| phone.reinvite(now, body));
    sim.run(SOON);
    final_status(sim, phone)
}

#[test]
fn the_leg_gets_what_was_agreed_on() {
    let mut sim = Sim::new(1);
    let conference = sim.create(ConferenceType::Conference);
    let offer =
        sdp("198.51.100.5", 4444, "8 0 96", &["rtpmap:96 telephone-event/8000", "ptime:40", "rtcp-mux"]);
    sim.dial_with(&uri_of(&conference), &offer);
    sim.run(SOON);
    let agreed = media(&sim);
    assert_eq!((agreed.codec, agreed.payload_type_in, agreed.payload_type_out), (AudioCodec::Pcma, 8, 8));
    assert_eq!((agreed.telephone_event, agreed.ptime_ms, agreed.rtcp_mux), (Some(96), 40, true));
    assert_eq!(agreed.remote_rtp, "198.51.100.5:4444".parse().ok());
    assert!(agreed.send && agreed.receive);
    let port = sim.ports.carried.values().next().expect("one port");
    assert_eq!(port.rtcp, None, "multiplexed: no second port");
}

#[test]
fn hold_in_all_its_forms_stops_both_ways_until_resumed() {
    let mut sim = Sim::new(2);
    let (_, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    let at = |address: &str, line: &str| sdp(address, 4000, "0 8", &[line]);
    let rows = [
        (at("192.0.2.20", "sendonly"), false, false, "a=recvonly"),
        (at("192.0.2.20", "sendrecv"), true, true, "a=sendrecv"),
        (at("192.0.2.20", "inactive"), false, false, "a=inactive"),
        (at("192.0.2.20", "sendrecv"), true, true, "a=sendrecv"),
        (at("0.0.0.0", "sendrecv"), false, false, "a=recvonly"),
        (at("192.0.2.20", "recvonly"), true, false, "a=sendonly"),
        (at("192.0.2.20", "sendrecv"), true, true, "a=sendrecv"),
    ];
    for (offer, send, receive, answer) in rows {
        assert_eq!(reinvite(&mut sim, phones[0], &offer), 200);
        assert_eq!((media(&sim).send, media(&sim).receive), (send, receive), "{offer}");
        assert!(sim.phones[phones[0]].description.contains(answer), "{}", sim.phones[phones[0]].description);
    }
}

#[test]
fn a_reinvite_may_change_address_and_codec() {
    let mut sim = Sim::new(3);
    let (conference, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    assert_eq!(reinvite(&mut sim, phones[0], &sdp("203.0.113.8", 5000, "8", &[])), 200);
    let agreed = media(&sim);
    assert_eq!((agreed.codec, agreed.remote_rtp), (AudioCodec::Pcma, "203.0.113.8:5000".parse().ok()));
    let call = sim.kept.calls_in(conference.id, ConferencecallStatus::Joined)[0];
    assert_eq!(sim.kept.calls[&call].codec, "PCMA");
}

#[test]
fn the_version_of_our_description_grows_exactly_when_it_changes() {
    let mut sim = Sim::new(4);
    let (_, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    let origin = |sim: &Sim| {
        let description = &sim.phones[phones[0]].description;
        let line = description.lines().find(|line| line.starts_with("o=")).expect("an origin");
        let parts: Vec<u64> = line.split(' ').filter_map(|part| part.parse().ok()).collect();
        (parts[0], parts[1])
    };
    let (id, version) = origin(&sim);
    let usual = sim.phones[phones[0]].offer();
    reinvite(&mut sim, phones[0], &usual);
    assert_eq!(origin(&sim), (id, version));
    reinvite(&mut sim, phones[0], &sdp("192.0.2.20", 4000, "0", &["inactive"]));
    assert_eq!(origin(&sim), (id, version + 1));
}

#[test]
fn a_refused_reinvite_leaves_the_call_as_it_was() {
    let mut sim = Sim::new(5);
    let (_, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    let before = media(&sim);
    assert_eq!(reinvite(&mut sim, phones[0], &sdp("192.0.2.20", 4000, "18", &[])), 488);
    assert_eq!(reinvite(&mut sim, phones[0], "v=0\r\nnonsense\r\n"), 400);
    assert_eq!((media(&sim), sim.phones[phones[0]].stage), (before, Stage::InCall));
}

#[test]
fn an_invite_without_an_offer_gets_one_and_joins_with_the_ack() {
    let mut sim = Sim::new(6);
    let conference = sim.create(ConferenceType::Conference);
    let uri = uri_of(&conference);
    let phone = sim.phone();
    sim.phones[phone].late_answer = sdp("192.0.2.20", 4004, "8", &[]);
    sim.at_phone(phone, |phone, now| phone.dial_with(now, &uri, "", ""));
    sim.run(std::time::Duration::from_millis(20));
    assert_eq!(sim.kept.calls_in(conference.id, ConferencecallStatus::Joining).len(), 1);
    assert!(sim.plane.legs.is_empty() && sim.ports.held.len() == 1);
    sim.run(SOON);
    assert!(sim.phones[phone].description.contains("RTP/AVP 0 8 101"), "an offer of all we have");
    assert_eq!(sim.kept.calls_in(conference.id, ConferencecallStatus::Joined).len(), 1);
    assert_eq!(
        (media(&sim).codec, media(&sim).remote_rtp),
        (AudioCodec::Pcma, "192.0.2.20:4004".parse().ok())
    );
}

#[test]
fn an_offer_of_ours_that_gets_no_usable_answer_ends_the_call() {
    for answer in ["", "v=0\r\nnonsense\r\n", &sdp("192.0.2.20", 4004, "18", &[])] {
        let mut sim = Sim::new(7);
        let uri = uri_of(&sim.create(ConferenceType::Conference));
        let phone = sim.phone();
        answer.clone_into(&mut sim.phones[phone].late_answer);
        sim.at_phone(phone, |phone, now| phone.dial_with(now, &uri, "", ""));
        sim.run(SOON);
        assert_eq!(sim.phones[phone].stage, Stage::Over(200), "{answer:?}");
        assert!(sim.phones[phone].bye_reason.clone().expect("a BYE").contains("SIP;cause=488"));
        sim.run(LATER);
        assert_nothing_left(&sim);
    }
}

#[test]
fn a_reinvite_without_an_offer_gets_one_and_changes_with_the_ack() {
    let mut sim = Sim::new(8);
    let (_, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    sim.phones[phones[0]].late_answer = sdp("203.0.113.8", 5000, "8", &[]);
    assert_eq!(reinvite(&mut sim, phones[0], ""), 200);
    assert_eq!(media(&sim).remote_rtp, "203.0.113.8:5000".parse().ok());
    // One whose ACK brings nothing usable leaves the session as it was.
    sim.phones[phones[0]].late_answer.clear();
    assert_eq!(reinvite(&mut sim, phones[0], ""), 200);
    assert_eq!(sim.phones[phones[0]].stage, Stage::InCall);
    assert_eq!(media(&sim).remote_rtp, "203.0.113.8:5000".parse().ok());
}

#[test]
fn the_advertised_address_is_told_in_sdp_and_contact() {
    let mut sim = Sim::with(9, Settings { advertise: "203.0.113.77".parse().ok(), ..Settings::default() });
    let (_, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    let phone = &sim.phones[phones[0]];
    assert!(phone.description.contains("c=IN IP4 203.0.113.77\r\n"));
    let answer = phone.got.iter().find(|text| text.status() == Some(200)).expect("a 200");
    assert_eq!(answer.header("Contact"), "<sip:confab@203.0.113.77:5060>");
}

fn digits(sim: &Sim) -> Vec<(String, u64)> {
    let events = sim.kept.events.values().flatten().filter(|event| event.r#type == "dtmf_received");
    let read = |event: &confab::bridge::event::Event| {
        assert_eq!(event.data["conferencecall"]["status"], "joined");
        let digit = event.data["digit"].as_str().expect("a digit").to_owned();
        (digit, event.data["duration"].as_u64().expect("a duration"))
    };
    events.map(read).collect()
}

#[test]
fn digits_of_the_data_plane_and_of_info_are_told() {
    let mut sim = Sim::new(10);
    let (_, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    let leg = *sim.plane.legs.keys().next().expect("one leg");
    sim.report(ShardReport::Digit { leg, digit: '5', duration_ms: 160 });
    let info = |kind: &str| format!("Content-Type: {kind}\r\n");
    let rows = [
        (info("application/dtmf-relay"), "Signal=#\r\nDuration=90\r\n", 200),
        (info("application/dtmf"), "7", 200),
        (info("application/dtmf"), "what", 400),
        (info("text/plain"), "7", 415),
        (String::new(), "", 200),
    ];
    for (extra, body, status) in rows {
        sim.at_phone(phones[0], |phone, now| phone.request(now, "INFO", &extra, body));
        sim.run(SOON);
        let last = sim.phones[phones[0]].heard.last().cloned();
        assert_eq!(last, Some((status, "INFO".to_owned())), "{extra} {body}");
    }
    assert_eq!(digits(&sim), [("5".to_owned(), 160), ("#".to_owned(), 90), ("7".to_owned(), 250)]);
    assert_eq!(sim.bridge.gauges().digits_total, 3);
}
