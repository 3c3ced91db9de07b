//! What offers as phones send them must give, the tables of RFC 3264, and noise.

use std::net::{IpAddr, SocketAddr};

use super::*;
use crate::audio::AudioCodec;
use crate::rng::Rng;

const FIXTURES: [(&str, &[u8]); 14] = [
    ("linphone", include_bytes!("../../fixtures/sdp/linphone.sdp")),
    ("zoiper", include_bytes!("../../fixtures/sdp/zoiper.sdp")),
    ("baresip", include_bytes!("../../fixtures/sdp/baresip.sdp")),
    ("asterisk", include_bytes!("../../fixtures/sdp/asterisk.sdp")),
    ("freeswitch", include_bytes!("../../fixtures/sdp/freeswitch.sdp")),
    ("browser", include_bytes!("../../fixtures/sdp/browser.sdp")),
    ("sipp", include_bytes!("../../fixtures/sdp/sipp.sdp")),
    ("video_phone", include_bytes!("../../fixtures/sdp/video_phone.sdp")),
    ("held_old_style", include_bytes!("../../fixtures/sdp/held_old_style.sdp")),
    ("ipv6", include_bytes!("../../fixtures/sdp/ipv6.sdp")),
    ("secure_only", include_bytes!("../../fixtures/sdp/secure_only.sdp")),
    ("multicast", include_bytes!("../../fixtures/sdp/multicast.sdp")),
    ("wideband_only", include_bytes!("../../fixtures/sdp/wideband_only.sdp")),
    ("quirks", include_bytes!("../../fixtures/sdp/quirks.sdp")),
];

fn fixture(name: &str) -> SessionDescription {
    let (_, bytes) = FIXTURES.iter().find(|(n, _)| *n == name).expect("a named fixture");
    parse(bytes).expect(name)
}

fn policy() -> Policy<'static> {
    Policy { session_id: 7, session_version: 3, ..Policy::new(IpAddr::from([203, 0, 113, 1]), 20_000) }
}

fn socket(text: &str) -> Option<SocketAddr> {
    Some(text.parse().expect("a test's own address"))
}

/// An offer of PCMU with these lines at media level.
fn offer_with(lines: &str) -> SessionDescription {
    let text = format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 4000 RTP/AVP 0\r\n{lines}"
    );
    parse(text.as_bytes()).expect("a test's own offer")
}

fn plan_for(lines: &str) -> MediaPlan {
    answer(&offer_with(lines), &policy()).expect("an acceptable offer").1
}

fn refusal_of(text: &str) -> u16 {
    let offer = parse(text.as_bytes()).expect("a test's own offer");
    answer(&offer, &policy()).expect_err("a refusal").warning_code
}

#[test]
fn linphone_gets_the_first_codec_we_share_and_its_narrowband_events() {
    let (answer, plan) = answer(&fixture("linphone"), &policy()).expect("acceptable");
    assert_eq!(
        plan,
        MediaPlan {
            remote_rtp: socket("192.0.2.10:7078"),
            remote_rtcp: socket("192.0.2.10:7079"),
            rtcp_mux: false,
            codec: AudioCodec::Pcmu,
            payload_type_in: 0,
            payload_type_out: 0,
            telephone_event: Some(100),
            telephone_event_out: Some(100),
            ptime_ms: 20,
            send: true,
            receive: true,
            on_hold: false,
        }
    );
    assert_eq!(
        answer.to_string(),
        "v=0\r\no=- 7 3 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n\
         m=audio 20000 RTP/AVP 0 100\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:100 telephone-event/8000\r\na=fmtp:100 0-15\r\na=ptime:20\r\n\
         a=maxptime:60\r\na=sendrecv\r\n"
    );
}

#[test]
fn zoiper_is_answered_with_one_port() {
    let (answer, plan) = answer(&fixture("zoiper"), &policy()).expect("acceptable");
    assert!(plan.rtcp_mux);
    assert_eq!(plan.remote_rtcp, plan.remote_rtp);
    assert_eq!(plan.telephone_event, Some(101));
    assert!(answer.media[0].attribute("rtcp-mux").is_some());
    assert_eq!(answer.media[0].attribute_value("fmtp"), Some("101 0-15"), "no flash");
}

