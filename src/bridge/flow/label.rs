//! Labels: what a client calls an action by when it does not make UUIDs, as `a1` and `a2` in the help of
//! VoIPBin's own client. Each stands for an id that we make, wherever in the flow it is named.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::options::uuid;
use crate::rng::Rng;

/// The longest label, in bytes.
const LABEL_MAX: usize = 64;
/// The options that name one action, and the one that names several.
const TARGETS: [&str; 3] = ["default_target_id", "false_target_id", "target_id"];
const TARGET_MAP: &str = "target_ids";

/// The labels of one flow.
pub(super) struct Labels<'a>(BTreeMap<&'a str, Uuid>);

impl<'a> Labels<'a> {
    /// Makes an id for every action of this list that is called by a label.
    pub(super) fn of(actions: &'a [Value], rng: &mut Rng) -> Labels<'a> {
        let mut labels = BTreeMap::new();
        for text in actions.iter().filter_map(|action| action.get("id")?.as_str()) {
            if (1..=LABEL_MAX).contains(&text.len()) && uuid(text).is_none() {
                labels.entry(text).or_insert_with(|| rng.uuid());
            }
        }
        Labels(labels)
    }

    /// What the label stands for; `None` when no action is called so.
    pub(super) fn id(&self, label: &str) -> Option<Uuid> {
        self.0.get(label).copied()
    }

    /// Puts ids in the place of labels in an action's options. What is no label stays, for its own
    /// reader to say what is wrong with it.
    pub(super) fn resolve(&self, option: &mut Map<String, Value>) {
        if self.0.is_empty() {
            return;
        }
        for (key, value) in option.iter_mut() {
            if TARGETS.contains(&key.as_str()) {
                self.replace(value);
            } else if key == TARGET_MAP
                && let Value::Object(targets) = value
            {
                targets.values_mut().for_each(|target| self.replace(target));
            }
        }
    }

    fn replace(&self, value: &mut Value) {
        if let Some(id) = value.as_str().and_then(|label| self.id(label)) {
            *value = Value::String(id.hyphenated().to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bridge::flow::Program;

    #[test]
    fn a_label_is_an_id_wherever_the_flow_names_it() {
        let actions = json!([
            {"id": "ask", "next_id": "choose", "type": "digits_receive"},
            {"id": "end", "type": "stop"},
            {"id": "choose", "type": "branch", "option": {"default_target_id": "ask", "target_ids": {"1": "end"}}},
            {"type": "goto", "option": {"target_id": "ask"}},
            {"type": "condition_variable", "option": {"variable": "ask", "false_target_id": "end"}},
        ]);
        let program = Program::parse(&actions, &mut Rng::from_number(1)).expect("it is fine");
        let shown = program.shown();
        let id = |place: usize| json!(shown[place].id.to_string());
        assert_eq!(shown[0].next_id, shown[2].id);
        let branch = json!({"default_target_id": id(0), "target_ids": {"1": id(1)}});
        assert_eq!(shown[2].option, *branch.as_object().expect("an object"));
        assert_eq!(shown[3].option["target_id"], id(0));
        assert_eq!(shown[4].option["false_target_id"], id(1));
        assert_eq!(shown[4].option["variable"], "ask", "only targets are labels");
        assert_eq!(Program::of(shown.to_vec()), Ok(program), "what is shown parses again");
    }

    #[test]
    fn a_label_that_nobody_has_or_two_have_is_said() {
        let fault = |actions: Value| {
            Program::parse(&actions, &mut Rng::from_number(1)).expect_err("it is wrong").to_string()
        };
        let lost = json!([{"id": "a", "type": "goto", "option": {"target_id": "b"}}]);
        assert_eq!(fault(lost), "actions[0].option.target_id must be a hyphened UUID");
        let twice = json!([{"id": "a", "type": "beep"}, {"id": "a", "type": "beep"}]);
        assert_eq!(fault(twice), "actions[1].id is the id of another action too");
    }
}
