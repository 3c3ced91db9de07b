//! Calls that the peer makes: accepted, acknowledged or not, re-INVITEd, cancelled, ended.

use bytes::Bytes;

use super::support::{Peer, Rig, SDP, answer, header, method, status, statuses};
use crate::sip::message::DropReason;
use crate::sip::{Cause, Event, Rejection, Settings, Transport};
use crate::time::Duration;

#[test]
fn the_2xx_is_repeated_up_to_t2_and_after_64_t1_comes_bye() {
    for mut rig in [Rig::new(), Rig::tcp()] {
        let peer = Peer::new("n");
        let call = rig.invited(&peer);
        rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
        let ok = rig.sent_one();
        let sent = rig.run_to(31_999);
        let times: Vec<u64> = sent.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        assert!(sent.iter().all(|(_, message)| *message == ok));
        assert!(rig.event().is_none());
        let sent = rig.run_to(32_000);
        assert_eq!(method(&sent[0].1), "BYE");
        assert_eq!(rig.ended(), Cause::no_ack());
        rig.run_to(200_000);
        assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
    }
}

#[test]
fn the_ack_stops_the_2xx_and_a_lost_one_is_made_up_for() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    rig.established(&mut peer);
    // The peer has to acknowledge each repeat; only the first counts.
    assert_eq!(rig.say(&peer.ack(1)), Vec::<String>::new());
    assert!(rig.event().is_none());
    assert_eq!(rig.run_to(60_000), []);
    assert_eq!((rig.endpoint.calls(), rig.endpoint.transactions()), (1, 0));
}

#[test]
fn the_ack_of_another_cseq_or_dialog_does_not_count() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.invited(&peer);
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    peer.learn(&rig.sent_one());
    rig.say(&peer.ack(2));
    let stranger = Peer { to_tag: peer.to_tag.clone(), ..Peer::new("stranger") };
    rig.say(&stranger.ack(1));
    assert!(rig.event().is_none());
    assert_eq!(rig.endpoint.counters().dropped(DropReason::StrayAck), 1);
    assert_eq!(rig.run_to(500).len(), 1, "still repeated");
}

#[test]
fn an_invite_without_offer_gets_its_answer_in_the_ack() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    rig.say(&peer.invite(""));
    let Some(Event::Invite { call, request, .. }) = rig.event() else { panic!("an Invite expected") };
    assert!(request.body().is_empty());
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    peer.learn(&rig.sent_one());
    rig.say(&peer.request("ACK", 1, "a", "Content-Type: application/sdp\r\n", "answer"));
    assert!(matches!(rig.event(), Some(Event::Acked { body, .. }) if &body[..] == b"answer"));
}

#[test]
fn repeats_of_the_invite_get_the_latest_provisional_and_then_nothing() {
    let mut rig = Rig::new();
    let peer = Peer::new("n");
    let call = rig.invited(&peer);
    assert_eq!(statuses(&rig.say(&peer.invite(SDP))), [100]);
    rig.endpoint.ring(rig.now, call, 180);
    rig.sent();
    assert_eq!(statuses(&rig.say(&peer.invite(SDP))), [180]);
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    rig.sent();
    assert_eq!(rig.say(&peer.invite(SDP)), Vec::<String>::new());
    assert!(rig.event().is_none());
    assert_eq!(rig.endpoint.counters().absorbed, 3);
}

#[test]
fn a_refusal_is_repeated_until_its_ack() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.invited(&peer);
    let rejection = Rejection::new(488).reason("No Codec").header("Warning", "304 x \"no\"");
    rig.endpoint.reject(rig.now, call, rejection);
    let refusal = rig.sent_one();
    assert!(refusal.starts_with("SIP/2.0 488 No Codec\r\n"));
    assert_eq!(header(&refusal, "Warning"), "304 x \"no\"");
    assert_eq!(rig.endpoint.calls(), 0);
    assert_eq!(rig.run_to(500), [(500, refusal.clone())]);
    assert_eq!(rig.say(&peer.invite(SDP)), std::slice::from_ref(&refusal));
    peer.learn(&refusal);
    rig.say(&peer.ack_refusal(1));
    assert_eq!(rig.run_to(5_499), []);
    assert_eq!(rig.endpoint.transactions(), 1, "timer I");
    rig.run_to(5_500);
    assert_eq!(rig.endpoint.transactions(), 0);
}

#[test]
fn the_peers_bye_ends_the_call_with_its_reason() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    rig.established(&mut peer);
    let bye = peer.request("BYE", 2, "b", "Reason: Q.850;cause=17;text=\"Busy\"\r\n", "");
    let sent = rig.say(&bye);
    assert_eq!(statuses(&sent), [200]);
    assert_eq!(rig.ended(), Cause::new(17, None, "Busy"));
    assert_eq!(rig.say(&bye), sent, "a repeat gets the same answer");
    assert_eq!(statuses(&rig.say(&peer.bye(3))), [481]);
}