#[test]
fn baresip_prefers_a_law_and_so_do_we() {
    let offer = fixture("baresip");
    let (_, plan) = answer(&offer, &policy()).expect("acceptable");
    assert_eq!((plan.codec, plan.payload_type_in), (AudioCodec::Pcma, 8));
    assert_eq!(plan.remote_rtcp, socket("192.0.2.33:21457"));
    let ours = Policy { codec_order: CodecOrder::Ours, ..policy() };
    assert_eq!(answer(&offer, &ours).expect("acceptable").1.codec, AudioCodec::Pcmu);
}

#[test]
fn asterisk_freeswitch_and_sipp_are_answered_plainly() {
    for (name, port, events) in
        [("asterisk", 18_472, Some(101)), ("freeswitch", 29_316, Some(101)), ("sipp", 6000, None)]
    {
        let (answer, plan) = answer(&fixture(name), &policy()).expect(name);
        assert_eq!(plan.codec, AudioCodec::Pcmu, "{name}");
        assert_eq!(plan.remote_rtp.map(|a| a.port()), Some(port), "{name}");
        assert_eq!(plan.telephone_event, events, "{name}");
        assert_eq!(answer.media[0].formats.len(), 1 + usize::from(events.is_some()), "{name}");
    }
}

#[test]
fn a_video_phone_keeps_its_order_of_streams_and_its_numbers() {
    let offer = fixture("video_phone");
    let (answer, plan) = answer(&offer, &policy()).expect("acceptable");
    let lines: Vec<String> = answer
        .media
        .iter()
        .map(|m| format!("{} {} {} {}", m.kind, m.port, m.protocol, m.formats.join(" ")))
        .collect();
    assert_eq!(lines, ["video 0 RTP/AVP 106 105", "audio 20000 RTP/AVPF 96 97", "application 0 UDP/BFCP *"]);
    assert_eq!((plan.codec, plan.payload_type_in, plan.payload_type_out), (AudioCodec::Pcmu, 96, 96));
    assert_eq!(plan.ptime_ms, 30);
    assert_eq!(plan.remote_rtp, socket("192.0.2.62:11782"));
    assert_eq!(answer.timings, offer.timings, "RFC 3264 §6: the t= line is the offer's");
    assert_eq!(answer.media[1].attribute_value("fmtp"), Some("97 0-9,11"));
    assert_eq!(answer.media[1].attribute_value("ptime"), Some("30"));
}

#[test]
fn the_old_hold_is_a_hold() {
    let (answer, plan) = answer(&fixture("held_old_style"), &policy()).expect("acceptable");
    assert!(plan.on_hold && !plan.send && plan.receive);
    assert_eq!(plan.remote_rtp, None);
    assert!(answer.media[0].attribute("recvonly").is_some());
}

#[test]
fn quirks_are_read_through() {
    let offer = fixture("quirks");
    assert_eq!(offer.name, "caf\u{fffd}");
    assert_eq!(offer.origin.username, "caf\u{fffd} bar");
    let (_, plan) = answer(&offer, &policy()).expect("acceptable");
    assert_eq!(plan.remote_rtp, socket("192.0.2.50:4000"));
    assert!(plan.on_hold && plan.receive);
}

#[test]
fn ipv6_is_answered_with_ipv6_and_refused_with_ipv4() {
    let offer = fixture("ipv6");
    assert_eq!(answer(&offer, &policy()).map_err(|r| r.warning_code), Err(301));
    let ours: IpAddr = "2001:db8::1".parse().expect("an address");
    let (answer, plan) = answer(&offer, &Policy::new(ours, 20_000)).expect("acceptable");
    assert_eq!(plan.remote_rtp, socket("[2001:db8::10]:40000"));
    assert_eq!(plan.codec, AudioCodec::Pcma);
    assert!(answer.to_string().contains("\r\nc=IN IP6 2001:db8::1\r\n"));
    assert_eq!(answer.origin.address, "IN IP6 2001:db8::1");
}

#[test]
fn refusals_name_their_reason() {
    for (name, code) in [("browser", 302), ("secure_only", 302), ("multicast", 330), ("wideband_only", 305)] {
        let offer = fixture(name);
        assert_eq!(answer(&offer, &policy()).map_err(|r| r.warning_code), Err(code), "{name}");
        assert_eq!(preview(&offer, &AudioCodec::ALL).map_err(|r| r.warning_code), Err(code), "{name}");
    }
    let head = "v=0\nc=IN IP4 192.0.2.1\n";
    assert_eq!(refusal_of(head), 304);
    assert_eq!(refusal_of(&format!("{head}m=video 4000 RTP/AVP 0\n")), 304);
    assert_eq!(refusal_of(&format!("{head}m=audio 0 RTP/AVP 0\n")), 304);
    assert_eq!(refusal_of("v=0\nm=audio 4000 RTP/AVP 0\n"), 307);
    let refusal = Refusal { warning_code: 305, text: "no" };
    assert_eq!(refusal.warning_value("confab.example"), "305 confab.example \"no\"");
}

