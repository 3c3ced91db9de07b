//! Reads an action's options: every fault names the action and the option.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::program::Fault;
use super::{OPTION_TEXT_MAX, URL_MAX};

/// Characters of a hyphened UUID.
const UUID_LENGTH: usize = 36;

/// One action's options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options<'a> {
    pub(super) of: &'a Map<String, Value>,
    /// The action's place in the list.
    pub(super) action: usize,
}

impl<'a> Options<'a> {
    /// A fault of this option.
    pub(super) fn wrong(&self, key: &str, fault: impl Into<String>) -> Fault {
        Fault { action: self.action, key: format!("option.{key}"), fault: fault.into() }
    }

    /// A text; empty when left out.
    pub(super) fn text(&self, key: &str) -> Result<String, Fault> {
        match self.of.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) if text.chars().count() <= OPTION_TEXT_MAX => Ok(text.clone()),
            Some(Value::String(_)) => {
                Err(self.wrong(key, format!("must not be longer than {OPTION_TEXT_MAX} characters")))
            }
            Some(_) => Err(self.wrong(key, "must be a string")),
        }
    }

    /// A text that is there.
    pub(super) fn needed(&self, key: &str) -> Result<String, Fault> {
        let text = self.text(key)?;
        if text.is_empty() { Err(self.wrong(key, "is needed")) } else { Ok(text) }
    }

    /// A whole number of this range; `default` when left out.
    pub(super) fn number(&self, key: &str, (least, most): (u64, u64), default: u64) -> Result<u64, Fault> {
        let Some(value) = self.of.get(key).filter(|value| !value.is_null()) else { return Ok(default) };
        let whole = whole(value).ok_or_else(|| self.wrong(key, "must be an integer"))?;
        let within = u64::try_from(whole).ok().filter(|number| (least..=most).contains(number));
        within.ok_or_else(|| self.wrong(key, format!("must be from {least} to {most}")))
    }

    /// A number with a fraction; 0 when left out.
    pub(super) fn float(&self, key: &str) -> Result<f64, Fault> {
        match self.of.get(key) {
            None | Some(Value::Null) => Ok(0.0),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(key, "must be a number")),
        }
    }

    /// A flag; false when left out.
    pub(super) fn flag(&self, key: &str) -> Result<bool, Fault> {
        match self.of.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(key, "must be true or false")),
        }
    }

    /// An id; nil when left out or empty.
    pub(super) fn uuid(&self, key: &str) -> Result<Uuid, Fault> {
        let text = self.text(key)?;
        if text.is_empty() {
            return Ok(Uuid::nil());
        }
        uuid(&text).ok_or_else(|| self.wrong(key, "must be a hyphened UUID"))
    }

    /// A URL of a web server. One with variables is looked at when they are known.
    pub(super) fn url(&self, key: &str) -> Result<String, Fault> {
        let url = self.needed(key)?;
        check_url(&url).map(|()| url).map_err(|fault| self.wrong(key, fault))
    }

    /// A list or a map, as it is.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.of.get(key).filter(|value| !value.is_null())
    }
}

/// A whole number; `60.0` is one.
pub(super) fn whole(value: &Value) -> Option<i64> {
    let float = || value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i64);
    value.as_i64().or_else(float)
}

/// A UUID in its hyphened form.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    (text.len() == UUID_LENGTH).then(|| Uuid::parse_str(text).ok()).flatten()
}

/// Whether a text is a URL of a web server, as far as it can be told without its variables.
pub(in crate::bridge) fn check_url(url: &str) -> Result<(), &'static str> {
    if url.len() > URL_MAX {
        return Err("is too long for a URL");
    }
    if url.starts_with("${") {
        return Ok(());
    }
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !url.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Ok(())
        }
        _ => Err("must be a URL that begins with http:// or https://"),
    }
}
