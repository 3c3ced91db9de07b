//! Every option of the server: read from a file, the environment and the command line, in rising
//! precedence, into one resolved, validated [`Config`]. Texts are arguments; nothing is opened here.

mod database;
mod file;
mod key;
mod reload;
mod ring;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use database::DatabaseUrl;
pub use key::{CALLS_LIMIT, CONFERENCES_LIMIT, DOMAINS_LIMIT, Key, MEMBERS_LIMIT, THREADS_LIMIT, Takes};
pub use reload::{Change, Reload, reload};
pub use ring::RingCountry;
pub use value::Value;

/// Every option, resolved and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The folder of recordings and, unless it is elsewhere, of the database.
    pub data: PathBuf,
    /// The PostgreSQL database that is used instead of the embedded one, if any.
    pub database: Option<DatabaseUrl>,
    /// Signalling.
    pub sip: SipConfig,
    /// The REST API.
    pub http: HttpConfig,
    /// Audio.
    pub rtp: RtpConfig,
    /// Conferences.
    pub conference: ConferenceConfig,
    /// Webhooks.
    pub webhook: WebhookConfig,
    /// Flows.
    pub flow: FlowConfig,
    /// Speech.
    pub speech: SpeechConfig,
    /// Recordings.
    pub record: RecordConfig,
    /// Transcription.
    pub transcribe: TranscribeConfig,
    /// Whom is trusted when others are asked by https.
    pub tls: TlsConfig,
    /// Logs.
    pub log: LogConfig,
    /// Keys that are fixed from outside.
    pub keys: KeysConfig,
}

/// `[sip]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SipConfig {
    /// Where SIP is received, over UDP and TCP.
    pub listen: SocketAddr,
    /// The address callers reach us at, when it is not our own.
    pub advertise: Option<IpAddr>,
    /// Hosts that are ours, in lower case; never empty.
    pub domains: Vec<String>,
    /// Calls at once.
    pub max_calls: usize,
    /// TCP connections at once.
    pub max_connections: usize,
    /// TCP connections at once from one IP address.
    pub max_connections_per_source: usize,
    /// How long a TCP connection may be silent.
    pub idle_timeout: Duration,
}

/// `[http]`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Steady requests per second of one access key.
    pub requests_per_s_per_key: u32,
    /// Steady requests per second of one address without a valid key.
    pub requests_per_s_per_source: u32,
    /// Whether `/metrics` needs no key; `None` where it follows the listener.
    pub metrics_open: Option<bool>,
}

impl HttpConfig {
    /// Whether `/metrics` needs no key: as set, else exactly where only this machine can ask.
    pub fn metrics_need_no_key(&self) -> bool {
        self.metrics_open.unwrap_or(self.listen.ip().is_loopback())
    }
}

/// `[rtp]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RtpConfig {
    /// UDP ports for audio; holds at least one even port and the odd one after it.
    pub ports: RangeInclusive<u16>,
    /// Media threads; 0 for one per core.
    pub media_threads: u16,
    /// How packets are moved.
    pub io_backend: IoBackend,
    /// The network interface of the express path; `None` without one.
    pub express: Option<String>,
    /// Silence on the wire after which a call is given up.
    pub media_timeout: Duration,
    /// The most delay of the jitter buffer.
    pub jitter_max: Duration,
}

/// How audio packets are moved between the kernel and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoBackend {
    /// io_uring where the kernel allows it, else epoll.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

/// `[conference]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConferenceConfig {
    /// Live conferences at once.
    pub max_conferences: usize,
    /// Callers in one conference.
    pub max_members: usize,
    /// Callers heard at once.
    pub max_speakers: u16,
    /// How long an ending waits for callers to leave.
    pub drain_timeout: Duration,
    /// Whose ringing tone is played.
    pub ring: RingCountry,
}

/// `[webhook]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WebhookConfig {
    /// Whether loopback, private and link-local addresses may be told.
    pub allow_private: bool,
    /// How long one delivery may take.
    pub timeout: Duration,
    /// Deliveries at once.
    pub max_in_flight: usize,
}

