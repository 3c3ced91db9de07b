//! Events over a WebSocket, on a real socket.

use std::time::Duration;

use confab::api::{ApiSettings, MESSAGE_MAX_BYTES};
use confab::bridge::PartialTranscript;
use confab::bridge::event::{Change, Event};
use confab::bridge::resource::Transcript;
use confab::id::{ConferenceId, ConferencecallId, CustomerId, TranscribeId, TranscriptId};
use confab::store::{FEED_WAITING_MAX, PARTIALS_WAITING_MAX};
use confab::time::Timestamp;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use uuid::Uuid;

use crate::harness::{ADMIN, Api, KEY};

/// How long anything may take on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(60);
const ROOM: ConferenceId = ConferenceId(Uuid::from_u128(0xab));
const OTHER: ConferenceId = ConferenceId(Uuid::from_u128(0xcd));

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(url: &str, key: &str) -> Result<Socket, Error> {
        let mut request = format!("{url}/v1.0/ws").into_client_request().expect("a request");
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().expect("a value"));
        tokio_tungstenite::connect_async(request).await.map(|(socket, _)| Socket(socket))
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("it takes it");
    }

    /// The next message; pings are answered by the way.
    async fn next(&mut self) -> Message {
        loop {
            let next = tokio::time::timeout(LIMIT, self.0.next()).await.expect("something comes");
            match next.expect("it is open").expect("a message") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    async fn json(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("not text: {other:?}"),
        }
    }

    /// The next `count` events as (conference, seq).
    async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            let event = self.json().await;
            seqs.push(event["seq"].as_u64().unwrap_or_else(|| panic!("no event: {event}")));
        }
        seqs
    }

    async fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.next().await {
                return frame.expect("a code").code.into();
            }
        }
    }

    async fn subscribe(&mut self, topics: &[String], after_seq: Option<u64>) {
        self.say(json!({"type": "subscribe", "topics": topics, "after_seq": after_seq})).await;
        assert_eq!(self.json().await, json!({"type": "subscribed", "topics": topics}));
    }
}

fn topic(customer: CustomerId, conference: ConferenceId) -> String {
    format!("customer_id:{customer}:conference:{conference}")
}

fn event(customer: CustomerId, conference: ConferenceId, seq: u64) -> Change {
    let event = Event {
        r#type: "conference_updated".to_owned(),
        data: json!({"id": conference.to_string(), "name": "\u{2713} \"quoted\""}),
        seq,
        tm_event: Timestamp::from_micros(1_700_000_000_000_000),
    };
    Change::Event { customer, conference, event: Box::new(event) }
}

async fn happen(api: &Api, conference: ConferenceId, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        api.change(event(api.customer, conference, seq)).await;
    }
    api.flush().await;
}

#[tokio::test]
async fn what_is_subscribed_is_told_and_nothing_else() {
    let api = Api::new().await;
    let url = api.serve().await;
    let mut socket = Socket::open(&url, KEY).await.expect("it opens");
    socket.subscribe(&[topic(api.customer, ROOM)], None).await;
    happen(&api, OTHER, 1..=3).await;
    happen(&api, ROOM, 1..=2).await;
    let first = socket.json().await;
    assert_eq!(
        first,
        json!({"type": "conference_updated", "data": {"id": ROOM.to_string(), "name": "\u{2713} \"quoted\""},
               "seq": 1, "tm_event": "2023-11-14 22:13:20.000000"})
    );
    assert_eq!(socket.seqs(1).await, [2]);
    socket.subscribe(&[format!("customer_id:{}", api.customer)], None).await;
    happen(&api, OTHER, 4..=4).await;
    assert_eq!(socket.json().await["data"]["id"], OTHER.to_string());
    let all = [format!("customer_id:{}", api.customer)];
    socket.say(json!({"type": "unsubscribe", "topics": all})).await;
    assert_eq!(socket.json().await, json!({"type": "unsubscribed", "topics": all}));
    happen(&api, OTHER, 5..=5).await;
    happen(&api, ROOM, 3..=3).await;
    assert_eq!(socket.seqs(1).await, [3]);

    let (other, key) = api.other_customer().await;
    let mut stranger = Socket::open(&url, &key).await.expect("it opens");
    stranger.say(json!({"type": "subscribe", "topics": [topic(api.customer, ROOM)]})).await;
    assert_eq!(stranger.json().await["reason"], "INVALID_FIELD");
    let spoofed = format!("customer_id:{other}:conference:{ROOM}");
    stranger.subscribe(&[spoofed], Some(0)).await;
    happen(&api, ROOM, 4..=4).await;
    stranger.say(json!({"type": "x"})).await;
    assert_eq!(stranger.json().await["type"], "error", "nothing of another customer's came before");
}

