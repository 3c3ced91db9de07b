//! The table of every option: its name in the file, in the environment and on the command line, what
//! it means, and how its value lands in the [`Config`]. Help, example and errors all follow it.

use super::database::DatabaseUrl;
use super::ring::RingCountry;
use super::value::Value;
use super::{Bucket, Config, IoBackend, LogFormat, LogLevel};

/// The most calls one process may be set to hold; the RTP port range ends earlier.
pub const CALLS_LIMIT: i64 = 100_000;
/// The most members one conference may be set to hold.
pub const MEMBERS_LIMIT: i64 = 2_000;
/// The most conferences one process may be set to hold.
pub const CONFERENCES_LIMIT: i64 = 1_000_000;
/// The most recordings at once one process may be set to.
pub const RECORDINGS_LIMIT: i64 = 10_000;
/// The most media threads.
pub const THREADS_LIMIT: i64 = 256;
/// The most domains.
pub const DOMAINS_LIMIT: usize = 64;
/// The longest domain name (RFC 1035 §2.3.4).
const DOMAIN_LENGTH_MAX: usize = 253;
/// The longest name of a model.
const MODEL_LENGTH_MAX: usize = 128;
/// The longest bearer token.
const BEARER_LENGTH_MAX: usize = 512;
/// How long the name of a bucket is.
const BUCKET_LENGTH: std::ops::RangeInclusive<usize> = 3..=63;
/// The longest prefix of objects' keys.
const PREFIX_LENGTH_MAX: usize = 512;
/// The longest name of a region.
const REGION_LENGTH_MAX: usize = 64;
/// `vb_` and 32 characters.
const ACCESSKEY_LENGTH: usize = 35;
/// An admin key shorter than this can be guessed.
const ADMIN_KEY_LENGTH_MIN: usize = 16;
/// No key is longer than this.
const ADMIN_KEY_LENGTH_MAX: usize = 128;

/// When a change takes effect in a server that runs and is told to read its configuration anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// At once, for what is there too.
    AtOnce,
    /// For calls, or rooms, that come from then on.
    NewCalls,
    /// Not before it is started again.
    Restart,
}

impl Takes {
    /// How the example configuration marks it.
    pub fn mark(self) -> &'static str {
        match self {
            Takes::AtOnce => "[at once]",
            Takes::NewCalls => "[new calls]",
            Takes::Restart => "[restart]",
        }
    }
}

/// One option.
#[derive(Clone, Copy)]
pub struct Key {
    /// `section.name` in the file; also what `--set` takes.
    pub name: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// The option of `confab serve`, for those that have one of their own.
    pub flag: Option<&'static str>,
    /// What it is unless set, as one would write it.
    pub default: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
    /// Whether the value is a secret: not taken from the command line, which every user can read.
    pub secret: bool,
    /// When a change of it takes effect in a server that runs.
    pub takes: Takes,
    /// Parses the value, checks it and stores it.
    pub(super) set: fn(&mut Config, &Value) -> Result<(), String>,
}

/// One row of the table below.
const fn key(
    name: &'static str,
    env: &'static str,
    flag: Option<&'static str>,
    default: &'static str,
    help: &'static str,
    set: fn(&mut Config, &Value) -> Result<(), String>,
) -> Key {
    Key { name, env, flag, default, help, secret: false, takes: Takes::Restart, set }
}

impl Key {
    /// This option, as a secret.
    const fn secret(self) -> Key {
        Key { secret: true, ..self }
    }

    /// This option, whose change takes effect at once.
    const fn at_once(self) -> Key {
        Key { takes: Takes::AtOnce, ..self }
    }

    /// This option, whose change new calls feel.
    const fn for_new_calls(self) -> Key {
        Key { takes: Takes::NewCalls, ..self }
    }

