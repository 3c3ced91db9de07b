//! Flows: answers go where the request came from, and calls outlive a connection.

use bytes::Bytes;

use super::support::{Peer, Rig, SDP, address, statuses};
use crate::sip::{Cause, Event, Flow};

fn tcp_call(rig: &mut Rig) -> (Peer, crate::sip::CallKey) {
    let mut peer = Peer { transport: "TCP", ..Peer::new("n") };
    let call = rig.established(&mut peer);
    (peer, call)
}

#[test]
fn answers_go_on_the_flow_of_the_request_and_bye_on_the_latest() {
    let mut rig = Rig::new();
    let mut peer = Peer::new("n");
    let call = rig.established(&mut peer);
    let moved = Flow { id: 2, remote: address("198.51.100.1:40000"), ..rig.flow };
    rig.endpoint.handle_message(rig.now, moved, Bytes::from(peer.invite_at(2, SDP)));
    assert_eq!(rig.endpoint.poll_transmit().map(|t| t.flow), Some(moved));
    rig.event();
    rig.endpoint.accept_reinvite(rig.now, call, SDP.into());
    assert_eq!(rig.endpoint.poll_transmit().map(|t| t.flow), Some(moved));
    rig.endpoint.handle_message(rig.now, moved, Bytes::from(peer.ack(2)));
    rig.endpoint.hang_up(rig.now, call, Cause::normal());
    assert_eq!(rig.endpoint.poll_transmit().map(|t| t.flow), Some(moved));
}

#[test]
fn a_call_goes_on_over_any_connection_when_its_own_is_closed() {
    let mut rig = Rig::tcp();
    let (_, call) = tcp_call(&mut rig);
    rig.endpoint.handle_flow_closed(rig.now, rig.flow);
    assert!(rig.event().is_none());
    rig.endpoint.hang_up(rig.now, call, Cause::normal());
    assert_eq!(rig.endpoint.poll_transmit().map(|t| t.flow), Some(rig.flow.any()));
    // No connection can be opened: the BYE fails and nothing remains.
    rig.endpoint.handle_flow_closed(rig.now, rig.flow.any());
    assert_eq!(rig.endpoint.calls(), 0);
    assert!(rig.event().is_none());
}

#[test]
fn a_call_that_cannot_be_reached_any_more_ends() {
    let mut rig = Rig::tcp();
    tcp_call(&mut rig);
    rig.endpoint.handle_flow_closed(rig.now, rig.flow);
    rig.endpoint.handle_flow_closed(rig.now, rig.flow.any());
    assert_eq!(rig.ended(), Cause::transport_failure());
    assert_eq!(rig.endpoint.calls(), 0);
}

#[test]
fn a_peer_that_reconnects_is_heard_on_the_new_connection() {
    let mut rig = Rig::tcp();
    let (peer, call) = tcp_call(&mut rig);
    rig.endpoint.handle_flow_closed(rig.now, rig.flow);
    rig.flow.id = 9;
    assert_eq!(statuses(&rig.say(&peer.invite_at(2, SDP))), [100]);
    assert!(matches!(rig.event(), Some(Event::Reinvite { .. })));
    rig.endpoint.accept_reinvite(rig.now, call, SDP.into());
    assert_eq!(rig.endpoint.poll_transmit().map(|t| t.flow.id), Some(9));
}

#[test]
fn our_invite_on_a_broken_connection_is_503() {
    let mut rig = Rig::tcp();
    let flow = rig.flow;
    rig.endpoint.invite(rig.now, flow, "sip:b@192.0.2.9", "sip:a@h", flow.local, SDP.into()).expect("sent");
    rig.endpoint.handle_flow_closed(rig.now, flow);
    assert!(matches!(rig.event(), Some(Event::Rejected { status: 503, .. })));
    assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
}

#[test]
fn an_unanswered_call_whose_peer_is_gone_ends() {
    let mut rig = Rig::tcp();
    rig.invited(&Peer::new("n"));
    rig.endpoint.handle_flow_closed(rig.now, rig.flow);
    rig.endpoint.handle_flow_closed(rig.now, rig.flow.any());
    rig.ended();
    rig.run_to(100_000);
    assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0);
}
