//! The configuration as each part wants it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::info;

use crate::api::ApiSettings;
use crate::bridge::{self, Transcriber};
use crate::config::{Config, IoBackend, KeysConfig, TranscribeConfig};
use crate::control::BoundPorts;
use crate::errand;
use crate::media::leg::LegSettings;
use crate::media::playout::PlayoutSettings;
use crate::net::http::{self, HttpClient, Trust};
use crate::net::media::{Backend, PortsError, RtpPorts};
use crate::net::transport;
use crate::plane::RingCadence;
use crate::record::retention::Retention;
use crate::record::storage::{Refused, Remote};
use crate::rng::Rng;
use crate::speech::recogniser::engine::Engine;
use crate::speech::recogniser::http::{self as http_engine, HttpEngine, HttpEngineSettings};
use crate::speech::recogniser::models;
use crate::speech::recogniser::moonshine::{self, Moonshine};
use crate::speech::recogniser::service::{Engines, Means};
use crate::speech::recogniser::websocket::{self, Line, LineError, WebSocketSettings};
use crate::time::Timestamp;
use crate::webhook::{self, Telling};

/// Digits of the name that RTCP gives this run (RFC 7022 §4.2: random, at least 96 bits).
const CNAME_DIGITS: usize = 24;
/// Bytes that are read of an answer to a webhook; of it only the code counts.
const WEBHOOK_ANSWER_MAX: usize = 64 * 1024;

/// The SIP transports' settings.
pub(super) fn transport(config: &Config) -> transport::Settings {
    transport::Settings {
        listen: config.sip.listen,
        max_connections: config.sip.max_connections,
        max_connections_per_source: config.sip.max_connections_per_source,
        idle_timeout: config.sip.idle_timeout,
        message_timeout: transport::MESSAGE_TIMEOUT,
    }
}

/// The bridge's settings.
pub(super) fn bridge(config: &Config, shards: u16) -> bridge::Settings {
    let ring = config.conference.ring;
    bridge::Settings {
        domains: config.sip.domains.clone(),
        advertise: config.sip.advertise,
        shards,
        max_calls: config.sip.max_calls,
        max_members: config.conference.max_members,
        max_conferences: config.conference.max_conferences,
        max_speakers: config.conference.max_speakers,
        drain_timeout: config.conference.drain_timeout,
        max_recordings: config.record.max_recordings,
        transcriber: transcriber(config),
        ring: RingCadence { tones_hz: ring.tones_hz, on_off_ms: ring.on_off_ms },
        ..bridge::Settings::default()
    }
}

/// Whose certificates are trusted when others are asked by https.
///
/// # Errors
/// What is wrong with the file of further ones, in words.
pub(super) fn trust(config: &Config) -> Result<Trust, String> {
    let Some(path) = &config.tls.extra_ca_file else { return Ok(Trust::default()) };
    let told = |why: String| format!("tls.extra_ca_file: {}: {why}", path.display());
    let pem = std::fs::read(path).map_err(|error| told(error.to_string()))?;
    Trust::with_pem(&pem).map_err(|bad| told(bad.to_string()))
}

/// How flows' errands are done.
pub(super) fn errands(config: &Config, trust: &Trust) -> errand::Settings {
    errand::Settings {
        allow_private: config.flow.allow_private,
        speech_url: config.speech.voice_url.clone(),
        trust: trust.clone(),
    }
}

/// What recordings are kept.
pub(super) fn retention(config: &Config) -> Retention {
    Retention { age: config.record.keep, bytes: config.record.max_bytes }
}

/// Whether conferences can be transcribed; what stands in the way goes into the log.
pub(super) fn transcriber(config: &Config) -> Transcriber {
    if let Some(url) = &config.transcribe.url {
        let provider = if listens_along(url) { websocket::PROVIDER } else { http_engine::PROVIDER };
        // Which languages it knows, only it can say.
        return Transcriber::Ready { provider: provider.to_owned(), languages: Vec::new() };
    }
    match models::look(&config.transcribe.models) {
        Ok(()) => Transcriber::Ready {
            provider: moonshine::PROVIDER.to_owned(),
            languages: moonshine::LANGUAGES.map(str::to_owned).to_vec(),
        },
        Err(why) => {
            info!("transcription is not available: {why}");
            Transcriber::Absent(why.to_string())
        }
    }
}

/// What the recogniser's engine is made by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SpeechSettings {
    transcribe: TranscribeConfig,
    keys: KeysConfig,
    trust: Trust,
}

/// What the recogniser's engine is made by.
pub(super) fn speech(config: &Config, trust: &Trust) -> SpeechSettings {
    SpeechSettings { transcribe: config.transcribe.clone(), keys: config.keys.clone(), trust: trust.clone() }
}

/// Whether the recogniser at this URL listens along.
fn listens_along(url: &str) -> bool {
    url.starts_with("ws")
}

/// What recognises speech, when there is some.
///
/// # Errors
/// When what is configured cannot be used.
pub(super) fn recogniser(
    settings: watch::Receiver<SpeechSettings>,
    runtime: Handle,
) -> Result<Means, LineError> {
    let SpeechSettings { transcribe, keys, trust } = settings.borrow().clone();
    if let Some(url) = transcribe.url.filter(|url| listens_along(url)) {
        let settings = WebSocketSettings { url, key: keys.transcribe, timeout: transcribe.timeout, trust };
        return Ok(Means::Line(Box::new(Line::new(&settings)?), runtime));
    }
    Ok(Means::Engine(Box::new(SpeechEngines { settings, runtime })))
}

/// Makes the engine that recognises speech, when there is some.
struct SpeechEngines {
    /// May change while it runs.
    settings: watch::Receiver<SpeechSettings>,
    /// Asks the HTTP engine.
    runtime: Handle,
}

