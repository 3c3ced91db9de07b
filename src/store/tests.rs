//! Failures that need a hand inside: a full disk, dropped changes, trimmed events; and the order of
//! replies and commits.

#[path = "../../tests/support/postgres.rs"]
mod postgres;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::pending::PendingEvent;
use super::query::query;
use super::writer::Writer;
use super::{Ended, NotDurable, Store, Write, event, flow, spawn_writer};
use crate::bridge::command::{Refusal, Reply};
use crate::bridge::event::{Change, ConferenceRecord, Event};
use crate::bridge::flow::Activeflow;
use crate::bridge::flow::resource::{ActiveflowStatus, FlowStage};
use crate::bridge::resource::{Conference, ConferenceStatus, ConferenceType};
use crate::config::DatabaseUrl;
use crate::id::{ActiveflowId, ConferenceId, ConferencecallId, CustomerId, FlowId};
use crate::time::Timestamp;

/// A folder that goes when the test does.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("confab-store-unit-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const OWNER: CustomerId = CustomerId(Uuid::from_u128(1));

fn conference(number: u128, name: &str) -> Conference {
    Conference {
        id: ConferenceId(Uuid::from_u128(number)),
        customer_id: OWNER,
        r#type: ConferenceType::Conference,
        status: ConferenceStatus::Progressing,
        name: name.to_owned(),
        // Larger than a database page, so that a full disk is noticed at once.
        detail: "x".repeat(5000),
        data: serde_json::Map::new(),
        timeout: 0,
        pre_flow_id: FlowId::NIL,
        post_flow_id: FlowId::NIL,
        conferencecall_ids: vec![ConferencecallId(Uuid::from_u128(5))],
        recording_id: Uuid::nil(),
        recording_ids: Vec::new(),
        transcribe_id: Uuid::nil(),
        transcribe_ids: Vec::new(),
        direct_hash: "0123456789ab".to_owned(),
        tm_end: None,
        tm_create: Timestamp::from_micros(1_000_000),
        tm_update: Timestamp::NEVER,
        tm_delete: Timestamp::NEVER,
    }
}

fn change(number: u128, name: &str) -> Write {
    Write::Change(Change::Conference(Box::new(ConferenceRecord {
        conference: conference(number, name),
        event_seq: 1,
    })))
}

fn happened(number: u128, seq: u64) -> Change {
    let event = Event {
        r#type: "conference_updated".to_owned(),
        data: serde_json::json!({}),
        seq,
        tm_event: Timestamp::from_micros(1),
    };
    Change::Event {
        customer: OWNER,
        conference: ConferenceId(Uuid::from_u128(number)),
        event: Box::new(event),
    }
}

fn reply(reply: Reply) -> (Write, oneshot::Receiver<Result<Reply, NotDurable>>) {
    let (to, answer) = oneshot::channel();
    (Write::Reply { to, reply }, answer)
}

async fn flush(writer: &mpsc::Sender<Write>) -> Result<(), NotDurable> {
    let (done, flushed) = oneshot::channel();
    writer.send(Write::Flush(done)).await.expect("the writer runs");
    flushed.await.expect("the writer answers")
}

/// A store on the database that is tested.
pub(super) async fn open(folder: &Folder) -> Store {
    let address = postgres::address_for(&folder.0).await;
    let address = address.map(|address| DatabaseUrl::parse(&address).expect("an address"));
    Store::open_at(&folder.0, address.as_ref()).await.expect("the store opens")
}

/// Lets the database grow by nothing, or without limit. A server's disk is not ours to fill: there the
/// session refuses to write, which is as good a refusal.
async fn fill_disk(store: &Store, full: bool) {
    let sql = match (postgres::is_chosen(), full) {
        (false, true) => "PRAGMA max_page_count = 1",
        (false, false) => "PRAGMA max_page_count = 1073741823",
        (true, true) => "SET default_transaction_read_only = on",
        (true, false) => "SET default_transaction_read_only = off",
    };
    query(sql).execute(&store.inner.writer).await.expect("a setting");
}

#[test]
fn the_same_tests_pass_on_postgres() {
    postgres::run_these_tests_again("store::");
}

#[tokio::test]
async fn a_reply_comes_only_after_what_it_speaks_of_is_on_disk() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let (writer, task) = spawn_writer(store.clone());
    for number in 1..=50 {
        writer.send(change(number, "a")).await.expect("the writer runs");
        let (write, answer) = reply(Reply::Conference(Box::new(conference(number, "a"))));
        writer.send(write).await.expect("the writer runs");
        assert!(answer.await.expect("an answer").is_ok());
        let stored = store
            .conference(OWNER, ConferenceId(Uuid::from_u128(number)))
            .await
            .expect("a read")
            .expect("it is there");
        assert_eq!(stored, Conference { conferencecall_ids: Vec::new(), ..conference(number, "a") });
    }
    drop(writer);
    task.await.expect("the writer stops");
}