#[test]
fn the_first_stream_that_can_be_taken_is_taken() {
    let text = "v=0\nc=IN IP4 192.0.2.1\nm=audio 0 RTP/AVP 0\nm=audio 4000 RTP/SAVP 0\n\
                m=audio 4002 RTP/AVP 18\nm=audio 4004 RTP/AVP 8\nm=audio 4006 RTP/AVP 0\n";
    let offer = parse(text.as_bytes()).expect("valid");
    let (answer, plan) = answer(&offer, &policy()).expect("acceptable");
    let ports: Vec<u16> = answer.media.iter().map(|m| m.port).collect();
    assert_eq!(ports, [0, 0, 0, 20_000, 0]);
    assert_eq!(plan.remote_rtp, socket("192.0.2.1:4004"));
    let formats: Vec<&str> = answer.media.iter().map(|m| m.formats[0].as_str()).collect();
    assert_eq!(formats, ["0", "0", "18", "8", "0"]);
}

#[test]
fn direction_table_of_rfc_3264() {
    // Offered, the connection is 0.0.0.0; answered, we send, we receive, we are on hold.
    for (offered, nowhere, answered, send, receive, hold) in [
        ("sendrecv", false, "sendrecv", true, true, false),
        ("sendonly", false, "recvonly", false, true, true),
        ("recvonly", false, "sendonly", true, false, false),
        ("inactive", false, "inactive", false, false, true),
        ("sendrecv", true, "recvonly", false, true, true),
        ("sendonly", true, "recvonly", false, true, true),
        ("recvonly", true, "inactive", false, false, true),
        ("inactive", true, "inactive", false, false, true),
    ] {
        let connection = if nowhere { "c=IN IP4 0.0.0.0\r\n" } else { "" };
        let offer = offer_with(&format!("{connection}a={offered}\r\n"));
        let (answer, plan) = answer(&offer, &policy()).expect("acceptable");
        let case = format!("{offered} {nowhere}");
        assert_eq!((plan.send, plan.receive, plan.on_hold), (send, receive, hold), "{case}");
        assert!(answer.media[0].attribute(answered).is_some(), "{case}: {answer}");
        assert_eq!(answer.direction_of(&answer.media[0]).name(), answered, "{case}");
    }
}

#[test]
fn the_session_level_direction_holds_unless_the_media_says_otherwise() {
    let text = "v=0\nc=IN IP4 192.0.2.1\na=inactive\nm=audio 4000 RTP/AVP 0\n";
    let direction = |text: &str| {
        let offer = parse(text.as_bytes()).expect("valid");
        offer.direction_of(&offer.media[0])
    };
    assert_eq!(direction(text), Direction::Inactive);
    assert_eq!(direction(&format!("{text}a=sendrecv\n")), Direction::SendRecv);
}

#[test]
fn the_packet_time_goes_both_ways() {
    for (lines, ms) in [("", 20), ("a=ptime:40\r\n", 40), ("a=ptime:40\r\na=maxptime:30\r\n", 30)] {
        let (answer, plan) = answer(&offer_with(lines), &policy()).expect("acceptable");
        assert_eq!(plan.ptime_ms, ms);
        assert_eq!(answer.media[0].attribute_value("ptime"), Some(ms.to_string().as_str()));
    }
    let ours = Policy { ptime_ms: 30, ..policy() };
    assert_eq!(answer(&offer_with(""), &ours).expect("acceptable").1.ptime_ms, 30);
}

#[test]
fn multiplexing_and_events_only_where_policy_wants_them() {
    let lines = "a=rtcp-mux\r\n";
    assert!(plan_for(lines).rtcp_mux);
    let apart = Policy { rtcp_mux: false, rtcp_port: Some(30_001), ..policy() };
    let (answer_apart, plan) = answer(&offer_with(lines), &apart).expect("acceptable");
    assert!(!plan.rtcp_mux);
    assert!(answer_apart.media[0].attribute("rtcp-mux").is_none());
    assert_eq!(answer_apart.media[0].attribute_value("rtcp"), Some("30001"));
    let deaf = Policy { telephone_event: false, ..policy() };
    let (answer, plan) = answer(&fixture("asterisk"), &deaf).expect("acceptable");
    assert_eq!(plan.telephone_event, None);
    assert_eq!(answer.media[0].formats, ["0"]);
}

