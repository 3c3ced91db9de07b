//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966), parsed once and kept as sent. Any other
//! absolute URI is held whole, so that it can be refused by its scheme.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::lexer::Span;
use super::scan;

/// The longest URI, in bytes.
const URI_MAX: usize = 4096;

/// The most parameters of a URI.
const PARAMS_MAX: usize = 64;

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Any other.
    Other,
}

/// A valid URI.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    text: Box<str>,
    scheme: Scheme,
    user: Option<Span>,
    password: Option<Span>,
    host: Span,
    port: Option<u16>,
    params: Span,
    headers: Option<Span>,
}

/// Why a text is no URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Longer than 4096 bytes.
    #[error("the URI is too long")]
    TooLong,
    /// A blank, control character, angle bracket, quote or byte outside ASCII.
    #[error("the URI has a character that must be escaped")]
    Character,
    /// `%` without two hex digits.
    #[error("the URI has a bad escape")]
    Escape,
    /// No scheme, or nothing after it.
    #[error("the URI has no scheme or is empty")]
    Scheme,
    /// The user or password is empty or has a character that must be escaped.
    #[error("the URI has a bad user")]
    User,
    /// No host name, IPv4 address or bracketed IPv6 address.
    #[error("the URI has a bad host")]
    Host,
    /// Not a number from 0 to 65535.
    #[error("the URI has a bad port")]
    Port,
    /// An empty or doubled parameter, or too many.
    #[error("the URI has a bad parameter")]
    Parameter,
    /// A header without `=`.
    #[error("the URI has a bad header")]
    Header,
}

impl Uri {
    /// Reads one URI, without angle brackets around it.
    pub fn parse(text: &[u8]) -> Result<Uri, UriError> {
        if text.len() > URI_MAX {
            return Err(UriError::TooLong);
        }
        check_characters(text)?;
        let text = std::str::from_utf8(text).map_err(|_| UriError::Character)?;
        let (scheme_text, rest) = text.split_once(':').ok_or(UriError::Scheme)?;
        let scheme = scheme_of(scheme_text).ok_or(UriError::Scheme)?;
        if rest.is_empty() {
            return Err(UriError::Scheme);
        }
        let mut uri = Uri {
            text: text.into(),
            scheme,
            user: None,
            password: None,
            host: Span::default(),
            port: None,
            params: Span::default(),
            headers: None,
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => uri.read_sip(text, rest)?,
            Scheme::Tel => uri.read_tel(text, rest)?,
            Scheme::Other => {}
        }
        Ok(uri)
    }

    fn read_sip(&mut self, text: &str, rest: &str) -> Result<(), UriError> {
        let span = |part: &str| Span::within(text.as_bytes(), part.as_bytes());
        // `;` and `?` may stand in the user part, `@` nowhere but at its end.
        let rest = match rest.split_once('@') {
            Some((userinfo, rest)) => {
                let (user, password) = match userinfo.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (userinfo, None),
                };
                let allowed = |extra: &'static str| {
                    move |b: u8| {
                        b.is_ascii_alphanumeric()
                            || b"-_.!~*'()%".contains(&b)
                            || extra.contains(char::from(b))
                    }
                };
                let password_fits = password.is_none_or(|password| password.bytes().all(allowed("&=+$,")));
                if user.is_empty() || !user.bytes().all(allowed("&=+$,;?/")) || !password_fits {
                    return Err(UriError::User);
                }
                self.user = Some(span(user));
                self.password = password.map(span);
                rest
            }
            None => rest,
        };
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers)),
            None => (rest, None),
        };
        if headers.is_some_and(|headers| !headers.split('&').all(|h| h.find('=').is_some_and(|at| at > 0))) {
            return Err(UriError::Header);
        }
        self.headers = headers.map(span);
        let (hostport, params) = rest.split_once(';').unwrap_or((rest, ""));
        if rest.len() > hostport.len() {
            check_params(params)?;
        }
        self.params = span(params);
        let (host, port) = split_host_port(hostport.as_bytes()).ok_or(UriError::Host)?;
        self.host = Span::within(text.as_bytes(), host);
        self.port = match port {
            Some(port) => Some(scan::number(port).ok_or(UriError::Port)?),
            None => None,
        };
        Ok(())
    }

    fn read_tel(&mut self, text: &str, rest: &str) -> Result<(), UriError> {
        let (number, params) = rest.split_once(';').unwrap_or((rest, ""));
        let digits = number.strip_prefix('+').unwrap_or(number);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit() || b"-.()*#".contains(&b)) {
            return Err(UriError::User);
        }
        self.user = Some(Span::within(text.as_bytes(), number.as_bytes()));
        self.params = Span::within(text.as_bytes(), params.as_bytes());
        Ok(())
    }

    fn part(&self, span: Span) -> &str {
        std::str::from_utf8(span.of(self.text.as_bytes())).unwrap_or_default()
    }

    /// The URI as it was sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The user part with its escapes undone (the number of a tel URI as it is), if there is one.
    pub fn user(&self) -> Option<Cow<'_, str>> {
        self.user.map(|span| unescape(self.part(span)))
    }

    /// The password as sent, if there is one.
    pub fn password(&self) -> Option<&str> {
        self.password.map(|span| self.part(span))
    }

    /// The host as sent, an IPv6 address without its brackets; empty but for sip and sips.
    pub fn host(&self) -> &str {
        self.part(self.host)
    }

    /// The host, when it is an IP address.
    pub fn host_ip(&self) -> Option<IpAddr> {
        host_ip(self.host())
    }

    /// The port, when it is given.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// A parameter's value as sent; `Some("")` when it stands without a value.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.part(self.params).split(';').find_map(|param| {
            let (key, value) = param.split_once('=').unwrap_or((param, ""));
            (!key.is_empty() && key.eq_ignore_ascii_case(name)).then_some(value)
        })
    }

    /// What follows `?`, as sent.
    pub fn headers(&self) -> Option<&str> {
        self.headers.map(|span| self.part(span))
    }

    /// Scheme, user, host and port, without password, parameters and headers.
    pub fn address(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other => return self.text.to_string(),
        };
        let mut out = format!("{scheme}:");
        if let Some(user) = self.user {
            out.push_str(self.part(user));
            if self.scheme == Scheme::Tel {
                return out;
            }
            out.push('@');
        }
        let host = self.host();
        if host.contains(':') {
            out.push_str(&format!("[{host}]"));
        } else {
            out.push_str(host);
        }
        if let Some(port) = self.port {
            out.push_str(&format!(":{port}"));
        }
        out
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({})", self.text)
    }
}