#[test]
fn our_bye_goes_along_the_route_and_waits_for_the_ack() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let routes =
        "Record-Route: <sip:p1.example;lr>, <sip:p2.example;lr>\r\nContact: <sip:ann@10.0.0.1:99;x=y>\r\n";
    rig.say(&peer.request("INVITE", 1, "i1", routes, ""));
    let Some(Event::Invite { call, .. }) = rig.event() else { panic!("an Invite expected") };
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    peer.learn(&rig.sent_one());
    rig.endpoint.hang_up(rig.now, call, Cause::ejected());
    assert_eq!(rig.sent(), Vec::<String>::new(), "RFC 3261 §15: no BYE before the ACK");
    let sent = rig.say(&peer.ack(1));
    let bye = &sent[0];
    assert!(bye.starts_with("BYE sip:ann@10.0.0.1:99;x=y SIP/2.0\r\n"), "{bye}");
    let lines: Vec<_> = bye.split("\r\n").filter(|line| line.starts_with("Route: ")).collect();
    assert_eq!(lines, ["Route: <sip:p1.example;lr>", "Route: <sip:p2.example;lr>"]);
    assert_eq!(header(bye, "From"), format!("<sip:room@192.0.2.1>;tag={}", peer.to_tag));
    assert_eq!(header(bye, "To"), "<sip:n@peer.example>;tag=peern");
    assert_eq!(header(bye, "Reason"), "Q.850;cause=16;text=\"Ejected from the conference\"");
    assert_eq!(header(bye, "Max-Forwards"), "70");
    assert_eq!(rig.run_to(500), [(500, bye.clone())]);
    rig.say(&answer(bye, 200, "", "", ""));
    assert_eq!(rig.endpoint.calls(), 0);
    assert!(rig.event().is_none(), "its owner hung up: nothing more to hear");
    rig.run_to(100_000);
    assert_eq!(rig.endpoint.transactions(), 0);
}

#[test]
fn a_strict_router_gets_itself_in_the_request_uri() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let routes = "Record-Route: <sip:strict.example>\r\nRecord-Route: <sip:p2.example;lr>\r\nContact: <sip:ann@10.0.0.1>\r\n";
    rig.say(&peer.request("INVITE", 1, "i1", routes, ""));
    let Some(Event::Invite { call, .. }) = rig.event() else { panic!("an Invite expected") };
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    peer.learn(&rig.sent_one());
    rig.say(&peer.ack(1));
    rig.endpoint.hang_up(rig.now, call, Cause::normal());
    let bye = rig.sent_one();
    assert!(bye.starts_with("BYE sip:strict.example SIP/2.0\r\n"), "{bye}");
    let lines: Vec<_> = bye.split("\r\n").filter(|line| line.starts_with("Route: ")).collect();
    assert_eq!(lines, ["Route: <sip:p2.example;lr>", "Route: <sip:ann@10.0.0.1>"]);
}

#[test]
fn a_bye_that_nobody_answers_ends_after_64_t1() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    rig.endpoint.hang_up(rig.now, call, Cause::normal());
    rig.run_to(31_999);
    assert_eq!(rig.endpoint.calls(), 1);
    rig.run_to(32_000);
    assert_eq!((rig.endpoint.calls(), rig.endpoint.counters().timeouts), (0, 1));
}

#[test]
fn a_re_invite_is_asked_answered_acknowledged_and_refreshes_the_target() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    let moved = peer.invite_at(2, "hold").replace("sip:ann@192.0.2.9:5062", "sip:ann@10.9.9.9");
    assert_eq!(statuses(&rig.say(&moved)), [100]);
    assert!(matches!(rig.event(), Some(Event::Reinvite { body, .. }) if &body[..] == b"hold"));
    rig.endpoint.accept_reinvite(rig.now, call, SDP.into());
    let ok = rig.sent_one();
    assert_eq!((status(&ok), header(&ok, "CSeq")), (200, "2 INVITE"));
    rig.say(&peer.ack(2));
    assert!(matches!(rig.event(), Some(Event::Acked { .. })));
    rig.endpoint.hang_up(rig.now, call, Cause::normal());
    assert!(rig.sent_one().starts_with("BYE sip:ann@10.9.9.9 SIP/2.0"));
}

