//! The signalling of the load source: SIP messages from templates and just enough reading of what
//! comes back. Independent of the server's SIP on purpose, and far cheaper than it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::audio::AudioCodec;

/// The name we sign with.
const USER_AGENT: &str = concat!("confab-load/", env!("CARGO_PKG_VERSION"));

/// A SIP message as received: text views into the datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The request or status line.
    pub start: &'a str,
    head: &'a str,
    /// What follows the empty line.
    pub body: &'a str,
}

impl<'a> Message<'a> {
    /// Views a datagram as a message; `None` when it is no text or has no header.
    pub fn parse(datagram: &'a [u8]) -> Option<Message<'a>> {
        let text = std::str::from_utf8(datagram).ok()?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let (start, head) = head.split_once("\r\n")?;
        Some(Message { start, head, body })
    }

    /// The status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request.
    pub fn method(&self) -> Option<&'a str> {
        let (method, rest) = self.start.split_once(' ')?;
        rest.ends_with("SIP/2.0").then_some(method)
    }

    /// The values of a header by its long and its compact name, in order.
    pub fn values(&self, name: &'a str, compact: &'a str) -> impl Iterator<Item = &'a str> {
        self.head.split("\r\n").filter_map(move |line| {
            let (found, value) = line.split_once(':')?;
            let found = found.trim_end();
            let matches = found.eq_ignore_ascii_case(name)
                || (!compact.is_empty() && found.eq_ignore_ascii_case(compact));
            matches.then(|| value.trim())
        })
    }

    /// The first value of a header.
    pub fn value(&self, name: &'a str, compact: &'a str) -> Option<&'a str> {
        self.values(name, compact).next()
    }

    /// The method that a response's CSeq names.
    pub fn sequence_method(&self) -> Option<&'a str> {
        self.value("CSeq", "")?.split_ascii_whitespace().nth(1)
    }

    /// Where the peer wants its RTP, by its SDP: the media's own address before the session's.
    pub fn media_address(&self) -> Option<SocketAddr> {
        let (mut session_ip, mut media_ip, mut port) = (None, None, None);
        for line in self.body.lines() {
            let line = line.trim_end();
            if let Some(media) = line.strip_prefix("m=") {
                if port.is_some() {
                    break;
                }
                let mut words = media.split_ascii_whitespace();
                port = (words.next() == Some("audio")).then(|| words.next()?.parse::<u16>().ok()).flatten();
            } else if let Some(connection) = line.strip_prefix("c=IN ") {
                let ip: Option<IpAddr> =
                    connection.split_ascii_whitespace().nth(1).and_then(|ip| ip.parse().ok());
                *(if port.is_some() { &mut media_ip } else { &mut session_ip }) = ip;
            }
        }
        let port = port.filter(|port| *port != 0)?;
        Some(SocketAddr::new(media_ip.or(session_ip)?, port))
    }
}

/// The names all calls of a run share.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Tells this run's calls from another's.
    pub run: String,
    /// Where RTP and signalling come from.
    pub ip: IpAddr,
    /// The codec offered.
    pub codec: AudioCodec,
    /// Milliseconds of audio per packet.
    pub ptime_ms: u16,
}

/// What a dialog adds to a request once the call is answered.
#[derive(Clone, Debug, Default)]
pub struct Dialog {
    /// The To value with its tag.
    pub to: String,
    /// The peer's Contact URI: where requests of the dialog are addressed to.
    pub target: String,
    /// The route set, first hop first (RFC 3261 §12.1.2).
    pub routes: Vec<String>,
}

impl Dialog {
    /// What a 2xx to our INVITE establishes; `fallback` is the URI that was dialled.
    pub fn from_answer(answer: &Message<'_>, fallback: &str) -> Dialog {
        let contact = answer.value("Contact", "m").and_then(bare_uri).unwrap_or(fallback);
        let mut routes: Vec<String> = answer.values("Record-Route", "").map(str::to_owned).collect();
        routes.reverse();
        Dialog {
            to: answer.value("To", "t").unwrap_or_default().to_owned(),
            target: contact.to_owned(),
            routes,
        }
    }
}

/// The URI of a name-addr or addr-spec.
fn bare_uri(value: &str) -> Option<&str> {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next(),
        None => value.split([';', ',']).next().map(str::trim),
    }
    .filter(|uri| !uri.is_empty())
}

/// One call's own part in its messages.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The call's number, which its Call-ID carries.
    pub call: u32,
    /// The URI dialled.
    pub uri: &'a str,
    /// The socket its signalling uses.
    pub sip: SocketAddr,
}

impl Signature {
    /// The INVITE of a call that wants its RTP on `rtp_port`.
    pub fn invite(&self, line: Line<'_>, rtp_port: u16) -> Vec<u8> {
        let sdp = self.offer(line.call, rtp_port);
        let mut text = self.head("INVITE", line, line.uri, &format!("<{}>", line.uri), &[], 1, "i");
        let _ = write!(
            text,
            "Contact: <sip:load{}@{}>\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            line.call,
            line.sip,
            sdp.len()
        );
        text.into_bytes()
    }