    /// Every option.
    pub const ALL: &'static [Key] = &[
        key(
            "data",
            "CONFAB_DATA",
            Some("--data"),
            ".data",
            "Folder of recordings and of the embedded database; made when missing.",
            |c, v| {
                let text = v.text()?;
                if text.is_empty() {
                    return Err("must name a folder".to_owned());
                }
                c.data = text.into();
                Ok(())
            },
        ),
        key(
            "database",
            "CONFAB_DATABASE",
            Some("--database"),
            "",
            "PostgreSQL database used instead of the embedded one: postgres://user:password@host/name?sslmode=verify-full. Empty: the embedded one.",
            |c, v| {
                c.database = match v.text()? {
                    "" => None,
                    text => Some(DatabaseUrl::parse(text)?),
                };
                Ok(())
            },
        ),
        key(
            "sip.listen",
            "CONFAB_SIP",
            Some("--sip"),
            "0.0.0.0:5060",
            "Where SIP is received, over UDP and TCP. [::]:5060 takes IPv4 and IPv6.",
            |c, v| v.socket().map(|value| c.sip.listen = value),
        ),
        key(
            "sip.advertise",
            "CONFAB_ADVERTISE",
            Some("--advertise"),
            "",
            "The IP address callers reach us at, when it is not our own (behind NAT). Empty: the local address of each call.",
            |c, v| {
                c.sip.advertise = match v.text()? {
                    "" => None,
                    _ => Some(v.ip()?)
                        .filter(|ip| !ip.is_unspecified())
                        .map_or(Err("must be an address callers can reach"), |ip| Ok(Some(ip)))?,
                };
                Ok(())
            },
        )
        .for_new_calls(),
        key(
            "sip.domains",
            "CONFAB_DOMAIN",
            Some("--domain"),
            "sip.voipbin.net",
            "Hosts of the URIs that are ours, beside our own addresses.",
            |c, v| domains(v).map(|value| c.sip.domains = value),
        )
        .at_once(),
        key(
            "sip.max_calls",
            "CONFAB_SIP_MAX_CALLS",
            None,
            "10000",
            "Calls at once; more are answered 503 with Retry-After.",
            |c, v| v.count(1..=CALLS_LIMIT).map(|value| c.sip.max_calls = value),
        ),
        key(
            "sip.max_connections",
            "CONFAB_SIP_MAX_CONNECTIONS",
            None,
            "4096",
            "TCP connections at once.",
            |c, v| v.count(1..=CALLS_LIMIT).map(|value| c.sip.max_connections = value),
        )
        .at_once(),
        key(
            "sip.max_connections_per_source",
            "CONFAB_SIP_MAX_CONNECTIONS_PER_SOURCE",
            None,
            "512",
            "TCP connections at once from one IP address.",
            |c, v| v.count(1..=CALLS_LIMIT).map(|value| c.sip.max_connections_per_source = value),
        )
        .at_once(),
        key(
            "sip.idle_timeout_s",
            "CONFAB_SIP_IDLE_TIMEOUT_S",
            None,
            "7200",
            "Seconds until a TCP connection on which nothing moved is closed.",
            |c, v| v.seconds(10..=604_800).map(|value| c.sip.idle_timeout = value),
        )
        .for_new_calls(),
        key(
            "http.listen",
            "CONFAB_HTTP",
            Some("--http"),
            "127.0.0.1:8080",
            "Where the REST API is served.",
            |c, v| v.socket().map(|value| c.http.listen = value),
        ),
        key(
            "http.requests_per_s_per_key",
            "CONFAB_HTTP_REQUESTS_PER_S_PER_KEY",
            None,
            "1000",
            "Requests per second one access key may make; twice as many in a burst.",
            |c, v| count_u32(v, 1_000_000).map(|value| c.http.requests_per_s_per_key = value),
        )
        .at_once(),
        key(
            "http.requests_per_s_per_source",
            "CONFAB_HTTP_REQUESTS_PER_S_PER_SOURCE",
            None,
            "100",
            "Requests per second one IP address may make without a valid key; twice as many in a burst.",
            |c, v| count_u32(v, 1_000_000).map(|value| c.http.requests_per_s_per_source = value),
        )
        .at_once(),
        key(
            "http.metrics_open",
            "CONFAB_HTTP_METRICS_OPEN",
            None,
            "auto",
            "Whether /metrics needs no key: true, false, or auto (true where HTTP listens on loopback only).",
            |c, v| {
                c.http.metrics_open = match v {
                    Value::Text(text) | Value::String(text) if text.trim() == "auto" => None,
                    _ => Some(v.boolean().map_err(|_| "must be true, false or \"auto\"")?),
                };
                Ok(())
            },
        )
        .at_once(),
        key(
            "rtp.ports",
            "CONFAB_RTP_PORTS",
            Some("--rtp-ports"),
            "20000-40000",
            "UDP ports for audio: two for each call, one where the phone multiplexes.",
            |c, v| v.ports().map(|value| c.rtp.ports = value),
        ),
        key(
            "rtp.media_threads",
            "CONFAB_MEDIA_THREADS",
            Some("--media-threads"),
            "0",
            "Threads that mix; 0 for one per core.",
            |c, v| {
                v.count(0..=THREADS_LIMIT)
                    .map(|value| c.rtp.media_threads = u16::try_from(value).unwrap_or(0))
            },
        ),
        key(
            "rtp.io_backend",
            "CONFAB_IO_BACKEND",
            Some("--io-backend"),
            "auto",
            "How audio packets are moved: auto, uring or epoll.",
            |c, v| {
                v.choice(&[
                    ("auto", IoBackend::Auto),
                    ("uring", IoBackend::Uring),
                    ("epoll", IoBackend::Epoll),
                ])
                .map(|value| c.rtp.io_backend = value)
            },
        ),
        key(
            "rtp.express",
            "CONFAB_RTP_EXPRESS",
            None,
            "",
            "The network interface whose audio packets pass by the kernel's UDP stack (AF_XDP), such as eth0. Costs less a call; needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF, and passes by the packet filter.",
            |c, v| interface(v.text()?).map(|value| c.rtp.express = value),
        ),
        key(
            "rtp.media_timeout_s",
            "CONFAB_RTP_MEDIA_TIMEOUT_S",
            None,
            "60",
            "Seconds without audio or RTCP until a call that is not on hold is hung up.",
            |c, v| v.seconds(1..=86_400).map(|value| c.rtp.media_timeout = value),
        ),
        key(
            "rtp.jitter_max_ms",
            "CONFAB_RTP_JITTER_MAX_MS",
            None,
            "500",
            "The most delay the jitter buffer may add, in milliseconds.",
            |c, v| v.millis(20..=500).map(|value| c.rtp.jitter_max = value),
        ),
        key(
            "conference.max_conferences",
            "CONFAB_MAX_CONFERENCES",
            None,
            "100000",
            "Conferences that are not ended, at once.",
            |c, v| v.count(1..=CONFERENCES_LIMIT).map(|value| c.conference.max_conferences = value),
        )
        .at_once(),
        key(
            "conference.max_members",
            "CONFAB_MAX_MEMBERS",
            None,
            "2000",
            "Callers in one conference; more are answered 486.",
            |c, v| v.count(2..=MEMBERS_LIMIT).map(|value| c.conference.max_members = value),
        )
        .at_once(),
        key(
            "conference.max_speakers",
            "CONFAB_MAX_SPEAKERS",
            None,
            "8",
            "Callers heard at once in a conference: the loudest.",
            |c, v| {
                v.count(2..=64)
                    .map(|value| c.conference.max_speakers = u16::try_from(value).unwrap_or(u16::MAX))
            },
        )
        .for_new_calls(),
        key(
            "conference.drain_timeout_s",
            "CONFAB_DRAIN_TIMEOUT_S",
            None,
            "30",
            "Seconds that an ending conference, or the whole server, waits for callers to leave.",
            |c, v| v.seconds(1..=3_600).map(|value| c.conference.drain_timeout = value),
        )
        .at_once(),
        key(
            "conference.ring",
            "CONFAB_RING",
            None,
            "us",
            "Country of the ringing tone (ITU-T E.180) for the first caller of a connect.",
            |c, v| {
                let code = v.text()?;
                c.conference.ring = RingCountry::from_code(code).ok_or_else(|| {
                    let codes: Vec<&str> = RingCountry::ALL.iter().map(|country| country.code).collect();
                    format!("must be one of {}", codes.join(", "))
                })?;
                Ok(())
            },
        )
        .for_new_calls(),
        key(
            "webhook.allow_private",
            "CONFAB_WEBHOOK_ALLOW_PRIVATE",
            None,
            "false",
            "Whether webhooks may go to loopback, private and link-local addresses.",
            |c, v| v.boolean().map(|value| c.webhook.allow_private = value),
        )
        .at_once(),
        key(
            "webhook.timeout_s",
            "CONFAB_WEBHOOK_TIMEOUT_S",
            None,
            "10",
            "Seconds that one delivery of a webhook may take.",
            |c, v| v.seconds(1..=60).map(|value| c.webhook.timeout = value),
        )
        .at_once(),
        key(
            "webhook.max_in_flight",
            "CONFAB_WEBHOOK_MAX_IN_FLIGHT",
            None,
            "256",
            "Deliveries of webhooks at once; one customer has at most an eighth of them.",
            |c, v| v.count(1..=4096).map(|value| c.webhook.max_in_flight = value),
        )
        .at_once(),
        key(
            "flow.allow_private",
            "CONFAB_FLOW_ALLOW_PRIVATE",
            None,
            "false",
            "Whether flows may fetch from and send to private and local addresses.",
            |c, v| v.boolean().map(|value| c.flow.allow_private = value),
        )
        .at_once(),
        key(
            "speech.voice_url",
            "CONFAB_SPEECH_VOICE_URL",
            None,
            "",
            "HTTP engine that speaks the texts of flows: POST {text, language}, answered with a sound file. Empty: the built-in voice.",
            |c, v| url(v.text()?).map(|value| c.speech.voice_url = value),
        )
        .at_once(),
        key(
            "record.max_recordings",
            "CONFAB_RECORD_MAX_RECORDINGS",
            None,
            "1000",
            "Recordings at once; more are refused.",
            |c, v| v.count(1..=RECORDINGS_LIMIT).map(|value| c.record.max_recordings = value),
        )
        .at_once(),
        key(
            "record.keep_days",
            "CONFAB_RECORD_KEEP_DAYS",
            None,
            "0",
            "Days a recording is kept; 0 until it is deleted.",
            |c, v| {
                let days = v.integer(0..=36_500)?.unsigned_abs();
                c.record.keep = (days > 0).then(|| std::time::Duration::from_secs(days * 86_400));
                Ok(())
            },
        )
        .at_once(),
        key(
            "record.keep_mb",
            "CONFAB_RECORD_KEEP_MB",
            None,
            "0",
            "Megabytes of recordings that are kept, the oldest going first; 0 for as many as there are.",
            |c, v| {
                let megabytes = v.integer(0..=1_000_000_000)?.unsigned_abs();
                c.record.max_bytes = (megabytes > 0).then(|| megabytes * 1_000_000);
                Ok(())
            },
        )
        .at_once(),
        key(
            "record.storage",
            "CONFAB_RECORD_STORAGE",
            None,
            "",
            "S3-compatible storage that finished recordings are moved to: s3://BUCKET/PREFIX. Empty: they stay in the data folder.",
            |c, v| bucket(v.text()?).map(|value| c.record.storage = value),
        ),
        key(
            "record.s3_endpoint",
            "CONFAB_RECORD_S3_ENDPOINT",
            None,
            "",
            "URL of the storage's server. Empty: Amazon's of the region.",
            |c, v| url(v.text()?).map(|value| c.record.s3.endpoint = value),
        ),
        key(
            "record.s3_region",
            "CONFAB_RECORD_S3_REGION",
            None,
            "us-east-1",
            "Region that requests to the storage are signed for.",
            |c, v| region(v.text()?).map(|value| c.record.s3.region = value),
        ),
        key(
            "record.s3_path_style",
            "CONFAB_RECORD_S3_PATH_STYLE",
            None,
            "auto",
            "Whether the bucket is named in the path rather than in the host: true, false, or auto (true with an endpoint).",
            |c, v| {
                c.record.s3.path_style = match v {
                    Value::Text(text) | Value::String(text) if text.trim() == "auto" => None,
                    _ => Some(v.boolean().map_err(|_| "must be true, false or \"auto\"")?),
                };
                Ok(())
            },
        ),
        key(
            "transcribe.models",
            "CONFAB_TRANSCRIBE_MODELS",
            None,
            "models",
            "Folder of the embedded recogniser's models, as `make models` fetches them.",
            |c, v| {
                let text = v.text()?;
                if text.is_empty() {
                    return Err("must name a folder".to_owned());
                }
                c.transcribe.models = text.into();
                Ok(())
            },
        )
        .at_once(),
        key(
            "transcribe.threads",
            "CONFAB_TRANSCRIBE_THREADS",
            None,
            "2",
            "Threads the embedded recogniser computes on, at a low priority.",
            |c, v| v.count(1..=THREADS_LIMIT).map(|value| c.transcribe.threads = value),
        )
        .at_once(),
        key(
            "transcribe.url",
            "CONFAB_TRANSCRIBE_URL",
            None,
            "",
            "Recogniser used instead: http(s):// gets a form with file, model and language and answers {\"text\"}; ws(s):// listens along as Vosk's server does. Empty: the embedded one.",
            |c, v| recogniser_url(v.text()?).map(|value| c.transcribe.url = value),
        ),
        key(
            "transcribe.model",
            "CONFAB_TRANSCRIBE_MODEL",
            None,
            "whisper-1",
            "The model that is asked of the HTTP recogniser.",
            |c, v| model(v.text()?).map(|value| c.transcribe.model = value),
        )
        .at_once(),
        key(
            "transcribe.timeout_s",
            "CONFAB_TRANSCRIBE_TIMEOUT_S",
            None,
            "10",
            "Seconds the recogniser of transcribe.url may take for one utterance.",
            |c, v| v.seconds(1..=60).map(|value| c.transcribe.timeout = value),
        ),
        key(
            "tls.extra_ca_file",
            "CONFAB_TLS_EXTRA_CA_FILE",
            None,
            "",
            "PEM file of certificate authorities trusted beside Mozilla's list, for webhooks, flows and engines asked by https.",
            |c, v| {
                let text = v.text()?;
                c.tls.extra_ca_file = (!text.is_empty()).then(|| text.into());
                Ok(())
            },
        )
        .at_once(),
        key(
            "log.level",
            "CONFAB_LOG",
            Some("--log"),
            "info",
            "Least level that is logged: error, warn, info, debug or trace.",
            |c, v| v.choice(&LogLevel::CHOICES).map(|value| c.log.level = value),
        )
        .at_once(),
        key(
            "log.format",
            "CONFAB_LOG_FORMAT",
            Some("--log-format"),
            "text",
            "text for people, json for machines.",
            |c, v| {
                v.choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)])
                    .map(|value| c.log.format = value)
            },
        ),
        key(
            "keys.accesskey",
            "CONFAB_ACCESSKEY",
            None,
            "",
            "Access key of the first customer. Empty: made on the first start and shown once.",
            |c, v| accesskey(v.text()?).map(|value| c.keys.accesskey = value),
        )
        .secret(),
        key(
            "keys.admin_key",
            "CONFAB_ADMIN_KEY",
            None,
            "",
            "Admin key. Empty: made on the first start and shown once.",
            |c, v| admin_key(v.text()?).map(|value| c.keys.admin_key = value),
        )
        .secret(),
        key(
            "keys.transcribe",
            "CONFAB_TRANSCRIBE_KEY",
            None,
            "",
            "Key of the recogniser of transcribe.url, sent as a bearer token. Empty: none is sent.",
            |c, v| bearer(v.text()?).map(|value| c.keys.transcribe = value),
        )
        .secret(),
        key(
            "keys.s3_access_key_id",
            "CONFAB_S3_ACCESS_KEY_ID",
            None,
            "",
            "Access key id for the recordings' storage; from the environment only.",
            |c, v| from_environment(v).map(|value| c.keys.s3_access_key_id = value),
        )
        .secret(),
        key(
            "keys.s3_secret_access_key",
            "CONFAB_S3_SECRET_ACCESS_KEY",
            None,
            "",
            "Secret access key for the recordings' storage; from the environment only.",
            |c, v| from_environment(v).map(|value| c.keys.s3_secret_access_key = value),
        )
        .secret(),
    ];

    /// The option of this name in the file.
    pub fn named(name: &str) -> Option<&'static Key> {
        Self::ALL.iter().find(|key| key.name == name)
    }

    /// The known name that `name` was probably meant to be: the last part agrees, or all but a
    /// letter or two of it.
    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        const EDITS_MAX: usize = 2;
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        Self::ALL
            .iter()
            .map(|key| {
                let same_last = last(key.name) == last(name);
                let edits = if same_last { 0 } else { edit_distance(key.name, name) };
                (edits, key.name)
            })
            .min()
            .filter(|(edits, _)| *edits <= EDITS_MAX)
            .map(|(_, name)| name)
    }
}