/// What a caller is saying, so far.
fn saying(api: &Api, conference: ConferenceId, message: &str) -> PartialTranscript {
    let transcript = Transcript {
        id: TranscriptId(Uuid::from_u128(1)),
        customer_id: api.customer,
        transcribe_id: TranscribeId(Uuid::from_u128(2)),
        direction: "in".to_owned(),
        message: message.to_owned(),
        conferencecall_id: ConferencecallId(Uuid::from_u128(3)),
        tm_transcript: Timestamp::from_micros(1_700_000_000_000_000),
        tm_create: Timestamp::from_micros(1_700_000_001_000_000),
    };
    PartialTranscript { conference, transcript }
}

#[tokio::test]
async fn what_is_being_said_is_shown_of_the_moment_and_before_what_was_said() {
    let api = Api::new().await;
    let url = api.serve().await;
    api.store.show(&saying(&api, ROOM, "nobody listens"));
    let mut socket = Socket::open(&url, KEY).await.expect("it opens");
    socket.subscribe(&[topic(api.customer, ROOM)], None).await;
    api.store.show(&saying(&api, OTHER, "not asked for"));
    api.store.show(&saying(&api, ROOM, "it is"));
    assert_eq!(
        socket.json().await,
        json!({"type": "transcript_partial", "seq": 0, "tm_event": "2023-11-14 22:13:21.000000", "data": {
            "id": Uuid::from_u128(1), "customer_id": api.customer.to_string(),
            "transcribe_id": Uuid::from_u128(2), "direction": "in", "message": "it is",
            "conferencecall_id": Uuid::from_u128(3), "tm_transcript": "2023-11-14 22:13:20.000000",
            "tm_create": "2023-11-14 22:13:21.000000"}})
    );
    for seq in 1..=20 {
        api.store.show(&saying(&api, ROOM, &seq.to_string()));
        happen(&api, ROOM, seq..=seq).await;
    }
    for seq in 1..=20 {
        assert_eq!(socket.json().await["data"]["message"], seq.to_string());
        assert_eq!(socket.seqs(1).await, [seq]);
    }
    // A socket that resumes is told what happened, and of what was said meanwhile nothing but that.
    let mut later = Socket::open(&url, KEY).await.expect("it opens");
    later.subscribe(&[topic(api.customer, ROOM)], Some(0)).await;
    assert_eq!(later.seqs(20).await, (1..=20).collect::<Vec<_>>());
    api.store.show(&saying(&api, ROOM, "now"));
    assert_eq!(later.json().await["data"]["message"], "now");
    let text = api.keyed(ADMIN, "GET", "/metrics", None).await.text;
    assert!(text.contains("confab_ws_partials_total 2"), "{text}");
}

#[tokio::test]
async fn who_is_too_slow_for_what_is_being_said_misses_some_of_it_and_no_event() {
    let api = Api::new().await;
    let url = api.serve().await;
    let mut socket = Socket::open(&url, KEY).await.expect("it opens");
    socket.subscribe(&[topic(api.customer, ROOM)], None).await;
    // More at once than wait for a listener, which cannot take them in between: this is one thread.
    let missed = 50;
    for number in 0..PARTIALS_WAITING_MAX + missed {
        api.store.show(&saying(&api, ROOM, &number.to_string()));
    }
    for number in missed..PARTIALS_WAITING_MAX + missed {
        assert_eq!(socket.json().await["data"]["message"], number.to_string());
    }
    happen(&api, ROOM, 1..=1).await;
    assert_eq!(socket.seqs(1).await, [1]);
    let text = api.keyed(ADMIN, "GET", "/metrics", None).await.text;
    assert!(text.contains(&format!("confab_ws_partials_skipped_total {missed}")), "{text}");
}

#[tokio::test]
async fn a_socket_resumes_after_a_seq_without_gap_or_duplicate_while_events_go_on() {
    let api = Api::new().await;
    let url = api.serve().await;
    happen(&api, ROOM, 1..=900).await;
    let mut socket = Socket::open(&url, KEY).await.expect("it opens");
    let topics = [topic(api.customer, ROOM)];
    socket.say(json!({"type": "subscribe", "topics": topics, "after_seq": 10})).await;
    happen(&api, ROOM, 901..=1500).await;
    assert_eq!(socket.json().await["type"], "subscribed");
    assert_eq!(socket.seqs(1490).await, (11..=1500).collect::<Vec<_>>());
    happen(&api, ROOM, 1501..=1510).await;
    assert_eq!(socket.seqs(10).await, (1501..=1510).collect::<Vec<_>>());
    let part = format!("customer_id:{}", api.customer);
    socket.say(json!({"type": "subscribe", "topics": [part], "after_seq": 1})).await;
    assert_eq!(socket.json().await["reason"], "INVALID_FIELD");
}

#[tokio::test]
async fn what_is_no_longer_kept_is_said() {
    let api = Api::new().await;
    let url = api.serve().await;
    happen(&api, ROOM, 5..=6).await;
    let mut socket = Socket::open(&url, KEY).await.expect("it opens");
    socket.subscribe(&[topic(api.customer, ROOM)], Some(0)).await;
    assert_eq!(socket.json().await["reason"], "EVENTS_TRIMMED");
    assert_eq!(socket.seqs(2).await, [5, 6]);
}

