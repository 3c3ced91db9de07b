//! The headers that need reading: Via, name-addr headers, CSeq and the numbers.

use std::net::{IpAddr, SocketAddr};

use super::lexer::Fault;
use super::uri::{Uri, UriError, split_host_port};
use super::{scan, uri};

/// Largest CSeq number (RFC 3261 §8.1.1.5: below 2^31).
const CSEQ_MAX: u32 = (1 << 31) - 1;

/// One element of a Via header (RFC 3261 §20.42).
#[derive(Clone, Copy, Debug)]
pub(super) struct Via<'a> {
    /// As sent, without what follows the sent-by.
    head: &'a [u8],
    params: &'a [u8],
    host: &'a [u8],
    port: Option<u16>,
    /// The branch parameter.
    pub(super) branch: Option<&'a [u8]>,
    wants_rport: bool,
}

impl<'a> Via<'a> {
    /// Reads one element.
    pub(super) fn parse(text: &'a [u8]) -> Result<Via<'a>, Fault> {
        const BAD: Fault = "Bad Via Header";
        let end = scan::find_outside(text, b';').unwrap_or(text.len());
        let (head, params) = text.split_at(end);
        let mut protocol = head.splitn(3, |b| *b == b'/').map(scan::trim);
        let named = protocol.next().is_some_and(|name| name.eq_ignore_ascii_case(b"SIP"));
        if !named || protocol.next() != Some(b"2.0") {
            return Err(BAD);
        }
        let rest = protocol.next().ok_or(BAD)?;
        let gap = rest.iter().position(u8::is_ascii_whitespace).ok_or(BAD)?;
        let (transport, sent_by) = rest.split_at(gap);
        if !scan::is_token(transport) {
            return Err(BAD);
        }
        let (host, port) = split_host_port(scan::trim(sent_by)).ok_or(BAD)?;
        let port = match port {
            Some(port) => Some(scan::number::<u16>(port).ok_or(BAD)?),
            None => None,
        };
        let mut via = Via { head: scan::trim(head), params, host, port, branch: None, wants_rport: false };
        for (name, value) in scan::split_params(params).skip(1) {
            if !scan::is_token(name) || value == Some(b"") {
                return Err(BAD);
            }
            if name.eq_ignore_ascii_case(b"branch") {
                via.branch = value;
            } else if name.eq_ignore_ascii_case(b"rport") {
                via.wants_rport = true;
            }
        }
        Ok(via)
    }

    /// The sent-by host and port as a text to compare, in lower case.
    pub(super) fn sent_by(&self) -> String {
        let host = String::from_utf8_lossy(self.host).to_ascii_lowercase();
        format!("{host}:{}", self.port.unwrap_or(5060))
    }

    /// The branch when it starts with the magic cookie and something follows it (RFC 3261
    /// §8.1.1.7); without it the transaction is matched as RFC 2543 did.
    pub(super) fn unique_branch(&self) -> Option<&'a [u8]> {
        const COOKIE: &[u8] = b"z9hG4bK";
        self.branch.filter(|branch| {
            branch.len() > COOKIE.len()
                && branch.get(..COOKIE.len()).is_some_and(|start| start.eq_ignore_ascii_case(COOKIE))
        })
    }

    /// Writes the element for the answer: rport is the port the request really came from, and
    /// received its address where the sent-by does not say so or rport was asked for (RFC 3261
    /// §18.2.1, RFC 3581 §4).
    pub(super) fn write_answered(&self, out: &mut Vec<u8>, source: SocketAddr) {
        out.extend_from_slice(self.head);
        for (name, value) in scan::split_params(self.params).skip(1) {
            if name.eq_ignore_ascii_case(b"rport") || name.eq_ignore_ascii_case(b"received") {
                continue;
            }
            out.push(b';');
            out.extend_from_slice(name);
            if let Some(value) = value {
                out.push(b'=');
                out.extend_from_slice(value);
            }
        }
        let host_is_source = std::str::from_utf8(self.host)
            .ok()
            .and_then(|host| host.parse::<IpAddr>().ok())
            .is_some_and(|ip| ip.to_canonical() == source.ip().to_canonical());
        if self.wants_rport || !host_is_source {
            out.extend_from_slice(format!(";received={}", source.ip().to_canonical()).as_bytes());
        }
        out.extend_from_slice(format!(";rport={}", source.port()).as_bytes());
    }
}

