//! A flow's actions as they run: parsed once, every target in its place.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::ACTIONS_MAX;
use super::action::{Action, Target};
use super::label::Labels;
use super::options::{Options, uuid};
use super::resource::FlowAction;
use crate::rng::Rng;

/// What is wrong with a list of actions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("actions[{action}].{key} {fault}")]
pub struct Fault {
    /// The action's place in the list, from 0.
    pub action: usize,
    /// Which key of it: `type`, `id`, `option.duration`, …
    pub key: String,
    /// What it must be.
    pub fault: String,
}

/// What is wrong with what should be a list of actions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It is no list, or too long a one.
    #[error("must be a list of at most {ACTIONS_MAX} actions")]
    List,
    /// One of its actions is wrong.
    #[error(transparent)]
    Action(#[from] Fault),
}

/// One action in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The action's id.
    pub id: Uuid,
    /// What follows it; `None` for the next in the list.
    pub next: Option<Target>,
    /// What it does.
    pub action: Action,
}

/// The actions of one flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    shown: Vec<FlowAction>,
    steps: Vec<Step>,
}

impl Program {
    /// Reads the `actions` of a request or of an answer to a `fetch`. An action without an id gets
    /// one, as does one that is called by a [label](super::label).
    ///
    /// # Errors
    /// Says which action is wrong, and which key of it.
    pub fn parse(actions: &Value, rng: &mut Rng) -> Result<Program, Bad> {
        let list = actions.as_array().filter(|list| list.len() <= ACTIONS_MAX).ok_or(Bad::List)?;
        let labels = Labels::of(list, rng);
        let shown = list
            .iter()
            .enumerate()
            .map(|(place, action)| read(place, action, &labels, rng))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::of(shown)?)
    }

    /// Reads actions that are in the form the API shows them in.
    ///
    /// # Errors
    /// Says which action is wrong, and which key of it.
    pub fn of(shown: Vec<FlowAction>) -> Result<Program, Fault> {
        let ids: Vec<Uuid> = shown.iter().map(|action| action.id).collect();
        let mut steps = Vec::with_capacity(shown.len());
        for (place, shown) in shown.iter().enumerate() {
            let wrong = |key: &str, fault: &str| Fault {
                action: place,
                key: key.to_owned(),
                fault: fault.to_owned(),
            };
            if ids.iter().take(place).any(|other| *other == shown.id) {
                return Err(wrong("id", "is the id of another action too"));
            }
            let next = match ids.iter().position(|id| *id == shown.next_id) {
                _ if shown.next_id.is_nil() => None,
                None => return Err(wrong("next_id", "names no action of this flow")),
                next => next,
            };
            let action = Action::parse(&shown.r#type, Options { of: &shown.option, action: place }, &ids)?;
            steps.push(Step { id: shown.id, next, action });
        }
        Ok(Program { shown, steps })
    }

    /// The actions as the API shows them.
    pub fn shown(&self) -> &[FlowAction] {
        &self.shown
    }

    /// The action at this place, and what it is called.
    pub fn step(&self, place: Target) -> Option<(&Step, &str)> {
        self.steps.get(place).zip(self.shown.get(place).map(|shown| shown.r#type.as_str()))
    }

    /// Whether any of its actions is one that `what` says yes to.
    pub fn any(&self, what: impl Fn(&Action) -> bool) -> bool {
        self.steps.iter().any(|step| what(&step.action))
    }
}

/// Reads one action's envelope.
fn read(place: usize, action: &Value, labels: &Labels<'_>, rng: &mut Rng) -> Result<FlowAction, Fault> {
    let wrong =
        |key: &str, fault: &str| Fault { action: place, key: key.to_owned(), fault: fault.to_owned() };
    let Value::Object(fields) = action else {
        return Err(wrong("type", "is needed: an action is an object"));
    };
    let id = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => Ok(Uuid::nil()),
        Some(Value::String(text)) if text.is_empty() => Ok(Uuid::nil()),
        Some(Value::String(text)) => {
            let id = uuid(text).or_else(|| labels.id(text));
            id.ok_or_else(|| {
                wrong(key, "must be a hyphened UUID, or the id of an action of this flow as it is sent")
            })
        }
        Some(_) => Err(wrong(key, "must be a string")),
    };
    let r#type = match fields.get("type") {
        Some(Value::String(r#type)) => r#type.clone(),
        Some(_) => return Err(wrong("type", "must be a string")),
        None => return Err(wrong("type", "is needed")),
    };
    let mut option = match fields.get("option") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(option)) => option.clone(),
        Some(_) => return Err(wrong("option", "must be an object")),
    };
    labels.resolve(&mut option);
    let given = id("id")?;
    let own = if given.is_nil() { rng.uuid() } else { given };
    Ok(FlowAction { id: own, next_id: id("next_id")?, r#type, option })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bridge::flow::OPTION_TEXT_MAX;

    fn fault(actions: &Value) -> String {
        Program::parse(actions, &mut Rng::from_number(1)).expect_err("it is wrong").to_string()
    }

    #[test]
    fn every_type_is_known_and_says_what_it_needs() {
        let needy = [
            ("conference_join", "option.conference_id is needed"),
            ("digits_send", "option.digits is needed"),
            ("fetch", "option.event_url is needed"),
            ("fetch_flow", "option.flow_id is needed"),
            ("goto", "option.target_id is needed"),
            ("play", "option.stream_urls must be a list of 1 to 64 URLs"),
            ("talk", "option.text is needed"),
            ("variable_set", "option.key is needed"),
            ("webhook_send", "option.uri is needed"),
        ];
        for r#type in Action::TYPES {
            let parsed = Program::parse(&json!([{"type": r#type}]), &mut Rng::from_number(1));
            match needy.iter().find(|(name, _)| *name == r#type) {
                None => assert!(parsed.is_ok(), "{type}: {parsed:?}"),
                Some((_, said)) => {
                    assert_eq!(parsed.expect_err(r#type).to_string(), format!("actions[0].{said}"));
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_action_and_key() {
        let id = "11111111-1111-4111-8111-111111111111";
        let long = "x".repeat(OPTION_TEXT_MAX + 1);
        for (action, said) in [
            (json!({"type": "dance"}), "actions[1].type must be one of answer, beep, branch"),
            (json!({}), "actions[1].type is needed"),
            (json!("beep"), "actions[1].type is needed"),
            (json!({"type": 1}), "actions[1].type must be a string"),
            (json!({"type": "beep", "option": []}), "actions[1].option must be an object"),
            (json!({"type": "beep", "id": 1}), "actions[1].id must be a string"),
            (json!({"type": "beep", "id": "x".repeat(65)}), "actions[1].id must be a hyphened UUID"),
            (
                json!({"type": "beep", "next_id": "x"}),
                "actions[1].next_id must be a hyphened UUID, or the id",
            ),
            (json!({"type": "beep", "next_id": id}), "actions[1].next_id names no action of this flow"),
            (
                json!({"type": "sleep", "option": {"duration": -1}}),
                "actions[1].option.duration must be from 0",
            ),
            (
                json!({"type": "sleep", "option": {"duration": 0.5}}),
                "actions[1].option.duration must be an integer",
            ),
            (json!({"type": "talk", "option": {"text": long}}), "actions[1].option.text must not be longer"),
            (
                json!({"type": "goto", "option": {"target_id": id}}),
                "actions[1].option.target_id names no action",
            ),
            (
                json!({"type": "branch", "option": {"target_ids": {"1": id}}}),
                "actions[1].option.target_ids.1 names no action",
            ),
            (
                json!({"type": "play", "option": {"stream_urls": ["ftp://x"]}}),
                "actions[1].option.stream_urls must be",
            ),
            (
                json!({"type": "hangup", "option": {"reason": "bored"}}),
                "actions[1].option.reason must be one of",
            ),
            (json!({"type": "digits_receive", "option": {"key": "x"}}), "actions[1].option.key must be"),
            (
                json!({"type": "condition_datetime", "option": {"weekdays": [7]}}),
                "actions[1].option.weekdays must be a list",
            ),
            (
                json!({"type": "condition_variable", "option": {"value_type": "x"}}),
                "actions[1].option.value_type must be one of",
            ),
            (
                json!({"type": "recording_start", "option": {"format": "mp3"}}),
                "actions[1].option.format must be",
            ),
        ] {
            let told = fault(&json!([{"type": "answer"}, action]));
            assert!(told.starts_with(said), "{told}");
        }
        assert_eq!(fault(&json!({})), "must be a list of at most 200 actions");
        assert_eq!(fault(&json!(vec![json!({"type": "beep"}); ACTIONS_MAX + 1])), Bad::List.to_string());
        let twice = json!({"type": "beep", "id": id});
        assert_eq!(fault(&json!([twice, twice])), "actions[1].id is the id of another action too");
    }

    #[test]
    fn ids_are_made_where_they_are_missing_and_what_is_shown_parses_again() {
        let actions = json!([{"type": "beep"}, {"type": "sleep", "option": {"duration": 20.0}}]);
        let program = Program::parse(&actions, &mut Rng::from_number(1)).expect("it is fine");
        assert!(program.shown().iter().all(|action| !action.id.is_nil() && action.next_id.is_nil()));
        assert_eq!(Program::of(program.shown().to_vec()), Ok(program));
    }
}
