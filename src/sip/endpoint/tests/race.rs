//! Messages that cross: CANCEL and 2xx, BYE and re-INVITE, BYE and BYE, re-INVITEs of both sides.

use super::support::{Peer, Rig, SDP, answer, header, method, status, statuses};
use crate::sip::{Cause, Event, Rejection};
use crate::time::Duration;

#[test]
fn a_cancel_before_the_answer_wins() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.invited(&peer);
    rig.endpoint.ring(rig.now, call, 180);
    let ringing = rig.sent_one();
    let sent = rig.say(&peer.cancel(1));
    assert_eq!(statuses(&sent), [200, 487]);
    assert_eq!(header(&sent[0], "To"), header(&ringing, "To"), "RFC 3261 §9.2: the same tag");
    assert_eq!(header(&sent[0], "CSeq"), "1 CANCEL");
    assert!(matches!(rig.event(), Some(Event::Cancelled { call: gone }) if gone == call));
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    assert_eq!(rig.sent(), Vec::<String>::new(), "too late");
    peer.learn(&sent[1]);
    rig.say(&peer.ack_refusal(1));
    rig.run_to(60_000);
    assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
}

#[test]
fn a_cancel_after_the_answer_is_200_and_has_no_effect() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.invited(&peer);
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    peer.learn(&rig.sent_one());
    let cancel = Peer { to_tag: String::new(), ..peer.clone() }.cancel(1);
    assert_eq!(statuses(&rig.say(&cancel)), [200]);
    assert_eq!(statuses(&rig.say(&cancel)), [200]);
    assert!(rig.event().is_none());
    rig.say(&peer.ack(1));
    assert!(matches!(rig.event(), Some(Event::Acked { .. })));
    // The same after a refusal.
    let other = Peer::new("o");
    let call = rig.invited(&other);
    rig.endpoint.reject(rig.now, call, Rejection::new(486));
    rig.sent();
    assert_eq!(statuses(&rig.say(&other.cancel(1))), [200]);
    assert!(rig.event().is_none());
}

#[test]
fn a_re_invite_can_be_cancelled_and_the_call_goes_on() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    rig.say(&peer.invite_at(2, SDP));
    rig.event();
    assert_eq!(statuses(&rig.say(&peer.cancel(2))), [200, 487]);
    rig.endpoint.accept_reinvite(rig.now, call, SDP.into());
    assert_eq!((rig.sent().len(), rig.endpoint.calls()), (0, 1));
    rig.say(&peer.ack_refusal(2));
    rig.say(&peer.invite_at(3, SDP));
    assert!(matches!(rig.event(), Some(Event::Reinvite { .. })));
}

#[test]
fn a_bye_before_the_answer_ends_the_early_dialog() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.invited(&peer);
    rig.endpoint.ring(rig.now, call, 180);
    peer.learn(&rig.sent_one());
    assert_eq!(statuses(&rig.say(&peer.bye(2))), [200, 487]);
    assert_eq!(rig.ended(), Cause::normal());
    assert_eq!(rig.endpoint.calls(), 0);
}

#[test]
fn a_bye_before_the_ack_stops_the_2xx() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.invited(&peer);
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    peer.learn(&rig.sent_one());
    assert_eq!(statuses(&rig.say(&peer.bye(2))), [200]);
    rig.ended();
    assert_eq!(rig.run_to(60_000), []);
    assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
}

#[test]
fn byes_that_cross_are_both_answered() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    rig.endpoint.hang_up(rig.now, call, Cause::normal());
    let ours = rig.sent_one();
    assert_eq!(statuses(&rig.say(&peer.bye(2))), [200]);
    assert!(rig.event().is_none());
    rig.say(&answer(&ours, 481, "", "", ""));
    rig.run_to(60_000);
    assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
}

#[test]
fn a_re_invite_that_crosses_our_bye_is_481() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    rig.endpoint.hang_up(rig.now, call, Cause::normal());
    rig.sent();
    assert_eq!(statuses(&rig.say(&peer.invite_at(2, SDP))), [481]);
    assert!(rig.event().is_none());
}

#[test]
fn a_bye_during_a_re_invite_ends_both() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    rig.established(&mut peer);
    rig.say(&peer.invite_at(2, SDP));
    rig.event();
    assert_eq!(statuses(&rig.say(&peer.bye(3))), [200, 487]);
    rig.ended();
}

