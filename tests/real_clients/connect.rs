//! `connect`: two callers, ringback until the second comes, over when one of them leaves.

use std::time::Duration;

use crate::phones::{Baresip, Linphone};
use crate::process::pass;
use crate::server::Server;
use crate::sipp::{Over, Sipp};

const BARESIP_HZ: u32 = 600;
const LINPHONE_HZ: u32 = 1_000;
/// The two tones of the ringing tone where nothing else is configured (North America).
const RINGBACK_HZ: [u32; 2] = [440, 480];

#[test]
fn the_first_of_a_connect_hears_ringback_then_the_second_who_is_ejected_with_it() {
    let server = Server::start();
    let connect = server.conference("connect");
    let baresip = Baresip::call(&connect.uri(), BARESIP_HZ);
    pass(Duration::from_millis(1_800));
    let mut linphone = Linphone::call(&connect.uri(), LINPHONE_HZ);
    connect.wait_for_joined(2);
    pass(Duration::from_millis(2_500));

    let baresip = baresip.hang_up();
    linphone.wait_for_bye();
    let linphone = linphone.end();
    connect.wait_for_end();
    connect.wait_for_all_left(2);

    for tone in RINGBACK_HZ {
        baresip.assert_hears("the first", tone);
        linphone.assert_does_not_hear("the second", tone);
    }
    baresip.assert_hears("the first", LINPHONE_HZ);
    baresip.assert_does_not_hear("the first", BARESIP_HZ);
    linphone.assert_hears("the second", BARESIP_HZ);
    linphone.assert_does_not_hear("the second", LINPHONE_HZ);
}

#[test]
fn the_first_is_ejected_when_the_second_hangs_up_too() {
    let server = Server::start();
    let connect = server.conference("connect");
    let mut baresip = Baresip::call(&connect.uri(), BARESIP_HZ);
    let linphone = Linphone::call(&connect.uri(), LINPHONE_HZ);
    connect.wait_for_joined(2);
    pass(Duration::from_millis(1_000));
    linphone.hang_up();
    baresip.wait_for_bye();
    connect.wait_for_end();
    connect.wait_for_all_left(2);
    baresip.hang_up();
}

#[test]
fn a_connect_of_sipps_holds_two_and_ends_for_the_second_by_bye() {
    let server = Server::start();
    for over in [Over::Udp, Over::Tcp] {
        let connect = server.conference("connect");
        let call = |scenario| Sipp::new(scenario, server.sip, &connect.user()).over(over);
        let first = call("call").holding(Duration::from_millis(2_500)).start();
        connect.wait_for_joined(1);
        let second = call("ejected").start();
        connect.wait_for_joined(2);
        crate::sipp_refusals::refused(server.sip, &connect.user(), 486, "SIP/2.0 486").over(over).run();
        first.finish();
        second.finish();
        connect.wait_for_end();
        connect.wait_for_all_left(2);
        crate::sipp_refusals::refused(server.sip, &connect.user(), 410, "SIP/2.0 410").over(over).run();
    }
}

#[test]
fn a_first_caller_who_leaves_alone_ends_nothing() {
    let server = Server::start();
    let connect = server.conference("connect");
    let call = || Sipp::new("call", server.sip, &connect.user()).holding(Duration::from_millis(300));
    call().run();
    connect.wait_for_all_left(1);
    assert_eq!(connect.now()["status"], "progressing");
    call().run();
    connect.wait_for_all_left(2);
    assert_eq!(connect.now()["status"], "progressing");
}
