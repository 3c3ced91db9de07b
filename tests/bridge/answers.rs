//! The table "Calls over SIP", row by row.

use std::time::Duration;

use confab::bridge::Settings;
use confab::bridge::resource::{ConferenceStatus, ConferenceType, ConferencecallStatus};

use crate::scenes::{SOON, direct_access, filled, final_status, header_of_answer, status_of_call, uri_of};
use crate::support::message::sdp;
use crate::support::{Phone, PhoneId, Sim, Stage};

#[test]
fn an_invite_for_a_live_hash_is_answered_100_at_once_then_200_with_sdp_and_joins() {
    let mut sim = Sim::new(1);
    let conference = sim.create(ConferenceType::Conference);
    let phone = sim.dial(&uri_of(&conference));
    sim.run(Duration::from_millis(20));
    let phone = &sim.phones[phone];
    assert_eq!(phone.heard, [(100, "INVITE".to_owned()), (200, "INVITE".to_owned())]);
    assert!(phone.description.contains("m=audio 20000 RTP/AVP 0 101\r\n"), "{}", phone.description);
    assert!(phone.description.contains("c=IN IP4 192.0.2.1\r\n"));
    let told = sim.kept.told(conference.id);
    assert_eq!(
        told,
        ["conference_created", "conference_updated", "conferencecall_joining", "conferencecall_joined"]
    );
    let joined = sim.kept.calls_in(conference.id, ConferencecallStatus::Joined);
    let call = sim.call(joined[0]).expect("it is in");
    assert_eq!(
        (call.codec.as_str(), call.direction.as_str(), call.reference_type.as_str()),
        ("PCMU", "incoming", "call")
    );
    assert_eq!(call.source.target, "sip:phone1@192.0.2.20:5060");
    assert_eq!(call.source.target_name, "phone1");
    let shown = &conference.direct_hash[..4];
    assert_eq!(call.destination.target, format!("sip:direct.{shown}…@sip.voipbin.net"));
    assert_eq!(sim.conference(conference.id).expect("it is live").conferencecall_ids, joined);
}

#[test]
fn an_unknown_a_disabled_and_a_regenerated_hash_are_404() {
    let mut sim = Sim::new(2);
    assert_eq!(status_of_call(&mut sim, "sip:direct.000000000000@sip.voipbin.net"), 404);
    let conference = sim.create(ConferenceType::Conference);
    let old = uri_of(&conference);
    let fresh = uri_of(&sim.regenerate(conference.id));
    assert_eq!(status_of_call(&mut sim, &old), 404);
    assert_eq!(status_of_call(&mut sim, &fresh), 200);
    let off = sim.update(conference.id, direct_access(false));
    assert_eq!(off.direct_hash, "");
    assert_eq!(status_of_call(&mut sim, &fresh), 404);
    assert_eq!(
        sim.conference(conference.id).expect("live").conferencecall_ids.len(),
        1,
        "who is in stays in"
    );
    let on = sim.update(conference.id, direct_access(true));
    assert_eq!(status_of_call(&mut sim, &uri_of(&on)), 200);
}

#[test]
fn only_the_exact_user_part_is_a_hash() {
    let mut sim = Sim::new(3);
    let hash = sim.create(ConferenceType::Conference).direct_hash;
    for user in
        [hash.clone(), format!("Direct.{hash}"), format!("direct.{}", &hash[..11]), format!("direct.{hash}0")]
    {
        assert_eq!(status_of_call(&mut sim, &format!("sip:{user}@sip.voipbin.net")), 404, "{user}");
    }
    assert_eq!(status_of_call(&mut sim, &format!("sip:direct.{hash}:pw@sip.voipbin.net")), 404);
    assert_eq!(status_of_call(&mut sim, "sip:sip.voipbin.net"), 404);
    // RFC 3261 §19.1.4: an escaped character equals itself, parameters and host case do not matter.
    assert_eq!(status_of_call(&mut sim, &format!("sip:%64irect.{hash}@SIP.VoipBin.Net;transport=udp")), 200);
    assert_eq!(status_of_call(&mut sim, &format!("sip:direct.{hash}@192.0.2.1:5060")), 200);
}

