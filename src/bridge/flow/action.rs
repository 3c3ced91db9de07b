//! What an action does, parsed once from its type and option into a value that cannot be wrong.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::options::{Options, uuid, whole};
use super::outside::Method;
use super::program::Fault;
use super::{DURATION_MAX_MS, LOOPS_MAX, OPTION_ENTRIES_MAX, OPTION_TEXT_MAX};
use crate::bridge::command::{NewRecording, RECORDING_MAX_S};
use crate::bridge::resource::RecordingFormat;
use crate::id::{ConferenceId, FlowId};
use crate::rtp::dtmf::MAX_DIGITS;
use crate::sip::Cause;
use crate::time::Duration;

/// How long digits are waited for unless the option says so.
const DIGITS_WAIT_MS: u64 = 5000;
/// How long a key is held, and let go, unless the option says so.
const KEY_HELD_MS: u64 = 160;
const KEY_GAP_MS: u64 = 80;
/// Characters of a variable's name, and of a language.
const NAME_MAX: usize = 128;

/// Another action of the same flow, by its place in the list.
pub type Target = usize;

/// One action. Texts may hold `${name}`, replaced when it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The call is answered before a flow runs: nothing is left to do.
    Answer,
    /// A short tone.
    Beep,
    /// Speaks a text.
    Talk {
        /// The text.
        text: String,
        /// Its language (BCP 47), or empty.
        language: String,
    },
    /// Plays what is at these URLs, one after the other.
    Play {
        /// The URLs; at least one.
        urls: Vec<String>,
    },
    /// Waits.
    Sleep(Duration),
    /// The caller hears itself.
    Echo(Duration),
    /// Waits for keys.
    DigitsReceive {
        /// No longer than this.
        within: Duration,
        /// Any of these ends it, and is not among the digits; empty: none does.
        keys: String,
        /// So many end it; 0: no number does.
        length: usize,
    },
    /// Presses keys.
    DigitsSend {
        /// The keys.
        digits: String,
        /// How long each is held.
        held: Duration,
        /// How long the pause after each is.
        gap: Duration,
    },
    /// Hangs up.
    Hangup(Cause),
    /// Goes on where the variable's value says.
    Branch {
        /// The variable.
        variable: String,
        /// Where to for any other value; `None`: with the next.
        default: Option<Target>,
        /// Where to by value.
        targets: BTreeMap<String, Target>,
    },
    /// Goes back, so many times.
    Goto {
        /// Where to.
        target: Target,
        /// How often, before it goes on with the next.
        loops: u32,
    },
    /// Sets a variable.
    VariableSet {
        /// Its name.
        key: String,
        /// Its value.
        value: String,
    },
    /// Goes on with the next if a variable is as asked for.
    ConditionVariable {
        /// What is asked.
        condition: VariableCondition,
        /// Where to if not; `None`: with the next.
        otherwise: Option<Target>,
    },
    /// Goes on with the next if the time is as asked for.
    ConditionDatetime {
        /// What is asked.
        condition: DatetimeCondition,
        /// Where to if not; `None`: with the next.
        otherwise: Option<Target>,
    },
    /// Sends an HTTP request.
    WebhookSend {
        /// Whether its answer is waited for.
        sync: bool,
        /// Where to.
        uri: String,
        /// The method.
        method: Method,
        /// The body's media type.
        data_type: String,
        /// The body.
        data: String,
    },
    /// Runs the actions that a web server answers with.
    Fetch {
        /// The server.
        url: String,
        /// The method.
        method: Method,
    },
    /// Runs another flow of the customer.
    FetchFlow(FlowId),
    /// Starts a recording of the conference.
    RecordingStart(NewRecording),
    /// Stops it.
    RecordingStop,
    /// Starts a transcription of the conference.
    TranscribeStart {
        /// Its language (BCP 47), or empty.
        language: String,
    },
    /// Stops it.
    TranscribeStop,
    /// Joins a conference.
    ConferenceJoin(ConferenceId),
    /// Ends the flow.
    Stop,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

/// What a variable is compared to.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// Its number of characters.
    Length(u64),
}

/// A question about a variable.
#[derive(Clone, Debug, PartialEq)]
pub struct VariableCondition {
    /// How it is compared.
    pub comparison: Comparison,
    /// The variable: its name, or a text with `${name}`.
    pub variable: String,
    /// To what.
    pub expected: Expected,
}