/// A display name, a URI and parameters: From, To, Contact, Route, Record-Route (RFC 3261 §20.10).
#[derive(Clone, Copy, Debug)]
pub(super) struct NameAddr<'a> {
    /// As sent, quotes included; empty when there is none.
    display: &'a [u8],
    uri: &'a [u8],
    params: &'a [u8],
}

impl<'a> NameAddr<'a> {
    /// Reads one element; `fault` is what is said when it is none.
    pub(super) fn parse(text: &'a [u8], fault: Fault) -> Result<NameAddr<'a>, Fault> {
        let text = scan::trim(text);
        let (display, rest) = match scan::quoted_len(text) {
            Some(len) => {
                let (display, rest) = text.split_at(len);
                let rest = rest.trim_ascii_start();
                if rest.first() != Some(&b'<') {
                    return Err(fault);
                }
                (display, rest)
            }
            None => {
                let at = text.iter().position(|b| *b == b'<').unwrap_or(0);
                let (display, rest) = text.split_at(at);
                // Blanks between tokens; UTF-8 without quotes is common, so it passes.
                let fits = |b: &u8| scan::is_token_byte(*b) || b.is_ascii_whitespace() || !b.is_ascii();
                if !display.iter().all(fits) {
                    return Err(fault);
                }
                (scan::trim(display), rest)
            }
        };
        let (uri, params) = match rest.strip_prefix(b"<") {
            Some(inner) => {
                let end = inner.iter().position(|b| *b == b'>').ok_or(fault)?;
                let (uri, after) = inner.split_at(end);
                (uri, scan::trim(after.get(1..).unwrap_or_default()))
            }
            None => {
                // Without brackets what follows `;` is the header's, and the URI may have neither
                // `?` nor `,` (RFC 3261 §20.10).
                let end = rest.iter().position(|b| *b == b';').unwrap_or(rest.len());
                let (uri, params) = rest.split_at(end);
                if uri.iter().any(|b| matches!(b, b'?' | b',')) {
                    return Err(fault);
                }
                (scan::trim(uri), params)
            }
        };
        let mut pieces = scan::split_params(params);
        let before = pieces.next().unwrap_or_default().0;
        let fits =
            |(name, value): (&[u8], Option<&[u8]>)| scan::is_token(name) && value.is_none_or(value_fits);
        if !before.is_empty() || !pieces.all(fits) {
            return Err(fault);
        }
        Ok(NameAddr { display, uri, params })
    }

    /// The value of a parameter; empty when it has none.
    pub(super) fn param(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        scan::split_params(self.params)
            .skip(1)
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.unwrap_or_default())
    }

    /// The tag, when there is one.
    pub(super) fn tag(&self) -> Option<&'a [u8]> {
        self.param(b"tag").filter(|tag| !tag.is_empty())
    }

    /// The URI as sent.
    pub(super) const fn uri_text(&self) -> &'a [u8] {
        self.uri
    }

    /// The URI.
    pub(super) fn uri(&self) -> Result<Uri, UriError> {
        Uri::parse(self.uri)
    }

    /// The display name without quotes and escapes; empty when there is none.
    pub(super) fn display_name(&self) -> String {
        String::from_utf8_lossy(&scan::unquote(self.display)).into_owned()
    }
}

/// A parameter value: a quoted string, or something without blanks, quotes and separators.
fn value_fits(value: &[u8]) -> bool {
    if value.first() == Some(&b'"') {
        return scan::quoted_len(value) == Some(value.len());
    }
    !value.is_empty()
        && value.iter().all(|b| !b.is_ascii_whitespace() && !matches!(b, b'"' | b',' | b';' | b'<' | b'>'))
}

/// Reads a CSeq value into its number and method.
pub(super) fn parse_cseq(value: &[u8]) -> Result<(u32, &[u8]), Fault> {
    const BAD: Fault = "Bad CSeq Header";
    let gap = value.iter().position(u8::is_ascii_whitespace).ok_or(BAD)?;
    let (number, method) = value.split_at(gap);
    let number = scan::number::<u32>(number).filter(|number| *number <= CSEQ_MAX).ok_or(BAD)?;
    let method = scan::trim(method);
    if !scan::is_token(method) {
        return Err(BAD);
    }
    Ok((number, method))
}

