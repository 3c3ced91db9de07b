//! SIPp: what is refused, and how.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;

use crate::process::wait_for;
use crate::server::{DOMAIN, Server};
use crate::sipp::{Over, Sipp};

/// What a good INVITE has in the place where the bad ones differ.
const HOPS: &str = "Max-Forwards: 70\n";

/// An INVITE to this user that is refused; the answer contains `check`, a regular expression.
pub fn refused(server: SocketAddr, user: &str, status: u16, check: &str) -> Sipp {
    refused_as(server, &format!("sip:{user}@{DOMAIN}"), HOPS, "0", status, check)
}

/// The same with everything that can differ.
fn refused_as(server: SocketAddr, uri: &str, headers: &str, format: &str, status: u16, check: &str) -> Sipp {
    Sipp::new("refused", server, "nobody")
        .fill("URI", uri)
        .fill("HEADERS", headers)
        .fill("FORMAT", format)
        .fill("STATUS", &status.to_string())
        .fill("CHECK", check)
}

/// A request other than INVITE, and its answer.
fn answered(server: SocketAddr, method: &str, to_tag: &str, headers: &str, status: u16, check: &str) -> Sipp {
    Sipp::new("answered", server, "direct.0123456789ab")
        .fill("METHOD", method)
        .fill("TO_TAG", to_tag)
        .fill("HEADERS", headers)
        .fill("STATUS", &status.to_string())
        .fill("CHECK", check)
}

#[test]
fn bad_requests_are_answered_by_what_is_wrong_with_them() {
    let server = Server::start();
    let conference = server.conference("conference");
    let good = format!("sip:{}@{DOMAIN}", conference.user());
    let elsewhere = format!("sip:{}@elsewhere.example", conference.user());
    let web = format!("http://{DOMAIN}/{}", conference.user());
    let holography = format!("{HOPS}Require: holography\n");
    let seventy = "Max-Forwards: seventy\n";
    for over in [Over::Udp, Over::Tcp] {
        let refusals = [
            (good.as_str(), seventy, "0", 400, "SIP/2.0 400 .*Max-Forwards"),
            (&format!("sip:direct.000000000000@{DOMAIN}"), HOPS, "0", 404, "SIP/2.0 404"),
            (&format!("sip:alice@{DOMAIN}"), HOPS, "0", 404, "SIP/2.0 404"),
            (&elsewhere, HOPS, "0", 404, "SIP/2.0 404"),
            ("tel:+15550100", HOPS, "0", 416, "SIP/2.0 416"),
            (&web, HOPS, "0", 416, "SIP/2.0 416"),
            (&good, &holography, "0", 420, "Unsupported: holography"),
            (&good, HOPS, "18", 488, "Warning: 305 "),
        ];
        let answers = [
            ("OPTIONS", "", HOPS, 200, "Allow: .*INVITE"),
            ("HOLOGRAM", "", HOPS, 501, "SIP/2.0 501"),
            ("SUBSCRIBE", "", "Max-Forwards: 70\nEvent: presence\n", 405, "Allow: .*INVITE"),
            ("BYE", ";tag=unheard-of", HOPS, 481, "SIP/2.0 481"),
        ];
        let refused = refusals.map(|(uri, headers, format, status, check)| {
            refused_as(server.sip, uri, headers, format, status, check).over(over)
        });
        let answered = answers.map(|(method, tag, headers, status, check)| {
            answered(server.sip, method, tag, headers, status, check).over(over)
        });
        // All at once: each is a moment, and starting SIPp is most of it.
        let running: Vec<_> = refused.into_iter().chain(answered).map(Sipp::start).collect();
        for sipp in running {
            sipp.finish();
        }
    }
    assert!(conference.calls().is_empty(), "{:#?}", conference.calls());
}

#[test]
fn the_call_that_finds_no_rtp_port_gets_503_and_is_counted() {
    // Of three ports in a row one pair begins with an even one.
    let server = Server::start_at(IpAddr::V4(Ipv4Addr::LOCALHOST), 3);
    let conference = server.conference("conference");
    let first = Sipp::new("call", server.sip, &conference.user()).holding(Duration::from_secs(5)).start();
    conference.wait_for_joined(1);
    refused(server.sip, &conference.user(), 503, "Retry-After: ").run();
    wait_for("the refusal to be counted", Duration::from_secs(5), || {
        (server.metric("confab_calls_refused_total{reason=\"rtp_ports\"}") == 1.0).then_some(())
    });
    first.finish();
    conference.wait_for_all_left(1);
    // The port is free again.
    Sipp::new("call", server.sip, &conference.user()).holding(Duration::from_millis(100)).run();
}

#[test]
fn a_hash_is_worth_a_call_only_while_it_lives() {
    let server = Server::start();
    let mut conference = server.conference("conference");
    let call = |user: &str| Sipp::new("call", server.sip, user).holding(Duration::from_millis(100));
    let gone = |user: &str, status| refused(server.sip, user, status, &format!("SIP/2.0 {status}")).run();
    call(&conference.user()).run();
    let old = conference.regenerate();
    gone(&old, 404);
    call(&conference.user()).run();
    conference.wait_for_all_left(2);

    let path = format!("/conferences/{}", conference.id);
    let closed = server.api("PUT", &path, Some(&json!({ "direct_access": false })));
    assert_eq!(closed["direct_hash"], "");
    gone(&conference.user(), 404);

    let deleted = server.conference("conference");
    deleted.delete();
    gone(&deleted.user(), 404);

    let short = server.conference_of(&json!({ "timeout": 1 }));
    wait_for("a timeout of one second", Duration::from_secs(5), || {
        (short.now()["status"] == "terminated").then_some(())
    });
    gone(&short.user(), 410);
}

#[test]
fn the_hash_of_an_ended_conference_is_gone_after_a_restart_too() {
    let mut server = Server::start();
    let short = server.conference_of(&json!({ "timeout": 1 }));
    wait_for("a timeout of one second", Duration::from_secs(5), || {
        (short.now()["status"] == "terminated").then_some(())
    });
    let deleted = server.conference("conference");
    deleted.delete();
    let (ended, free) = (short.user(), deleted.user());
    server.restart();
    for (user, status) in [(ended, 410), (free, 404)] {
        refused(server.sip, &user, status, &format!("SIP/2.0 {status}")).run();
    }
}
