//! What a configuration that is read anew changes in a server that runs.

use std::fmt;

use super::value::Value;
use super::{Key, Resolved, Takes};

/// One key whose value is another now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key's name.
    pub key: &'static str,
    /// When the change takes effect.
    pub takes: Takes,
    /// What it was and is, as one would write it; `None` for secrets.
    shown: Option<(String, String)>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shown {
            Some((old, new)) => write!(f, "{}: {old} \u{2192} {new}", self.key),
            None => write!(f, "{}: changed", self.key),
        }
    }
}

/// What comes of a configuration that was read anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// What the server runs with from now on: keys that need a restart are as they were.
    pub running: Resolved,
    /// What is another now, in the order of the table; those that need a restart among them, each time
    /// until it comes.
    pub changes: Vec<Change>,
}

/// Compares what the server runs with and what its sources say now.
pub fn reload(running: &Resolved, new: &Resolved) -> Reload {
    let mut running = Resolved { warnings: new.warnings.clone(), ..running.clone() };
    let mut changes = Vec::new();
    for key in Key::ALL {
        let value = value_of(new, key);
        let mut changed = running.config.clone();
        // A value of the new configuration was taken by the same function before.
        if (key.set)(&mut changed, &value).is_err() || changed == running.config {
            continue;
        }
        let old = value_of(&running, key);
        let shown = (!key.secret).then(|| (show(&old), show(&value)));
        changes.push(Change { key: key.name, takes: key.takes, shown });
        if key.takes != Takes::Restart {
            running.config = changed;
            running.values.insert(key.name, value);
        }
    }
    Reload { running, changes }
}

/// The value in force of a key.
fn value_of(of: &Resolved, key: &Key) -> Value {
    of.values.get(key.name).cloned().unwrap_or_else(|| Value::Text(key.default.to_owned()))
}

/// A value as one would write it. A URL is shown without what may be a password.
fn show(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::String(text) if text.contains("://") => without_secrets(text),
        Value::Text(text) | Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::Text(text) | Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::List(items) => items.join(", "),
        Value::Other(name) => (*name).to_owned(),
    }
}

/// A URL without user, password and query (RFC 3986 §3).
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?\u{2026}"));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, resolve};
    use super::*;

    fn read(file: &str, env: &[(&str, &str)]) -> Resolved {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let sources = Sources { file: Some(file.to_owned()), env, ..Sources::default() };
        resolve(&sources).expect("a good file")
    }

    fn told(reload: &Reload) -> Vec<String> {
        reload.changes.iter().map(|change| format!("{change} {}", change.takes.mark())).collect()
    }

    #[test]
    fn what_changed_is_told_and_what_needs_a_restart_stays_as_it_was() {
        let running = read("[sip]\nmax_calls = 7\n[log]\nlevel = \"info\"", &[]);
        let new = read(
            "[sip]\nmax_calls = 8\ndomains = [\"A.example\", \"b.example\"]\n[record]\nkeep_days = 3",
            &[],
        );
        let reload = reload(&running, &new);
        assert_eq!(
            told(&reload),
            [
                "sip.domains: sip.voipbin.net \u{2192} A.example, b.example [at once]",
                "sip.max_calls: 7 \u{2192} 8 [restart]",
                "record.keep_days: 0 \u{2192} 3 [at once]",
            ]
        );
        let config = &reload.running.config;
        assert_eq!((config.sip.max_calls, config.sip.domains.len()), (7, 2));
        let again = super::reload(&reload.running, &new);
        assert_eq!(told(&again), ["sip.max_calls: 7 \u{2192} 8 [restart]"], "until it is started again");
    }

    #[test]
    fn the_same_in_other_words_is_no_change() {
        let running = read("[sip]\ndomains = [\"A.example\"]\n[http]\nrequests_per_s_per_key = 1_000", &[]);
        let new = read("[sip]\ndomains = [\"a.EXAMPLE\"]", &[]);
        assert!(reload(&running, &new).changes.is_empty());
    }

    #[test]
    fn a_line_that_is_gone_gives_the_default_back_and_the_environment_still_beats_the_file() {
        let env = [("CONFAB_MAX_MEMBERS", "9")];
        let running = read("[conference]\nmax_members = 5\nmax_speakers = 4", &env);
        let new = read("[conference]\nmax_members = 6", &env);
        let reload = reload(&running, &new);
        assert_eq!(told(&reload), ["conference.max_speakers: 4 \u{2192} 8 [new calls]"]);
        assert_eq!(reload.running.config.conference.max_members, 9);
    }

    #[test]
    fn secrets_are_not_told() {
        let running = read("", &[]);
        let new = read(
            "[keys]\ntranscribe = \"sk-secret\"\n[transcribe]\nurl = \"https://me:pass@stt.example/v1?key=abc\"",
            &[],
        );
        let told = told(&reload(&running, &new));
        let url = "transcribe.url: \"\" \u{2192} https://stt.example/v1?\u{2026} [restart]";
        assert_eq!(told, [url, "keys.transcribe: changed [restart]"]);
    }
}