#[tokio::test]
async fn a_full_disk_is_told_kept_in_memory_and_made_good_by_itself() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let mut durability = store.durability();
    let (writer, _task) = spawn_writer(store.clone());
    fill_disk(&store, true).await;

    writer.send(change(1, "old")).await.expect("the writer runs");
    let (write, changed) = reply(Reply::Conference(Box::new(conference(1, "old"))));
    writer.send(write).await.expect("the writer runs");
    let (write, read) = reply(Reply::Conferences(Vec::new()));
    writer.send(write).await.expect("the writer runs");
    let (write, refused) = reply(Reply::Refused(Refusal::NotFound));
    writer.send(write).await.expect("the writer runs");
    assert_eq!(changed.await.expect("an answer"), Err(NotDurable));
    assert!(read.await.expect("an answer").is_ok(), "what changes nothing is answered");
    assert!(refused.await.expect("an answer").is_ok());
    assert!(!store.is_durable());
    assert_eq!(flush(&writer).await, Err(NotDurable));
    writer.send(change(1, "new")).await.expect("the writer runs");
    writer.send(Write::Change(happened(1, 1))).await.expect("the writer runs");
    assert_eq!(store.restore().await.expect("reads go on").conferences, []);
    assert!(store.counters().commit_failures >= 2);

    fill_disk(&store, false).await;
    durability.wait_for(|durable| *durable).await.expect("the store lives");
    assert_eq!(flush(&writer).await, Ok(()));
    let restored = store.restore().await.expect("a read").conferences;
    assert_eq!(restored.iter().map(|record| record.conference.name.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(store.events(ConferenceId(Uuid::from_u128(1)), 0, 10).await.expect("a read").len(), 1);
    assert_eq!(store.counters().changes_dropped, 0);
}

#[tokio::test]
async fn what_does_not_fit_in_memory_while_the_disk_is_full_is_counted() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let (writer, inbox) = mpsc::channel(64);
    let task = tokio::spawn(Writer::new(store.clone(), 2, 3).run(inbox));
    fill_disk(&store, true).await;
    for number in 1..=4 {
        writer.send(change(number, "old")).await.expect("the writer runs");
        writer.send(Write::Change(happened(number, 1))).await.expect("the writer runs");
    }
    assert_eq!(flush(&writer).await, Err(NotDurable));
    assert_eq!(store.counters().changes_dropped, 2 + 1);
    writer.send(change(2, "new")).await.expect("the writer runs");
    fill_disk(&store, false).await;
    drop(writer);
    task.await.expect("the writer stops, having written");
    let names: Vec<String> =
        store.restore().await.expect("a read").conferences.into_iter().map(|r| r.conference.name).collect();
    assert_eq!(names, ["old", "new"], "the newest state of what was kept");
}

#[tokio::test]
async fn a_delete_that_met_a_full_disk_goes_well_later() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let ended = Conference { status: ConferenceStatus::Terminated, ..conference(1, "a") };
    let (writer, _task) = spawn_writer(store.clone());
    let record = Box::new(ConferenceRecord { conference: ended.clone(), event_seq: 4 });
    writer.send(Write::Change(Change::Conference(record))).await.expect("the writer runs");
    assert_eq!(flush(&writer).await, Ok(()));
    let delete = || store.delete_ended_conference(OWNER, ended.id, Timestamp::from_micros(9));
    fill_disk(&store, true).await;
    let refused = delete().await.expect_err("the disk is full").to_string();
    assert!(refused.contains(if postgres::is_chosen() { "read-only" } else { "full" }), "{refused}");
    if postgres::is_chosen() {
        fill_disk(&store, false).await;
    }
    // SQLite's connection is a new one: for it the disk has room again.
    let Ended::Deleted(deleted) = delete().await.expect("it goes well") else { panic!("it is deleted") };
    assert_eq!(deleted.tm_delete, Timestamp::from_micros(9));
    assert_eq!(store.events(ended.id, 4, 10).await.expect("a read").len(), 1);
}

#[tokio::test]
async fn a_batch_that_was_not_committed_leaves_nothing() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let mut batch = store.begin().await.expect("a transaction");
    let record = ConferenceRecord { conference: conference(1, "a"), event_seq: 1 };
    super::writer::upsert_conferences(&mut batch, [&record]).await.expect("a write");
    drop(batch);
    store.close().await;
    drop(store);
    let store = open(&folder).await;
    assert_eq!(store.restore().await.expect("a read").conferences, []);
}