/// How many letters must be put in, taken out or changed to make `a` of `b` (Levenshtein). Names
/// longer than any key count as far away.
fn edit_distance(a: &str, b: &str) -> usize {
    const LENGTH_MAX: usize = 64;
    if a.len() > LENGTH_MAX || b.len() > LENGTH_MAX {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A count from 1 to `most`.
fn count_u32(value: &Value, most: i64) -> Result<u32, String> {
    value.integer(1..=most).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// The URL of an HTTP engine; empty for none.
fn url(text: &str) -> Result<Option<String>, String> {
    match text {
        "" => Ok(None),
        _ if text.starts_with("http://") || text.starts_with("https://") => Ok(Some(text.to_owned())),
        _ => Err("must be a URL that begins with http:// or https://".to_owned()),
    }
}

/// The name of a network interface (the kernel's `IFNAMSIZ`); empty for none.
fn interface(text: &str) -> Result<Option<String>, String> {
    if text.len() > 15 || text.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'/') {
        return Err("must be the name of a network interface: up to 15 characters".to_owned());
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// The URL of a recogniser; empty for none.
fn recogniser_url(text: &str) -> Result<Option<String>, String> {
    if text.starts_with("ws://") || text.starts_with("wss://") {
        return Ok(Some(text.to_owned()));
    }
    url(text).map_err(|_| "must be a URL that begins with http://, https://, ws:// or wss://".to_owned())
}

/// The name of a model.
fn model(text: &str) -> Result<String, String> {
    if text.len() > MODEL_LENGTH_MAX || text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(format!("must be up to {MODEL_LENGTH_MAX} bytes in one line"));
    }
    Ok(text.to_owned())
}

/// What may be sent as a bearer token; empty for none.
fn bearer(text: &str) -> Result<Option<String>, String> {
    if text.len() > BEARER_LENGTH_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("must be up to {BEARER_LENGTH_MAX} printable ASCII characters without blanks"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A credential that must not lie in a file; empty for none.
fn from_environment(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::String(text) if !text.is_empty() => Err("is taken from the environment only".to_owned()),
        _ => bearer(value.text()?),
    }
}

/// `s3://BUCKET/PREFIX`; empty for none.
fn bucket(text: &str) -> Result<Option<Bucket>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let place = text.strip_prefix("s3://").ok_or("must be s3://BUCKET or s3://BUCKET/PREFIX")?;
    let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
    let holds = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if !BUCKET_LENGTH.contains(&name.len()) || !name.bytes().all(holds) {
        return Err(format!(
            "the bucket {name:?} must be 3 to 63 lower-case letters, digits, dots or hyphens"
        ));
    }
    let prefix = prefix.trim_matches('/');
    let part_holds =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(in_prefix);
    if prefix.len() > PREFIX_LENGTH_MAX || !(prefix.is_empty() || prefix.split('/').all(part_holds)) {
        return Err(format!(
            "the prefix {prefix:?} must be letters, digits, -, _, . and / between parts, up to {PREFIX_LENGTH_MAX} bytes"
        ));
    }
    Ok(Some(Bucket { name: name.to_owned(), prefix: prefix.to_owned() }))
}

/// Whether a byte may stand in a prefix: what no part of a URL or signature has to escape.
fn in_prefix(byte: u8) -> bool {
    plain(byte) || byte == b'.'
}

/// The name of a region, such as `eu-central-1`.
fn region(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > REGION_LENGTH_MAX || !text.bytes().all(plain) {
        return Err(format!("must be 1 to {REGION_LENGTH_MAX} letters, digits, - or _ such as eu-central-1"));
    }
    Ok(text.to_owned())
}

/// Host names as they stand in a URI (RFC 3261 §25.1 `hostname`), in lower case.
fn domains(value: &Value) -> Result<Vec<String>, String> {
    let names = value.list()?;
    if names.is_empty() || names.len() > DOMAINS_LIMIT {
        return Err(format!("must be 1 to {DOMAINS_LIMIT} host names"));
    }
    for name in &names {
        let label_holds = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let holds = name.len() <= DOMAIN_LENGTH_MAX && name.split('.').all(label_holds);
        if !holds {
            return Err(format!("{name:?} is not a host name; write it without sip: and port"));
        }
    }
    Ok(names.iter().map(|name| name.to_ascii_lowercase()).collect())
}

/// `vb_` and 32 characters that need no escape in a header, query or cookie.
fn accesskey(text: &str) -> Result<Option<String>, String> {
    let holds = text.len() == ACCESSKEY_LENGTH
        && text.strip_prefix("vb_").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    match text {
        "" => Ok(None),
        _ if holds => Ok(Some(text.to_owned())),
        _ => Err(
            "must be vb_ and 32 letters or digits, such as the output of: echo vb_$(openssl rand -hex 16)"
                .to_owned(),
        ),
    }
}

/// A secret of reasonable length without characters that need an escape.
fn admin_key(text: &str) -> Result<Option<String>, String> {
    let holds =
        (ADMIN_KEY_LENGTH_MIN..=ADMIN_KEY_LENGTH_MAX).contains(&text.len()) && text.bytes().all(plain);
    match text {
        "" => Ok(None),
        _ if holds => Ok(Some(text.to_owned())),
        _ => Err(format!("must be {ADMIN_KEY_LENGTH_MIN} to {ADMIN_KEY_LENGTH_MAX} letters, digits, - or _")),
    }
}

/// Whether a byte may stand in a key (RFC 3986 §2.3 unreserved, less the dot and tilde).
fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_variables_and_flags_are_unique() {
        for (i, key) in Key::ALL.iter().enumerate() {
            assert!(key.env.starts_with("CONFAB_"), "{}", key.env);
            for other in &Key::ALL[..i] {
                assert!(key.name != other.name && key.env != other.env, "{}", key.name);
                assert!(key.flag.is_none() || key.flag != other.flag, "{}", key.name);
            }
        }
    }

    #[test]
    fn every_default_in_the_table_is_the_default_of_the_config() {
        let mut config = Config::default();
        for key in Key::ALL {
            (key.set)(&mut config, &Value::Text(key.default.to_owned())).expect(key.name);
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        assert_eq!(Key::nearest("sip.max_cals"), Some("sip.max_calls"));
        assert_eq!(Key::nearest("server.max_calls"), Some("sip.max_calls"));
        assert_eq!(Key::nearest("colour"), None);
        assert_eq!(Key::nearest(&"x".repeat(10_000)), None);
    }

    #[test]
    fn domains_are_bare_host_names() {
        let list = |name: &str| domains(&Value::List(vec![name.to_owned()]));
        assert_eq!(list("SIP.Example.net"), Ok(vec!["sip.example.net".to_owned()]));
        for wrong in ["", "sip:a.example", "a.example:5060", "a..example", "-a.example", "a b"] {
            assert!(list(wrong).is_err(), "{wrong:?}");
        }
        assert!(domains(&Value::List(vec![])).is_err());
        assert!(domains(&Value::List(vec!["a".to_owned(); DOMAINS_LIMIT + 1])).is_err());
    }

    #[test]
    fn a_place_in_storage_is_a_bucket_and_a_prefix() {
        let place =
            |name: &str, prefix: &str| Ok(Some(Bucket { name: name.to_owned(), prefix: prefix.to_owned() }));
        assert_eq!(bucket(""), Ok(None));
        assert_eq!(bucket("s3://calls"), place("calls", ""));
        assert_eq!(bucket("s3://calls.example/eu/Node-1/"), place("calls.example", "eu/Node-1"));
        for wrong in [
            "calls",
            "s3://",
            "s3://ab",
            "s3://Calls",
            "s3://calls/a//b",
            "s3://calls/../b",
            "s3://calls/a b",
        ] {
            assert!(bucket(wrong).is_err(), "{wrong}");
        }
        assert!(region("eu-central-1").is_ok() && region("").is_err() && region("a b").is_err());
    }

    #[test]
    fn the_storages_credentials_come_from_the_environment_only() {
        let secret = "s3cr3t/+";
        assert_eq!(from_environment(&Value::Text(secret.to_owned())), Ok(Some(secret.to_owned())));
        assert!(from_environment(&Value::String(secret.to_owned())).is_err());
        assert_eq!(from_environment(&Value::String(String::new())), Ok(None));
    }

    #[test]
    fn keys_have_their_form() {
        let good = format!("vb_{}", "a1".repeat(16));
        assert_eq!(accesskey(&good), Ok(Some(good.clone())));
        assert_eq!(accesskey(""), Ok(None));
        for wrong in ["vb_short", &good.replace("vb_", "xx_"), &good.replace('1', "ä"), &format!("{good}x")]
        {
            assert!(accesskey(wrong).is_err(), "{wrong}");
        }
        assert_eq!(bearer("sk-a_B.9"), Ok(Some("sk-a_B.9".to_owned())));
        assert!(bearer("a b").is_err() && bearer(&"x".repeat(BEARER_LENGTH_MAX + 1)).is_err());
        assert!(admin_key("0123456789abcde").is_err() && admin_key("0123456789abcdef").is_ok());
        assert!(admin_key("0123456789abcdef; Path=/").is_err());
    }
}
