//! Who gets in: every row of the table "Calls over SIP" that the bridge decides, in its order.

use std::net::IpAddr;

use super::Bridge;
use super::conference::LiveConference;
use super::direct_hash::{self, Opens};
use super::media::BadSdp;
use super::resource::{ConferenceStatus, ConferenceType};
use super::settings::Settings;
use crate::id::ConferenceId;
use crate::sip::{Flow, Rejection, Scheme, Uri};

/// Who speaks in our Warning headers: a pseudonym (RFC 3261 §20.43).
const WARN_AGENT: &str = "confab";

/// Why a caller does not get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The request URI is no SIP URI.
    Scheme,
    /// The host is not ours.
    Host,
    /// The hash opens nothing.
    Hash,
    /// The conference is terminating.
    Terminating,
    /// The conference has ended.
    Ended,
    /// The `connect` holds two.
    ConnectFull,
    /// The conference holds as many as it may.
    Members,
    /// The server has as many calls as it may.
    Calls,
    /// The server is stopping.
    Draining,
    /// Every RTP port is in use.
    Ports,
    /// The offer is no good.
    Sdp(BadSdp),
}

impl Refused {
    /// Every name that [`Refused::name`] gives, for metrics.
    pub(super) const NAMES: [&'static str; 12] = [
        "scheme",
        "host",
        "hash",
        "terminating",
        "ended",
        "connect_full",
        "members",
        "calls",
        "draining",
        "rtp_ports",
        "sdp_malformed",
        "sdp_unacceptable",
    ];

    /// A short name, for metrics and logs.
    pub(super) fn name(&self) -> &'static str {
        let place = match self {
            Refused::Scheme => 0,
            Refused::Host => 1,
            Refused::Hash => 2,
            Refused::Terminating => 3,
            Refused::Ended => 4,
            Refused::ConnectFull => 5,
            Refused::Members => 6,
            Refused::Calls => 7,
            Refused::Draining => 8,
            Refused::Ports => 9,
            Refused::Sdp(BadSdp::Syntax(_)) => 10,
            Refused::Sdp(BadSdp::Refused(_)) => 11,
        };
        Self::NAMES[place]
    }

    /// The SIP answer.
    pub(super) fn rejection(&self, retry_after_s: u32) -> Rejection {
        match self {
            Refused::Scheme => Rejection::new(416),
            Refused::Host | Refused::Hash => Rejection::new(404),
            Refused::Terminating => Rejection::new(480),
            Refused::Ended => Rejection::new(410),
            Refused::ConnectFull | Refused::Members => Rejection::new(486),
            Refused::Calls | Refused::Draining | Refused::Ports => {
                Rejection::new(503).header("Retry-After", retry_after_s.to_string())
            }
            Refused::Sdp(bad) => bad_sdp(bad),
        }
    }

    /// What to tell who runs the server, beyond the name.
    pub(super) fn advice(&self) -> String {
        match self {
            Refused::Host => ": the host is not ours (see --domain, --advertise)".to_owned(),
            Refused::Hash => ": no live conference has this direct hash".to_owned(),
            Refused::Calls => ": sip.max_calls is reached".to_owned(),
            Refused::Members => ": conference.max_members is reached".to_owned(),
            Refused::Ports => ": every port of --rtp-ports is in use".to_owned(),
            Refused::Sdp(bad) => format!(": {bad}"),
            _ => String::new(),
        }
    }
}

/// The answer to an offer that cannot be taken: 400 for what is no description at all, 488 with the
/// reason in a Warning (RFC 3261 §20.43) for one without common ground.
pub(super) fn bad_sdp(bad: &BadSdp) -> Rejection {
    match bad {
        BadSdp::Syntax(fault) => Rejection::new(400).reason(format!("Bad SDP: {fault}")),
        BadSdp::Refused(refusal) => Rejection::new(488).header("Warning", refusal.warning_value(WARN_AGENT)),
    }
}

/// Whether the URI's host is one of ours: a configured domain, or an address people reach us at.
pub(super) fn is_our_host(settings: &Settings, flow: &Flow, uri: &Uri) -> bool {
    // A name may end in the root's dot.
    let host = uri.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    match uri.host_ip() {
        Some(ip) => is_our_address(settings, flow, ip.to_canonical()),
        None => {
            host.eq_ignore_ascii_case("localhost")
                || settings.domains.iter().any(|domain| domain.eq_ignore_ascii_case(host))
        }
    }
}

fn is_our_address(settings: &Settings, flow: &Flow, ip: IpAddr) -> bool {
    let listed = |domain: &String| domain.trim_matches(['[', ']']).parse() == Ok(ip);
    ip.is_loopback()
        || ip == flow.local.ip().to_canonical()
        || settings.advertise.is_some_and(|advertised| advertised.to_canonical() == ip)
        || settings.domains.iter().any(listed)
}

