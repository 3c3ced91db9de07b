//! The command line.

// Doc comments here are the help text, word for word, and not Markdown.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags, rustdoc::bare_urls)]

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand as ClapSubcommand};

use super::backup::{BackupOptions, RestoreOptions};
use super::operator::{ConferenceArguments, RecordingArguments};
use crate::config::{Sources, Value};
use crate::load::floor::FloorOptions;
use crate::load::{CallOptions, LoadOptions};

/// A SIP conference bridge: dial sip:direct.<hash>@… and be in a conference.
#[derive(Debug, Parser)]
#[command(
    name = "confab",
    version,
    max_term_width = 110,
    after_help = "\
Examples:
  confab demo                                   a conference to dial into, right now
  confab call sip:direct.HASH@127.0.0.1 --tone 440
  confab serve --sip '[::]:5060' --data /var/lib/confab
  confab conference list                        by the REST API, with the key in CONFAB_ACCESSKEY
  confab load sip:direct.HASH@127.0.0.1 --calls 100 --for 10

`confab help COMMAND` tells more. Exit codes of serve and demo: 0 drained, 1 failed, 2 wrong options,
130 ended at once by a second signal."
)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Subcommand,
}

/// What to do.
#[derive(Debug, ClapSubcommand)]
pub(super) enum Subcommand {
    /// Run the server
    #[command(after_help = SERVE_HELP)]
    Serve(ServeOptions),
    /// Run the server with a demo conference and say how to dial it
    #[command(after_help = DEMO_HELP)]
    Demo(ServeOptions),
    /// List, make, show, end and watch conferences of a running server
    Conference(ConferenceArguments),
    /// List, start, stop, fetch and delete recordings of a running server
    Recording(RecordingArguments),
    /// Copy the data folder of a server, which may go on running
    Backup(BackupOptions),
    /// Put a backup back, into an empty data folder
    Restore(RestoreOptions),
    /// Be a phone: dial a URI, speak, listen
    Call(CallOptions),
    /// Be thousands of phones and measure what comes back
    Load(LoadOptions),
    /// Be the bare echo that the cost of a call is compared with
    Floor(FloorArguments),
}

const SERVE_HELP: &str = "\
Every option is also a key of the TOML file and an environment variable; precedence is flag >
environment > file > default. deploy/confab.toml shows every key there is, with its variable.
Keys come from the environment only: CONFAB_ACCESSKEY fixes the first customer's access key,
CONFAB_ADMIN_KEY the admin key; otherwise they are made on the first start and shown once.

Examples:
  confab serve
  confab serve --config /etc/confab/confab.toml
  confab serve --sip '[::]:5060' --http 0.0.0.0:8080 --advertise 203.0.113.7
  confab serve --domain sip.example.net --domain 203.0.113.7 --set sip.max_calls=500

SIGHUP reads the file anew. deploy/confab.toml tells of every key whether a change takes effect at once,
for new calls, or needs a restart; the log tells what changed. A file with a fault changes nothing.
SIGTERM or ctrl-C drains: no new calls (503), BYE to all, everything on disk, exit 0. A second one
exits at once.";

const DEMO_HELP: &str = "\
Takes the options of `confab serve`. Where 5060 or 8080 are taken and you did not choose a port, it
picks free ones and says so. An access key is made for each run, unless CONFAB_ACCESSKEY gives one.

Examples:
  confab demo
  confab call 'sip:direct.HASH@127.0.0.1:5060' --tone 440      in a second terminal
  confab call 'sip:direct.HASH@127.0.0.1:5060'                 in a third: it hears the tone";