/// A question about the time, in UTC. What is `None` is not asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatetimeCondition {
    /// How it is compared.
    pub comparison: Comparison,
    /// 1 to 12.
    pub month: Option<u8>,
    /// 1 to 31.
    pub day: Option<u8>,
    /// 0 to 23.
    pub hour: Option<u8>,
    /// 0 to 59.
    pub minute: Option<u8>,
    /// Sunday is 0; empty: any.
    pub weekdays: Vec<u8>,
}

impl Action {
    /// Every type's name, for messages and metrics.
    pub const TYPES: [&'static str; 23] = [
        "answer",
        "beep",
        "branch",
        "condition_datetime",
        "condition_variable",
        "conference_join",
        "digits_receive",
        "digits_send",
        "echo",
        "fetch",
        "fetch_flow",
        "goto",
        "hangup",
        "play",
        "recording_start",
        "recording_stop",
        "sleep",
        "stop",
        "talk",
        "transcribe_start",
        "transcribe_stop",
        "variable_set",
        "webhook_send",
    ];

    /// Whether it does something to a call, so that without one it is skipped.
    pub fn needs_call(&self) -> bool {
        matches!(
            self,
            Action::Answer
                | Action::Beep
                | Action::Talk { .. }
                | Action::Play { .. }
                | Action::Echo(_)
                | Action::DigitsReceive { .. }
                | Action::DigitsSend { .. }
                | Action::Hangup(_)
                | Action::ConferenceJoin(_)
        )
    }

    /// Reads an action of this type; `ids` are those of the whole flow, in order.
    pub(super) fn parse(r#type: &str, options: Options<'_>, ids: &[Uuid]) -> Result<Action, Fault> {
        let target = |key: &str| target(&options, key, ids);
        Ok(match r#type {
            "answer" => Action::Answer,
            "beep" => Action::Beep,
            "stop" => Action::Stop,
            "talk" => Action::Talk { text: options.needed("text")?, language: name(&options, "language")? },
            "play" => Action::Play { urls: urls(&options)? },
            "sleep" => Action::Sleep(duration(&options)?),
            "echo" => Action::Echo(duration(&options)?),
            "digits_receive" => Action::DigitsReceive {
                within: Duration::from_millis(options.number(
                    "duration",
                    (0, DURATION_MAX_MS),
                    DIGITS_WAIT_MS,
                )?),
                keys: keys(&options, "key")?,
                length: options.number("length", (0, MAX_DIGITS as u64), 0)? as usize,
            },
            "digits_send" => Action::DigitsSend {
                digits: digits(&options)?,
                held: Duration::from_millis(options.number("duration", (40, 1000), KEY_HELD_MS)?),
                gap: Duration::from_millis(options.number("interval", (40, 5000), KEY_GAP_MS)?),
            },
            "hangup" => Action::Hangup(hangup_cause(&options)?),
            "branch" => Action::Branch {
                variable: variable_or(&options, super::variables::DIGITS)?,
                default: target("default_target_id")?,
                targets: targets(&options, ids)?,
            },
            "goto" => Action::Goto {
                target: target("target_id")?.ok_or_else(|| options.wrong("target_id", "is needed"))?,
                loops: options.number("loop_count", (0, LOOPS_MAX), 1)? as u32,
            },
            "variable_set" => {
                Action::VariableSet { key: variable_name(&options)?, value: options.text("value")? }
            }
            "condition_variable" => Action::ConditionVariable {
                condition: variable_condition(&options)?,
                otherwise: target("false_target_id")?,
            },
            "condition_datetime" => Action::ConditionDatetime {
                condition: datetime_condition(&options)?,
                otherwise: target("false_target_id")?,
            },
            "webhook_send" => webhook_send(&options)?,
            "fetch" => {
                Action::Fetch { url: options.url("event_url")?, method: method(&options, "event_method")? }
            }
            "fetch_flow" => Action::FetchFlow(FlowId(needed_uuid(&options, "flow_id")?)),
            "recording_start" => Action::RecordingStart(recording(&options)?),
            "recording_stop" => Action::RecordingStop,
            "transcribe_start" => Action::TranscribeStart { language: name(&options, "language")? },
            "transcribe_stop" => Action::TranscribeStop,
            "conference_join" => {
                Action::ConferenceJoin(ConferenceId(needed_uuid(&options, "conference_id")?))
            }
            _ => {
                let types = Self::TYPES.join(", ");
                let action = options.action;
                return Err(Fault {
                    action,
                    key: "type".to_owned(),
                    fault: format!("must be one of {types}"),
                });
            }
        })
    }
}

fn duration(options: &Options<'_>) -> Result<Duration, Fault> {
    options.number("duration", (0, DURATION_MAX_MS), 0).map(Duration::from_millis)
}

