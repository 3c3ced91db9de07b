//! Key presses in SIP INFO, as phones without RFC 4733 send them: `application/dtmf-relay`
//! (`Signal=5`, `Duration=160`) and `application/dtmf` (the key alone).

/// What we take, for an Accept header.
pub(super) const ACCEPT: &str = "application/dtmf-relay, application/dtmf";
/// How long a key was held when nothing says so, in milliseconds.
const DURATION_DEFAULT_MS: u32 = 250;
/// The longest hold that is believed, in milliseconds.
const DURATION_MAX_MS: u32 = 60_000;

/// What an INFO says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Info {
    /// A key was pressed.
    Digit {
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digit: char,
        /// How long it was held.
        duration_ms: u32,
    },
    /// Nothing: a sign of life.
    Empty,
    /// Something of a type we do not know.
    Unknown,
    /// A key press that names no key.
    Malformed,
}

/// Reads the body of an INFO.
pub(super) fn read(content_type: &str, body: &[u8]) -> Info {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let text = String::from_utf8_lossy(body);
    if kind.eq_ignore_ascii_case("application/dtmf-relay") {
        return read_relay(&text);
    }
    if kind.eq_ignore_ascii_case("application/dtmf") {
        return digit(text.trim(), DURATION_DEFAULT_MS);
    }
    if body.is_empty() { Info::Empty } else { Info::Unknown }
}

fn read_relay(text: &str) -> Info {
    let (mut signal, mut duration_ms) = ("", DURATION_DEFAULT_MS);
    for line in text.lines() {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("signal") {
            signal = value;
        } else if name.eq_ignore_ascii_case("duration") {
            duration_ms = value.parse().unwrap_or(DURATION_DEFAULT_MS).min(DURATION_MAX_MS);
        }
    }
    digit(signal, duration_ms)
}

/// A key by its sign, or by its RFC 4733 event number: `10` is `*`, `11` is `#`.
fn digit(signal: &str, duration_ms: u32) -> Info {
    let digit = match signal {
        "10" => Some('*'),
        "11" => Some('#'),
        _ => {
            let mut signs = signal.chars();
            let sign = signs.next().map(|sign| sign.to_ascii_uppercase());
            sign.filter(|sign| signs.next().is_none() && matches!(sign, '0'..='9' | '*' | '#' | 'A'..='D'))
        }
    };
    digit.map_or(Info::Malformed, |digit| Info::Digit { digit, duration_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let relay = |body: &str| read("application/DTMF-Relay;charset=utf-8", body.as_bytes());
        assert_eq!(relay("Signal=5\r\nDuration=160\r\n"), Info::Digit { digit: '5', duration_ms: 160 });
        assert_eq!(relay("signal = *\nduration= x"), Info::Digit { digit: '*', duration_ms: 250 });
        assert_eq!(relay("Signal=11\r\nDuration=99999999"), Info::Digit { digit: '#', duration_ms: 60_000 });
        assert_eq!(read("application/dtmf", b"d\r\n"), Info::Digit { digit: 'D', duration_ms: 250 });
    }

    #[test]
    fn what_names_no_key_is_malformed_and_other_types_are_unknown() {
        for body in ["", "Signal=", "Signal=12", "Signal=x", "Signal=55", "\u{fffd}"] {
            assert_eq!(read("application/dtmf-relay", body.as_bytes()), Info::Malformed, "{body:?}");
        }
        assert_eq!(read("text/plain", b"5"), Info::Unknown);
        assert_eq!(read("", b""), Info::Empty);
    }
}