/// Writes `host:port`, an IPv6 host in brackets.
pub(super) fn host_port(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// Whether a Route or Record-Route URI stands for a loose router (RFC 3261 §16.4).
pub(super) fn is_loose(uri_text: &[u8]) -> bool {
    uri::Uri::parse(uri_text).is_ok_and(|uri| uri.param("lr").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(via: &str, source: &str) -> String {
        let mut out = Vec::new();
        let source = source.parse().expect("a test address");
        Via::parse(via.as_bytes()).expect("a valid Via").write_answered(&mut out, source);
        String::from_utf8(out).expect("ASCII in, ASCII out")
    }

    #[test]
    fn vias_are_read_with_all_the_blanks_the_grammar_allows() {
        let via =
            Via::parse(b"SIP  / 2.0  / TCP     Spindle.example.com :  5070  ;  branch  =   z9hG4bK9ikj8")
                .expect("valid");
        assert_eq!(via.sent_by(), "spindle.example.com:5070");
        assert_eq!(via.unique_branch(), Some(&b"z9hG4bK9ikj8"[..]));
        let via = Via::parse(b"SIP/2.0/UDP [2001:db8::9]:5060;received=[2001:db8::9:255];branch=z9hG4bK")
            .expect("valid");
        assert_eq!((via.sent_by().as_str(), via.unique_branch()), ("2001:db8::9:5060", None));
    }

    #[test]
    fn bad_vias_are_refused() {
        for via in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/3.0/UDP h",
            "HTTP/2.0/UDP h",
            "SIP/2.0/UDP h;;",
            "SIP/2.0/UDP h;branch=",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP h h",
            "SIP/2.0/U(P h",
        ] {
            assert!(Via::parse(via.as_bytes()).is_err(), "{via:?}");
        }
    }

    #[test]
    fn rport_is_always_filled_and_received_when_it_tells_something() {
        assert_eq!(
            answered("SIP/2.0/UDP 1.2.3.4:9;branch=x", "1.2.3.4:7"),
            "SIP/2.0/UDP 1.2.3.4:9;branch=x;rport=7"
        );
        assert_eq!(
            answered("SIP/2.0/UDP 1.2.3.4;rport;branch=x", "1.2.3.4:7"),
            "SIP/2.0/UDP 1.2.3.4;branch=x;received=1.2.3.4;rport=7"
        );
        assert_eq!(
            answered("SIP/2.0/UDP host;received=9.9.9.9;branch=x;rport=1", "[::1]:7"),
            "SIP/2.0/UDP host;branch=x;received=::1;rport=7"
        );
    }

    #[test]
    fn name_addrs_are_read_in_all_their_forms() {
        let read = |text: &'static str| NameAddr::parse(text.as_bytes(), "bad").expect(text);
        let quoted = read(r#""J \"R\" <x>; \\" <sip:j@e.com;a=b> ; tag = 98 ;q=0.3"#);
        assert_eq!(quoted.display_name(), r#"J "R" <x>; \"#);
        assert_eq!(quoted.uri().map(|uri| uri.to_string()), Ok("sip:j@e.com;a=b".into()));
        assert_eq!(quoted.tag(), Some(&b"98"[..]));
        let bare = read("sip:j@e.com ;   tag    = 1918181833n");
        assert_eq!((bare.uri_text(), bare.tag()), (&b"sip:j@e.com"[..], Some(&b"1918181833n"[..])));
        let tight = read("caller<sip:c@e.com>;tag=3");
        assert_eq!((tight.display_name().as_str(), tight.tag()), ("caller", Some(&b"3"[..])));
        assert_eq!(read("Zoë K. <sip:z@e>").display_name(), "Zoë K.");
        assert_eq!(read("<tel:+1>;x").param(b"X"), Some(&b""[..]));
    }

    #[test]
    fn bad_name_addrs_are_refused() {
        for text in [
            r#""Mr. J <sip:j@e>"#,
            "Bell, A <sip:a@e>",
            "<sip:a@e",
            "<sip:a@e> x",
            "<sip:a@e>;",
            "<sip:a@e>;;a",
            "sip:a@e?x=y",
            r#""a" sip:a@e"#,
            "<sip:a@e>;a=b c",
        ] {
            assert!(NameAddr::parse(text.as_bytes(), "bad").is_err(), "{text:?}");
        }
    }

    #[test]
    fn cseq_is_bounded() {
        assert_eq!(parse_cseq(b"0009   INVITE"), Ok((9, &b"INVITE"[..])));
        assert_eq!(parse_cseq(b"2147483647 A"), Ok((CSEQ_MAX, &b"A"[..])));
        for value in ["2147483648 A", "36893488147419103232 A", "-1 A", "1", "1 ", "1 A B", "x A"] {
            assert!(parse_cseq(value.as_bytes()).is_err(), "{value:?}");
        }
    }
}