#[tokio::test]
async fn events_are_trimmed_to_their_limits_and_counted() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let mut batch = store.begin().await.expect("a transaction");
    let pending = |seq| match happened(1, seq) {
        Change::Event { customer, conference, event } => PendingEvent::new(customer, conference, event),
        _ => unreachable!("an event was made"),
    };
    let written: Vec<PendingEvent> = (1..=20).map(pending).collect();
    assert_eq!(event::insert(&mut batch, &written).await.expect("a write").len(), 20);
    assert_eq!(event::trim(&mut batch, &written, 15).await.expect("a trim"), 5);
    // The seq that falls on a multiple of 256 past the limit of one conference.
    let far = [pending(10_240)];
    assert_eq!(event::insert(&mut batch, &far).await.expect("a write").len(), 1);
    assert!(event::insert(&mut batch, &far).await.expect("a second time").is_empty(), "it is not new");
    assert_eq!(event::trim(&mut batch, &far, 1000).await.expect("a trim"), 15, "all up to 240");
    batch.commit().await.expect("a commit");
    let kept = store.events(ConferenceId(Uuid::from_u128(1)), 0, 100).await.expect("a read");
    assert_eq!(kept.iter().map(|event| event.seq).collect::<Vec<_>>(), [10_240]);
}

#[tokio::test]
async fn of_too_many_ended_conferences_the_last_are_restored_in_the_order_they_ended() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let (writer, _task) = spawn_writer(store.clone());
    for (number, ended_at) in [(1, 30), (2, 10), (3, 40), (4, 20)] {
        let tm_end = Some(Timestamp::from_micros(ended_at));
        let ended =
            Conference { status: ConferenceStatus::Terminated, tm_end, ..conference(number, "ended") };
        let record = Box::new(ConferenceRecord { conference: ended, event_seq: 1 });
        writer.send(Write::Change(Change::Conference(record))).await.expect("the writer runs");
    }
    assert_eq!(flush(&writer).await, Ok(()));
    let numbers = async |max| {
        let ended = store.ended_with_hash(max).await.expect("a read");
        ended.iter().map(|record| record.conference.id.0.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(3).await, [4, 1, 3]);
    assert_eq!(numbers(9).await, [2, 4, 1, 3]);
    let (plan, column) = if postgres::is_chosen() {
        // A table this small is read whole unless that is forbidden.
        query("SET enable_seqscan = off").execute(&store.inner.writer).await.expect("a setting");
        (
            "EXPLAIN SELECT event_seq, body FROM conference_records WHERE status = 'terminated' \
          AND deleted = 0 ORDER BY json_extract(body, '$.tm_end') DESC LIMIT 9",
            "QUERY PLAN",
        )
    } else {
        (
            "EXPLAIN QUERY PLAN SELECT event_seq, body FROM conference_records WHERE status = 'terminated' \
          AND deleted = 0 ORDER BY json_extract(body, '$.tm_end') DESC LIMIT 9",
            "detail",
        )
    };
    let steps = query(plan).fetch_all(&store.inner.writer).await.expect("a plan");
    let steps: Vec<String> = steps.iter().map(|row| row.try_get(column).expect("a step")).collect();
    let has = |part: &str| steps.iter().any(|step| step.contains(part));
    assert!(has("conferences_ended") && !has("Sort"), "no start sorts all there ever were: {steps:?}");
}

#[tokio::test]
async fn a_thousand_changes_a_batch_are_quick_and_coalesced() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let (writer, _task) = spawn_writer(store.clone());
    for seq in 1..=2000 {
        writer.send(change(7, "a")).await.expect("the writer runs");
        writer.send(Write::Change(happened(7, seq))).await.expect("the writer runs");
    }
    assert_eq!(flush(&writer).await, Ok(()));
    let counters = store.counters();
    assert!(counters.commits <= 200, "{counters:?}");
    assert!(counters.changes < 2000 + counters.commits + 1, "one state a batch: {counters:?}");
}

fn run(number: u128, is_over: bool) -> Activeflow {
    Activeflow {
        id: ActiveflowId(Uuid::from_u128(number)),
        customer_id: OWNER,
        flow_id: FlowId::NIL,
        conference_id: ConferenceId::NIL,
        conferencecall_id: ConferencecallId::NIL,
        stage: FlowStage::Pre,
        status: if is_over { ActiveflowStatus::Ended } else { ActiveflowStatus::Running },
        result: String::new(),
        steps: Vec::new(),
        tm_create: Timestamp::from_micros(number as i64),
        tm_update: Timestamp::NEVER,
        tm_end: None,
    }
}

#[tokio::test]
async fn the_oldest_runs_of_flows_go_and_those_that_go_on_stay() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let mut batch = store.begin().await.expect("a transaction");
    for number in 1..=6 {
        flow::upsert_activeflow(&mut batch, &run(number, number != 2)).await.expect("written");
    }
    assert_eq!(flow::trim_activeflows(&mut batch, 3).await.expect("trimmed"), 2);
    batch.commit().await.expect("committed");
    let page = store.activeflows(OWNER, None, None, None, 100).await.expect("a page");
    let kept: Vec<u128> = page.rows.iter().map(|run| run.id.0.as_u128()).collect();
    assert_eq!(kept, [6, 5, 4, 2]);
    let restored = store.restore_flows().await.expect("flows");
    assert_eq!(restored.running, [run(2, false)]);
    assert!(flow::trims(&run(512, true)) && !flow::trims(&run(512, false)) && !flow::trims(&run(511, true)));
}