/// A short text: a language, a media type.
fn name(options: &Options<'_>, key: &str) -> Result<String, Fault> {
    let text = options.text(key)?;
    let holds = text.len() <= NAME_MAX && !text.contains(char::is_control);
    if holds {
        Ok(text)
    } else {
        Err(options.wrong(key, format!("must be at most {NAME_MAX} printable bytes")))
    }
}

fn variable_name(options: &Options<'_>) -> Result<String, Fault> {
    let key = options.needed("key")?;
    let holds = key.len() <= NAME_MAX && !key.contains(['$', '{', '}']) && !key.contains(char::is_whitespace);
    if holds {
        Ok(key)
    } else {
        Err(options.wrong("key", format!("must be at most {NAME_MAX} bytes without blanks, $, {{ and }}")))
    }
}

fn variable_or(options: &Options<'_>, default: &str) -> Result<String, Fault> {
    let variable = options.text("variable")?;
    Ok(if variable.is_empty() { default.to_owned() } else { variable })
}

fn needed_uuid(options: &Options<'_>, key: &str) -> Result<Uuid, Fault> {
    let id = options.uuid(key)?;
    if id.is_nil() { Err(options.wrong(key, "is needed")) } else { Ok(id) }
}

/// The place of the action that an option names; `None` for nil.
fn target(options: &Options<'_>, key: &str, ids: &[Uuid]) -> Result<Option<Target>, Fault> {
    let id = options.uuid(key)?;
    if id.is_nil() {
        return Ok(None);
    }
    let place = ids.iter().position(|other| *other == id);
    place.map(Some).ok_or_else(|| options.wrong(key, "names no action of this flow"))
}

fn targets(options: &Options<'_>, ids: &[Uuid]) -> Result<BTreeMap<String, Target>, Fault> {
    let Some(value) = options.value("target_ids") else { return Ok(BTreeMap::new()) };
    let map = value.as_object().filter(|map| map.len() <= OPTION_ENTRIES_MAX);
    let map = map.ok_or_else(|| {
        options.wrong("target_ids", format!("must be an object of at most {OPTION_ENTRIES_MAX} ids"))
    })?;
    map.iter()
        .map(|(value, id)| {
            let place = id.as_str().and_then(uuid).and_then(|id| ids.iter().position(|other| *other == id));
            let place = place.ok_or_else(|| {
                let key = format!("target_ids.{}", value.chars().take(NAME_MAX).collect::<String>());
                options.wrong(&key, "names no action of this flow")
            })?;
            Ok((value.clone(), place))
        })
        .collect()
}

fn urls(options: &Options<'_>) -> Result<Vec<String>, Fault> {
    let wrong = |fault: &str| options.wrong("stream_urls", fault);
    let list = options.value("stream_urls").and_then(Value::as_array);
    let list = list.filter(|list| (1..=OPTION_ENTRIES_MAX).contains(&list.len()));
    let list = list.ok_or_else(|| wrong(&format!("must be a list of 1 to {OPTION_ENTRIES_MAX} URLs")))?;
    list.iter()
        .map(|url| {
            let url = url.as_str().ok_or_else(|| wrong("must be a list of URLs"))?;
            super::options::check_url(url).map_err(wrong).map(|()| url.to_owned())
        })
        .collect()
}