#[test]
fn a_host_name_as_address_is_left_to_the_latch() {
    let plan = plan_for("c=IN IP4 phone.example.com\r\n");
    assert_eq!(plan.remote_rtp, None);
    assert!(plan.send && !plan.on_hold);
}

#[test]
fn preview_tells_what_to_bind() {
    let seen = preview(&fixture("zoiper"), &AudioCodec::ALL).expect("acceptable");
    assert_eq!(seen, Preview { address: Some(IpAddr::from([198, 51, 100, 23])), rtcp_mux: true });
    let only_a_law = preview(&fixture("sipp"), &[AudioCodec::Pcma]);
    assert_eq!(only_a_law.map_err(|r| r.warning_code), Err(305));
}

#[test]
fn our_offer_and_our_answer_agree() {
    let caller = policy();
    let callee = Policy::new(IpAddr::from([203, 0, 113, 2]), 30_000);
    let offer = offer(&caller);
    let (answer, there) = answer(&offer, &callee).expect("we understand ourselves");
    let here = accept_answer(&offer, &answer).expect("we understand ourselves");
    assert_eq!(here.remote_rtp, socket("203.0.113.2:30000"));
    assert_eq!(there.remote_rtp, socket("203.0.113.1:20000"));
    assert_eq!(here.telephone_event, Some(101));
    let places_aside = MediaPlan { remote_rtp: there.remote_rtp, remote_rtcp: there.remote_rtcp, ..here };
    assert_eq!(places_aside, there);
}

#[test]
fn an_answer_may_renumber_hold_and_choose() {
    let offered = offer(&policy());
    let read = |lines: &str| {
        let text = format!("v=0\nc=IN IP4 192.0.2.1\n{lines}");
        accept_answer(&offered, &parse(text.as_bytes()).expect("valid"))
    };
    let plan = read(
        "m=audio 4000 RTP/AVP 96 97\na=rtpmap:96 PCMA/8000\na=rtpmap:97 telephone-event/8000\n\
         a=sendonly\na=ptime:30\n",
    )
    .expect("acceptable");
    assert_eq!((plan.codec, plan.payload_type_in, plan.payload_type_out), (AudioCodec::Pcma, 8, 96));
    assert_eq!((plan.telephone_event, plan.telephone_event_out), (Some(101), Some(97)));
    assert!(plan.on_hold && !plan.send && plan.receive && !plan.rtcp_mux);
    assert_eq!(plan.ptime_ms, 30);
    assert_eq!(plan.remote_rtcp, socket("192.0.2.1:4001"));
    let code = |lines: &str| read(lines).map_err(|r| r.warning_code);
    assert_eq!(code("m=audio 0 RTP/AVP 0\n"), Err(304));
    assert_eq!(code(""), Err(304));
    assert_eq!(code("m=audio 4000 RTP/AVP 9\n"), Err(305));
    assert_eq!(code("m=audio 4000 RTP/SAVP 0\n"), Err(302));
    assert_eq!(read("m=audio 4000 RTP/AVP 0\n").map(|p| p.telephone_event), Ok(None));
}

#[test]
fn our_offer_says_where_rtcp_goes_when_one_cannot_guess() {
    let usual = offer(&policy());
    assert_eq!(usual.media[0].attribute_value("rtcp"), None);
    assert!(usual.media[0].attribute("rtcp-mux").is_some());
    let unusual = offer(&Policy { rtcp_port: Some(29_999), ..policy() });
    assert_eq!(unusual.media[0].attribute_value("rtcp"), Some("29999"));
}

#[test]
fn the_version_grows_only_when_something_changed() {
    let mut session = Session::new(u64::MAX, 5);
    let first = offer(&policy());
    let sent = session.next(&first);
    assert_eq!((sent.origin.session_id.as_str(), sent.origin.version.as_str()), ("9223372036854775807", "5"));
    assert_eq!(session.next(&first), sent, "a refresh is the same text");
    let moved = offer(&Policy { rtp_port: 20_002, ..policy() });
    assert_eq!(session.next(&moved).origin.version, "6");
    assert_eq!(session.next(&moved).origin.version, "6");
    assert_eq!(session.next(&first).origin.version, "7");
    assert_eq!(session.next(&first).origin.session_id, sent.origin.session_id);
}