impl std::str::FromStr for Uri {
    type Err = UriError;
    fn from_str(text: &str) -> Result<Uri, UriError> {
        Uri::parse(text.as_bytes())
    }
}

fn check_characters(text: &[u8]) -> Result<(), UriError> {
    let mut rest = text;
    while let Some((b, after)) = rest.split_first() {
        rest = after;
        match b {
            b'%' => match after {
                [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
                _ => return Err(UriError::Escape),
            },
            b'<' | b'>' | b'"' => return Err(UriError::Character),
            b if b.is_ascii_graphic() => {}
            _ => return Err(UriError::Character),
        }
    }
    Ok(())
}

fn scheme_of(text: &str) -> Option<Scheme> {
    let first_is_letter = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    if !first_is_letter || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
        return None;
    }
    Some(if text.eq_ignore_ascii_case("sip") {
        Scheme::Sip
    } else if text.eq_ignore_ascii_case("sips") {
        Scheme::Sips
    } else if text.eq_ignore_ascii_case("tel") {
        Scheme::Tel
    } else {
        Scheme::Other
    })
}

fn check_params(params: &str) -> Result<(), UriError> {
    if params.split(';').count() > PARAMS_MAX {
        return Err(UriError::Parameter);
    }
    for (at, param) in params.split(';').enumerate() {
        let (name, value) = param.split_once('=').unwrap_or((param, "-"));
        let doubled = params.split(';').take(at).any(|earlier| {
            earlier.split_once('=').map_or(earlier, |(name, _)| name).eq_ignore_ascii_case(name)
        });
        if name.is_empty() || value.is_empty() || doubled {
            return Err(UriError::Parameter);
        }
    }
    Ok(())
}

/// Splits `host[:port]`, blanks allowed around the colon as Via does; the host loses its brackets.
/// `None` when the host is neither a name nor an address.
pub(super) fn split_host_port(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (host, rest) = match text.strip_prefix(b"[") {
        Some(inner) => {
            let end = inner.iter().position(|b| *b == b']')?;
            let host = inner.get(..end)?;
            host_ip(std::str::from_utf8(host).ok()?).filter(IpAddr::is_ipv6)?;
            (host, scan::trim(inner.get(end + 1..)?))
        }
        None => {
            let end = text.iter().position(|b| *b == b':').unwrap_or(text.len());
            let host = scan::trim(text.get(..end)?);
            let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            if host.is_empty() || !host.iter().all(is_name) {
                return None;
            }
            (host, text.get(end..)?)
        }
    };
    match rest.split_first() {
        None => Some((host, None)),
        Some((b':', port)) => Some((host, Some(scan::trim(port)))),
        Some(_) => None,
    }
}

