//! Why the program could not do what was asked, and what to do about it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;

use crate::config::{ConfigError, Key};
use crate::net::transport::BindError;
use crate::store::StoreError;

/// The exit code for something that went wrong.
pub(super) const FAILED: u8 = 1;
/// The exit code for options that are wrong, as clap's own.
const WRONG_OPTIONS: u8 = 2;

/// An error for a person at a terminal.
#[derive(Debug)]
pub(super) struct Failure {
    /// What is wrong.
    what: String,
    /// What to do next, one line each.
    next: Vec<String>,
    /// The exit code.
    pub code: u8,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "confab: {}", self.what)?;
        for line in &self.next {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl Failure {
    /// Something that needs no advice.
    pub fn other(what: &str, error: &dyn fmt::Display) -> Self {
        Self { what: format!("{what}: {error}"), next: Vec::new(), code: FAILED }
    }

    /// Something that a person can do something about: one line each.
    pub fn advice(what: String, next: Vec<String>) -> Self {
        Self { what, next, code: FAILED }
    }

    /// The configuration file cannot be read.
    pub fn config_file(path: &Path, error: &io::Error) -> Self {
        Self {
            what: format!("the configuration file {} cannot be read: {error}", path.display()),
            next: vec![
                "name another with --config or CONFAB_CONFIG; deploy/confab.toml is an example".to_owned(),
            ],
            code: WRONG_OPTIONS,
        }
    }

    /// Options that are wrong; lines are of `file`.
    pub fn config(file: Option<&Path>, errors: &[ConfigError]) -> Self {
        let of = file.map_or(String::new(), |path| format!(" ({})", path.display()));
        Self {
            what: format!("the configuration{of} is wrong"),
            next: errors.iter().map(ToString::to_string).collect(),
            code: WRONG_OPTIONS,
        }
    }

    /// A value that turned out to be wrong when it was used.
    pub fn settings(why: String) -> Self {
        Self { what: "the configuration is wrong".to_owned(), next: vec![why], code: WRONG_OPTIONS }
    }

    /// SIP cannot listen.
    pub fn sip_bind(error: &BindError) -> Self {
        Self::bind(error.transport, error.address, &error.source, "--sip")
    }

    /// HTTP cannot listen.
    pub fn http_bind(address: SocketAddr, error: &io::Error) -> Self {
        Self::bind("TCP", address, error, "--http")
    }

    /// An address cannot be listened on; `flag` names the option that changes it.
    pub fn bind(transport: &str, address: SocketAddr, error: &io::Error, flag: &str) -> Self {
        let key = Key::ALL.iter().find(|key| key.flag == Some(flag));
        let change = match key {
            Some(key) => format!("{flag} ADDR:PORT, {}=… or {} in the file", key.env, key.name),
            None => format!("{flag} ADDR:PORT"),
        };
        let socket_kind = if transport == "UDP" { "-lunp" } else { "-ltnp" };
        let (what, next) = match error.kind() {
            ErrorKind::AddrInUse => (
                format!(
                    "{transport} port {} of {} is in use by another program",
                    address.port(),
                    address.ip()
                ),
                vec![
                    format!("choose another by {change}"),
                    format!("or end what has it: ss {socket_kind} 'sport = :{}' shows it", address.port()),
                ],
            ),
            ErrorKind::PermissionDenied => (
                format!("{transport} port {} may not be used by this user", address.port()),
                vec![format!(
                    "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose another by {change}"
                )],
            ),
            ErrorKind::AddrNotAvailable => (
                format!("{} is not an address of this machine", address.ip()),
                vec![format!("`ip address` lists those that are; choose one by {change}")],
            ),
            _ => (
                format!("cannot listen on {address} over {transport}: {error}"),
                vec![format!("change it by {change}")],
            ),
        };
        Self { what, next, code: FAILED }
    }

    /// The data folder or the database cannot be used.
    pub fn store(folder: &Path, error: &StoreError) -> Self {
        let choose = "choose another folder by --data DIR, CONFAB_DATA=… or data in the file".to_owned();
        let next = match error {
            StoreError::Folder { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                vec![format!("this user may not write {}: change its owner, or", folder.display()), choose]
            }
            StoreError::InUse(_) => vec!["end the other server, or".to_owned(), choose],
            StoreError::DatabaseInUse(_) => {
                vec!["end the other server, or choose another database by --database URL, CONFAB_DATABASE=… or database in the file".to_owned()]
            }
            StoreError::Unreachable { check, .. } => vec![(*check).to_owned()],
            StoreError::Unsuitable { .. } => {
                vec!["make it anew: createdb -E UTF8 -T template0 NAME".to_owned()]
            }
            StoreError::Migration(_) => {
                vec!["a newer confab wrote it: run that one, or".to_owned(), choose]
            }
            _ => vec![choose],
        };
        Self { what: error.to_string(), next, code: FAILED }
    }

    /// A media thread cannot start.
    pub fn media(error: &io::Error) -> Self {
        let next = vec![
            "with --io-backend auto it goes on with epoll where io_uring is refused".to_owned(),
            "`ulimit -n` shows how many files may be open; a call needs two".to_owned(),
        ];
        Self { what: format!("a media thread cannot start: {error}"), next, code: FAILED }
    }

    /// The express path cannot be had.
    pub fn express(interface: &str, error: &io::Error) -> Self {
        let next = match error.kind() {
            ErrorKind::PermissionDenied => {
                "run it with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF (deploy/confab.service tells how), or"
            }
            ErrorKind::ResourceBusy => "take off the other XDP program (`ip link show` names it), or",
            _ => "`ip link` lists the interfaces; or",
        };
        let next = vec![next.to_owned(), "go without: leave rtp.express empty".to_owned()];
        Self { what: format!("no express path on {interface}: {error}"), next, code: FAILED }
    }

    /// The RTP range cannot be used.
    pub fn rtp(error: &dyn fmt::Display) -> Self {
        let next = vec![
            "change it by --rtp-ports FIRST-LAST, CONFAB_RTP_PORTS=… or rtp.ports in the file".to_owned(),
        ];
        Self { what: format!("the RTP ports cannot be used: {error}"), next, code: FAILED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_says_which_and_how_to_change_it() {
        let address = "0.0.0.0:5060".parse().expect("an address");
        let error = io::Error::from(ErrorKind::AddrInUse);
        let text = Failure::bind("UDP", address, &error, "--sip").to_string();
        assert_eq!(
            text,
            "confab: UDP port 5060 of 0.0.0.0 is in use by another program\n  \
             choose another by --sip ADDR:PORT, CONFAB_SIP=… or sip.listen in the file\n  \
             or end what has it: ss -lunp 'sport = :5060' shows it"
        );
        assert!(Failure::http_bind(address, &error).to_string().contains("CONFAB_HTTP=… or http.listen"));
    }

    #[test]
    fn a_database_that_cannot_be_used_says_what_to_check() {
        let error = StoreError::Unreachable {
            database: "postgres://me@db/confab".to_owned(),
            check: "check that the server runs",
            source: io::Error::from(ErrorKind::ConnectionRefused).into(),
        };
        assert_eq!(
            Failure::store(Path::new(".data"), &error).to_string(),
            "confab: the database postgres://me@db/confab cannot be used: error communicating with database: \
             connection refused\n  check that the server runs"
        );
        let taken = StoreError::DatabaseInUse("postgres://me@db/confab".to_owned());
        assert!(Failure::store(Path::new(".data"), &taken).to_string().contains("\n  end the other server"));
    }

    #[test]
    fn a_wrong_line_is_shown_with_its_file() {
        let sources = crate::config::Sources {
            file: Some("[sip]\nmax_calls = -1\n".to_owned()),
            ..crate::config::Sources::default()
        };
        let errors = crate::config::resolve(&sources).expect_err("planted");
        let failure = Failure::config(Some(Path::new("confab.toml")), &errors);
        assert_eq!(
            failure.to_string(),
            "confab: the configuration (confab.toml) is wrong\n  line 2: sip.max_calls: must be 1 to 100000"
        );
        assert_eq!(failure.code, WRONG_OPTIONS);
    }
}