/// The options of `confab serve` and `confab demo`. Values are read by [`crate::config`], so that an
/// error reads the same wherever the value stood.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ServeOptions {
    /// Read options from this TOML file [env: CONFAB_CONFIG]
    #[arg(long, value_name = "FILE", env = "CONFAB_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// Where SIP is received, over UDP and TCP; [::]:5060 takes IPv4 and IPv6 [default: 0.0.0.0:5060]
    /// [env: CONFAB_SIP] [file: sip.listen]
    #[arg(long, value_name = "ADDR:PORT")]
    pub sip: Option<String>,
    /// Where the REST API is served [default: 127.0.0.1:8080] [env: CONFAB_HTTP] [file: http.listen]
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Option<String>,
    /// The IP address callers reach us at, when it is not our own (behind NAT) [env: CONFAB_ADVERTISE]
    /// [file: sip.advertise]
    #[arg(long, value_name = "IP")]
    pub advertise: Option<String>,
    /// UDP ports for audio: two for each call [default: 20000-40000] [env: CONFAB_RTP_PORTS]
    /// [file: rtp.ports]
    #[arg(long, value_name = "FIRST-LAST")]
    pub rtp_ports: Option<String>,
    /// Folder of recordings and of the embedded database; made when missing [default: .data]
    /// [env: CONFAB_DATA] [file: data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// PostgreSQL database used instead of the embedded one: postgres://user@host/name. Others can read
    /// a command line: give the password by CONFAB_DATABASE, PGPASSWORD or ~/.pgpass
    /// [env: CONFAB_DATABASE] [file: database]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// A host of the URIs that are ours, beside our own addresses; may be given several times
    /// [default: sip.voipbin.net] [env: CONFAB_DOMAIN] [file: sip.domains]
    #[arg(long, value_name = "HOST")]
    pub domain: Vec<String>,
    /// Threads that mix; 0 for one per core [default: 0] [env: CONFAB_MEDIA_THREADS]
    /// [file: rtp.media_threads]
    #[arg(long, value_name = "N")]
    pub media_threads: Option<String>,
    /// How audio packets are moved: auto, uring or epoll [default: auto] [env: CONFAB_IO_BACKEND]
    /// [file: rtp.io_backend]
    #[arg(long, value_name = "HOW")]
    pub io_backend: Option<String>,
    /// Least level that is logged: error, warn, info, debug or trace [default: info] [env: CONFAB_LOG]
    /// [file: log.level]
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Log for people (text) or for machines (json) [default: text] [env: CONFAB_LOG_FORMAT]
    /// [file: log.format]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Set any key of the file, such as sip.max_calls=500; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ServeOptions {
    /// The text of the file, if one is named.
    pub fn read_file(&self) -> Result<Option<String>, (PathBuf, io::Error)> {
        let Some(path) = &self.config else { return Ok(None) };
        std::fs::read_to_string(path).map(Some).map_err(|error| (path.clone(), error))
    }

    /// Everything the configuration is made of. A variable that is not UTF-8 is left out unless it
    /// is ours, and then its value cannot be right.
    pub fn sources(&self, environment: Vec<(OsString, OsString)>, file: Option<String>) -> Sources {
        let single = [
            ("--sip", &self.sip),
            ("--http", &self.http),
            ("--advertise", &self.advertise),
            ("--rtp-ports", &self.rtp_ports),
            ("--data", &self.data),
            ("--database", &self.database),
            ("--media-threads", &self.media_threads),
            ("--io-backend", &self.io_backend),
            ("--log", &self.log),
            ("--log-format", &self.log_format),
        ];
        let mut flags: Vec<(&'static str, String)> =
            single.into_iter().filter_map(|(flag, value)| Some((flag, value.clone()?))).collect();
        flags.extend(self.domain.iter().map(|domain| ("--domain", domain.clone())));
        let env = environment
            .into_iter()
            .filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
            })
            .filter(|(name, _)| name.starts_with("CONFAB_"))
            .collect();
        Sources { file, env, flags, set: self.set.clone() }
    }
}

/// The options of `confab floor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
A minimal SIP answerer with one epoll loop that sends every RTP packet back to where it came from: no
mixing, no timing, nothing but the system calls. It shows what a call costs at least on this machine.

