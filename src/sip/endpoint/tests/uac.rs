//! Calls that we make.

use super::support::{Peer, Rig, SDP, answer, header, method, statuses};
use crate::sip::message::DropReason;
use crate::sip::{CallKey, Cause, Event, InviteError};
use crate::time::Duration;

fn call(rig: &mut Rig) -> (CallKey, String) {
    let flow = rig.flow;
    let from = "\"Ann\" <sip:ann@192.0.2.1>";
    let call =
        rig.endpoint.invite(rig.now, flow, "sip:bob@192.0.2.9", from, flow.local, SDP.into()).expect("sent");
    (call, rig.sent_one())
}

const CONTACT: &str =
    "Contact: <sip:bob@10.0.0.2>\r\nRecord-Route: <sip:p2;lr>\r\nRecord-Route: <sip:p1;lr>\r\n";

#[test]
fn a_call_is_made_answered_and_ended() {
    let mut rig = Rig::new();
    let (key, invite) = call(&mut rig);
    assert!(
        invite.starts_with(
            "INVITE sip:bob@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK"
        )
    );
    assert!(header(&invite, "From").starts_with("\"Ann\" <sip:ann@192.0.2.1>;tag="));
    assert_eq!(header(&invite, "To"), "<sip:bob@192.0.2.9>");
    assert_eq!(header(&invite, "Contact"), "<sip:confab@192.0.2.1:5060>");
    assert_eq!(header(&invite, "CSeq"), "1 INVITE");
    assert_eq!(rig.say(&answer(&invite, 100, "", "", "")), Vec::<String>::new());
    assert!(rig.event().is_none());
    rig.say(&answer(&invite, 183, "t", "", "early"));
    assert!(matches!(rig.event(), Some(Event::Progress { status: 183, body, .. }) if &body[..] == b"early"));
    let ok = answer(&invite, 200, "t", CONTACT, SDP);
    let sent = rig.say(&ok);
    let ack = &sent[0];
    assert!(ack.starts_with("ACK sip:bob@10.0.0.2 SIP/2.0\r\n"), "{ack}");
    assert_eq!((header(ack, "CSeq"), header(ack, "Route")), ("1 ACK", "<sip:p1;lr>"));
    assert_ne!(header(ack, "Via"), header(&invite, "Via"), "RFC 3261 §13.2.2.4: a branch of its own");
    assert!(matches!(rig.event(), Some(Event::Answered { call, .. }) if call == key));
    assert_eq!(rig.say(&ok), sent, "a repeated 2xx gets the same ACK");
    assert!(rig.event().is_none());
    rig.endpoint.hang_up(rig.now, key, Cause::normal());
    let bye = rig.sent_one();
    assert_eq!((method(&bye), header(&bye, "CSeq")), ("BYE", "2 BYE"));
    rig.say(&answer(&bye, 200, "", "", ""));
    rig.pass(Duration::from_secs(100));
    assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
}

#[test]
fn a_refusal_is_acknowledged_in_its_transaction() {
    let mut rig = Rig::new();
    let (key, invite) = call(&mut rig);
    let busy = answer(&invite, 486, "t", "", "");
    let sent = rig.say(&busy);
    assert_eq!(header(&sent[0], "Via"), header(&invite, "Via"));
    assert_eq!((method(&sent[0]), header(&sent[0], "To")), ("ACK", "<sip:bob@192.0.2.9>;tag=t"));
    assert!(
        matches!(rig.event(), Some(Event::Rejected { call, status: 486, reason }) if call == key && reason == "So")
    );
    assert_eq!(rig.say(&busy), sent);
    assert!(rig.event().is_none());
    assert_eq!(rig.endpoint.calls(), 0);
}

#[test]
fn an_invite_nobody_answers_is_408() {
    let mut rig = Rig::new();
    let (_, invite) = call(&mut rig);
    let sent = rig.run_to(31_999);
    assert_eq!(sent.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [500, 1500, 3500, 7500, 15500, 31500]);
    assert!(sent.iter().all(|(_, message)| *message == invite));
    assert!(rig.event().is_none());
    rig.run_to(32_000);
    assert!(matches!(rig.event(), Some(Event::Rejected { status: 408, .. })));
    assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
}

#[test]
fn an_invite_that_rings_for_too_long_is_cancelled() {
    let mut rig = Rig::new();
    let (_, invite) = call(&mut rig);
    rig.say(&answer(&invite, 180, "t", "", ""));
    rig.event();
    assert_eq!(rig.run_to(179_999), []);
    let sent = rig.run_to(180_000);
    assert_eq!(method(&sent[0].1), "CANCEL");
    assert!(matches!(rig.event(), Some(Event::Rejected { status: 408, .. })));
    let sent = rig.say(&answer(&invite, 487, "t", "", ""));
    assert_eq!(method(&sent[0]), "ACK");
    assert!(rig.event().is_none());
    assert_eq!(rig.endpoint.calls(), 0);
}

