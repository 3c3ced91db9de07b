//! What a bridge is told about how to work, and its named limits.

use std::net::IpAddr;

use crate::plane::RingCadence;
use crate::time::Duration;

/// Ended conferences kept in memory at most; the oldest goes first, the store knows it.
pub const ENDED_KEPT_MAX: usize = 4096;
/// How long an ended conference is kept, so that who ended it can read it.
pub const ENDED_KEPT: Duration = Duration::from_secs(60);
/// Conferencecalls kept in memory at most after they left.
pub const LEAVED_KEPT_MAX: usize = 4096;
/// How long a conferencecall is kept after it left.
pub const LEAVED_KEPT: Duration = Duration::from_secs(10);
/// Hashes of ended conferences remembered to be answered 410; the oldest is forgotten first (404).
pub const ENDED_HASHES_MAX: usize = 10_000;
/// Characters kept of a caller's name or address.
pub const ADDRESS_TEXT_MAX: usize = 256;
/// Log lines about refused calls in one second; more are only counted.
pub const REFUSAL_NOTES_PER_S: u32 = 50;

/// Transcriptions of one conference; one more is refused.
pub const TRANSCRIBES_PER_CONFERENCE_MAX: usize = 1000;
/// How long a stopped transcription waits for its last transcripts.
pub const TRANSCRIBE_FINISH: Duration = Duration::from_secs(15);

/// Whether conferences can be transcribed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transcriber {
    /// They can.
    Ready {
        /// What recognises, as transcriptions name it.
        provider: String,
        /// The languages it knows, as primary language subtags (`en`); empty: any.
        languages: Vec<String>,
    },
    /// They cannot: why, and what would help.
    Absent(String),
}

impl Transcriber {
    /// Whether it knows the language of this tag.
    pub fn knows(&self, tag: &str) -> bool {
        let primary = tag.split('-').next().unwrap_or_default();
        match self {
            Transcriber::Ready { languages, .. } => {
                languages.is_empty() || languages.iter().any(|known| known.eq_ignore_ascii_case(primary))
            }
            Transcriber::Absent(_) => false,
        }
    }
}

/// What a bridge is told at its start, and when it is told anew.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Hosts of request URIs that are ours, besides our addresses; case does not matter.
    pub domains: Vec<String>,
    /// The address peers are told to reach us at; `None`: the one they reached us at.
    pub advertise: Option<IpAddr>,
    /// Shards in the data plane, at least 1.
    pub shards: u16,
    /// Calls at once; one more is answered 503.
    pub max_calls: usize,
    /// Calls in one conference; one more is answered 486.
    pub max_members: usize,
    /// Conferences that have not ended; one more is refused.
    pub max_conferences: usize,
    /// How long an ending conference, or a stopping server, waits before it ends by force.
    pub drain_timeout: Duration,
    /// What the first caller of a `connect` hears until the second joins.
    pub ring: RingCadence,
    /// Loudest callers of a room that are heard at once.
    pub max_speakers: u16,
    /// What a 503 says in Retry-After, in seconds.
    pub retry_after_s: u32,
    /// Recordings at once; one more is refused.
    pub max_recordings: usize,
    /// Whether conferences can be transcribed.
    pub transcriber: Transcriber,
    /// The SIP endpoint's own settings.
    pub sip: crate::sip::Settings,
}

impl Settings {
    /// Takes over others, but for the shards and the SIP endpoint's, which are as at the start. What is
    /// there stays, even where it is more than is allowed now.
    pub(super) fn change(&mut self, to: Settings) {
        let sip = std::mem::take(&mut self.sip);
        *self = Settings { shards: self.shards, sip, ..to };
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domains: vec!["sip.voipbin.net".to_owned()],
            advertise: None,
            shards: 1,
            max_calls: 10_000,
            max_members: 2000,
            max_conferences: 100_000,
            drain_timeout: Duration::from_secs(30),
            ring: RingCadence { tones_hz: [440, 480], on_off_ms: [2000, 4000, 0, 0] },
            max_speakers: 8,
            retry_after_s: 10,
            max_recordings: 1000,
            transcriber: Transcriber::Absent("this server has no recogniser".to_owned()),
            sip: crate::sip::Settings::default(),
        }
    }
}
