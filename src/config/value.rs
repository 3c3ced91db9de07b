//! One value as a source wrote it, and how it becomes the type a key wants. Every source – file,
//! environment, flag – comes through here, so a wrong value reads the same wherever it stood.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A value before its key gives it a meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// From a flag or the environment, where everything is text.
    Text(String),
    /// A TOML string.
    String(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array of strings, or a flag given several times.
    List(Vec<String>),
    /// A TOML value that no key takes, by the name of its type.
    Other(&'static str),
}

impl Value {
    /// What the value is, for "must be a …, not …".
    fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "text",
            Value::String(_) => "a string",
            Value::Integer(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::List(_) => "a list",
            Value::Other(name) => name,
        }
    }

    /// Text, as it is.
    pub fn text(&self) -> Result<&str, String> {
        match self {
            Value::Text(text) | Value::String(text) => Ok(text.trim()),
            other => Err(format!("must be a string in quotes, not {}", other.kind())),
        }
    }

    /// A whole number within `range`.
    pub fn integer(&self, range: RangeInclusive<i64>) -> Result<i64, String> {
        let number = match self {
            Value::Integer(number) => Some(*number),
            Value::Text(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("must be {} to {}", range.start(), range.end()))
    }

    /// A whole number within `range`, as a `usize`.
    pub fn count(&self, range: RangeInclusive<i64>) -> Result<usize, String> {
        let number = self.integer(range)?;
        usize::try_from(number).map_err(|_| "must not be negative".to_owned())
    }

    /// A whole number of milliseconds within `range`.
    pub fn millis(&self, range: RangeInclusive<i64>) -> Result<Duration, String> {
        let number = self.integer(range)?;
        Ok(Duration::from_millis(number.unsigned_abs()))
    }

    /// A whole number of seconds within `range`.
    pub fn seconds(&self, range: RangeInclusive<i64>) -> Result<Duration, String> {
        let number = self.integer(range)?;
        Ok(Duration::from_secs(number.unsigned_abs()))
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Result<bool, String> {
        match self {
            Value::Boolean(value) => Ok(*value),
            Value::Text(text) => match text.trim() {
                "true" | "yes" | "on" | "1" => Ok(true),
                "false" | "no" | "off" | "0" => Ok(false),
                _ => Err("must be true or false".to_owned()),
            },
            other => Err(format!("must be true or false, not {}", other.kind())),
        }
    }

    /// One or more names: a TOML list or string; in text, separated by commas.
    pub fn list(&self) -> Result<Vec<String>, String> {
        let names: Vec<String> = match self {
            Value::List(names) => names.clone(),
            Value::Text(text) | Value::String(text) => text.split(',').map(str::to_owned).collect(),
            other => {
                return Err(format!(
                    "must be a list of strings such as [\"a\", \"b\"], not {}",
                    other.kind()
                ));
            }
        };
        Ok(names.iter().map(|name| name.trim().to_owned()).collect())
    }

    /// An IP address, without brackets.
    pub fn ip(&self) -> Result<IpAddr, String> {
        self.text()?
            .parse()
            .map_err(|_| "must be an IP address such as 203.0.113.7 or 2001:db8::7".to_owned())
    }

    /// `ADDRESS:PORT`; IPv6 in brackets.
    pub fn socket(&self) -> Result<SocketAddr, String> {
        self.text()?.parse().map_err(|_| "must be ADDRESS:PORT such as 0.0.0.0:5060 or [::]:5060".to_owned())
    }

    /// One of the named choices.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Result<T, String> {
        let text = self.text()?;
        choices
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, choice)| *choice)
            .ok_or_else(|| {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                format!("must be one of {}", names.join(", "))
            })
    }

    /// A range of UDP ports, `FIRST-LAST`, that holds at least one even port and the odd one after
    /// it (RFC 3550 §11).
    pub fn ports(&self) -> Result<RangeInclusive<u16>, String> {
        const WANT: &str = "must be FIRST-LAST such as 20000-40000";
        let (first, last) = self.text()?.split_once('-').ok_or(WANT)?;
        let first: u16 = first.trim().parse().map_err(|_| WANT)?;
        let last: u16 = last.trim().parse().map_err(|_| WANT)?;
        if first < 1024 {
            return Err("must begin at 1024 or above".to_owned());
        }
        let first_even = u32::from(first).next_multiple_of(2);
        if u32::from(last) < first_even + 1 {
            return Err("must hold at least one even port and the odd one after it".to_owned());
        }
        Ok(first..=last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn numbers_are_read_alike_from_text_and_toml_and_held_to_their_range() {
        assert_eq!(text(" 1_000 ").integer(1..=2000), Ok(1000));
        assert_eq!(Value::Integer(1000).integer(1..=2000), Ok(1000));
        for wrong in
            [text("0"), text("2001"), text("x"), text(""), Value::Integer(-1), Value::String("7".into())]
        {
            assert_eq!(wrong.integer(1..=2000), Err("must be 1 to 2000".to_owned()), "{wrong:?}");
        }
    }

    #[test]
    fn a_port_range_holds_a_pair() {
        assert_eq!(text("20000-20001").ports(), Ok(20000..=20001));
        for wrong in [
            "20001-20002",
            "20000-20000",
            "30000-20000",
            "80-90",
            "20000",
            "a-b",
            "20000-70000",
            "65535-65535",
        ] {
            assert!(text(wrong).ports().is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_come_from_commas_and_from_toml() {
        let both = vec!["a.example".to_owned(), "b.example".to_owned()];
        assert_eq!(text("a.example, b.example").list(), Ok(both.clone()));
        assert_eq!(Value::List(both.clone()).list(), Ok(both));
        assert!(Value::Integer(3).list().is_err());
    }

    #[test]
    fn wrong_types_say_what_is_wanted() {
        let number = Value::Integer(3);
        assert_eq!(number.text(), Err("must be a string in quotes, not a number".to_owned()));
        assert_eq!(number.boolean(), Err("must be true or false, not a number".to_owned()));
        assert!(text("[::]:5060").socket().is_ok() && text("5060").socket().is_err());
        assert!(text("::1").ip().is_ok() && text("localhost").ip().is_err());
        assert_eq!(text("EPOLL").choice(&[("auto", 1), ("epoll", 2)]), Ok(2));
        assert_eq!(
            text("kqueue").choice(&[("auto", 1), ("epoll", 2)]),
            Err("must be one of auto, epoll".to_owned())
        );
    }
}