#[test]
fn a_cancelled_invite_without_an_end_is_forgotten_after_64_t1() {
    let mut rig = Rig::new();
    let (key, invite) = call(&mut rig);
    rig.say(&answer(&invite, 180, "t", "", ""));
    rig.event();
    rig.endpoint.hang_up(rig.now, key, Cause::normal());
    rig.run_to(31_999);
    assert_eq!(rig.endpoint.calls(), 1);
    rig.run_to(32_000);
    assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
    assert!(rig.event().is_none());
}

#[test]
fn a_second_branch_of_a_fork_is_acknowledged_and_ended() {
    let mut rig = Rig::new();
    let (_, invite) = call(&mut rig);
    rig.say(&answer(&invite, 200, "one", CONTACT, SDP));
    rig.event();
    let sent = rig.say(&answer(&invite, 200, "two", "Contact: <sip:bob2@10.0.0.3>\r\n", SDP));
    assert_eq!((method(&sent[0]), method(&sent[1])), ("ACK", "BYE"));
    assert!(sent[1].starts_with("BYE sip:bob2@10.0.0.3 SIP/2.0\r\n"));
    assert!(header(&sent[1], "To").ends_with(";tag=two"));
    assert!(rig.event().is_none());
    assert_eq!(rig.endpoint.calls(), 1);
}

#[test]
fn the_peer_can_end_and_re_invite_a_call_that_we_made() {
    let mut rig = Rig::new();
    let (key, invite) = call(&mut rig);
    rig.say(&answer(&invite, 200, "t", "Contact: <sip:bob@10.0.0.2>\r\n", SDP));
    rig.event();
    let tag = header(&invite, "From").split(";tag=").nth(1).expect("our tag");
    let within = |method: &str, cseq: u32, more: &str| {
        Peer::new("x")
            .request(method, cseq, &format!("{method}{cseq}"), more, "")
            .replace("From: <sip:x@peer.example>;tag=peerx", "From: <sip:bob@192.0.2.9>;tag=t")
            .replace("To: <sip:room@192.0.2.1>", &format!("To: <sip:ann@192.0.2.1>;tag={tag}"))
            .replace("Call-ID: x@peer.example", &format!("Call-ID: {}", header(&invite, "Call-ID")))
    };
    assert_eq!(statuses(&rig.say(&within("INVITE", 1, "Contact: <sip:bob@10.0.0.2>\r\n"))), [100]);
    assert!(matches!(rig.event(), Some(Event::Reinvite { call, .. }) if call == key));
    rig.endpoint.accept_reinvite(rig.now, key, SDP.into());
    assert_eq!(statuses(&rig.sent()), [200]);
    assert_eq!(statuses(&rig.say(&within("BYE", 2, ""))), [200]);
    rig.ended();
}

#[test]
fn a_re_invite_that_finds_no_dialog_ends_the_call() {
    for (status, cause) in [(481, Cause::dialog_gone()), (408, Cause::no_answer())] {
        let mut rig = Rig::new();
        let mut peer = Peer::new("n");
        let key = rig.established(&mut peer);
        rig.endpoint.reinvite(rig.now, key, SDP.into());
        let ours = rig.sent_one();
        let sent = rig.say(&answer(&ours, status, "", "", ""));
        assert_eq!((method(&sent[0]), method(&sent[1])), ("ACK", "BYE"));
        assert_eq!(rig.ended(), cause);
    }
}

#[test]
fn a_re_invite_refused_otherwise_leaves_the_call_up() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let key = rig.established(&mut peer);
    rig.endpoint.reinvite(rig.now, key, SDP.into());
    let ours = rig.sent_one();
    rig.say(&answer(&ours, 488, "", "", ""));
    assert!(matches!(rig.event(), Some(Event::ReinviteRejected { status: 488, .. })));
    assert!(rig.endpoint.reinvite(rig.now, key, SDP.into()), "another may be tried");
}

#[test]
fn responses_that_fit_nothing_are_dropped() {
    let mut rig = Rig::new();
    let (_, invite) = call(&mut rig);
    let ok = answer(&invite, 200, "t", CONTACT, SDP);
    let via = format!("Via: {}", header(&invite, "Via"));
    for stray in [
        ok.replace(&via, "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK0000000000000000"),
        ok.replace(&via, "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK\u{e9}"),
        ok.replace(&via, &format!("{via}\r\nVia: SIP/2.0/UDP 9.9.9.9")),
        ok.replace("1 INVITE", "1 BYE"),
        ok.replace("1 INVITE", "1 CANCEL"),
    ] {
        assert_eq!(rig.say(&stray), Vec::<String>::new());
    }
    assert!(rig.event().is_none());
    assert_eq!(rig.endpoint.counters().dropped(DropReason::StrayResponse), 5);
}

#[test]
fn what_cannot_be_dialled_is_refused_here() {
    let mut rig = Rig::new();
    let flow = rig.flow;
    let mut dial =
        |target: &str, from: &str| rig.endpoint.invite(rig.now, flow, target, from, flow.local, SDP.into());
    assert_eq!(dial("tel:+1", "sip:a@b"), Err(InviteError::Target));
    assert_eq!(dial("sip:a@b?x=y", "sip:a@b"), Err(InviteError::Target));
    assert_eq!(dial("sip:a@b", "ann"), Err(InviteError::From));
    assert_eq!(dial("sip:a@b", "<sip:a@b>;tag=1"), Err(InviteError::From));
}