Examples:
  confab floor --sip 127.0.0.1:6060
  confab load sip:echo@127.0.0.1:6060 --calls 2000 --pid $(pidof -s confab)")]
pub(super) struct FloorArguments {
    /// Where SIP is received, over UDP
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6060")]
    sip: SocketAddr,
    /// UDP ports for audio
    #[arg(long, value_name = "FIRST-LAST", default_value = "40000-60000", value_parser = parse_ports)]
    rtp_ports: Value,
}

/// A port range that the configuration would take too.
fn parse_ports(text: &str) -> Result<Value, String> {
    let value = Value::Text(text.to_owned());
    value.ports().map(|_| value)
}

impl FloorArguments {
    /// As the floor wants them.
    pub fn options(&self) -> FloorOptions {
        let rtp_ports = self.rtp_ports.ports().expect("the parser of this argument has checked it");
        FloorOptions { sip: self.sip, rtp_ports }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Key, resolve};
    use clap::CommandFactory as _;

    fn serve(arguments: &[&str]) -> ServeOptions {
        let arguments = ["confab", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).expect("good arguments").command {
            Subcommand::Serve(options) => options,
            other => panic!("not serve: {other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_tells_default_variable_and_key_of_every_flag() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").expect("it is there");
        for key in Key::ALL.iter().filter(|key| key.flag.is_some()) {
            let argument = serve
                .get_arguments()
                .find(|argument| argument.get_long().map(|long| format!("--{long}")).as_deref() == key.flag);
            let help = argument
                .and_then(|argument| argument.get_help())
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains(&format!("[env: {}]", key.env)), "{}: {help}", key.name);
            assert!(help.contains(&format!("[file: {}]", key.name)), "{}: {help}", key.name);
            let default = format!("[default: {}]", key.default);
            assert!(key.default.is_empty() || help.contains(&default), "{}: {help}", key.name);
        }
    }

    #[test]
    fn every_flag_reaches_the_configuration() {
        let options = serve(&[
            "--sip",
            "127.0.0.1:5070",
            "--http",
            "127.0.0.1:8090",
            "--advertise",
            "203.0.113.7",
            "--rtp-ports",
            "30000-30100",
            "--data",
            "d",
            "--database",
            "postgres://me@db/confab",
            "--domain",
            "a.example",
            "--domain",
            "b.example",
            "--media-threads",
            "3",
            "--io-backend",
            "epoll",
            "--log",
            "debug",
            "--log-format",
            "json",
            "--set",
            "sip.max_calls=7",
        ]);
        let sources = options.sources(Vec::new(), None);
        let flags: Vec<&str> = sources.flags.iter().map(|(flag, _)| *flag).collect();
        for flag in Key::ALL.iter().filter_map(|key| key.flag) {
            assert!(flags.contains(&flag), "{flag} is lost");
        }
        let config = resolve(&sources).expect("good values").config;
        assert_eq!(config.sip.listen.port(), 5070);
        assert_eq!(config.sip.domains, ["a.example", "b.example"]);
        assert_eq!((config.rtp.media_threads, config.sip.max_calls), (3, 7));
    }

    #[test]
    fn the_environment_is_passed_on_when_it_is_ours() {
        let environment =
            vec![("CONFAB_SIP".into(), "127.0.0.1:5071".into()), ("PATH".into(), "/bin".into())];
        let sources = serve(&[]).sources(environment, None);
        assert_eq!(sources.env, [("CONFAB_SIP".to_owned(), "127.0.0.1:5071".to_owned())]);
    }

    #[test]
    fn the_floor_checks_its_ports() {
        assert!(Cli::try_parse_from(["confab", "floor", "--rtp-ports", "9-8"]).is_err());
        match Cli::try_parse_from(["confab", "floor"]).expect("defaults").command {
            Subcommand::Floor(arguments) => assert_eq!(arguments.options().rtp_ports, 40_000..=60_000),
            other => panic!("not floor: {other:?}"),
        }
    }
}
