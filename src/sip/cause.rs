//! Why a call ended, as a Reason header carries it (RFC 3326): a Q.850 cause and a SIP status.

use std::fmt;

use super::scan;

/// The most characters of a peer's Reason text that are kept.
const TEXT_MAX: usize = 128;

/// Why a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// ITU-T Q.850 cause value.
    pub q850: u8,
    /// The SIP status that goes with it, if any.
    pub sip: Option<u16>,
    /// Words for people.
    pub text: String,
}

impl Cause {
    /// A cause from its parts.
    pub fn new(q850: u8, sip: Option<u16>, text: impl Into<String>) -> Self {
        Self { q850, sip, text: text.into() }
    }

    /// 16: a side hung up.
    pub fn normal() -> Self {
        Self::new(16, None, "Normal call clearing")
    }

    /// 17 / 486: the callee is busy.
    pub fn user_busy() -> Self {
        Self::new(17, Some(486), "User busy")
    }

    /// 102 / 408: our 2xx was never acknowledged.
    pub fn no_ack() -> Self {
        Self::new(102, Some(408), "ACK never came")
    }

    /// 102 / 408: a request of ours was never answered.
    pub fn no_answer() -> Self {
        Self::new(102, Some(408), "Recovery on timer expiry")
    }

    /// 102: no media came for too long.
    pub fn media_timeout() -> Self {
        Self::new(102, None, "Media timeout")
    }

    /// 16: the conference's owner ejected the caller.
    pub fn ejected() -> Self {
        Self::new(16, None, "Ejected from the conference")
    }

    /// 16: the conference ended.
    pub fn conference_ended() -> Self {
        Self::new(16, None, "The conference ended")
    }

    /// 41 / 503: the server is shutting down.
    pub fn shutdown() -> Self {
        Self::new(41, Some(503), "Server shutting down")
    }

    /// 31 / 481: the peer does not know the dialog any more.
    pub fn dialog_gone() -> Self {
        Self::new(31, Some(481), "The peer does not know the call")
    }

    /// 38: the connection is gone and there is no other way to the peer.
    pub fn transport_failure() -> Self {
        Self::new(38, None, "Signalling connection lost")
    }

    /// 127: nothing better is known.
    pub fn interworking(text: impl Into<String>) -> Self {
        Self::new(127, None, text)
    }

    /// The cause that a final SIP status stands for (after RFC 3398 §8.2.6.1).
    pub fn of_status(status: u16, reason: &str) -> Self {
        let q850 = match status {
            200..=299 => 16,
            400 | 481 | 487 | 491 | 493 => 31,
            401..=403 | 407 => 21,
            404 | 485 | 604 => 1,
            405 => 63,
            408 | 504 => 102,
            410 => 22,
            413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => 127,
            415 | 488 | 606 => 79,
            480 => 18,
            482 | 483 => 25,
            484 => 28,
            486 | 600 => 17,
            500 | 503 => 41,
            501 => 79,
            502 => 38,
            603 => 21,
            _ => 127,
        };
        Self::new(q850, Some(status), clip(reason))
    }

    /// Reads the Reason header values of a message; `None` when none says anything.
    pub fn from_reason_values<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let (mut q850, mut sip, mut text) = (None, None, String::new());
        for value in values.flat_map(scan::split_list) {
            let mut parts = scan::split_params(value);
            let protocol = parts.next().unwrap_or_default().0;
            let (mut cause, mut words) = (None, None);
            for (name, value) in parts {
                if name.eq_ignore_ascii_case(b"cause") {
                    cause = value.and_then(scan::number::<u16>);
                } else if name.eq_ignore_ascii_case(b"text") {
                    words = value.map(scan::unquote);
                }
            }
            if protocol.eq_ignore_ascii_case(b"Q.850") {
                q850 = cause.and_then(|cause| u8::try_from(cause).ok()).filter(|cause| *cause < 128);
            } else if protocol.eq_ignore_ascii_case(b"SIP") {
                sip = cause.filter(|cause| (100..700).contains(cause));
            } else {
                continue;
            }
            if let (true, Some(words)) = (text.is_empty(), words) {
                text = clip(&String::from_utf8_lossy(&words));
            }
        }
        if q850.is_none() && sip.is_none() {
            return None;
        }
        let q850 = q850.or_else(|| sip.map(|status| Self::of_status(status, "").q850));
        Some(Self { q850: q850.unwrap_or(16), sip, text })
    }
}

/// `text` without control characters, cut at [`TEXT_MAX`] characters.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}

impl fmt::Display for Cause {
    /// The value of a Reason header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Q.850;cause={};text=\"", self.q850)?;
        for c in self.text.chars().filter(|c| !c.is_control()) {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")?;
        match self.sip {
            Some(status) => write!(f, ", SIP;cause={status}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Cause> {
        Cause::from_reason_values([value.as_bytes()].into_iter())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let odd = Cause::new(41, Some(503), "a \"quoted\\\" text, with; marks");
        for cause in [Cause::normal(), Cause::user_busy(), Cause::no_ack(), odd] {
            assert_eq!(read(&cause.to_string()), Some(cause));
        }
    }

    #[test]
    fn a_sip_cause_alone_gives_the_q850_cause() {
        let cause = read("SIP ;cause=486 ;text=\"Busy Here\"").expect("a cause");
        assert_eq!((cause.q850, cause.sip, cause.text.as_str()), (17, Some(486), "Busy Here"));
    }

    #[test]
    fn nonsense_is_no_cause() {
        for value in [
            "",
            ";;;",
            "Q.850",
            "Q.850;cause=x",
            "Q.850;cause=900",
            "preemption;cause=1",
            "SIP;cause=99999999",
        ] {
            assert_eq!(read(value), None, "{value:?}");
        }
    }
}
