//! The variables of one execution, and their place in texts: `${name}`.

use std::collections::BTreeMap;

use super::{OPTION_TEXT_MAX, VARIABLES_MAX};

/// Where the digits of the last `digits_receive` are.
pub(in crate::bridge) const DIGITS: &str = "voipbin.call.digits";

/// Names and values.
#[derive(Clone, Debug, Default)]
pub(in crate::bridge) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Sets one.
    ///
    /// # Errors
    /// When there are too many, or the value is too long; nothing is set.
    pub(in crate::bridge) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if value.chars().count() > OPTION_TEXT_MAX {
            return Err(format!("the value of {name} is longer than {OPTION_TEXT_MAX} characters"));
        }
        if self.0.len() >= VARIABLES_MAX && !self.0.contains_key(name) {
            return Err(format!("there are {VARIABLES_MAX} variables already"));
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// The value; empty for what was never set.
    pub(in crate::bridge) fn value(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The value of a variable that an option names: bare, or as `${name}` and other text.
    pub(in crate::bridge) fn named(&self, text: &str) -> String {
        if text.contains("${") { self.fill(text) } else { self.value(text).to_owned() }
    }

    /// `text` with every `${name}` replaced, cut at four times [`OPTION_TEXT_MAX`] characters.
    pub(in crate::bridge) fn fill(&self, text: &str) -> String {
        self.fill_with(text, str::to_owned)
    }

    /// As [`Variables::fill`], for a text that is JSON: what is put in cannot end a string.
    pub(in crate::bridge) fn fill_json(&self, text: &str) -> String {
        self.fill_with(text, |value| {
            let quoted = serde_json::Value::String(value.to_owned()).to_string();
            quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
        })
    }

    fn fill_with(&self, text: &str, escape: impl Fn(&str) -> String) -> String {
        const FILLED_MAX: usize = 4 * OPTION_TEXT_MAX;
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start..].find('}') else { break };
            filled.push_str(&rest[..start]);
            filled.push_str(&escape(self.value(rest[start + 2..start + length].trim())));
            rest = &rest[start + length + 1..];
            if filled.len() > FILLED_MAX {
                break;
            }
        }
        filled.push_str(rest);
        filled.chars().take(FILLED_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let mut variables = Variables::default();
        variables.set("a", "one \"quoted\"\n").expect("room");
        variables.set("voipbin.call.digits", "12").expect("room");
        variables
    }

    #[test]
    fn names_are_replaced_and_unknown_ones_are_empty() {
        let variables = variables();
        assert_eq!(variables.fill("x ${voipbin.call.digits}${ nothing }y${a"), "x 12y${a");
        assert_eq!(variables.fill("no names"), "no names");
        assert_eq!(variables.named("voipbin.call.digits"), "12");
        assert_eq!(variables.named("<${voipbin.call.digits}>"), "<12>");
    }

    #[test]
    fn a_value_cannot_break_out_of_json() {
        assert_eq!(variables().fill_json(r#"{"k":"${a}"}"#), r#"{"k":"one \"quoted\"\n"}"#);
    }

    #[test]
    fn too_many_and_too_long_are_refused() {
        let mut variables = Variables::default();
        for number in 0..VARIABLES_MAX {
            variables.set(&number.to_string(), "").expect("room");
        }
        assert!(variables.set("one more", "").is_err());
        assert!(variables.set("0", "again").is_ok());
        assert!(variables.set("0", &"x".repeat(OPTION_TEXT_MAX + 1)).is_err());
        let mut doubling = Variables::default();
        doubling.set("x", &"x".repeat(OPTION_TEXT_MAX)).expect("room");
        assert!(doubling.fill(&"${x}".repeat(1000)).len() <= 4 * OPTION_TEXT_MAX);
    }
}