/// The IP address that a host is. A third colon, which RFC 3261's grammar wrongly makes before
/// an embedded IPv4 address, is overlooked (RFC 5118 §4.10).
fn host_ip(host: &str) -> Option<IpAddr> {
    if let Ok(ip) = host.parse() {
        return Some(ip);
    }
    let (before, after) = host.split_once(":::")?;
    format!("{before}::{after}").parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((b, after)) = rest.split_first() {
        rest = after;
        let hex = |b: u8| char::from(b).to_digit(16).map(|digit| digit as u8);
        match (b, after) {
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = tail;
                }
                _ => out.push(b'%'),
            },
            _ => out.push(*b),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn all_parts_are_found() {
        let uri = uri("sips:a%3Ab;x=1:pw@[2001:db8::10]:5071;Transport=tcp;lr?Subject=x&y=");
        assert_eq!(uri.scheme(), Scheme::Sips);
        assert_eq!(uri.user().as_deref(), Some("a:b;x=1"));
        assert_eq!(uri.password(), Some("pw"));
        assert_eq!((uri.host(), uri.port()), ("2001:db8::10", Some(5071)));
        assert_eq!(uri.host_ip(), "2001:db8::10".parse().ok());
        assert_eq!(
            (uri.param("transport"), uri.param("LR"), uri.param("none")),
            (Some("tcp"), Some(""), None)
        );
        assert_eq!(uri.headers(), Some("Subject=x&y="));
        assert_eq!(uri.address(), "sips:a%3Ab;x=1@[2001:db8::10]:5071");
    }

    #[test]
    fn odd_but_valid_uris_are_read() {
        let odd = uri(
            "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
        );
        assert_eq!(odd.host(), "example.com");
        assert_eq!(odd.user().as_deref(), Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"));
        assert_eq!(uri("sip:null-%00-null@example.com").user().as_deref(), Some("null-\0-null"));
        assert_eq!(uri("sip:[2001:db8::10:5070]").port(), None);
        assert_eq!(uri("sip:u@[2001:db8:::192.0.2.1]").host_ip(), "2001:db8::192.0.2.1".parse().ok());
        assert_eq!(uri("SIP:Host.Example").host(), "Host.Example");
        assert_eq!(uri("tel:+1-201-555-0123;phone-context=x").user().as_deref(), Some("+1-201-555-0123"));
        assert_eq!(uri("soap.beep://192.0.2.103:3002").scheme(), Scheme::Other);
        assert_eq!(
            uri("nobodyKnowsThisScheme:totallyopaquecontent").address(),
            "nobodyKnowsThisScheme:totallyopaquecontent"
        );
    }

    #[test]
    fn what_is_no_uri_is_refused_with_its_reason() {
        for (text, error) in [
            ("", UriError::Scheme),
            ("sip:", UriError::Scheme),
            ("1sip:a", UriError::Scheme),
            ("user@example.com", UriError::Scheme),
            ("<sip:a@b>", UriError::Character),
            ("sip:a@b; lr", UriError::Character),
            ("sip:\u{e9}@b", UriError::Character),
            ("sip:a%4@b", UriError::Escape),
            ("sip:@b", UriError::User),
            ("sip:a[b@c", UriError::User),
            ("sip:a@", UriError::Host),
            ("sip:a@b@c", UriError::Host),
            ("sip:2001:db8::10", UriError::Port),
            ("sip:[2001:db8::10", UriError::Host),
            ("sip:[1.2.3.4]", UriError::Host),
            ("sip:a@b:65536", UriError::Port),
            ("sip:a@b:", UriError::Port),
            ("sip:a@b;", UriError::Parameter),
            ("sip:a@b;;lr", UriError::Parameter),
            ("sip:a@b;x=", UriError::Parameter),
            ("sip:a@b;x=1;X=2", UriError::Parameter),
            ("sip:a@b?x", UriError::Header),
            ("tel:", UriError::Scheme),
            ("tel:x", UriError::User),
        ] {
            assert_eq!(Uri::parse(text.as_bytes()), Err(error), "{text:?}");
        }
        let many =
            |count: usize| format!("sip:a@b{}", (0..count).map(|n| format!(";p{n}")).collect::<String>());
        assert!(Uri::parse(many(PARAMS_MAX).as_bytes()).is_ok());
        assert_eq!(Uri::parse(many(PARAMS_MAX + 1).as_bytes()), Err(UriError::Parameter));
        let long = format!("sip:{}@b", "a".repeat(URI_MAX));
        assert_eq!(Uri::parse(long.as_bytes()), Err(UriError::TooLong));
    }
}