/// `[flow]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowConfig {
    /// Whether flows may ask servers at private and local addresses.
    pub allow_private: bool,
}

/// `[speech]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeechConfig {
    /// The HTTP engine that speaks texts; `None`: the built-in voice.
    pub voice_url: Option<String>,
}

/// `[record]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordConfig {
    /// Recordings at once.
    pub max_recordings: usize,
    /// How long recordings are kept; `None` until they are deleted.
    pub keep: Option<Duration>,
    /// Bytes of recordings that are kept; `None` for as many as there are.
    pub max_bytes: Option<u64>,
    /// Where finished recordings are moved; `None`: they stay in the data folder.
    pub storage: Option<Bucket>,
    /// How that storage is reached.
    pub s3: S3Config,
}

/// A place in S3-compatible storage: `s3://name/prefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket.
    pub name: String,
    /// What the keys of objects begin with, without a slash at either end; may be empty.
    pub prefix: String,
}

/// `record.s3_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Config {
    /// The server's URL; `None`: Amazon's of the region.
    pub endpoint: Option<String>,
    /// The region requests are signed for.
    pub region: String,
    /// Whether the bucket is named in the path rather than in the host; `None`: where an endpoint is set.
    pub path_style: Option<bool>,
}

impl S3Config {
    /// Whether the bucket is named in the path: as set, else exactly where the server is not Amazon's.
    pub fn names_bucket_in_path(&self) -> bool {
        self.path_style.unwrap_or(self.endpoint.is_some())
    }
}

/// `[transcribe]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TranscribeConfig {
    /// The folder of the embedded recogniser's models.
    pub models: PathBuf,
    /// Threads it computes on.
    pub threads: usize,
    /// The HTTP or WebSocket recogniser that is used instead, if any.
    pub url: Option<String>,
    /// The model that is asked of it, by HTTP.
    pub model: String,
    /// How long it may take for one utterance.
    pub timeout: Duration,
}

/// `[tls]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsConfig {
    /// A PEM file of certificate authorities that are trusted beside Mozilla's, if any.
    pub extra_ca_file: Option<PathBuf>,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogConfig {
    /// The least level that is written.
    pub level: LogLevel,
    /// For whom.
    pub format: LogFormat,
}

/// The least level that is logged, the fewest lines first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something is lost.
    Error,
    /// Something is wrong.
    Warn,
    /// What an operator wants to see.
    Info,
    /// What a developer wants to see.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Every level by its name.
    pub const CHOICES: [(&'static str, LogLevel); 5] = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[keys]`. Debug output leaves the keys out.
#[derive(Clone, Default, PartialEq)]
pub struct KeysConfig {
    /// The first customer's access key.
    pub accesskey: Option<String>,
    /// The admin key.
    pub admin_key: Option<String>,
    /// The key of the recogniser that is used instead of the embedded one.
    pub transcribe: Option<String>,
    /// Who we are to the recordings' storage.
    pub s3_access_key_id: Option<String>,
    /// What proves it.
    pub s3_secret_access_key: Option<String>,
}

impl fmt::Debug for KeysConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeysConfig").finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from(".data"),
            database: None,
            sip: SipConfig {
                listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5060)),
                advertise: None,
                domains: vec!["sip.voipbin.net".to_owned()],
                max_calls: 10_000,
                max_connections: 4_096,
                max_connections_per_source: 512,
                idle_timeout: Duration::from_secs(7_200),
            },
            http: HttpConfig {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
                requests_per_s_per_key: 1_000,
                requests_per_s_per_source: 100,
                metrics_open: None,
            },
            rtp: RtpConfig {
                ports: 20_000..=40_000,
                media_threads: 0,
                io_backend: IoBackend::Auto,
                express: None,
                media_timeout: Duration::from_secs(60),
                jitter_max: Duration::from_millis(500),
            },
            conference: ConferenceConfig {
                max_conferences: 100_000,
                max_members: 2_000,
                max_speakers: 8,
                drain_timeout: Duration::from_secs(30),
                ring: RingCountry::default(),
            },
            webhook: WebhookConfig {
                allow_private: false,
                timeout: Duration::from_secs(10),
                max_in_flight: 256,
            },
            flow: FlowConfig { allow_private: false },
            speech: SpeechConfig { voice_url: None },
            record: RecordConfig {
                max_recordings: 1000,
                keep: None,
                max_bytes: None,
                storage: None,
                s3: S3Config { endpoint: None, region: "us-east-1".to_owned(), path_style: None },
            },
            transcribe: TranscribeConfig {
                models: PathBuf::from("models"),
                threads: 2,
                url: None,
                model: "whisper-1".to_owned(),
                timeout: Duration::from_secs(10),
            },
            tls: TlsConfig { extra_ca_file: None },
            log: LogConfig { level: LogLevel::Info, format: LogFormat::Text },
            keys: KeysConfig::default(),
        }
    }
}

