//! Where a call goes: a SIP URI from the command line and the address it resolves to.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

/// The port of a SIP URI that names none (RFC 3261 §19.1.2).
const DEFAULT_PORT: u16 = 5060;

/// A URI to dial and the socket address its requests are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The request URI as sent on the wire.
    pub uri: String,
    /// Where requests are sent: the proxy's address when one is given, else the URI's.
    pub address: SocketAddr,
}

/// Why a URI cannot be dialled.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The text is no SIP URI with a user and a host.
    #[error("`{0}` is no SIP URI: write it as sip:direct.HASH@HOST[:PORT]")]
    NotSip(String),
    /// The host and port could not be resolved.
    #[error("cannot resolve `{host}`: {source} (use --proxy HOST:PORT to send elsewhere)")]
    Unresolved {
        /// The host and port as written.
        host: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// The resolver knows the name but no address of it.
    #[error("`{0}` has no address (use --proxy HOST:PORT to send elsewhere)")]
    NoAddress(String),
}

impl Target {
    /// Reads `text` (the scheme `sip:` may be left out) and resolves where to send it: to `proxy`
    /// when given, else to the URI's own host. Asks the system's resolver, which may block.
    pub fn resolve(text: &str, proxy: Option<&str>) -> Result<Target, TargetError> {
        let uri = with_scheme(text.trim());
        let (host, port) = host_and_port(&uri).ok_or_else(|| TargetError::NotSip(text.to_owned()))?;
        let address = match proxy {
            Some(proxy) => resolve_proxy(proxy)?,
            None => lookup(&host, port)?,
        };
        Ok(Target { uri, address })
    }

    /// Our address as this target sees it: the one the system would send from.
    pub fn local_ip(&self) -> std::io::Result<IpAddr> {
        let any: IpAddr = match self.address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let probe = UdpSocket::bind((any, 0))?;
        probe.connect(self.address)?;
        Ok(probe.local_addr()?.ip())
    }
}

/// The text with `sip:` in front unless it already names a scheme of SIP.
fn with_scheme(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("sip:") || lower.starts_with("sips:") {
        text.to_owned()
    } else {
        format!("sip:{text}")
    }
}

/// Host (without brackets) and port of a URI that has a user.
fn host_and_port(uri: &str) -> Option<(String, u16)> {
    let rest = uri.get(uri.find(':')? + 1..)?;
    let rest = rest.split(['?', ';', '>']).next()?;
    let (user, host_port) = rest.rsplit_once('@')?;
    let has_blank = uri.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>'));
    if user.is_empty() || has_blank {
        return None;
    }
    split_port(host_port)
}

/// Splits `host[:port]` or `[v6][:port]`.
fn split_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        let (host, after) = inner.split_once(']')?;
        (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
    } else {
        text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|p| *p != 0)?,
        None => DEFAULT_PORT,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// The address of `HOST[:PORT]`.
fn resolve_proxy(text: &str) -> Result<SocketAddr, TargetError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DEFAULT_PORT));
    }
    let (host, port) = split_port(text).ok_or_else(|| TargetError::NoAddress(text.to_owned()))?;
    lookup(&host, port)
}

/// Asks the resolver; an IPv4 address is preferred, because phones and NATs speak it best.
fn lookup(host: &str, port: u16) -> Result<SocketAddr, TargetError> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|source| TargetError::Unresolved { host: format!("{host}:{port}"), source })?;
    let addresses: Vec<SocketAddr> = found.collect();
    let best = addresses.iter().find(|a| a.is_ipv4()).or(addresses.first());
    best.copied().ok_or_else(|| TargetError::NoAddress(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("a socket address")
    }

    #[test]
    fn reads_addresses_with_and_without_port_and_scheme() {
        for (text, uri, to) in [
            ("sip:direct.ab@127.0.0.1", "sip:direct.ab@127.0.0.1", "127.0.0.1:5060"),
            (
                "sip:direct.ab@127.0.0.1:5070;transport=udp",
                "sip:direct.ab@127.0.0.1:5070;transport=udp",
                "127.0.0.1:5070",
            ),
            ("direct.ab@127.0.0.1:5070", "sip:direct.ab@127.0.0.1:5070", "127.0.0.1:5070"),
            ("sip:x@[::1]:5090", "sip:x@[::1]:5090", "[::1]:5090"),
            ("SIP:x:pw@[::1]", "SIP:x:pw@[::1]", "[::1]:5060"),
        ] {
            let target = Target::resolve(text, None).expect(text);
            assert_eq!((target.uri.as_str(), target.address), (uri, address(to)));
        }
    }

    #[test]
    fn a_proxy_takes_the_request_but_leaves_the_uri() {
        let target =
            Target::resolve("sip:direct.ab@sip.voipbin.net", Some("127.0.0.1:6000")).expect("a proxy");
        assert_eq!(target.uri, "sip:direct.ab@sip.voipbin.net");
        assert_eq!(target.address, address("127.0.0.1:6000"));
        let bare = Target::resolve("sip:direct.ab@sip.voipbin.net", Some("::1")).expect("a bare address");
        assert_eq!(bare.address, address("[::1]:5060"));
    }

    #[test]
    fn localhost_resolves_to_ipv4_first() {
        let target = Target::resolve("sip:a@localhost:5080", None).expect("localhost");
        assert_eq!(target.address, address("127.0.0.1:5080"));
        assert_eq!(target.local_ip().expect("a route to ourselves"), address("127.0.0.1:1").ip());
    }

    #[test]
    fn refuses_what_cannot_be_dialled() {
        for text in [
            "",
            "sip:",
            "sip:host",
            "sip:@host",
            "sip:a@",
            "sip:a@h:0",
            "sip:a@h:x",
            "sip:a@[::1",
            "sip:a b@127.0.0.1",
            "a@[::1]x",
        ] {
            assert!(matches!(Target::resolve(text, None), Err(TargetError::NotSip(_))), "{text:?}");
        }
    }
}
