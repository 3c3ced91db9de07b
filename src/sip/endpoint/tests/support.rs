//! A harness around one endpoint: messages in as text, what comes out as text and events.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::rng::Rng;
use crate::sip::{CallKey, Cause, Endpoint, Event, Flow, Settings, Transport};
use crate::time::{Duration, Instant};

/// A minimal offer or answer; the endpoint never reads it.
pub(super) const SDP: &str = "v=0\r\n";

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().expect("a test address")
}

pub(super) fn flow(transport: Transport) -> Flow {
    Flow { transport, id: 1, local: address("192.0.2.1:5060"), remote: address("192.0.2.9:5062") }
}

/// One endpoint, its clock, and everything it said since it was last asked.
pub(super) struct Rig {
    pub(super) endpoint: Endpoint,
    pub(super) now: Instant,
    pub(super) flow: Flow,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(Settings::default(), Transport::Udp)
    }

    pub(super) fn tcp() -> Self {
        Self::with(Settings::default(), Transport::Tcp)
    }

    pub(super) fn with(settings: Settings, transport: Transport) -> Self {
        let endpoint = Endpoint::new(settings, Rng::from_number(7));
        Self { endpoint, now: Instant::from_millis(1000), flow: flow(transport) }
    }

    pub(super) fn contact(&self) -> SocketAddr {
        self.flow.local
    }

    /// Hands in one message and gives what is sent for it.
    pub(super) fn say(&mut self, message: &str) -> Vec<String> {
        self.say_bytes(Bytes::copy_from_slice(message.as_bytes()))
    }

    pub(super) fn say_bytes(&mut self, message: Bytes) -> Vec<String> {
        self.endpoint.handle_message(self.now, self.flow, message);
        self.sent()
    }

    /// What was sent since the last look.
    pub(super) fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.endpoint.poll_transmit())
            .map(|transmit| String::from_utf8_lossy(&transmit.bytes).into_owned())
            .collect()
    }

    /// The one message that was sent since the last look.
    pub(super) fn sent_one(&mut self) -> String {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "one message expected: {sent:#?}");
        sent.remove(0)
    }

    pub(super) fn event(&mut self) -> Option<Event> {
        self.endpoint.poll_event()
    }

    /// Runs the clock to `ms` after the start in the endpoint's own steps; gives what was sent
    /// meanwhile, with the time of it in ms after the start.
    pub(super) fn run_to(&mut self, ms: u64) -> Vec<(u64, String)> {
        self.sent();
        let start = 1000;
        let end = Instant::from_millis(start + ms);
        let mut out = Vec::new();
        while let Some(at) = self.endpoint.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            // Nothing may happen before its time.
            let before = Instant::from_nanos(at.as_nanos().saturating_sub(1));
            self.endpoint.handle_timeout(before);
            assert_eq!(self.sent(), Vec::<String>::new(), "sent 1 ns before its time");
            self.endpoint.handle_timeout(self.now);
            out.extend(self.sent().into_iter().map(|text| (self.now.as_millis() - start, text)));
        }
        self.now = self.now.max(end);
        out
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let target = (self.now + time).as_millis() - 1000;
        self.run_to(target);
    }

    /// An INVITE that came in; its key.
    pub(super) fn invited(&mut self, dialog: &Peer) -> CallKey {
        let sent = self.say(&dialog.invite(SDP));
        assert_eq!(statuses(&sent), [100]);
        match self.event() {
            Some(Event::Invite { call, .. }) => call,
            other => panic!("an Invite expected: {other:?}"),
        }
    }

    /// A call that was accepted and acknowledged; the peer knows our tag.
    pub(super) fn established(&mut self, peer: &mut Peer) -> CallKey {
        let call = self.invited(peer);
        self.endpoint.accept(self.now, call, self.contact(), Bytes::from_static(SDP.as_bytes()));
        let answer = self.sent_one();
        peer.learn(&answer);
        assert_eq!(self.say(&peer.ack(1)), Vec::<String>::new());
        assert!(matches!(self.event(), Some(Event::Acked { .. })));
        call
    }

    pub(super) fn ended(&mut self) -> Cause {
        match self.event() {
            Some(Event::Ended { cause, .. }) => cause,
            other => panic!("an Ended expected: {other:?}"),
        }
    }
}