/// Where a value stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the file, counted from 1.
    Line(usize),
    /// An environment variable.
    Env(String),
    /// An option of the command line.
    Flag(String),
    /// Values that are each good but not together.
    Together,
}

/// One fault of the configuration: `line 7: sip.max_calls: must be 1 to 100000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it stands.
    pub place: Place,
    /// The full key; empty where the place says it all.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line(line) => write!(f, "line {line}: ")?,
            Place::Env(name) | Place::Flag(name) => write!(f, "{name}: ")?,
            Place::Together => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// What the configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The text of the file, if there is one.
    pub file: Option<String>,
    /// The environment; only names that begin with `CONFAB_` matter.
    pub env: Vec<(String, String)>,
    /// Options of the command line, `--name` and value, in the order given. An option given several
    /// times makes a list where the key takes one, else the last counts.
    pub flags: Vec<(&'static str, String)>,
    /// `KEY=VALUE` of `--set`, in the order given; after the other options.
    pub set: Vec<String>,
}

/// Variables that are ours but no key of the file: the file itself.
const ENV_OF_THE_COMMAND_LINE: [&str; 1] = ["CONFAB_CONFIG"];

/// A [`Config`], how it was written, and what in its sources was probably not meant. Debug output leaves
/// out how it was written, since secrets are in it.
#[derive(Clone, PartialEq)]
pub struct Resolved {
    /// The options.
    pub config: Config,
    /// For the log: `CONFAB_*` variables that mean nothing.
    pub warnings: Vec<String>,
    /// What was set, by the names of the keys.
    values: Values,
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved")
            .field("config", &self.config)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// The value in force of every key that was set, by the key's name.
type Values = BTreeMap<&'static str, Value>;

/// Reads all sources: flags over environment over file over defaults.
///
/// # Errors
/// Every fault found, in the order of the sources; never an empty list.
pub fn resolve(sources: &Sources) -> Result<Resolved, Vec<ConfigError>> {
    let mut reading = Reading::default();
    reading.read_file(sources.file.as_deref().unwrap_or_default());
    let warnings = reading.read_env(&sources.env);
    reading.read_flags(&sources.flags);
    reading.read_set(&sources.set);
    let Reading { config, values, mut errors } = reading;
    if errors.is_empty() {
        errors.extend(conflict(&config));
    }
    if errors.is_empty() { Ok(Resolved { config, warnings, values }) } else { Err(errors) }
}

/// The options as they grow, source by source.
#[derive(Default)]
struct Reading {
    config: Config,
    values: Values,
    errors: Vec<ConfigError>,
}

impl Reading {
    /// Sets a key, or keeps the fault with the place of its value.
    fn set(&mut self, key: &'static Key, value: Value, place: Place, name: &str) {
        match (key.set)(&mut self.config, &value) {
            Ok(()) => drop(self.values.insert(key.name, value)),
            Err(message) => self.fault(place, name, message),
        }
    }

    fn fault(&mut self, place: Place, key: &str, message: String) {
        self.errors.push(ConfigError { place, key: key.to_owned(), message });
    }

