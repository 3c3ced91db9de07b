//! The outbox's limits, and that it follows its transactions.

use tokio::sync::oneshot;

use super::*;
use crate::bridge::event::Change;
use crate::store::tests::{Folder, open};
use crate::store::{NewCustomer, Write, spawn_writer};

const OWNER: CustomerId = CustomerId(Uuid::from_u128(1));
const ROOM: ConferenceId = ConferenceId(Uuid::from_u128(2));
const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

async fn store_with_webhook(folder: &Folder) -> Store {
    let store = open(folder).await;
    let new = NewCustomer { webhook_uri: "https://example.com/".to_owned(), ..NewCustomer::default() };
    store.create_customer(OWNER, new, NOW).await.expect("a customer");
    store
}

fn happened(seq: u64) -> Write {
    let event =
        Event { r#type: "conference_updated".to_owned(), data: serde_json::json!({}), seq, tm_event: NOW };
    Write::Change(Change::Event { customer: OWNER, conference: ROOM, event: Box::new(event) })
}

async fn write(store: &Store, writes: impl IntoIterator<Item = Write>) {
    let (writer, task) = spawn_writer(store.clone());
    for write in writes {
        writer.send(write).await.expect("the writer runs");
    }
    let (done, flushed) = oneshot::channel();
    writer.send(Write::Flush(done)).await.expect("the writer runs");
    flushed.await.expect("an answer").expect("durable");
    drop(writer);
    task.await.expect("it stops");
}

#[tokio::test]
async fn an_event_that_finds_the_outbox_full_is_a_dead_letter_at_once() {
    let folder = Folder::new();
    let store = store_with_webhook(&folder).await;
    store.inner.fill.add(OWNER, signed(OUTBOX_PER_CUSTOMER_MAX) - 2);
    write(&store, (1..=3).map(happened)).await;
    assert_eq!(store.outbox_of(ROOM, 0, 10).await.expect("a read").len(), 2);
    let page = store.webhook_failures(OWNER, None, None, 10).await.expect("a read");
    assert_eq!(page.rows.iter().map(|one| one.event["seq"].as_u64()).collect::<Vec<_>>(), [Some(3)]);
    assert!(page.rows[0].reason.starts_with("not tried: too many"), "{:?}", page.rows);
    let counters = store.counters();
    assert_eq!((counters.outbox_overflowed, counters.webhooks_dead), (1, 1));
    assert_eq!(store.replay_webhooks(OWNER, NOW).await.expect("a write"), 0, "there is no room yet");
    let first = store.outbox_of(ROOM, 0, 1).await.expect("a read")[0].position;
    write(&store, [Write::Outbox(OutboxChange::Gone { customer: OWNER, position: first })]).await;
    assert_eq!(store.replay_webhooks(OWNER, NOW).await.expect("a write"), 1);
    assert_eq!(store.outbox_rows_total(), OUTBOX_PER_CUSTOMER_MAX);
}

#[tokio::test]
async fn what_is_in_the_outbox_is_counted_again_at_the_start() {
    let folder = Folder::new();
    let store = store_with_webhook(&folder).await;
    let mut grows = store.outbox_grows();
    write(&store, (1..=5).map(happened)).await;
    assert!(grows.has_changed().expect("the store lives"));
    grows.mark_unchanged();
    // A second time they are not new.
    write(&store, (1..=5).map(happened)).await;
    assert!(!grows.has_changed().expect("the store lives"));
    store.close().await;
    drop((store, grows));
    let store = open(&folder).await;
    assert_eq!(store.outbox_rows_total(), 5);
    let gone = store.outbox_arrivals(0, 10).await.expect("a read");
    let gone =
        gone.iter().map(|one| Write::Outbox(OutboxChange::Gone { customer: OWNER, position: one.position }));
    write(&store, gone.clone().chain(gone)).await;
    assert_eq!(store.outbox_rows_total(), 0, "a second time it is gone already");
    assert!(store.inner.fill.by_customer.is_empty());
}

#[tokio::test]
async fn dead_letters_are_trimmed_to_their_limits_oldest_first() {
    let folder = Folder::new();
    let store = store_with_webhook(&folder).await;
    let mut batch = store.begin().await.expect("a transaction");
    let mut moves = Moves::default();
    for seq in 1..=20 {
        let body = serde_json::json!({"type": "t", "data": {}, "seq": seq, "tm_event": NOW}).to_string();
        let letter = Letter { customer: OWNER, conference: ROOM, seq, body: &body };
        let at = NOW.plus(crate::time::Duration::from_secs(seq as u64));
        letter.insert(&mut batch, "why", 1, at, &mut moves).await.expect("a write");
    }
    assert_eq!(trim_failures(&mut batch, OWNER, 15, 1000).await.expect("a trim"), 5);
    assert_eq!(trim_failures(&mut batch, OWNER, 1000, 10).await.expect("a trim"), 5);
    batch.commit().await.expect("a commit");
    let page = store.webhook_failures(OWNER, None, None, 100).await.expect("a read");
    let left: Vec<u64> = page.rows.iter().filter_map(|one| one.event["seq"].as_u64()).collect();
    assert_eq!(left, (11..=20).rev().collect::<Vec<_>>());
}

#[test]
fn the_id_of_a_dead_letter_is_a_v4_uuid_and_always_the_same() {
    let id = failure_id(ROOM, 7);
    assert_eq!(id.get_version_num(), 4);
    assert_eq!(id, failure_id(ROOM, 7));
    assert_ne!(id, failure_id(ROOM, 8));
}
