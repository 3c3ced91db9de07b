//! Who gets in, who does not, and why.

use super::*;

const SSRC: u32 = 0x1234;

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("a test's own address")
}

fn phone() -> SocketAddr {
    addr("198.51.100.7:4000")
}

fn natted() -> SocketAddr {
    addr("203.0.113.9:31337")
}

fn thief() -> SocketAddr {
    addr("192.0.2.66:6666")
}

fn settled_on_nat() -> Latch {
    let mut latch = Latch::new(Some(phone()), at(0));
    assert_eq!(latch.admit(at(0), natted(), SSRC, 100), Admission::AcceptAndMove);
    assert_eq!(latch.admit(at(500), natted(), SSRC, 101), Admission::Accept);
    latch
}

#[test]
fn sends_to_the_sdp_address_until_a_packet_comes() {
    let latch = Latch::new(Some(phone()), at(0));
    assert_eq!(latch.peer(), Some(phone()));
    assert!(latch.wants_any_source(at(0)));
    assert!(!latch.silent_since(at(60_000)));
}

#[test]
fn an_unspecified_sdp_address_is_none() {
    for text in ["0.0.0.0:4000", "[::]:4000", "198.51.100.7:0"] {
        let mut latch = Latch::new(Some(addr(text)), at(0));
        assert_eq!(latch.peer(), None, "{text}");
        assert_eq!(latch.admit(at(1), natted(), SSRC, 1), Admission::AcceptAndMove);
        assert!(!latch.wants_any_source(at(1)), "there is nobody to wait for");
    }
}

#[test]
fn the_sdp_address_latches_at_once_and_for_good() {
    let mut latch = Latch::new(Some(phone()), at(0));
    assert_eq!(latch.admit(at(10), phone(), SSRC, 1), Admission::Accept);
    assert!(!latch.wants_any_source(at(10)));
    assert_eq!(latch.admit(at(11), thief(), SSRC, 2), Admission::Refuse(RefusedSource::PeerIsSettled));
    assert_eq!(latch.peer(), Some(phone()));
    assert_eq!(latch.refused(), 1);
}

#[test]
fn a_thief_who_is_quicker_loses_to_the_sdp_address() {
    let mut latch = Latch::new(Some(phone()), at(0));
    assert_eq!(latch.admit(at(0), thief(), 666, 1), Admission::AcceptAndMove);
    assert!(latch.wants_any_source(at(499)));
    assert_eq!(latch.admit(at(499), phone(), SSRC, 1), Admission::AcceptAndMove);
    assert_eq!(latch.admit(at(499), thief(), 666, 2), Admission::Refuse(RefusedSource::PeerIsSettled));
    assert_eq!(latch.peer(), Some(phone()));
}

#[test]
fn the_sdp_address_is_too_late_after_the_window() {
    let mut latch = Latch::new(Some(phone()), at(0));
    latch.admit(at(1000), natted(), SSRC, 1);
    latch.admit(at(1500), natted(), SSRC, 2);
    assert!(!latch.wants_any_source(at(1500)));
    assert_eq!(latch.admit(at(1500), phone(), 9, 1), Admission::Refuse(RefusedSource::PeerIsSettled));
    assert_eq!(latch.peer(), Some(natted()));
}

#[test]
fn a_third_source_never_wins_in_the_window() {
    let mut latch = Latch::new(Some(phone()), at(0));
    latch.admit(at(0), natted(), SSRC, 1);
    assert_eq!(latch.admit(at(100), thief(), SSRC, 2), Admission::Refuse(RefusedSource::PeerIsSettled));
    assert_eq!(latch.peer(), Some(natted()));
}

#[test]
fn a_flood_from_elsewhere_is_counted_and_changes_nothing() {
    let mut latch = settled_on_nat();
    for n in 0..1000 {
        latch.admit(at(600), thief(), SSRC, 102 + n);
    }
    assert_eq!(latch.refused(), 1000);
    assert_eq!(latch.peer(), Some(natted()));
    assert_eq!(latch.admit(at(601), natted(), SSRC, 102), Admission::Accept);
}

#[test]
fn a_rebound_nat_continues_after_silence_with_two_packets_in_a_row() {
    let mut latch = settled_on_nat();
    let moved = addr("203.0.113.9:40000");
    assert_eq!(
        latch.admit(at(3499), moved, SSRC, 250),
        Admission::Refuse(RefusedSource::PeerIsSettled),
        "one millisecond too early"
    );
    assert!(!latch.silent_since(at(3499)));
    assert!(latch.silent_since(at(3500)));
    assert!(latch.wants_any_source(at(3500)));
    assert_eq!(latch.admit(at(3500), moved, SSRC, 251), Admission::Refuse(RefusedSource::Unproven));
    assert_eq!(latch.admit(at(3520), moved, SSRC, 252), Admission::AcceptAndMove);
    assert_eq!(latch.peer(), Some(moved));
}

#[test]
fn silence_does_not_let_another_stream_in() {
    let mut latch = settled_on_nat();
    for n in 0..100 {
        assert_eq!(
            latch.admit(at(9000), thief(), 666, 102 + n),
            Admission::Refuse(RefusedSource::OtherStream)
        );
    }
}

