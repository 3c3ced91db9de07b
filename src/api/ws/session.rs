//! What one socket has subscribed to, and which events it is to be told, without I/O.
//!
//! A topic is a prefix of `customer_id:<id>:conference:<conference id>`, and begins with the socket's own
//! customer. A subscription with `after_seq` names a conference whole: what the store has is replayed
//! first, and what happens meanwhile is left to that replay, so that nothing is missing and nothing is
//! told twice.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::id::{ConferenceId, CustomerId};

/// Topics of one socket.
pub const TOPICS_MAX: usize = 1000;
/// The longest topic; a whole one is not longer.
const TOPIC_LENGTH_MAX: usize = 128;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Subscribe { topics: Vec<String>, after_seq: Option<u64> },
    Unsubscribe { topics: Vec<String> },
}

/// Why a request is refused: the machine's word and the cause for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

fn fault(reason: &'static str, message: impl Into<String>) -> Fault {
    Fault { reason, message: message.into() }
}

/// Reads a client's message.
pub(super) fn parse(text: &str) -> Result<Request, Fault> {
    let mut fields: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| fault("INVALID_BODY", format!("the message must be a JSON object: {error}")))?;
    let topics = match fields.remove("topics") {
        Some(Value::Array(topics)) if !topics.is_empty() => topics
            .into_iter()
            .map(|topic| match topic {
                Value::String(topic) => Ok(topic),
                _ => Err(fault("INVALID_FIELD", "`topics` must hold strings")),
            })
            .collect::<Result<Vec<_>, _>>()?,
        _ => return Err(fault("INVALID_FIELD", "`topics` must be a list of at least one topic")),
    };
    let after_seq = match fields.remove("after_seq") {
        None | Some(Value::Null) => None,
        Some(value) => Some(
            value
                .as_u64()
                .ok_or_else(|| fault("INVALID_FIELD", "`after_seq` must be a whole number from 0"))?,
        ),
    };
    match fields.get("type").and_then(Value::as_str) {
        Some("subscribe") => Ok(Request::Subscribe { topics, after_seq }),
        Some("unsubscribe") => Ok(Request::Unsubscribe { topics }),
        _ => Err(fault("INVALID_FIELD", "`type` must be subscribe or unsubscribe")),
    }
}

/// How far a conference was told to this socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The store's events are being read: what happens now is among them.
    Replaying,
    /// Up to this one.
    UpTo(u64),
}

/// One socket's subscriptions.
#[derive(Debug)]
pub(super) struct Session {
    customer: CustomerId,
    topics: Vec<String>,
    /// The conferences that were replayed. At most one a topic.
    told: BTreeMap<ConferenceId, Told>,
}

impl Session {
    pub(super) fn new(customer: CustomerId) -> Self {
        Self { customer, topics: Vec::new(), told: BTreeMap::new() }
    }

    /// Takes topics in. Returns the conferences to replay; [`Session::caught_up`] ends each replay.
    pub(super) fn subscribe(
        &mut self,
        topics: Vec<String>,
        after_seq: Option<u64>,
    ) -> Result<Vec<ConferenceId>, Fault> {
        for topic in &topics {
            self.check(topic)?;
        }
        let mut replays = Vec::new();
        if after_seq.is_some() {
            for topic in &topics {
                replays.push(self.conference_of(topic).ok_or_else(|| {
                    fault("INVALID_FIELD", "`after_seq` needs topics that end in a conference's whole id")
                })?);
            }
        }
        let new: Vec<String> = topics.into_iter().filter(|topic| !self.topics.contains(topic)).collect();
        if self.topics.len() + new.len() > TOPICS_MAX {
            return Err(fault("LIMIT_REACHED", format!("a socket may have {TOPICS_MAX} topics")));
        }
        self.topics.extend(new);
        for conference in &replays {
            self.told.insert(*conference, Told::Replaying);
        }
        Ok(replays)
    }

    /// Lets topics go; those that were not there are no fault.
    pub(super) fn unsubscribe(&mut self, topics: &[String]) {
        self.topics.retain(|topic| !topics.contains(topic));
        let (customer, topics) = (self.customer, &self.topics);
        self.told.retain(|conference, _| matches(topics, &topic_of(customer, *conference)));
    }

    /// Whether what happens in this conference is asked for.
    pub(super) fn watches(&self, conference: ConferenceId) -> bool {
        matches(&self.topics, &topic_of(self.customer, conference))
    }

    /// Whether this event is to be told now.
    pub(super) fn wants(&mut self, conference: ConferenceId, seq: u64) -> bool {
        if !self.watches(conference) {
            return false;
        }
        match self.told.get_mut(&conference) {
            None => true,
            Some(Told::Replaying) => false,
            Some(Told::UpTo(last)) if seq <= *last => false,
            Some(Told::UpTo(last)) => {
                *last = seq;
                true
            }
        }
    }

    /// The replay of this conference has come to `seq`, and the store had no more.
    pub(super) fn caught_up(&mut self, conference: ConferenceId, seq: u64) {
        if let Some(told) = self.told.get_mut(&conference) {
            *told = Told::UpTo(seq);
        }
    }