    /// The ACK of a 2xx (RFC 3261 §13.2.2.4: a transaction of its own).
    pub fn ack(&self, line: Line<'_>, dialog: &Dialog) -> Vec<u8> {
        self.empty("ACK", line, &dialog.target, &dialog.to, &dialog.routes, 1, "a")
    }

    /// The ACK of a refusal (RFC 3261 §17.1.1.3: the INVITE's branch and the response's To).
    pub fn ack_refusal(&self, line: Line<'_>, to: &str) -> Vec<u8> {
        self.empty("ACK", line, line.uri, to, &[], 1, "i")
    }

    /// The CANCEL of an INVITE that nobody has answered.
    pub fn cancel(&self, line: Line<'_>) -> Vec<u8> {
        self.empty("CANCEL", line, line.uri, &format!("<{}>", line.uri), &[], 1, "i")
    }

    /// The BYE of an answered call.
    pub fn bye(&self, line: Line<'_>, dialog: &Dialog) -> Vec<u8> {
        self.empty("BYE", line, &dialog.target, &dialog.to, &dialog.routes, 2, "b")
    }

    /// The call that a message's Call-ID names, if it is of this run.
    pub fn call_of(&self, message: &Message<'_>) -> Option<u32> {
        let (call, run) = message.value("Call-ID", "i")?.split_once('-')?;
        (run == self.run).then(|| call.parse().ok()).flatten()
    }

    /// A request without a body.
    #[expect(clippy::too_many_arguments, reason = "the parts of a request, named at the few calls above")]
    fn empty(
        &self,
        method: &str,
        line: Line<'_>,
        to_uri: &str,
        to: &str,
        routes: &[String],
        sequence: u32,
        branch: &str,
    ) -> Vec<u8> {
        let mut text = self.head(method, line, to_uri, to, routes, sequence, branch);
        text.push_str("Content-Length: 0\r\n\r\n");
        text.into_bytes()
    }

    /// The header lines every request has.
    #[expect(clippy::too_many_arguments, reason = "the parts of a request, named at the few calls above")]
    fn head(
        &self,
        method: &str,
        line: Line<'_>,
        to_uri: &str,
        to: &str,
        routes: &[String],
        sequence: u32,
        branch: &str,
    ) -> String {
        let Line { call, sip, .. } = line;
        let run = &self.run;
        let mut text = String::with_capacity(1024);
        let _ = write!(
            text,
            "{method} {to_uri} SIP/2.0\r\nVia: SIP/2.0/UDP {sip};rport;branch=z9hG4bK{run}{branch}{call}\r\n"
        );
        for route in routes {
            let _ = write!(text, "Route: {route}\r\n");
        }
        let _ = write!(
            text,
            "Max-Forwards: 70\r\nFrom: <sip:load{call}@{ip}>;tag={run}{call}\r\nTo: {to}\r\nCall-ID: {call}-{run}\r\nCSeq: {sequence} {method}\r\nUser-Agent: {USER_AGENT}\r\n",
            ip = bracketed(self.ip),
        );
        text
    }

    /// The SDP offer.
    fn offer(&self, call: u32, rtp_port: u16) -> String {
        let family = if self.ip.is_ipv4() { "IP4" } else { "IP6" };
        let (ip, ptime, codec) = (self.ip, self.ptime_ms, self.codec.encoding_name());
        let payload_type = self.codec.static_payload_type().unwrap_or(0);
        format!(
            "v=0\r\no=- {call} 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {rtp_port} RTP/AVP {payload_type}\r\n\
             a=rtpmap:{payload_type} {codec}/8000\r\na=ptime:{ptime}\r\na=rtcp-mux\r\na=sendrecv\r\n"
        )
    }
}