#[test]
fn silence_does_not_let_a_guessed_sequence_in() {
    let mut latch = settled_on_nat();
    let edge = 101 + SEQUENCE_REACH;
    let refused = Admission::Refuse(RefusedSource::SequenceTooFar);
    assert_eq!(latch.admit(at(9000), thief(), SSRC, edge + 1), refused);
    assert_eq!(latch.admit(at(9000), thief(), SSRC, 101u16.wrapping_sub(SEQUENCE_REACH + 1)), refused);
    assert_eq!(latch.admit(at(9000), thief(), SSRC, edge), Admission::Refuse(RefusedSource::Unproven));
    assert_eq!(latch.peer(), Some(natted()));
}

#[test]
fn two_packets_not_in_sequence_or_not_of_one_source_prove_nothing() {
    let mut latch = settled_on_nat();
    let unproven = Admission::Refuse(RefusedSource::Unproven);
    assert_eq!(latch.admit(at(9000), thief(), SSRC, 200), unproven);
    assert_eq!(latch.admit(at(9001), thief(), SSRC, 200), unproven);
    assert_eq!(latch.admit(at(9002), thief(), SSRC, 202), unproven);
    assert_eq!(latch.admit(at(9003), addr("192.0.2.67:6666"), SSRC, 203), unproven);
    assert_eq!(latch.peer(), Some(natted()));
}

#[test]
fn the_peer_that_comes_back_ends_a_candidacy() {
    let mut latch = settled_on_nat();
    latch.admit(at(9000), thief(), SSRC, 200);
    assert_eq!(latch.admit(at(9001), natted(), SSRC, 150), Admission::Accept);
    assert_eq!(latch.admit(at(9002), thief(), SSRC, 201), Admission::Refuse(RefusedSource::PeerIsSettled));
}

#[test]
fn the_peer_may_change_its_stream() {
    let mut latch = settled_on_nat();
    assert_eq!(latch.admit(at(600), natted(), 77, 60_000), Admission::Accept);
}

#[test]
fn a_reset_sends_to_the_new_address_and_latches_anew() {
    let mut latch = settled_on_nat();
    let moved = addr("198.51.100.8:5000");
    latch.reset(Some(moved), at(10_000));
    assert_eq!(latch.peer(), Some(moved));
    assert_eq!(latch.admit(at(10_010), natted(), SSRC, 150), Admission::Accept, "in flight");
    assert_eq!(latch.peer(), Some(moved));
    assert_eq!(latch.admit(at(10_020), moved, 5, 1), Admission::Accept);
    assert_eq!(latch.admit(at(10_030), natted(), SSRC, 151), Admission::Refuse(RefusedSource::PeerIsSettled));
}

#[test]
fn a_reset_that_did_not_move_the_phone_takes_its_old_source_again() {
    let mut latch = settled_on_nat();
    latch.reset(Some(addr("192.168.1.2:5000")), at(10_000));
    assert_eq!(latch.admit(at(10_499), natted(), SSRC, 150), Admission::Accept);
    assert_eq!(latch.peer(), Some(addr("192.168.1.2:5000")));
    assert_eq!(latch.admit(at(10_500), natted(), SSRC, 151), Admission::AcceptAndMove);
    assert_eq!(latch.peer(), Some(natted()));
}

#[test]
fn a_hold_and_a_refresh_do_not_open_the_door() {
    let mut latch = settled_on_nat();
    let elsewhere = Admission::Refuse(RefusedSource::PeerIsSettled);
    for expected in [None, Some(addr("0.0.0.0:4000")), Some(phone())] {
        latch.reset(expected, at(600));
        assert_eq!(latch.peer(), Some(natted()), "{expected:?}");
        assert_eq!(latch.admit(at(600), thief(), 666, 1), elsewhere, "{expected:?}");
    }
}

#[test]
fn rtcp_goes_beside_rtp_or_where_the_sdp_says() {
    let sdp_rtcp = Some(addr("198.51.100.7:4009"));
    let mut latch = Latch::new(Some(phone()), at(0));
    assert_eq!(latch.rtcp_peer(sdp_rtcp, false), sdp_rtcp);
    assert_eq!(latch.rtcp_peer(None, false), Some(addr("198.51.100.7:4001")));
    assert_eq!(latch.rtcp_peer(sdp_rtcp, true), Some(phone()));
    latch.admit(at(0), natted(), SSRC, 1);
    assert_eq!(latch.rtcp_peer(sdp_rtcp, false), Some(addr("203.0.113.9:31338")));
    assert!(latch.admits_rtcp(addr("203.0.113.9:1")));
    assert!(!latch.admits_rtcp(thief()));
    let last_port = Latch::new(Some(addr("198.51.100.7:65535")), at(0));
    assert_eq!(last_port.rtcp_peer(None, false), None);
}

#[test]
fn a_sequence_that_wraps_is_near() {
    let mut latch = Latch::new(None, at(0));
    latch.admit(at(0), natted(), SSRC, 65_530);
    latch.admit(at(9000), phone(), SSRC, 20);
    assert_eq!(latch.admit(at(9020), phone(), SSRC, 21), Admission::AcceptAndMove);
}