#[test]
fn what_is_read_writes_and_reads_the_same() {
    for (name, bytes) in FIXTURES {
        let once = parse(bytes).expect(name);
        assert_eq!(parse(once.to_string().as_bytes()), Ok(once), "{name}");
    }
}

#[test]
fn malformed_lines_name_their_fault() {
    for (text, error) in [
        ("", SdpError::Version),
        ("s=-\n", SdpError::Version),
        ("v=1\n", SdpError::Version),
        ("v=0\nhello\n", SdpError::Line),
        ("v=0\nab=1\n", SdpError::Line),
        ("v=0\no=- 1 IN IP4\n", SdpError::Origin),
        ("v=0\nc=IN IP4\n", SdpError::Connection),
        ("v=0\nc=IN IP4 999.1.1.1\n", SdpError::Connection),
        ("v=0\nc=ATM NSAP x\n", SdpError::Connection),
        ("v=0\nt=now\n", SdpError::Timing),
        ("v=0\nm=audio\n", SdpError::Media),
        ("v=0\nm=audio 4000 RTP/AVP\n", SdpError::Media),
        ("v=0\nm=audio 70000 RTP/AVP 0\n", SdpError::Media),
        ("v=0\nm=audio -1 RTP/AVP 0\n", SdpError::Media),
    ] {
        assert_eq!(parse(text.as_bytes()), Err(error), "{text:?}");
    }
}

#[test]
fn limits_hold_on_both_sides() {
    let media = |count: usize| format!("v=0\n{}", "m=audio 4 RTP/AVP 0\n".repeat(count));
    assert!(parse(media(MAX_MEDIA).as_bytes()).is_ok());
    assert_eq!(parse(media(MAX_MEDIA + 1).as_bytes()), Err(SdpError::TooMany));
    let formats = |count: usize| format!("v=0\nm=audio 4 RTP/AVP{}\n", " 0".repeat(count));
    assert!(parse(formats(MAX_FORMATS).as_bytes()).is_ok());
    assert_eq!(parse(formats(MAX_FORMATS + 1).as_bytes()), Err(SdpError::TooMany));
    let attributes = |count: usize| format!("v=0\n{}", "a=x\n".repeat(count));
    assert!(parse(attributes(MAX_ATTRIBUTES).as_bytes()).is_ok());
    assert_eq!(parse(attributes(MAX_ATTRIBUTES + 1).as_bytes()), Err(SdpError::TooMany));
    let timings = |count: usize| format!("v=0\n{}", "t=0 0\n".repeat(count));
    assert!(parse(timings(MAX_TIMINGS).as_bytes()).is_ok());
    assert_eq!(parse(timings(MAX_TIMINGS + 1).as_bytes()), Err(SdpError::TooMany));
    let long = |bytes: usize| format!("v=0\ns={}", "x".repeat(bytes - 6));
    assert!(parse(long(MAX_BYTES).as_bytes()).is_ok());
    assert_eq!(parse(long(MAX_BYTES + 1).as_bytes()), Err(SdpError::TooLong));
}

/// Runs everything that reads a peer's description; whatever parses must round-trip.
fn exercise(bytes: &[u8]) -> bool {
    let Ok(description) = parse(bytes) else {
        return false;
    };
    let written = description.to_string();
    if written.len() <= MAX_BYTES {
        assert_eq!(parse(written.as_bytes()), Ok(description.clone()), "{written:?}");
    }
    let _ = preview(&description, &AudioCodec::ALL);
    let _ = accept_answer(&offer(&policy()), &description);
    if let Ok((answer, plan)) = answer(&description, &policy()) {
        assert_eq!(answer.media.len(), description.media.len());
        assert_eq!(answer.media.iter().filter(|m| m.port != 0).count(), 1);
        assert!((MIN_PTIME_MS..=MAX_PTIME_MS).contains(&plan.ptime_ms) && plan.ptime_ms % 10 == 0);
        assert_eq!(parse(answer.to_string().as_bytes()), Ok(answer));
    }
    true
}

#[test]
fn every_truncation_of_every_fixture_is_survived() {
    for (_, bytes) in FIXTURES {
        for end in 0..bytes.len() {
            exercise(&bytes[..end]);
        }
    }
}

#[test]
fn seeded_flips_are_survived() {
    let mut rng = Rng::from_number(8866);
    let mut read = 0;
    for round in 0..6000 {
        let mut bytes = FIXTURES[round % FIXTURES.len()].1.to_vec();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
        }
        read += usize::from(exercise(&bytes));
    }
    assert!(read > 1000, "flips must reach past the first lines: {read}");
}