impl Engines for SpeechEngines {
    fn make(&mut self) -> Result<Box<dyn Engine>, String> {
        let SpeechSettings { transcribe, keys, trust } = self.settings.borrow_and_update().clone();
        let TranscribeConfig { models, threads, url, model, timeout } = transcribe;
        if let Some(url) = url {
            let settings = HttpEngineSettings { url, key: keys.transcribe, model, timeout, trust };
            return Ok(Box::new(HttpEngine::new(settings, self.runtime.clone())?));
        }
        let engine = Moonshine::load(&models, threads).map_err(|error| error.to_string())?;
        Ok(Box::new(engine))
    }

    fn has_changed(&self) -> bool {
        // Its sender gone means that nothing changes any more.
        self.settings.has_changed().unwrap_or(false)
    }
}

/// The storage that recordings are moved to, if one is configured. Each runtime wants its own.
///
/// # Errors
/// When its endpoint is no URL.
pub(super) fn storage(config: &Config, trust: &Trust) -> Result<Option<Remote>, Refused> {
    let keys = (config.keys.s3_access_key_id.as_deref(), config.keys.s3_secret_access_key.as_deref());
    let (Some(bucket), (Some(id), Some(secret))) = (&config.record.storage, keys) else { return Ok(None) };
    Remote::new(bucket, &config.record.s3, (id, secret), trust).map(Some)
}

/// The API's limits; a burst is twice what one second allows.
pub(super) fn api(config: &Config) -> ApiSettings {
    let http = &config.http;
    ApiSettings {
        requests_per_s_per_key: http.requests_per_s_per_key,
        burst_per_key: http.requests_per_s_per_key.saturating_mul(2),
        requests_per_s_per_source: http.requests_per_s_per_source,
        burst_per_source: http.requests_per_s_per_source.saturating_mul(2),
        metrics_open: http.metrics_need_no_key(),
        ..ApiSettings::default()
    }
}

/// How webhooks are told.
///
/// # Errors
/// When there can be no TLS.
pub(super) fn telling(config: &Config, trust: &Trust) -> Result<Telling, rustls::Error> {
    let client = HttpClient::trusting(webhook_client(config), trust)?;
    Ok(Telling { client, settings: webhook_schedule(config) })
}

/// How webhooks ask.
fn webhook_client(config: &Config) -> http::Settings {
    http::Settings {
        timeout: config.webhook.timeout,
        allow_private: config.webhook.allow_private,
        answer_max: WEBHOOK_ANSWER_MAX,
        // An event is told to whom its customer named, and to nobody else.
        redirects_max: 0,
    }
}

/// How many webhooks at once. An eighth for one customer: eight dead receivers at least are needed to
/// take all, and each that is known to be dead has only one.
fn webhook_schedule(config: &Config) -> webhook::schedule::Settings {
    webhook::schedule::Settings {
        in_flight_max: config.webhook.max_in_flight,
        in_flight_per_customer_max: config.webhook.max_in_flight.div_ceil(8),
        ..webhook::schedule::Settings::default()
    }
}

/// What all legs have in common. `wall_at_zero` is the time of the monotonic clock's epoch.
pub(super) fn legs(config: &Config, wall_at_zero: Timestamp, rng: &mut Rng) -> LegSettings {
    LegSettings {
        playout: PlayoutSettings {
            delay_max_ms: u32::try_from(config.rtp.jitter_max.as_millis()).unwrap_or(u32::MAX),
        },
        media_timeout: config.rtp.media_timeout,
        cname: rng.hex(CNAME_DIGITS),
        wall_at_zero,
    }
}

/// The I/O that media threads prefer.
pub(super) fn backend(config: &Config) -> Backend {
    match config.rtp.io_backend {
        IoBackend::Auto => Backend::Auto,
        IoBackend::Uring => Backend::Uring,
        IoBackend::Epoll => Backend::Epoll,
    }
}

/// Sockets that one media thread must be able to hold: every call may be in one room.
pub(super) fn sockets_per_thread(config: &Config) -> usize {
    let ports = config.rtp.ports.len();
    (2 * config.sip.max_calls).min(ports)
}

/// Where media ports come from: the families that SIP listens on, at its own address.
///
/// # Errors
/// When the range holds no pair.
pub(super) fn ports(config: &Config, rng: &mut Rng) -> Result<BoundPorts, PortsError> {
    let listen = config.sip.listen.ip();
    let (v4, v6): (Option<IpAddr>, Option<IpAddr>) = match listen {
        IpAddr::V4(_) => (Some(listen), None),
        IpAddr::V6(any) if any.is_unspecified() => {
            (Some(Ipv4Addr::UNSPECIFIED.into()), Some(Ipv6Addr::UNSPECIFIED.into()))
        }
        IpAddr::V6(_) => (None, Some(listen)),
    };
    let mut range =
        |bind: Option<IpAddr>| bind.map(|ip| RtpPorts::new(config.rtp.ports.clone(), ip, rng)).transpose();
    let v4 = range(v4)?;
    let v6 = range(v6)?;
    Ok(BoundPorts::new(v4, v6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_gets_what_was_configured() {
        let mut config = Config::default();
        config.sip.max_calls = 7;
        let settings = bridge(&config, 3);
        assert_eq!((settings.shards, settings.max_calls), (3, 7));
        assert_eq!(settings.ring.tones_hz, [440, 480]);
    }

    #[test]
    fn a_thread_holds_no_more_sockets_than_there_are_ports() {
        let mut config = Config::default();
        config.rtp.ports = 20_000..=20_099;
        assert_eq!(sockets_per_thread(&config), 100);
        config.sip.max_calls = 10;
        assert_eq!(sockets_per_thread(&config), 20);
    }
}
