//! `confab demo`: a server with a conference to dial into, and how to do it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use uuid::Uuid;

use super::failure::Failure;
use super::server::Server;
use crate::bridge::command::{Command, NewConference, Reply};
use crate::bridge::resource::{Conference, ConferenceStatus, ConferenceType};
use crate::config::{Config, Sources};
use crate::id::{ConferenceId, CustomerId};
use crate::net::{tcp, udp};
use crate::rng::Rng;

/// The demo conference's id: the same each time, so that its URI stays as it is.
const DEMO_ID: ConferenceId = ConferenceId(Uuid::from_u128(0xdede_d0d0_0000_4000_8000_0000_0000_0001));
/// Ports tried after one that is taken, in steps of two, before any free one will do.
const PORTS_TRIED: u16 = 10;
/// An address that no packet is sent to (RFC 5737), to ask the system for its own.
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// What the demo decided before the server started.
pub(super) struct Demo {
    accesskey: String,
    notes: Vec<String>,
}

/// Chooses free ports and an access key, unless they were chosen.
pub(super) fn prepare(config: &mut Config, sources: &Sources, rng: &mut Rng) -> Demo {
    let mut notes = Vec::new();
    if !is_chosen(sources, "--sip", "CONFAB_SIP", "sip.listen") {
        let takes = |address| udp::listen(address).is_ok() && tcp::listen(address).is_ok();
        config.sip.listen = free(config.sip.listen, "SIP", takes, &mut notes);
    }
    if !is_chosen(sources, "--http", "CONFAB_HTTP", "http.listen") {
        config.http.listen =
            free(config.http.listen, "HTTP", |address| tcp::listen(address).is_ok(), &mut notes);
    }
    let accesskey = config.keys.accesskey.get_or_insert_with(|| format!("vb_{}", rng.hex(32))).clone();
    Demo { accesskey, notes }
}

/// Whether the person chose this option, on the command line, in the environment or in a file.
fn is_chosen(sources: &Sources, flag: &str, env: &str, key: &str) -> bool {
    let in_set = sources.set.iter().any(|set| set.starts_with(key));
    sources.file.is_some()
        || in_set
        || sources.flags.iter().any(|(name, _)| *name == flag)
        || sources.env.iter().any(|(name, _)| name == env)
}

/// `wanted`, or an address with a port near it that is free, or with any.
fn free(
    wanted: SocketAddr,
    what: &str,
    takes: impl Fn(SocketAddr) -> bool,
    notes: &mut Vec<String>,
) -> SocketAddr {
    let with_port = |port| SocketAddr::new(wanted.ip(), port);
    let near = (0..PORTS_TRIED).map(|step| with_port(wanted.port().saturating_add(2 * step)));
    let chosen = near.into_iter().find(|address| takes(*address)).unwrap_or(with_port(0));
    if chosen != wanted {
        notes.push(format!("{what} port {} is taken by another program: another is used", wanted.port()));
    }
    chosen
}

impl Demo {
    /// Makes the conference, or finds the one of the last time, and says how to dial it.
    pub async fn open(&self, server: &Server) -> Result<String, Failure> {
        let conference = demo_conference(server).await?;
        let host = dialled_host(server.ready.sip);
        Ok(self.text(&conference, host, server.ready.http))
    }

    /// How to dial, and how to drive it.
    fn text(&self, conference: &Conference, sip: SocketAddr, http: SocketAddr) -> String {
        let uri = format!("sip:direct.{}@{sip}", conference.direct_hash);
        let notes: String = self.notes.iter().map(|note| format!("  note: {note}\n")).collect();
        format!(
            "{notes}\n\
            The conference \"{name}\" is open:\n\n\
            \x20   {uri}\n\n\
            Dial it from any softphone in your network (no account needed), or from two more terminals:\n\n\
            \x20   confab call '{uri}' --tone 440\n\
            \x20   confab call '{uri}'\n\n\
            Drive it by REST, with this run's access key:\n\n\
            \x20   curl -H 'Authorization: Bearer {key}' http://{http}/v1.0/conferences\n\n\
            ctrl-C ends the demo.\n",
            name = conference.name,
            key = self.accesskey,
        )
    }
}

