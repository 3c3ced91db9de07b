//! Two phones of different makers, each hearing the other and not itself.

use std::time::Duration;

use crate::network;
use crate::phones::{Baresip, Linphone};
use crate::process::pass;
use crate::server::{Server, text};

const BARESIP_HZ: u32 = 600;
const LINPHONE_HZ: u32 = 1_000;

#[test]
fn baresip_and_linphone_hear_each_other_in_a_conference() {
    two_phones_hear_each_other(&Server::start());
}

#[test]
fn baresip_and_linphone_hear_each_other_on_the_express_path() {
    network::in_own(|| {
        let server = Server::start_on_the_express_path();
        two_phones_hear_each_other(&server);
        for name in ["received", "sent"] {
            let count = server.metric(&format!("confab_media_express_{name}_total{{thread=\"0\"}}"));
            assert!(count > 200.0, "{count} {name}");
        }
    });
}

fn two_phones_hear_each_other(server: &Server) {
    let conference = server.conference("conference");
    let linphone = Linphone::call(&conference.uri(), LINPHONE_HZ);
    let baresip = Baresip::call(&conference.uri(), BARESIP_HZ);
    let calls = conference.wait_for_joined(2);
    let mut codecs: Vec<String> = calls.iter().map(|call| text(call, "codec")).collect();
    codecs.sort();
    assert_eq!(codecs, ["PCMA", "PCMU"], "{calls:#?}");
    pass(Duration::from_millis(3_500));

    let baresip = baresip.hang_up();
    conference.wait_for_joined(1);
    let linphone = linphone.hang_up();
    conference.wait_for_all_left(2);
    assert_eq!(conference.now()["status"], "progressing", "an empty conference stays");

    baresip.assert_hears("baresip", LINPHONE_HZ);
    baresip.assert_does_not_hear("baresip", BARESIP_HZ);
    linphone.assert_hears("linphone", BARESIP_HZ);
    linphone.assert_does_not_hear("linphone", LINPHONE_HZ);
}