impl Bridge {
    /// The conference a caller who dialled `uri` gets into, if there is one and it has room.
    pub(super) fn admit(&self, uri: &Uri, flow: &Flow) -> Result<ConferenceId, Refused> {
        if self.draining {
            return Err(Refused::Draining);
        }
        if !matches!(uri.scheme(), Scheme::Sip | Scheme::Sips) {
            return Err(Refused::Scheme);
        }
        if !is_our_host(&self.settings, flow, uri) {
            return Err(Refused::Host);
        }
        let user = uri.user().unwrap_or_default();
        let hash = direct_hash::of_user(&user).filter(|_| uri.password().is_none()).ok_or(Refused::Hash)?;
        let id = match self.hashes.opens(hash) {
            Opens::Nothing => return Err(Refused::Hash),
            Opens::Ended => return Err(Refused::Ended),
            Opens::Conference(id) => self.has_room(self.conferences.get(&id).ok_or(Refused::Hash)?)?,
        };
        if self.calls.open() >= self.settings.max_calls {
            return Err(Refused::Calls);
        }
        Ok(id)
    }

    /// Whether one more caller may be in a conference.
    pub(super) fn has_room(&self, conference: &LiveConference) -> Result<ConferenceId, Refused> {
        match conference.resource.status {
            ConferenceStatus::Starting | ConferenceStatus::Progressing => {}
            ConferenceStatus::Terminating => return Err(Refused::Terminating),
            ConferenceStatus::Terminated => return Err(Refused::Ended),
        }
        if conference.members >= conference.capacity(self.settings.max_members) {
            let full = match conference.resource.r#type {
                ConferenceType::Connect => Refused::ConnectFull,
                ConferenceType::Conference => Refused::Members,
            };
            return Err(full);
        }
        Ok(conference.resource.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Transport;

    fn is_ours(uri: &str) -> bool {
        let settings = Settings {
            domains: vec!["sip.voipbin.net".to_owned(), "198.51.100.4".to_owned()],
            advertise: "203.0.113.7".parse().ok(),
            ..Settings::default()
        };
        let address = |text: &str| text.parse().expect("an address");
        let flow = Flow {
            transport: Transport::Udp,
            id: 1,
            local: address("192.0.2.1:5060"),
            remote: address("192.0.2.9:5060"),
        };
        is_our_host(&settings, &flow, &uri.parse().expect("a URI"))
    }

    #[test]
    fn our_hosts_are_domains_and_addresses_without_regard_to_case_and_port() {
        for host in [
            "sip.voipbin.net",
            "SIP.VoIPbin.NET",
            "sip.voipbin.net.",
            "localhost:5070",
            "127.0.0.1",
            "[::1]:5060",
            "192.0.2.1",
            "203.0.113.7:5060",
            "198.51.100.4",
        ] {
            assert!(is_ours(&format!("sip:direct.x@{host}")), "{host}");
        }
        for host in
            ["voipbin.net", "xsip.voipbin.net", "192.0.2.2", "[2001:db8::1]", "sip.voipbin.net.evil.org"]
        {
            assert!(!is_ours(&format!("sip:direct.x@{host}")), "{host}");
        }
    }

    #[test]
    fn every_refusal_has_a_name_of_its_own_and_its_status() {
        let bad = |text: &'static str| BadSdp::from(crate::sdp::Refusal { warning_code: 305, text });
        let rows = [
            (Refused::Scheme, 416),
            (Refused::Host, 404),
            (Refused::Hash, 404),
            (Refused::Terminating, 480),
            (Refused::Ended, 410),
            (Refused::ConnectFull, 486),
            (Refused::Members, 486),
            (Refused::Calls, 503),
            (Refused::Draining, 503),
            (Refused::Ports, 503),
            (Refused::Sdp(BadSdp::Syntax(crate::sdp::SdpError::Line)), 400),
            (Refused::Sdp(bad("no codec")), 488),
        ];
        let names: std::collections::BTreeSet<&str> =
            rows.iter().map(|(refused, _)| refused.name()).collect();
        assert_eq!(names.len(), Refused::NAMES.len());
        for (refused, status) in rows {
            let rejection = refused.rejection(7);
            assert_eq!(rejection.status, status, "{refused:?}");
            let named =
                rejection.headers.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>();
            match status {
                503 => assert_eq!(named, [("Retry-After", "7")]),
                488 => assert_eq!(named, [("Warning", "305 confab \"no codec\"")]),
                _ => assert!(named.is_empty()),
            }
        }
    }
}
