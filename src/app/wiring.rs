//! The configuration as each part wants it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::runtime::Handle;
use tracing::info;

use crate::api::ApiSettings;
use crate::bridge::{self, Transcriber};
use crate::config::{Config, IoBackend};
use crate::control::BoundPorts;
use crate::errand;
use crate::media::leg::LegSettings;
use crate::media::playout::PlayoutSettings;
use crate::net::media::{Backend, PortsError, RtpPorts};
use crate::net::{http, transport};
use crate::plane::RingCadence;
use crate::record::storage::{Refused, Remote};
use crate::rng::Rng;
use crate::speech::recogniser::http::{self as http_engine, HttpEngine, HttpEngineSettings};
use crate::speech::recogniser::models;
use crate::speech::recogniser::moonshine::{self, Moonshine};
use crate::speech::recogniser::service::Means;
use crate::speech::recogniser::websocket::{self, Line, LineError, WebSocketSettings};
use crate::time::Timestamp;
use crate::webhook;

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

/// How flows' errands are done.
pub(super) fn errands(config: &Config) -> errand::Settings {
    errand::Settings { allow_private: config.flow.allow_private, speech_url: config.speech.voice_url.clone() }
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

/// Whether the recogniser at this URL listens along.
fn listens_along(url: &str) -> bool {
    url.starts_with("ws")
}

/// What recognises speech, when there is some.
///
/// # Errors
/// When what is configured cannot be used.
pub(super) fn recogniser(config: &Config, runtime: Handle) -> Result<Means, LineError> {
    let key = config.keys.transcribe.clone();
    let config = config.transcribe.clone();
    if let Some(url) = config.url.clone().filter(|url| listens_along(url)) {
        let settings = WebSocketSettings { url, key, timeout: config.timeout };
        return Ok(Means::Line(Box::new(Line::new(&settings)?), runtime));
    }
    Ok(Means::Engine(Box::new(move || {
        if let Some(url) = config.url.clone() {
            let (key, model, timeout) = (key.clone(), config.model.clone(), config.timeout);
            let settings = HttpEngineSettings { url, key, model, timeout };
            return Ok(Box::new(HttpEngine::new(settings, runtime.clone())?));
        }
        let engine = Moonshine::load(&config.models, config.threads).map_err(|error| error.to_string())?;
        Ok(Box::new(engine))
    })))
}

/// The storage that recordings are moved to, if one is configured. Each runtime wants its own.
///
/// # Errors
/// When its endpoint is no URL.
pub(super) fn storage(config: &Config) -> Result<Option<Remote>, Refused> {
    let keys = (config.keys.s3_access_key_id.as_deref(), config.keys.s3_secret_access_key.as_deref());
    let (Some(bucket), (Some(id), Some(secret))) = (&config.record.storage, keys) else { return Ok(None) };
    Remote::new(bucket, &config.record.s3, (id, secret)).map(Some)
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

/// How webhooks ask.
pub(super) fn webhook_client(config: &Config) -> http::Settings {
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
pub(super) fn webhook_schedule(config: &Config) -> webhook::schedule::Settings {
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
