//! Limits: each is hit, counted, and gives way again.

use super::support::{Peer, Rig, SDP, answer, header, statuses};
use crate::sip::lexer::MESSAGE_MAX;
use crate::sip::message::DropReason;
use crate::sip::{InviteError, Rejection, Settings, Transport};

fn rig(settings: Settings) -> Rig {
    Rig::with(settings, Transport::Udp)
}

fn refused(rig: &mut Rig, peer: &Peer) {
    let sent = rig.say(&peer.invite(SDP));
    assert_eq!(statuses(&sent), [503]);
    assert_eq!(header(&sent[0], "Retry-After"), "10");
    assert!(rig.event().is_none());
}

#[test]
fn calls_beyond_the_limit_are_503() {
    let mut rig = rig(Settings { max_dialogs: 2, ..Settings::default() });
    let first = rig.invited(&Peer::new("a"));
    rig.invited(&Peer::new("b"));
    refused(&mut rig, &Peer::new("c"));
    assert_eq!(rig.endpoint.counters().limit_dialogs, 1);
    let flow = rig.flow;
    let ours = rig.endpoint.invite(rig.now, flow, "sip:a@b", "sip:a@b", flow.local, SDP.into());
    assert_eq!(ours, Err(InviteError::TooMany));
    rig.endpoint.reject(rig.now, first, Rejection::new(486));
    rig.sent();
    rig.invited(&Peer::new("d"));
}

#[test]
fn transactions_beyond_the_limit_are_503_but_bye_gets_through() {
    let mut rig = rig(Settings { max_transactions: 2, ..Settings::default() });
    let mut peer = Peer::new("a");
    rig.established(&mut peer);
    rig.invited(&Peer::new("b"));
    refused(&mut rig, &Peer::new("c"));
    assert_eq!(rig.endpoint.counters().limit_transactions, 1);
    assert_eq!(statuses(&rig.say(&peer.request("OPTIONS", 2, "o", "", ""))), [503]);
    assert_eq!(statuses(&rig.say(&peer.bye(3))), [200]);
}

#[test]
fn one_source_cannot_take_all_transactions() {
    let mut rig = rig(Settings { max_transactions_per_source: 2, ..Settings::default() });
    rig.invited(&Peer::new("a"));
    let refuse = rig.invited(&Peer::new("b"));
    refused(&mut rig, &Peer::new("c"));
    assert_eq!(rig.endpoint.counters().limit_source, 1);
    // Another source is not hindered.
    let here = rig.flow;
    rig.flow.remote = super::support::address("192.0.2.77:5060");
    rig.invited(&Peer::new("d"));
    rig.flow = here;
    // A place is free again when a transaction is over.
    rig.endpoint.reject(rig.now, refuse, Rejection::new(486));
    rig.run_to(32_000);
    rig.invited(&Peer::new("e"));
}

#[test]
fn shedding_refuses_new_calls_only() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("a");
    rig.established(&mut peer);
    rig.endpoint.shed(Some(30));
    let sent = rig.say(&Peer::new("b").invite(SDP));
    assert_eq!((statuses(&sent), header(&sent[0], "Retry-After")), (vec![503], "30"));
    assert_eq!(statuses(&rig.say(&peer.invite_at(2, SDP))), [100], "a re-INVITE is no new call");
    assert_eq!(rig.endpoint.counters().shed, 1);
    rig.endpoint.shed(None);
    rig.event();
    rig.invited(&Peer::new("c"));
}

#[test]
fn too_large_a_message_is_dropped() {
    let mut rig = Rig::new();
    let with = |len: usize| {
        let empty = Peer::new("a").request("OPTIONS", 1, "o", "", "");
        format!("{empty}{}", "x".repeat(len - empty.len()))
    };
    rig.say(&with(MESSAGE_MAX + 1));
    assert_eq!(rig.endpoint.counters().dropped(DropReason::TooLarge), 1);
    assert!(rig.event().is_none());
    rig.say(&with(MESSAGE_MAX));
    assert!(rig.event().is_some());
}

#[test]
fn too_many_hops_are_refused() {
    let mut rig = Rig::new();
    let with = |hops: usize| {
        let more = "Via: SIP/2.0/UDP hop.example;branch=x\r\n".repeat(hops - 1);
        Peer::new("a").request("OPTIONS", 1, "o", &more, "")
    };
    let sent = rig.say(&with(71));
    assert!(sent[0].starts_with("SIP/2.0 400 Too Many Via Hops\r\n"));
    rig.say(&with(70));
    assert!(rig.event().is_some());
}

#[test]
fn a_thousand_settled_calls_hold_no_transaction_and_little_memory() {
    let mut rig = Rig::new();
    for id in 0..1000 {
        rig.established(&mut Peer::new(&format!("p{id}")));
    }
    rig.run_to(40_000);
    assert_eq!((rig.endpoint.calls(), rig.endpoint.transactions()), (1000, 0));
    assert_eq!(rig.endpoint.next_timeout(), None);
    assert!(size_of::<super::super::table::Call>() <= 512);
    assert_eq!(statuses(&[answer(&Peer::new("x").bye(1), 200, "t", "", "")]), [200]);
}