#[tokio::test]
async fn who_takes_nothing_is_closed_and_others_are_not() {
    let api = Api::new().await;
    let url = api.serve().await;
    let mut slow = Socket::open(&url, KEY).await.expect("it opens");
    let mut quick = Socket::open(&url, KEY).await.expect("it opens");
    for socket in [&mut slow, &mut quick] {
        socket.subscribe(&[topic(api.customer, ROOM)], None).await;
    }
    // Large enough that the sockets' own buffers hold a fraction of them.
    let many = 4 * FEED_WAITING_MAX as u64;
    let quick = tokio::spawn(async move { quick.seqs(many as usize).await });
    for seq in 1..=many {
        let data = json!({"id": ROOM.to_string(), "name": "x".repeat(8000)});
        let event =
            Event { r#type: "conference_updated".to_owned(), data, seq, tm_event: Timestamp::from_micros(1) };
        api.change(Change::Event { customer: api.customer, conference: ROOM, event: Box::new(event) }).await;
        if seq % 32 == 0 {
            api.flush().await;
        }
    }
    assert_eq!(quick.await.expect("it heard all").len() as u64, many);
    assert_eq!(slow.close_code().await, 1013);
    let text = api.keyed(ADMIN, "GET", "/metrics", None).await.text;
    assert!(text.contains("confab_ws_ended_total{reason=\"slow\"} 1"), "{text}");
}

#[tokio::test]
async fn a_key_that_dies_takes_its_sockets_along_at_once() {
    let api = Api::new().await;
    let url = api.serve().await;
    let (_, key) = api.other_customer().await;
    let mut socket = Socket::open(&url, &key).await.expect("it opens");
    let mut own = Socket::open(&url, KEY).await.expect("it opens");
    let keys = api.keyed(ADMIN, "GET", "/v1.0/accesskeys", None).await.json;
    let of_other = keys["result"]
        .as_array()
        .expect("keys")
        .iter()
        .find(|one| key.starts_with(one["token_prefix"].as_str().expect("text")));
    let id = of_other.expect("it is there")["id"].as_str().expect("an id").to_owned();
    assert_eq!(api.keyed(ADMIN, "DELETE", &format!("/v1.0/accesskeys/{id}"), None).await.status, 200);
    assert_eq!(socket.close_code().await, 1008);
    own.subscribe(&[topic(api.customer, ROOM)], None).await;
    api.store.end_feeds();
    assert_eq!(own.close_code().await, 1001, "the server is ending");
}

#[tokio::test]
async fn sockets_of_a_key_and_messages_are_bounded() {
    let settings = ApiSettings { sockets_per_key: 2, ..ApiSettings::default() };
    let api = Api::with(settings).await;
    let url = api.serve().await;
    let first = Socket::open(&url, KEY).await.expect("it opens");
    let mut second = Socket::open(&url, KEY).await.expect("it opens");
    let Err(Error::Http(refused)) = Socket::open(&url, KEY).await else { panic!("a third is refused") };
    assert_eq!(refused.status(), 429);
    drop(first);
    let again = async {
        while Socket::open(&url, KEY).await.is_err() {
            api.advance(Duration::from_millis(10));
        }
    };
    tokio::time::timeout(LIMIT, again).await.expect("its place is free again");
    for bad in ["", "{}", "[1]"] {
        second.0.send(Message::text(bad)).await.expect("it takes it");
        assert_eq!(second.json().await["type"], "error", "{bad}");
    }
    second.0.send(Message::binary(vec![1])).await.expect("it takes it");
    assert_eq!(second.json().await["reason"], "INVALID_BODY");
    // It may be closed before all of it was taken.
    let _ = second.0.send(Message::text("x".repeat(MESSAGE_MAX_BYTES + 1))).await;
    let ended = tokio::time::timeout(LIMIT, async { while let Some(Ok(_)) = second.0.next().await {} });
    ended.await.expect("it is closed");
    let Err(Error::Http(refused)) = Socket::open(&url, ADMIN).await else {
        panic!("the admin key has no events")
    };
    assert_eq!(refused.status(), 403);
    assert_eq!(api.own("GET", "/v1.0/ws", None).await.reason(), (400, "INVALID_QUERY"));
}

#[tokio::test]
async fn a_socket_without_a_sign_of_life_is_closed() {
    let settings = ApiSettings { ping_every: Duration::from_millis(20), ..ApiSettings::default() };
    let api = Api::with(settings).await;
    let url = api.serve().await;
    let mut silent = Socket::open(&url, KEY).await.expect("it opens");
    // Nobody reads it, so nobody answers its pings.
    let ended = async {
        while !api
            .keyed(ADMIN, "GET", "/metrics", None)
            .await
            .text
            .contains("confab_ws_ended_total{reason=\"idle\"} 1")
        {
            api.advance(Duration::from_millis(10));
            // The request alone never waits for anything.
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("it is closed");
    assert_eq!(silent.close_code().await, 1008);
}
