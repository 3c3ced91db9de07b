//! The answers that the endpoint gives by itself, and what they carry.

use super::support::{Peer, Rig, SDP, header, status, statuses, try_header};
use crate::sip::Event;
use crate::sip::message::DropReason;

fn with(more: &str) -> String {
    let more = format!("Contact: <sip:ann@192.0.2.9>\r\nContent-Type: application/sdp\r\n{more}");
    Peer::new("x").request("INVITE", 1, "i", &more, SDP)
}

fn refused(message: &str) -> String {
    let mut rig = Rig::new();
    let sent = rig.say(message);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(rig.event().is_none());
    assert_eq!(rig.endpoint.transactions() + rig.endpoint.calls(), 0, "a refusal keeps no state");
    // The same request gets the same answer, to the bit (RFC 3261 §8.2.7).
    assert_eq!(rig.say(message), sent);
    sent.into_iter().next().unwrap_or_default()
}

#[test]
fn refusals_name_their_fault() {
    for (message, expected) in [
        (with("Require: 100rel, x\r\nRequire: timer\r\n"), 420),
        (with("Content-Encoding: gzip\r\n"), 415),
        (with("Accept: text/plain, application/xml;q=1\r\n"), 406),
        (with("").replace("sip:room@192.0.2.1 SIP", "tel:+1234 SIP"), 416),
        (with("").replace("Max-Forwards: 70", "Max-Forwards: 0"), 483),
        (with("").replace("application/sdp", "text/plain"), 415),
        (with("").replace("Contact: <sip:", "Contact: <http:"), 400),
        (with("").replace("Contact: <sip:ann@192.0.2.9>\r\n", ""), 400),
        (with("").replace("INVITE", "PRACK"), 405),
        (with("").replace("INVITE", "REFER"), 405),
        (with("").replace("INVITE", "BREW"), 501),
        (with("").replace("INVITE", "BYE"), 481),
        (with("").replace("INVITE", "INFO"), 481),
        (with("").replace("INVITE", "CANCEL"), 481),
        (with("").replace("To: <sip:room@192.0.2.1>", "To: <sip:room@192.0.2.1>;tag=x"), 481),
        (with("").replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), 505),
    ] {
        let answer = refused(&message);
        assert_eq!(status(&answer), expected, "{answer}\n{message}");
        assert!(header(&answer, "To").contains(";tag="), "{answer}");
        assert_eq!(header(&answer, "Server"), concat!("Confab/", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn refusals_say_what_would_do() {
    assert_eq!(
        header(&refused(&with("Require: 100rel, x\r\nRequire: timer\r\n")), "Unsupported"),
        "100rel, x, timer"
    );
    assert_eq!(
        header(&refused(&with("").replace("INVITE", "MESSAGE")), "Allow"),
        "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO"
    );
    assert_eq!(
        header(&refused(&with("").replace("application/sdp", "text/plain")), "Accept"),
        "application/sdp"
    );
    assert_eq!(header(&refused(&with("Content-Encoding: gzip\r\n")), "Accept-Encoding"), "identity");
    let missing = refused(&with("").replace("Contact: <sip:ann@192.0.2.9>\r\n", ""));
    assert!(missing.starts_with("SIP/2.0 400 Missing Contact Header\r\n"));
}

#[test]
fn whatever_identifies_a_request_is_echoed_verbatim() {
    let mut rig = Rig::new();
    let invite = with("Record-Route: <sip:p1.example;lr>, \"P 2\" <sip:p2.example;lr>\r\nRecord-Route: <sip:p3.example>\r\n")
        .replace("Via: SIP/2.0/UDP 192.0.2.9:5062", "v: SIP / 2.0/UDP  host.example:5070;rport;x=y")
        .replace("Max-Forwards", "Via: SIP/2.0/TCP  lower.example ;branch=abc, SIP/2.0/UDP l2\r\nMax-Forwards");
    let sent = rig.say(&invite);
    assert_eq!(statuses(&sent), [100]);
    assert!(!sent[0].contains("Record-Route"), "100 forms no dialog");
    let Some(Event::Invite { call, .. }) = rig.event() else { panic!("an Invite expected") };
    rig.endpoint.ring(rig.now, call, 180);
    let ringing = rig.sent_one();
    assert_eq!(header(&ringing, "Contact"), "<sip:confab@192.0.2.1:5060>");
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    let ok = rig.sent_one();
    for answer in [&ringing, &ok] {
        let vias: Vec<_> = answer.split("\r\n").filter(|line| line.starts_with("Via: ")).collect();
        assert_eq!(
            vias,
            [
                "Via: SIP / 2.0/UDP  host.example:5070;x=y;branch=z9hG4bKxi;received=192.0.2.9;rport=5062",
                "Via: SIP/2.0/TCP  lower.example ;branch=abc, SIP/2.0/UDP l2",
            ]
        );
        let routes: Vec<_> = answer.split("\r\n").filter(|line| line.starts_with("Record-Route: ")).collect();
        assert_eq!(
            routes,
            [
                "Record-Route: <sip:p1.example;lr>, \"P 2\" <sip:p2.example;lr>",
                "Record-Route: <sip:p3.example>"
            ]
        );
        assert_eq!(header(answer, "From"), "<sip:x@peer.example>;tag=peerx");
        assert_eq!(header(answer, "Call-ID"), "x@peer.example");
    }
    assert_eq!(header(&ringing, "To"), header(&ok, "To"));
    assert_eq!(header(&ok, "Allow"), "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO");
    assert_eq!(header(&ok, "Supported"), "");
    assert_eq!(header(&ok, "Content-Type"), "application/sdp");
    assert!(ok.ends_with(&format!("Content-Length: {}\r\n\r\n{SDP}", SDP.len())));
}

#[test]
fn options_is_the_owners_to_answer_and_says_what_we_can() {
    let mut rig = Rig::new();
    let options =
        Peer::new("o").request("OPTIONS", 1, "o", "", "").replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(rig.say(&options), Vec::<String>::new());
    let Some(Event::Options { key, request }) = rig.event() else { panic!("an Options expected") };
    assert_eq!(request.uri().as_str(), "sip:room@192.0.2.1");
    rig.endpoint.answer(rig.now, key, 200, "", &[("X-Load", "1\r\nEvil: 2")], bytes::Bytes::new());
    let answer = rig.sent_one();
    assert_eq!(header(&answer, "Accept"), "application/sdp");
    assert_eq!(header(&answer, "Allow"), "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO");
    assert_eq!(header(&answer, "X-Load"), "1Evil: 2", "no header can be smuggled in");
    // Again, and a second answer.
    assert_eq!(rig.say(&options), [answer]);
    rig.endpoint.answer(rig.now, key, 404, "", &[], bytes::Bytes::new());
    assert_eq!(rig.sent(), Vec::<String>::new());
    rig.run_to(32_000);
    assert_eq!(rig.endpoint.transactions(), 0);
}

#[test]
fn an_options_nobody_answers_is_forgotten() {
    let mut rig = Rig::new();
    rig.say(&Peer::new("o").request("OPTIONS", 1, "o", "", ""));
    let Some(Event::Options { key, .. }) = rig.event() else { panic!("an Options expected") };
    rig.run_to(32_000);
    rig.endpoint.answer(rig.now, key, 200, "", &[], bytes::Bytes::new());
    assert_eq!((rig.sent().len(), rig.endpoint.transactions()), (0, 0));
}

#[test]
fn copies_of_a_request_that_came_another_way_are_482() {
    let mut rig = Rig::new();
    let peer = Peer::new("m");
    rig.invited(&peer);
    let copy = peer.invite(SDP).replace("branch=z9hG4bKmi1", "branch=z9hG4bKother");
    assert_eq!(statuses(&rig.say(&copy)), [482]);
    assert_eq!(rig.endpoint.counters().merged, 1);
    assert!(rig.event().is_none());
}

#[test]
fn keep_alives_get_a_pong_on_tcp_only() {
    let mut rig = Rig::tcp();
    assert_eq!(rig.say("\r\n\r\n"), ["\r\n"]);
    let mut rig = Rig::new();
    assert_eq!(rig.say("\r\n\r\n"), Vec::<String>::new());
    assert_eq!(rig.endpoint.counters().keep_alives, 1);
    // Line ends before a message are overlooked.
    assert_eq!(statuses(&rig.say(&format!("\r\n\r\n{}", Peer::new("k").invite(SDP)))), [100]);
}

#[test]
fn an_ack_is_never_answered() {
    let mut rig = Rig::new();
    let ack = Peer::new("a").ack(1);
    for message in [
        ack.clone(),
        ack.replace("ACK", "ACK ").replace("CSeq: 1 ACK ", "CSeq: x ACK"),
        ack.replace("CSeq: 1", "CSeq: -1"),
    ] {
        assert_eq!(rig.say(&message), Vec::<String>::new());
    }
    assert_eq!(rig.endpoint.counters().dropped(DropReason::StrayAck), 1);
    assert_eq!(rig.endpoint.counters().dropped(DropReason::BadAck), 2);
}

#[test]
fn over_tcp_a_message_without_content_length_is_refused() {
    let mut rig = Rig::tcp();
    let invite = Peer::new("t").invite(SDP).replace(&format!("Content-Length: {}\r\n", SDP.len()), "");
    let sent = rig.say(&invite);
    assert!(sent[0].starts_with("SIP/2.0 400 Missing Content-Length Header\r\n"), "{sent:?}");
    assert_eq!(try_header(&sent[0], "Contact"), None);
}
