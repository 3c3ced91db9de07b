//! Hostile and odd bytes: the cases of RFC 4475 and RFC 5118 as fixtures, every truncation of each,
//! and seeded bit flips.

use bytes::Bytes;

use super::support::{Rig, status};
use crate::rng::Rng;
use crate::sip::message::{self, DropReason, Message, Request, Response};
use crate::sip::{Event, Method, Transport, framer::Framer};

/// What an endpoint does with a message.
#[derive(Debug, PartialEq)]
enum Fate {
    /// The owner is asked.
    Asked,
    /// It is answered by this status line.
    Answered(&'static str),
    /// It is dropped.
    Dropped(DropReason),
}

use Fate::{Answered, Asked, Dropped};

macro_rules! fixtures {
    ($($name:literal => $fate:expr),* $(,)?) => {
        [$(($name, &include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/sip/", $name, ".sip"))[..], $fate)),*]
    };
}

fn fixtures() -> [(&'static str, &'static [u8], Fate); 62 - 1] {
    fixtures! {
        // RFC 4475 §3.1.1, valid
        "wsinv" => Answered("481 Call/Transaction Does Not Exist"), // its To has a tag
        "intmeth" => Answered("501 Not Implemented"),
        "esc01" => Asked,
        "escnull" => Asked,
        "esc02" => Answered("501 Not Implemented"),
        "lwsdisp" => Asked,
        "longreq" => Asked,
        "dblreq" => Asked,
        "semiuri" => Asked,
        "transports" => Asked,
        "mpart01" => Answered("405 Method Not Allowed"),
        "unreason" => Dropped(DropReason::StrayResponse),
        "noreason" => Dropped(DropReason::StrayResponse),
        // RFC 4475 §3.1.2, invalid
        "badinv01" => Answered("400 Bad Via Header"),
        "clerr" => Answered("400 Content-Length Larger Than Message"),
        "ncl" => Answered("400 Bad Content-Length Header"),
        "scalar02" => Answered("400 Bad CSeq Header"),
        "scalarlg" => Dropped(DropReason::BadResponse),
        "quotbal" => Answered("400 Bad To Header"),
        "ltgtruri" => Answered("400 Bad Request-URI"),
        "lwsruri" => Answered("400 Bad Request Line"),
        "lwsstart" => Answered("400 Bad Request Line"),
        "trws" => Answered("400 Bad Request Line"),
        "escruri" => Answered("400 Request-URI With Headers"),
        "baddate" => Asked, // Date says nothing that we need
        "regbadct" => Answered("400 Bad Contact Header"),
        "badaspec" => Answered("400 Bad To Header"),
        "baddn" => Answered("400 Bad From Header"),
        "badvers" => Answered("505 Version Not Supported"),
        "mismatch01" => Answered("400 CSeq Method Does Not Match"),
        "mismatch02" => Answered("400 CSeq Method Does Not Match"),
        "bigcode" => Dropped(DropReason::BadResponse),
        // RFC 4475 §3.2 to §3.4
        "badbranch" => Asked,
        "insuf" => Dropped(DropReason::Unanswerable),
        "unkscm" => Answered("416 Unsupported URI Scheme"),
        "novelsc" => Answered("416 Unsupported URI Scheme"),
        "unksm2" => Asked,
        "bext01" => Answered("420 Bad Extension"),
        "invut" => Answered("415 Unsupported Media Type"),
        "regaut01" => Answered("405 Method Not Allowed"),
        "multi01" => Answered("400 Repeated CSeq Header"),
        "mcl01" => Answered("400 Repeated Content-Length Header"),
        "bcast" => Dropped(DropReason::StrayResponse),
        "zeromf" => Asked, // it is for us, so nobody is to forward it
        "cparam01" => Answered("405 Method Not Allowed"),
        "cparam02" => Answered("405 Method Not Allowed"),
        "regescrt" => Answered("405 Method Not Allowed"),
        "sdp01" => Answered("406 Not Acceptable"),
        "inv2543" => Asked,
        // RFC 5118 §4
        "ipv6-good" => Asked,
        "ipv6-bad" => Answered("400 Bad Request-URI"),
        "port-ambiguous" => Asked,
        "port-unambiguous" => Asked,
        "via-received-param-with-delim" => Asked,
        "via-received-param-no-delim" => Asked,
        "ipv6-in-sdp" => Asked,
        "mult-ip-in-header" => Asked,
        "mult-ip-in-sdp" => Asked,
        "ipv4-mapped-ipv6" => Asked,
        "ipv6-bug-abnf-3-colons" => Asked,
        "invite" => Asked,
    }
}

fn fate(bytes: &[u8]) -> (Option<String>, bool, Rig) {
    let mut rig = Rig::new();
    let sent = rig.say_bytes(Bytes::copy_from_slice(bytes));
    let asked = matches!(rig.event(), Some(Event::Invite { .. } | Event::Options { .. }));
    let line = sent.first().and_then(|message| message.split("\r\n").next()).map(|line| line[8..].to_owned());
    (line, asked, rig)
}

fn request(name: &str) -> Request {
    match parsed(name) {
        Ok(Message::Request(request)) => request,
        other => panic!("{name}: {other:?}"),
    }
}

fn response(name: &str) -> Response {
    match parsed(name) {
        Ok(Message::Response(response)) => response,
        other => panic!("{name}: {other:?}"),
    }
}

fn parsed(name: &str) -> Result<Message, DropReason> {
    let all = fixtures();
    let (_, bytes, _) = all.iter().find(|(known, ..)| *known == name).expect("a fixture");
    message::parse(Bytes::from_static(bytes), false)
}

#[test]
fn every_case_meets_its_fate() {
    for (name, bytes, expected) in fixtures() {
        let (line, asked, rig) = fate(bytes);
        match expected {
            Asked => assert!(asked, "{name}: {line:?}"),
            Answered(status_line) => {
                assert!(!asked, "{name}");
                assert_eq!(line.as_deref(), Some(status_line), "{name}");
            }
            Dropped(reason) => {
                assert_eq!((line, asked), (None, false), "{name}");
                assert_eq!(rig.endpoint.counters().dropped(reason), 1, "{name}");
            }
        }
    }
}

#[test]
fn the_tortuous_invite_says_what_it_says() {
    let wsinv = request("wsinv");
    assert_eq!(wsinv.uri().as_str(), "sip:room@bridge.example;someparam");
    assert_eq!(wsinv.from_display_name().as_deref(), Some("A Nn \\\""));
    assert_eq!(wsinv.tag_of_from(), Some(&b"f98"[..]));
    assert_eq!(wsinv.tag_of_to(), Some(&b"77abcn"[..]));
    assert_eq!((wsinv.cseq(), wsinv.max_forwards()), (9, Some(68)));
    assert_eq!(wsinv.call_id(), "wsinv.long.and@192.0.2.1");
    assert_eq!(wsinv.header("subject").as_deref(), Some(""));
    assert_eq!(wsinv.header("NEWHEADER").as_deref(), Some("newfangled value   continued newfangled value"));
    assert_eq!(wsinv.headers("Via").count(), 2);
    assert_eq!(wsinv.body().len(), 127);
    let contact = crate::sip::dialog::contact_of(wsinv.lexed());
    assert_eq!(contact, Some(&b"sip:ann@caller.example"[..]));
}

#[test]
fn other_valid_cases_say_what_they_say() {
    let intmeth = request("intmeth");
    assert!(
        matches!(intmeth.method(), Method::Other(token) if &**token == "!interesting-Method0123456789_*+`.%indeed'~")
    );
    assert_eq!(intmeth.tag_of_from(), Some(&b"_token~1'+`*%!-."[..]));
    assert_eq!(intmeth.call_id(), "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{");
    assert_eq!(request("esc01").uri().user().as_deref(), Some("sips:ann@caller.example"));
    assert_eq!(request("escnull").uri().user().as_deref(), Some("null-\0-null"));
    assert_eq!(request("lwsdisp").from_display_name().as_deref(), Some("caller"));
    assert_eq!(request("dblreq").body().len(), 0);
    assert_eq!(request("semiuri").uri().user().as_deref(), Some("user;par=u@example.net"));
    assert_eq!(request("transports").headers("v").count(), 5);
    assert!(request("mpart01").body().ends_with(b"--cut--\r\n"));
    assert_eq!(response("unreason").reason(), "= 2**3 * 5**2 но сто");
    assert_eq!((response("noreason").status(), response("noreason").reason().as_ref()), (100, ""));
    assert_eq!(request("inv2543").tag_of_from(), None);
    assert_eq!(request("port-ambiguous").uri().port(), None);
    assert_eq!(request("port-unambiguous").uri().port(), Some(5070));
}

#[test]
fn every_truncation_of_every_case_is_survived() {
    for (_, bytes, _) in fixtures() {
        for len in 0..bytes.len() {
            let mut rig = Rig::new();
            rig.say_bytes(Bytes::from_static(&bytes[..len]));
            let mut framer = Framer::new();
            if framer.extend(&bytes[..len]).is_ok() {
                while let Some(Ok(message)) = framer.next_message() {
                    rig.say_bytes(message);
                }
            }
        }
    }
}

#[test]
fn seeded_bit_flips_are_survived_and_answers_stay_well_formed() {
    let all = fixtures();
    for seed in 0..6000 {
        let mut rng = Rng::from_number(seed);
        let (_, bytes, _) = &all[rng.below(all.len() as u64) as usize];
        let mut bytes = bytes.to_vec();
        for _ in 0..=rng.below(8) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
        }
        let mut rig =
            Rig::with(Default::default(), if seed % 2 == 0 { Transport::Udp } else { Transport::Tcp });
        let mut framer = Framer::new();
        let _ = framer.extend(&bytes);
        while let Some(Ok(message)) = framer.next_message() {
            rig.say_bytes(message);
        }
        rig.endpoint.handle_message(rig.now, rig.flow, bytes.into());
        while let Some(transmit) = rig.endpoint.poll_transmit() {
            if &transmit.bytes[..] == b"\r\n" {
                continue;
            }
            let text = String::from_utf8_lossy(&transmit.bytes).into_owned();
            assert!((100..700).contains(&status(&text)), "seed {seed}: {text}");
            assert!(text.contains("\r\n\r\n"), "seed {seed}: {text}");
        }
        while let Some(event) = rig.event() {
            if let Event::Invite { call, request, .. } = event {
                let _ = (request.from_uri(), request.to_uri(), request.from_display_name(), request.cause());
                rig.endpoint.accept(rig.now, call, rig.flow.local, Bytes::new());
            }
        }
        rig.run_to(100_000);
        assert_eq!(rig.endpoint.calls() + rig.endpoint.transactions(), 0, "seed {seed}");
    }
}