#[test]
fn a_terminating_conference_is_480_an_ended_one_410_and_a_deleted_one_404() {
    let mut sim = Sim::new(4);
    let (timed, _) = filled(&mut sim, ConferenceType::Conference, 1);
    let (deleted, _) = filled(&mut sim, ConferenceType::Conference, 1);
    sim.plane.silent = true;
    sim.update(timed.id, crate::scenes::timeout_of(1));
    sim.run(Duration::from_secs(1));
    sim.delete(deleted.id);
    for conference in [&timed, &deleted] {
        let status = sim.conference(conference.id).expect("it is held").status;
        assert_eq!(status, ConferenceStatus::Terminating);
        assert_eq!(status_of_call(&mut sim, &uri_of(conference)), 480);
    }
    sim.run(Duration::from_secs(40));
    assert_eq!(status_of_call(&mut sim, &uri_of(&timed)), 410);
    assert_eq!(status_of_call(&mut sim, &uri_of(&deleted)), 404);
    sim.run(Duration::from_secs(60));
    assert!(sim.conference(timed.id).is_none(), "the bridge has forgotten it");
    assert_eq!(status_of_call(&mut sim, &uri_of(&timed)), 410, "but not its hash");
}

#[test]
fn a_third_caller_of_a_connect_is_486() {
    let mut sim = Sim::new(5);
    let (connect, phones) = filled(&mut sim, ConferenceType::Connect, 2);
    assert_eq!(status_of_call(&mut sim, &uri_of(&connect)), 486);
    assert!(phones.iter().all(|phone| sim.phones[*phone].stage == Stage::InCall));
}

#[test]
fn no_common_codec_and_no_audio_are_488_with_a_warning() {
    let mut sim = Sim::new(6);
    let conference = sim.create(ConferenceType::Conference);
    let rows = [
        (sdp("192.0.2.50", 4000, "18 9", &[]), "305 confab"),
        (sdp("192.0.2.50", 4000, "0", &[]).replace("m=audio", "m=video"), "304 confab"),
        (sdp("192.0.2.50", 4000, "0", &[]).replace("RTP/AVP", "RTP/SAVP"), "302 confab"),
        (sdp("192.0.2.50", 4000, "0", &[]).replace("IP4 192.0.2.50", "IP6 2001:db8::9"), "301 confab"),
    ];
    for (offer, warning) in rows {
        let phone = sim.dial_with(&uri_of(&conference), &offer);
        sim.run(SOON);
        assert_eq!(final_status(&sim, phone), 488, "{offer}");
        assert!(header_of_answer(&sim, phone, "Warning").starts_with(warning), "{offer}");
    }
    assert!(sim.ports.held.is_empty() && sim.plane.legs.is_empty() && sim.kept.calls.is_empty());
}

#[test]
fn a_broken_session_description_is_400_with_the_fault_named() {
    let mut sim = Sim::new(7);
    let conference = sim.create(ConferenceType::Conference);
    let phone = sim.dial_with(&uri_of(&conference), "v=0\r\nwhat is this\r\n");
    sim.run(SOON);
    let answer = sim.phones[phone].got.last().expect("an answer");
    assert_eq!(
        (answer.status(), answer.reason().starts_with("Bad SDP: ")),
        (Some(400), true),
        "{}",
        answer.first
    );
}

#[test]
fn a_host_that_is_not_ours_is_404_and_a_tel_uri_416() {
    let mut sim = Sim::new(8);
    let hash = sim.create(ConferenceType::Conference).direct_hash;
    assert_eq!(status_of_call(&mut sim, &format!("sip:direct.{hash}@sip.example.org")), 404);
    assert_eq!(status_of_call(&mut sim, "tel:+15550100"), 416);
}

/// The answer to a request of this method and these extra headers outside any call.
fn asked(sim: &mut Sim, method: &'static str, uri: &str, extra: &str) -> PhoneId {
    let phone = sim.phone();
    sim.at_phone(phone, |phone: &mut Phone, now| phone.ask(now, method, uri, extra));
    sim.run(SOON);
    phone
}

#[test]
fn an_unknown_extension_is_420_an_unknown_method_501_and_a_known_one_out_of_place_405() {
    let mut sim = Sim::new(9);
    let uri = uri_of(&sim.create(ConferenceType::Conference));
    let phone = sim.phone();
    sim.at_phone(phone, |phone, now| {
        let offer = phone.offer();
        phone.dial_with(now, &uri, &offer, "Require: teleport\r\n");
    });
    sim.run(SOON);
    assert_eq!(
        (final_status(&sim, phone), header_of_answer(&sim, phone, "Unsupported").as_str()),
        (420, "teleport")
    );
    let phone = asked(&mut sim, "FROBNICATE", &uri, "");
    assert_eq!(sim.phones[phone].heard, [(501, "FROBNICATE".to_owned())]);
    let phone = asked(&mut sim, "REGISTER", "sip:sip.voipbin.net", "");
    assert_eq!(sim.phones[phone].heard, [(405, "REGISTER".to_owned())]);
    assert!(header_of_answer(&sim, phone, "Allow").contains("INVITE"));
}

