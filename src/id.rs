//! The ids that name things to users (version 4 UUIDs, RFC 9562) and to the data plane (counters).

use std::fmt;
use uuid::Uuid;

/// Makes a UUID newtype that prints, parses and serialises as the bare UUID.
macro_rules! uuid_newtype {
    ($(#[$doc:meta] $name:ident),+ $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The nil UUID: an unset reference.
            pub const NIL: $name = $name(Uuid::nil());

            /// A fresh id.
            pub fn random(rng: &mut crate::rng::Rng) -> Self {
                Self(rng.uuid())
            }

            /// Whether this is the nil UUID.
            pub fn is_nil(&self) -> bool {
                self.0.is_nil()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

uuid_newtype! {
    /// Names a conference.
    ConferenceId,
    /// Names a conferencecall: one caller's time in one conference.
    ConferencecallId,
    /// Names a customer, the owner of resources.
    CustomerId,
    /// Names a flow.
    FlowId,
    /// Names one run of a flow.
    ActiveflowId,
    /// Names a recording.
    RecordingId,
    /// Names a transcription of a conference.
    TranscribeId,
    /// Names what one caller said between two pauses.
    TranscriptId,
}

/// Names a room in the data plane; never reused within a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(pub u64);

/// Names a tap of a room in the data plane; never reused within a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TapId(pub u64);

/// Names a leg (the media of one call) in the data plane; never reused within a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(pub u64);