    /// A topic begins with the own customer, whole.
    fn check(&self, topic: &str) -> Result<(), Fault> {
        let own = format!("customer_id:{}", self.customer);
        let rest = topic.strip_prefix(&own);
        if topic.len() > TOPIC_LENGTH_MAX
            || !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        {
            return Err(fault(
                "INVALID_FIELD",
                format!("a topic must begin with {own}, the customer of your key"),
            ));
        }
        Ok(())
    }

    fn conference_of(&self, topic: &str) -> Option<ConferenceId> {
        let id = topic.strip_prefix(&format!("customer_id:{}:conference:", self.customer))?;
        let conference: ConferenceId = id.parse().ok()?;
        (topic == topic_of(self.customer, conference)).then_some(conference)
    }
}

fn topic_of(customer: CustomerId, conference: ConferenceId) -> String {
    format!("customer_id:{customer}:conference:{conference}")
}

fn matches(topics: &[String], of_event: &str) -> bool {
    topics.iter().any(|topic| of_event.starts_with(topic.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const OWNER: CustomerId = CustomerId(Uuid::from_u128(1));
    const ROOM: ConferenceId = ConferenceId(Uuid::from_u128(0xab));
    const OTHER: ConferenceId = ConferenceId(Uuid::from_u128(0xcd));

    #[test]
    fn messages_are_read_or_say_what_they_must_be() {
        assert_eq!(
            parse(r#"{"type":"subscribe","topics":["a","b"],"after_seq":0}"#),
            Ok(Request::Subscribe { topics: vec!["a".to_owned(), "b".to_owned()], after_seq: Some(0) })
        );
        assert_eq!(
            parse(r#"{"type":"unsubscribe","topics":["a"],"unknown":1}"#),
            Ok(Request::Unsubscribe { topics: vec!["a".to_owned()] })
        );
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"type":"subscribe"}"#,
            r#"{"type":"subscribe","topics":[]}"#,
            r#"{"type":"subscribe","topics":[1]}"#,
            r#"{"type":"subscribe","topics":"a"}"#,
            r#"{"type":"publish","topics":["a"]}"#,
            r#"{"type":"subscribe","topics":["a"],"after_seq":-1}"#,
            r#"{"type":"subscribe","topics":["a"],"after_seq":"1"}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn topics_are_prefixes_within_the_own_customer() {
        let mut session = Session::new(OWNER);
        let own = format!("customer_id:{OWNER}");
        for bad in [
            "",
            "customer_id:",
            &own[..own.len() - 1],
            &format!("{own}0"),
            &format!("customer_id:{}", CustomerId(Uuid::from_u128(2))),
            &format!("{own}:{}", "x".repeat(200)),
        ] {
            assert!(session.subscribe(vec![bad.to_owned()], None).is_err(), "{bad}");
        }
        assert!(!session.wants(ROOM, 1), "nothing was asked for");
        let room = topic_of(OWNER, ROOM);
        assert_eq!(session.subscribe(vec![room.clone()], None), Ok(Vec::new()));
        assert!(session.wants(ROOM, 1) && !session.wants(OTHER, 1));
        assert_eq!(session.subscribe(vec![own.clone()], None), Ok(Vec::new()));
        assert!(session.wants(OTHER, 1));
        session.unsubscribe(&[own, "never there".to_owned()]);
        assert!(session.wants(ROOM, 2) && !session.wants(OTHER, 2));
        session.unsubscribe(&[room]);
        assert!(!session.wants(ROOM, 3));
    }

    #[test]
    fn between_replay_and_live_nothing_is_told_twice_or_left_out() {
        let mut session = Session::new(OWNER);
        let room = topic_of(OWNER, ROOM);
        assert_eq!(session.subscribe(vec![room.clone()], Some(3)), Ok(vec![ROOM]));
        assert!(!session.wants(ROOM, 7), "the replay has it");
        session.caught_up(ROOM, 7);
        assert!(!session.wants(ROOM, 6) && !session.wants(ROOM, 7) && session.wants(ROOM, 8));
        assert!(!session.wants(ROOM, 8), "once");
        session.unsubscribe(&[room]);
        assert!(session.told.is_empty());
        let part = format!("customer_id:{OWNER}:conference:0000");
        assert!(session.subscribe(vec![part], Some(0)).is_err(), "a replay needs a whole id");
    }

    #[test]
    fn topics_are_bounded() {
        let mut session = Session::new(OWNER);
        let topic = |number: usize| format!("customer_id:{OWNER}:conference:{number}");
        for number in 0..TOPICS_MAX {
            assert!(session.subscribe(vec![topic(number)], None).is_ok());
        }
        assert!(session.subscribe(vec![topic(1)], None).is_ok(), "one that is there takes no room");
        let refused = session.subscribe(vec![topic(TOPICS_MAX)], None);
        assert_eq!(refused.map_err(|fault| fault.reason), Err("LIMIT_REACHED"));
    }
}