#[test]
fn a_malformed_request_is_400_with_its_fault_or_dropped_and_counted() {
    let mut sim = Sim::new(10);
    let phone = sim.phone();
    let head = "OPTIONS sip:sip.voipbin.net SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKx\r\n";
    let rest = "From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\n";
    sim.send_raw(phone, &format!("{head}{rest}CSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n"));
    sim.send_raw(phone, &format!("{head}From: <sip:a@b>;tag=1\r\n\r\n"));
    sim.send_raw(phone, "hello?\r\n\r\n");
    sim.run(SOON);
    let counters = sim.bridge.gauges().sip;
    assert_eq!((counters.malformed, counters.dropped_total()), (1, 2));
    // The phone asked for none of it: its answers belong to no request of its own.
    assert!(sim.phones[phone].heard.is_empty());
}

#[test]
fn over_capacity_is_503_with_retry_after_whatever_is_exhausted() {
    let mut sim = Sim::with(11, Settings { max_calls: 1, retry_after_s: 7, ..Settings::default() });
    let (conference, phones) = filled(&mut sim, ConferenceType::Conference, 1);
    let phone = sim.dial(&uri_of(&conference));
    sim.run(SOON);
    assert_eq!(
        (final_status(&sim, phone), header_of_answer(&sim, phone, "Retry-After").as_str()),
        (503, "7")
    );
    sim.at_phone(phones[0], |phone, now| phone.hang_up(now));
    sim.run(SOON);
    sim.ports.limit = 0;
    let phone = sim.dial(&uri_of(&conference));
    sim.run(SOON);
    assert_eq!(
        (final_status(&sim, phone), header_of_answer(&sim, phone, "Retry-After").as_str()),
        (503, "7")
    );
    sim.ports.limit = 1;
    assert_eq!(status_of_call(&mut sim, &uri_of(&conference)), 200);
    let refused: Vec<_> =
        sim.bridge.gauges().refused_total.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(refused, [("calls", 1), ("rtp_ports", 1)]);
}

#[test]
fn a_draining_server_is_503_with_retry_after_also_to_options() {
    let mut sim = Sim::new(12);
    let (conference, _) = filled(&mut sim, ConferenceType::Conference, 1);
    sim.plane.silent = true;
    sim.drain();
    let phone = sim.dial(&uri_of(&conference));
    sim.run(SOON);
    assert_eq!(
        (final_status(&sim, phone), header_of_answer(&sim, phone, "Retry-After").as_str()),
        (503, "10")
    );
    let phone = asked(&mut sim, "OPTIONS", "sip:sip.voipbin.net", "");
    assert_eq!(sim.phones[phone].heard, [(503, "OPTIONS".to_owned())]);
}

#[test]
fn options_tells_what_we_can() {
    let mut sim = Sim::new(13);
    let phone = asked(&mut sim, "OPTIONS", "sip:sip.voipbin.net", "");
    assert_eq!(sim.phones[phone].heard, [(200, "OPTIONS".to_owned())]);
    assert!(header_of_answer(&sim, phone, "Allow").contains("BYE"));
    assert!(header_of_answer(&sim, phone, "Accept").contains("application/sdp"));
    assert!(sim.phones[phone].got[0].headers.iter().any(|(name, _)| name == "Supported"));
}

#[test]
fn no_note_and_no_call_shows_a_hash_whole() {
    let mut sim = Sim::new(14);
    let (conference, phones) = filled(&mut sim, ConferenceType::Conference, 2);
    status_of_call(&mut sim, &format!("sip:direct.{}@elsewhere.example", conference.direct_hash));
    let phone = sim.phone();
    let uri = uri_of(&conference);
    sim.phones[phone].from.clone_from(&uri);
    sim.at_phone(phone, |phone, now| phone.dial(now, &uri));
    sim.run(SOON);
    sim.at_phone(phones[0], |phone, now| phone.hang_up(now));
    sim.delete(conference.id);
    sim.run(SOON);
    assert!(sim.notes.len() > 8);
    let hash = conference.direct_hash.as_str();
    for note in &sim.notes {
        assert!(!note.text.contains(hash), "{note:?}");
    }
    for call in sim.kept.calls.values() {
        assert!(!format!("{call:?}").contains(hash), "{call:?}");
    }
}