fn is_key(key: char) -> bool {
    matches!(key, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d')
}

/// Keys of a telephone, in upper case.
fn keys(options: &Options<'_>, key: &str) -> Result<String, Fault> {
    let text = options.text(key)?;
    if text.len() <= MAX_DIGITS && text.chars().all(is_key) {
        Ok(text.to_ascii_uppercase())
    } else {
        Err(options.wrong(key, format!("must be at most {MAX_DIGITS} of 0-9, *, #, A-D")))
    }
}

fn digits(options: &Options<'_>) -> Result<String, Fault> {
    let text = options.needed("digits")?;
    if text.contains("${") { Ok(text) } else { keys(options, "digits") }
}

/// What the caller is told (Q.850), by VoIPBin's words and a few of everybody's.
fn hangup_cause(options: &Options<'_>) -> Result<Cause, Fault> {
    let reason = options.text("reason")?;
    let (q850, text) = match reason.as_str() {
        "" | "normal" => (16, "Hung up by the flow"),
        "busy" => (17, "Busy"),
        "noanswer" | "no_answer" => (19, "No answer"),
        "cancel" | "reject" | "rejected" | "decline" => (21, "Rejected"),
        "failed" | "dialout" => (31, "Failed"),
        "timeout" => (102, "Timed out"),
        _ => {
            return Err(options.wrong(
                "reason",
                "must be one of normal, busy, noanswer, cancel, reject, decline, failed, dialout, timeout",
            ));
        }
    };
    Ok(Cause::new(q850, None, text))
}

fn method(options: &Options<'_>, key: &str) -> Result<Method, Fault> {
    Method::from_name(&options.text(key)?)
        .ok_or_else(|| options.wrong(key, "must be one of GET, POST, PUT, PATCH, DELETE"))
}

fn webhook_send(options: &Options<'_>) -> Result<Action, Fault> {
    let data_type = name(options, "data_type")?;
    let data_type = if data_type.is_empty() { "application/json".to_owned() } else { data_type };
    let is_media_type =
        data_type.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    if !is_media_type || !data_type.is_ascii() {
        return Err(options.wrong("data_type", "must be a media type such as application/json"));
    }
    Ok(Action::WebhookSend {
        sync: options.flag("sync")?,
        uri: options.url("uri")?,
        method: method(options, "method")?,
        data_type,
        data: match options.value("data") {
            // A body that is given as JSON rather than as a text of JSON.
            Some(value @ (Value::Object(_) | Value::Array(_))) => {
                let text = value.to_string();
                if text.len() > OPTION_TEXT_MAX {
                    return Err(
                        options.wrong("data", format!("must not be longer than {OPTION_TEXT_MAX} bytes"))
                    );
                }
                text
            }
            _ => options.text("data")?,
        },
    })
}

fn recording(options: &Options<'_>) -> Result<NewRecording, Fault> {
    let format = match options.text("format")?.as_str() {
        "" | "wav" => RecordingFormat::Wav,
        "ogg" => RecordingFormat::Ogg,
        _ => return Err(options.wrong("format", "must be one of wav, ogg")),
    };
    Ok(NewRecording {
        format,
        duration_s: options.number("duration", (0, RECORDING_MAX_S), 0)?,
        on_end_flow_id: FlowId(options.uuid("on_end_flow_id")?),
        tracks: false,
    })
}

fn comparison(options: &Options<'_>) -> Result<Comparison, Fault> {
    Ok(match options.text("condition")?.as_str() {
        "" | "==" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        _ => return Err(options.wrong("condition", "must be one of ==, !=, >, >=, <, <=")),
    })
}

fn variable_condition(options: &Options<'_>) -> Result<VariableCondition, Fault> {
    let expected = match options.text("value_type")?.as_str() {
        "" | "string" => Expected::Text(options.text("value_string")?),
        "number" => Expected::Number(options.float("value_number")?),
        "length" => Expected::Length(options.number("value_length", (0, OPTION_TEXT_MAX as u64), 0)?),
        _ => return Err(options.wrong("value_type", "must be one of string, number, length")),
    };
    Ok(VariableCondition {
        comparison: comparison(options)?,
        variable: variable_or(options, super::variables::DIGITS)?,
        expected,
    })
}

fn datetime_condition(options: &Options<'_>) -> Result<DatetimeCondition, Fault> {
    let part = |key: &str, least: i64, most: i64| -> Result<Option<u8>, Fault> {
        match options.value(key).map(whole) {
            // -1 is VoIPBin's way to say any; the month and the day say it with 0 too.
            None | Some(Some(-1)) => Ok(None),
            Some(Some(0)) if least > 0 => Ok(None),
            Some(Some(part)) if (least..=most).contains(&part) => Ok(u8::try_from(part).ok()),
            _ => Err(options.wrong(key, format!("must be from {least} to {most}, or -1 for any"))),
        }
    };
    let weekdays = || options.wrong("weekdays", "must be a list of days, 0 (Sunday) to 6 (Saturday)");
    let days = match options.value("weekdays") {
        None => Vec::new(),
        Some(list) => {
            let days =
                list.as_array().filter(|days| days.len() <= OPTION_ENTRIES_MAX).ok_or_else(weekdays)?;
            let day = |day: &Value| whole(day).filter(|day| (0..7).contains(day)).map(|day| day as u8);
            days.iter().map(day).collect::<Option<_>>().ok_or_else(weekdays)?
        }
    };
    Ok(DatetimeCondition {
        comparison: comparison(options)?,
        month: part("month", 1, 12)?,
        day: part("day", 1, 31)?,
        hour: part("hour", 0, 23)?,
        minute: part("minute", 0, 59)?,
        weekdays: days,
    })
}
