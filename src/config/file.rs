//! The TOML file, read into settings that remember their line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::Value;
use super::{ConfigError, Place};

/// One `key = value` of the file: the full key, its line counted from 1, the value.
pub(super) struct Setting {
    pub key: String,
    pub line: usize,
    pub value: Value,
}

/// How deep tables may nest: keys are `section.name`, so anything deeper is unknown anyway.
const DEPTH_MAX: usize = 4;

/// Reads the whole text. An error is a fault of the TOML itself, with its line.
pub(super) fn read(text: &str) -> Result<Vec<Setting>, ConfigError> {
    let root = DeTable::parse(text).map_err(|error| ConfigError {
        place: Place::Line(error.span().map_or(1, |span| line_of(text, span.start))),
        key: String::new(),
        message: format!("not valid TOML: {}", error.message().replace('\n', "; ")),
    })?;
    let mut settings = Vec::new();
    walk(text, "", root.get_ref(), 0, &mut settings);
    settings.sort_by_key(|setting| setting.line);
    Ok(settings)
}

/// Collects the leaves of `table` under `prefix`.
fn walk(text: &str, prefix: &str, table: &DeTable<'_>, depth: usize, settings: &mut Vec<Setting>) {
    for (name, value) in table.iter() {
        let key = if prefix.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{prefix}.{}", name.get_ref())
        };
        match value.get_ref() {
            DeValue::Table(inner) if depth < DEPTH_MAX => walk(text, &key, inner, depth + 1, settings),
            leaf => {
                settings.push(Setting { line: line_of(text, name.span().start), value: value_of(leaf), key })
            }
        }
    }
}

/// A TOML leaf as our value.
fn value_of(leaf: &DeValue<'_>) -> Value {
    match leaf {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number beyond 64 bits"), Value::Integer),
        DeValue::Array(items) => items
            .iter()
            .map(|item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<Vec<String>>>()
            .map_or(Value::Other("a list of something else"), Value::List),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Table(_) => Value::Other("a table"),
    }
}

/// The line, counted from 1, that holds byte `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1
}