/// The other side of one dialog, which writes its messages plainly.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) id: String,
    pub(super) to_tag: String,
    pub(super) transport: &'static str,
}

impl Peer {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.into(), to_tag: String::new(), transport: "UDP" }
    }

    /// Takes our tag out of an answer.
    pub(super) fn learn(&mut self, answer: &str) {
        self.to_tag = tag_of(header(answer, "To"));
    }

    pub(super) fn request(&self, method: &str, cseq: u32, branch: &str, more: &str, body: &str) -> String {
        let (id, transport) = (&self.id, self.transport);
        let tag = if self.to_tag.is_empty() { String::new() } else { format!(";tag={}", self.to_tag) };
        let cseq_method = method;
        format!(
            "{method} sip:room@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/{transport} 192.0.2.9:5062;branch=z9hG4bK{id}{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{id}@peer.example>;tag=peer{id}\r\nTo: <sip:room@192.0.2.1>{tag}\r\n\
             Call-ID: {id}@peer.example\r\nCSeq: {cseq} {cseq_method}\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    pub(super) fn invite(&self, body: &str) -> String {
        self.invite_at(1, body)
    }

    pub(super) fn invite_at(&self, cseq: u32, body: &str) -> String {
        let more = "Contact: <sip:ann@192.0.2.9:5062>\r\n";
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        self.request("INVITE", cseq, &format!("i{cseq}"), &format!("{more}{kind}"), body)
    }

    /// The ACK of a 2xx.
    pub(super) fn ack(&self, cseq: u32) -> String {
        self.request("ACK", cseq, &format!("a{cseq}"), "", "")
    }

    /// The ACK of a refusal: it belongs to the INVITE's transaction.
    pub(super) fn ack_refusal(&self, cseq: u32) -> String {
        self.request("ACK", cseq, &format!("i{cseq}"), "", "")
    }

    pub(super) fn cancel(&self, cseq: u32) -> String {
        self.request("CANCEL", cseq, &format!("i{cseq}"), "", "")
    }

    pub(super) fn bye(&self, cseq: u32) -> String {
        self.request("BYE", cseq, &format!("b{cseq}"), "", "")
    }
}

/// The answer of a peer to a request of ours.
pub(super) fn answer(request: &str, status: u16, tag: &str, more: &str, body: &str) -> String {
    let to = header(request, "To");
    let to = if to.contains(";tag=") || status == 100 { to.to_owned() } else { format!("{to};tag={tag}") };
    format!(
        "SIP/2.0 {status} So\r\nVia: {}\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n{more}Content-Length: {}\r\n\r\n{body}",
        header(request, "Via"),
        header(request, "From"),
        header(request, "Call-ID"),
        header(request, "CSeq"),
        body.len()
    )
}

/// The value of the first header of that name.
pub(super) fn header<'a>(message: &'a str, name: &str) -> &'a str {
    try_header(message, name).unwrap_or_else(|| panic!("no {name} in {message}"))
}

pub(super) fn try_header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").or(None))
}

pub(super) fn tag_of(value: &str) -> String {
    value.split(";tag=").nth(1).expect("a tag").into()
}

/// The status of each response, 0 for a request.
pub(super) fn statuses(sent: &[String]) -> Vec<u16> {
    sent.iter().map(|message| status(message)).collect()
}

pub(super) fn status(message: &str) -> u16 {
    message.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}

pub(super) fn method(message: &str) -> &str {
    message.split(' ').next().unwrap_or_default()
}