/// The address that a phone dials: a listener on every address is reached at the one the system
/// itself would use.
fn dialled_host(sip: SocketAddr) -> SocketAddr {
    if !sip.ip().is_unspecified() {
        return sip;
    }
    let ip = udp::address_towards(ELSEWHERE).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    SocketAddr::new(ip, sip.port())
}

/// The demo conference, open and with a hash.
async fn demo_conference(server: &Server) -> Result<Conference, Failure> {
    let customer = server.customer;
    let known = ask(server, Command::ReadConferences { customer, ids: vec![DEMO_ID] }).await?;
    let mut conference = match known {
        Reply::Conferences(found) => match found.into_iter().find(is_open) {
            Some(conference) => conference,
            None => create(server, customer).await?,
        },
        other => return Err(unexpected(&other)),
    };
    if conference.direct_hash.is_empty() {
        let id = conference.id;
        conference = match ask(server, Command::RegenerateDirectHash { customer, id }).await? {
            Reply::Conference(conference) => *conference,
            other => return Err(unexpected(&other)),
        };
    }
    Ok(conference)
}

fn is_open(conference: &Conference) -> bool {
    conference.status == ConferenceStatus::Progressing
}

/// Makes the conference; under another id where an ended one has the usual.
async fn create(server: &Server, customer: CustomerId) -> Result<Conference, Failure> {
    let mut last = None;
    for id in [Some(DEMO_ID), None] {
        let new = NewConference {
            id,
            r#type: ConferenceType::Conference,
            name: "demo".to_owned(),
            detail: "Made by `confab demo`.".to_owned(),
            direct_access: true,
            ..NewConference::default()
        };
        match ask(server, Command::CreateConference { customer, new }).await? {
            Reply::Conference(conference) => return Ok(*conference),
            other => last = Some(other),
        }
    }
    Err(unexpected(&last))
}

async fn ask(server: &Server, command: Command) -> Result<Reply, Failure> {
    server
        .control
        .call(command)
        .await
        .map_err(|error| Failure::other("the demo conference cannot be made", &error))
}

fn unexpected(reply: &dyn std::fmt::Debug) -> Failure {
    Failure::other("the demo conference cannot be made", &format!("{reply:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over_and_said() {
        let wanted: SocketAddr = "127.0.0.1:5060".parse().expect("an address");
        let mut notes = Vec::new();
        assert_eq!(free(wanted, "SIP", |_| true, &mut notes), wanted);
        assert!(notes.is_empty());
        assert_eq!(free(wanted, "SIP", |address| address.port() == 5064, &mut notes).port(), 5064);
        assert_eq!(notes, ["SIP port 5060 is taken by another program: another is used"]);
        assert_eq!(free(wanted, "SIP", |_| false, &mut notes).port(), 0);
    }

    #[test]
    fn what_the_person_chose_is_kept() {
        let mut config = Config::default();
        config.sip.listen = "127.0.0.1:1".parse().expect("an address");
        let sources = Sources {
            flags: vec![("--sip", "127.0.0.1:1".to_owned())],
            env: vec![("CONFAB_HTTP".to_owned(), String::new())],
            ..Sources::default()
        };
        let before = config.clone();
        let demo = prepare(&mut config, &sources, &mut Rng::from_number(1));
        assert_eq!((config.sip, config.http), (before.sip, before.http));
        assert_eq!(config.keys.accesskey.as_deref(), Some(demo.accesskey.as_str()));
        assert_eq!(demo.accesskey.len(), 35);
    }

    #[test]
    fn a_wildcard_is_not_what_one_dials() {
        let dialled = dialled_host("0.0.0.0:5060".parse().expect("an address"));
        assert!(!dialled.ip().is_unspecified());
        assert_eq!(dialled.port(), 5060);
        let fixed = "127.0.0.1:5062".parse().expect("an address");
        assert_eq!(dialled_host(fixed), fixed);
    }
}