#[test]
fn two_re_invites_of_the_peer_at_once_are_500_with_retry_after() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    rig.established(&mut peer);
    rig.say(&peer.invite_at(2, SDP));
    rig.event();
    let sent = rig.say(&peer.invite_at(3, SDP));
    assert_eq!(statuses(&sent), [500]);
    assert!(header(&sent[0], "Retry-After").parse::<u8>().is_ok_and(|s| s <= 10));
    assert!(rig.event().is_none());
}

#[test]
fn a_re_invite_against_ours_is_491_and_ours_is_made_again() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    assert!(rig.endpoint.reinvite(rig.now, call, "ours".into()));
    assert!(!rig.endpoint.reinvite(rig.now, call, "more".into()), "one at a time");
    let ours = rig.sent_one();
    assert_eq!(statuses(&rig.say(&peer.invite_at(2, SDP))), [491]);
    assert!(rig.event().is_none());
    let sent = rig.say(&answer(&ours, 491, "", "", ""));
    assert_eq!(method(&sent[0]), "ACK");
    let start = rig.now.as_millis() - 1000;
    rig.say(&peer.ack_refusal(2));
    let again = rig
        .run_to(start + 2000)
        .into_iter()
        .find(|(_, sent)| method(sent) == "INVITE")
        .expect("a second try");
    assert!(again.0 - start <= 2000, "the side that was called waits 0 to 2 s");
    assert!(again.1.ends_with("ours"));
    let ok = answer(&again.1, 200, "", "Contact: <sip:ann@10.1.1.1>\r\n", "theirs");
    assert_eq!(method(&rig.say(&ok)[0]), "ACK");
    assert!(matches!(rig.event(), Some(Event::Answered { body, .. }) if &body[..] == b"theirs"));
}

#[test]
fn a_re_invite_before_the_ack_acknowledges_by_itself_unless_our_offer_is_open() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.invited(&peer);
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    peer.learn(&rig.sent_one());
    assert_eq!(statuses(&rig.say(&peer.invite_at(2, SDP))), [100]);
    assert!(matches!(rig.event(), Some(Event::Acked { .. })));
    assert!(matches!(rig.event(), Some(Event::Reinvite { .. })));
    let mut other = Peer::new("o");
    rig.say(&other.invite(""));
    let Some(Event::Invite { call, .. }) = rig.event() else { panic!("an Invite expected") };
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    other.learn(&rig.sent_one());
    assert_eq!(statuses(&rig.say(&other.invite_at(2, SDP))), [491]);
}

#[test]
fn hanging_up_while_our_re_invite_is_open_ends_the_call() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    rig.endpoint.reinvite(rig.now, call, SDP.into());
    let ours = rig.sent_one();
    rig.endpoint.hang_up(rig.now, call, Cause::normal());
    let bye = rig.sent_one();
    assert_eq!(method(&bye), "BYE");
    let sent = rig.say(&answer(&ours, 200, "", "Contact: <sip:ann@10.1.1.1>\r\n", SDP));
    assert_eq!(method(&sent[0]), "ACK", "its 2xx is still acknowledged");
    rig.say(&answer(&bye, 200, "", "", ""));
    assert!(rig.event().is_none());
    rig.pass(Duration::from_secs(100));
    assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
}

#[test]
fn a_2xx_that_crosses_our_cancel_is_acknowledged_and_ended() {
    let mut rig = Rig::new();
    let flow = rig.flow;
    let call = rig
        .endpoint
        .invite(rig.now, flow, "sip:b@192.0.2.9", "sip:a@h", flow.local, SDP.into())
        .expect("sent");
    let invite = rig.sent_one();
    rig.endpoint.hang_up(rig.now, call, Cause::normal());
    assert_eq!(rig.sent(), Vec::<String>::new(), "RFC 3261 §9.1: no CANCEL before a provisional");
    let sent = rig.say(&answer(&invite, 180, "t", "", ""));
    let cancel = &sent[0];
    assert_eq!(
        (method(cancel), header(cancel, "Via"), header(cancel, "CSeq")),
        ("CANCEL", header(&invite, "Via"), "1 CANCEL")
    );
    let sent = rig.say(&answer(&invite, 200, "t", "Contact: <sip:b@192.0.2.9>\r\n", SDP));
    assert_eq!((method(&sent[0]), method(&sent[1])), ("ACK", "BYE"));
    let ok = answer(cancel, 200, "t", "", "");
    rig.say(&ok);
    rig.say(&answer(&sent[1], 200, "", "", ""));
    assert!(rig.event().is_none());
    rig.pass(Duration::from_secs(100));
    assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
    assert_eq!(status(&ok), 200);
}