#[test]
fn a_refused_re_invite_leaves_the_call_as_it_was() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    rig.say(&peer.invite_at(2, SDP));
    rig.event();
    rig.endpoint.reject_reinvite(rig.now, call, Rejection::new(488));
    assert_eq!(status(&rig.sent_one()), 488);
    rig.say(&peer.ack_refusal(2));
    rig.run_to(60_000);
    assert_eq!((rig.endpoint.calls(), rig.endpoint.transactions()), (1, 0));
}

#[test]
fn a_re_invite_never_acknowledged_ends_the_call() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    rig.say(&peer.invite_at(2, SDP));
    rig.event();
    rig.endpoint.accept_reinvite(rig.now, call, SDP.into());
    rig.run_to(32_000);
    assert_eq!(rig.ended(), Cause::no_ack());
}

#[test]
fn requests_out_of_order_are_500() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    rig.established(&mut peer);
    assert_eq!(statuses(&rig.say(&peer.bye(1))), [500]);
    assert_eq!(statuses(&rig.say(&peer.bye(7))), [200], "gaps are fine");
}

#[test]
fn info_and_options_within_a_call_are_asked() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    let info = peer.request("INFO", 2, "f", "Content-Type: application/dtmf-relay\r\n", "Signal=1\r\n");
    assert_eq!(rig.say(&info), Vec::<String>::new());
    let Some(Event::Info { call: of, key, content_type, body }) = rig.event() else {
        panic!("an Info expected")
    };
    assert_eq!(
        (of, content_type.as_str(), &body[..]),
        (call, "application/dtmf-relay", &b"Signal=1\r\n"[..])
    );
    rig.endpoint.answer(rig.now, key, 200, "", &[], Bytes::new());
    let ok = rig.sent_one();
    assert_eq!((status(&ok), header(&ok, "To")), (200, header(&info, "To")));
    rig.say(&peer.request("OPTIONS", 3, "o", "", ""));
    assert!(matches!(rig.event(), Some(Event::Options { .. })));
}

#[test]
fn old_phones_without_a_magic_cookie_are_matched_as_rfc_2543_did() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let old = |message: String| {
        let start = message.find(";branch=").expect("a branch");
        let end = start + message[start..].find("\r\n").expect("a line end");
        format!("{}{}", &message[..start], &message[end..])
    };
    let invite = old(peer.invite(SDP));
    assert_eq!(statuses(&rig.say(&invite)), [100]);
    let Some(Event::Invite { call, .. }) = rig.event() else { panic!("an Invite expected") };
    assert_eq!(statuses(&rig.say(&invite)), [100], "a repeat");
    assert!(rig.event().is_none());
    rig.endpoint.reject(rig.now, call, Rejection::new(486));
    peer.learn(&rig.sent_one());
    rig.say(&old(peer.ack_refusal(1)));
    assert_eq!(rig.run_to(20_000), [], "the ACK was matched");
    // Cancelling, too.
    let other = Peer::new("p");
    rig.say(&old(other.invite(SDP)));
    assert_eq!(statuses(&rig.say(&old(other.cancel(1)))), [200, 487]);
}

#[test]
fn hanging_up_an_unanswered_call_refuses_it() {
    let mut rig = Rig::new();
    let call = rig.invited(&Peer::new("n"));
    rig.endpoint.hang_up(rig.now, call, Cause::shutdown());
    let refusal = rig.sent_one();
    assert_eq!((status(&refusal), rig.endpoint.calls()), (503, 0));
    assert!(header(&refusal, "Reason").starts_with("Q.850;cause=41;"));
}

#[test]
fn answering_a_call_that_is_gone_does_nothing() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    rig.say(&peer.bye(2));
    rig.ended();
    rig.endpoint.ring(rig.now, call, 180);
    rig.endpoint.accept(rig.now, call, rig.contact(), Bytes::new());
    rig.endpoint.reject(rig.now, call, Rejection::new(486));
    rig.endpoint.accept_reinvite(rig.now, call, Bytes::new());
    rig.endpoint.hang_up(rig.now, call, Cause::normal());
    assert!(!rig.endpoint.reinvite(rig.now, call, Bytes::new()));
    assert_eq!(rig.sent(), Vec::<String>::new());
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.endpoint.transactions(), 0);
}

#[test]
fn timers_of_zero_do_not_spin() {
    let zero = Duration::ZERO;
    let settings = Settings { t1: zero, t2: zero, t4: zero, ring_max: zero, ..Settings::default() };
    let mut rig = Rig::with(settings, Transport::Udp);
    let call = rig.invited(&Peer::new("n"));
    rig.endpoint.accept(rig.now, call, rig.contact(), SDP.into());
    rig.run_to(1000);
    assert_eq!(rig.ended(), Cause::no_ack());
    assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
}