    /// The file's settings.
    fn read_file(&mut self, text: &str) {
        let settings = match file::read(text) {
            Ok(settings) => settings,
            Err(error) => return self.errors.push(error),
        };
        for file::Setting { key: name, line, value } in settings {
            match Key::named(&name) {
                Some(key) => self.set(key, value, Place::Line(line), &name),
                None => self.fault(Place::Line(line), &name, unknown(&name)),
            }
        }
    }

    /// The environment's settings; returns warnings of variables that mean nothing. An unknown one is no
    /// error because others (container links, say) put names like ours there.
    fn read_env(&mut self, env: &[(String, String)]) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, value) in env {
            match Key::ALL.iter().find(|key| key.env == name) {
                Some(key) => self.set(key, Value::Text(value.clone()), Place::Env(name.clone()), ""),
                None if name.starts_with("CONFAB_") && !ENV_OF_THE_COMMAND_LINE.contains(&name.as_str()) => {
                    warnings.push(format!("the environment variable {name} means nothing to confab"));
                }
                None => {}
            }
        }
        warnings
    }

    /// The command line's settings.
    fn read_flags(&mut self, flags: &[(&'static str, String)]) {
        for key in Key::ALL {
            let Some(flag) = key.flag else { continue };
            let mut values: Vec<String> =
                flags.iter().filter(|(name, _)| *name == flag).map(|(_, value)| value.clone()).collect();
            let value = match values.len() {
                0 => continue,
                1 => Value::Text(values.remove(0)),
                _ if flag == "--domain" => Value::List(values),
                last => Value::Text(values.swap_remove(last - 1)),
            };
            self.set(key, value, Place::Flag(flag.to_owned()), "");
        }
    }

    /// The settings of `--set KEY=VALUE`.
    fn read_set(&mut self, set: &[String]) {
        for text in set {
            let place = Place::Flag("--set".to_owned());
            let Some((name, value)) = text.split_once('=') else {
                let message = "must be KEY=VALUE such as sip.max_calls=500".to_owned();
                self.fault(place, text, message);
                continue;
            };
            match Key::named(name) {
                Some(key) if key.secret => {
                    let message = format!(
                        "is a secret that every user of this machine could read here; use {}",
                        key.env
                    );
                    self.fault(place, name, message);
                }
                Some(key) => self.set(key, Value::Text(value.to_owned()), place, name),
                None => self.fault(place, name, unknown(name)),
            }
        }
    }
}

/// The message for a key that is none.
fn unknown(name: &str) -> String {
    match Key::nearest(name) {
        Some(nearest) => format!("unknown key; did you mean {nearest}?"),
        None => "unknown key; deploy/confab.toml shows all there are".to_owned(),
    }
}

/// What is wrong between values that are each good.
fn conflict(config: &Config) -> Option<ConfigError> {
    port_taken_twice(config).or_else(|| storage_without_keys(config))
}

fn storage_without_keys(config: &Config) -> Option<ConfigError> {
    let keys = &config.keys;
    let lacks = keys.s3_access_key_id.is_none() || keys.s3_secret_access_key.is_none();
    (config.record.storage.is_some() && lacks).then(|| ConfigError {
        place: Place::Together,
        key: String::new(),
        message: "record.storage needs the environment variables CONFAB_S3_ACCESS_KEY_ID and CONFAB_S3_SECRET_ACCESS_KEY"
            .to_owned(),
    })
}

fn port_taken_twice(config: &Config) -> Option<ConfigError> {
    let (sip, http) = (config.sip.listen, config.http.listen);
    let same_address = sip.ip() == http.ip() || sip.ip().is_unspecified() || http.ip().is_unspecified();
    (sip.port() == http.port() && sip.port() != 0 && same_address).then(|| ConfigError {
        place: Place::Together,
        key: String::new(),
        message: format!("sip.listen and http.listen both take TCP port {}; change one of them", sip.port()),
    })
}

#[cfg(test)]
mod tests;