/// An address as a URI's host.
fn bracketed(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

/// The answer to a request: its Via, From, To, Call-ID and CSeq mirrored (RFC 3261 §8.2.6.2).
pub fn response(request: &Message<'_>, status: u16, reason: &str) -> Vec<u8> {
    let mut text = format!("SIP/2.0 {status} {reason}\r\n");
    for (name, compact) in [("Via", "v"), ("From", "f"), ("To", "t"), ("Call-ID", "i"), ("CSeq", "")] {
        for value in request.values(name, compact) {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    text.push_str("Allow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\nContent-Length: 0\r\n\r\n");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(ip: &str) -> Signature {
        Signature {
            run: "r7".into(),
            ip: ip.parse().expect("an address"),
            codec: AudioCodec::Pcma,
            ptime_ms: 20,
        }
    }

    const LINE: Line<'_> = Line {
        call: 42,
        uri: "sip:direct.ab@10.0.0.1",
        sip: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5070),
    };

    #[test]
    fn an_invite_names_its_call_and_offers_one_codec() {
        let bytes = signature("127.0.0.1").invite(LINE, 40_000);
        let message = Message::parse(&bytes).expect("a message");
        assert_eq!(message.method(), Some("INVITE"));
        assert_eq!(message.status(), None);
        assert_eq!(signature("127.0.0.1").call_of(&message), Some(42));
        assert_eq!(message.media_address(), Some("127.0.0.1:40000".parse().expect("an address")));
        assert!(message.body.contains("RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=ptime:20"));
        assert_eq!(message.value("content-length", "l"), Some(message.body.len().to_string().as_str()));
    }

    #[test]
    fn a_dialog_is_spoken_to_at_its_contact_through_its_routes() {
        let answer = b"SIP/2.0 200 OK\r\nVia: x\r\nRecord-Route: <sip:p1;lr>\r\nrecord-route: <sip:p2;lr>\r\nt: <sip:a@b>;tag=9\r\nm: \"N\" <sip:room@10.0.0.1:5060>;x=1\r\nCSeq: 1 INVITE\r\n\r\n";
        let message = Message::parse(answer).expect("a message");
        assert_eq!((message.status(), message.sequence_method()), (Some(200), Some("INVITE")));
        let dialog = Dialog::from_answer(&message, LINE.uri);
        let bytes = signature("127.0.0.1").bye(LINE, &dialog);
        let bye = Message::parse(&bytes).expect("a message");
        assert!(bye.start.starts_with("BYE sip:room@10.0.0.1:5060 SIP/2.0"));
        assert_eq!(bye.values("Route", "").collect::<Vec<_>>(), ["<sip:p2;lr>", "<sip:p1;lr>"]);
        assert_eq!(bye.value("To", "t"), Some("<sip:a@b>;tag=9"));
        assert_eq!(bye.value("CSeq", ""), Some("2 BYE"));
    }

    #[test]
    fn a_refusal_is_acknowledged_in_the_invites_transaction() {
        let signature = signature("127.0.0.1");
        let (invite, ack) = (signature.invite(LINE, 1), signature.ack_refusal(LINE, "<x>;tag=1"));
        let via = |bytes: &[u8]| Message::parse(bytes).and_then(|m| m.value("Via", "v").map(str::to_owned));
        assert_eq!(via(&invite), via(&ack));
        assert_eq!(via(&invite), via(&signature.cancel(LINE)));
    }

    #[test]
    fn requests_are_answered_with_what_they_brought() {
        let request = b"BYE sip:load42@127.0.0.1 SIP/2.0\r\nVia: one\r\nv: two\r\nf: <a>\r\nTo: <b>\r\nCall-ID: 42-r7\r\nCSeq: 3 BYE\r\n\r\n";
        let bytes = response(&Message::parse(request).expect("a message"), 200, "OK");
        let answer = Message::parse(&bytes).expect("a message");
        assert_eq!(answer.values("Via", "v").collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(
            (answer.status(), answer.value("From", "f"), answer.value("CSeq", "")),
            (Some(200), Some("<a>"), Some("3 BYE"))
        );
    }

    #[test]
    fn media_addresses_are_found_at_either_level_and_in_either_family() {
        let body = |text: &str| format!("SIP/2.0 200 OK\r\nX: y\r\n\r\n{text}");
        let found = |text: &str| Message::parse(body(text).as_bytes()).and_then(|m| m.media_address());
        let address = |text: &str| Some(text.parse::<SocketAddr>().expect("an address"));
        assert_eq!(found("c=IN IP4 1.2.3.4\r\nm=audio 10 RTP/AVP 0\r\n"), address("1.2.3.4:10"));
        assert_eq!(
            found("c=IN IP4 9.9.9.9\nm=audio 10 RTP/AVP 0\nc=IN IP6 ::1\nm=video 5 x\nc=IN IP4 8.8.8.8\n"),
            address("[::1]:10")
        );
        for none in [
            "",
            "m=audio 10 x",
            "c=IN IP4 1.2.3.4\r\nm=audio 0 x",
            "c=IN IP4 nowhere\r\nm=audio 1 x",
            "m=audio",
        ] {
            assert_eq!(found(none), None, "{none}");
        }
    }

    #[test]
    fn other_runs_and_noise_are_not_ours() {
        let ours = signature("::1");
        for text in [
            "",
            "\r\n\r\n",
            "SIP/2.0 200 OK\r\nCall-ID: 1-r8\r\n\r\n",
            "SIP/2.0 200 OK\r\nCall-ID: x-r7\r\n\r\n",
            "SIP/2.0 20",
        ] {
            assert_eq!(Message::parse(text.as_bytes()).and_then(|m| ours.call_of(&m)), None, "{text:?}");
        }
        assert!(Message::parse(&[0xff, 0xfe]).is_none());
        let from_v6 = ours.invite(LINE, 1);
        assert!(
            Message::parse(&from_v6)
                .and_then(|m| m.value("From", "f").map(|f| f.contains("@[::1]>")))
                .expect("a From")
        );
    }
}
