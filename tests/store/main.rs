//! The store over restarts: kills, first starts, keys, a second server.

#[path = "../support/postgres.rs"]
mod postgres;

mod outage;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use confab::bridge::command::Reply;
use confab::bridge::event::{Change, ConferenceRecord, Event};
use confab::bridge::resource::{Conference, ConferenceStatus, ConferenceType};
use confab::config::DatabaseUrl;
use confab::id::{ConferenceId, CustomerId, FlowId};
use confab::rng::Rng;
use confab::store::{NotDurable, Store, StoreError, Write, is_access_key, key_digest, spawn_writer};
use confab::time::Timestamp;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Tells the child of the kill test which folder to write to.
const CHILD_FOLDER: &str = "CONFAB_TEST_CHILD_FOLDER";
/// Conferences the child of the kill test changes in turn.
const CONFERENCES: u64 = 5;
const OWNER: CustomerId = CustomerId(Uuid::from_u128(1));
const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// A folder that goes when the test does.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("confab-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A store on the database that is tested.
async fn open(folder: &Path) -> Result<Store, StoreError> {
    let address = postgres::address_for(folder).await;
    let address = address.map(|address| DatabaseUrl::parse(&address).expect("an address"));
    Store::open_at(folder, address.as_ref()).await
}

#[test]
fn the_same_tests_pass_on_postgres() {
    postgres::run_these_tests_again("");
}

fn conference(number: u64, name: String) -> Conference {
    Conference {
        id: ConferenceId(Uuid::from_u128(u128::from(number) + 100)),
        customer_id: OWNER,
        r#type: ConferenceType::Connect,
        status: ConferenceStatus::Progressing,
        name,
        detail: String::new(),
        data: serde_json::Map::new(),
        timeout: 3600,
        pre_flow_id: FlowId::NIL,
        post_flow_id: FlowId::NIL,
        conferencecall_ids: Vec::new(),
        recording_id: Uuid::nil(),
        recording_ids: Vec::new(),
        transcribe_id: Uuid::nil(),
        transcribe_ids: Vec::new(),
        direct_hash: "0123456789ab".to_owned(),
        tm_end: None,
        tm_create: NOW,
        tm_update: Timestamp::NEVER,
        tm_delete: Timestamp::NEVER,
    }
}

/// Change `step` (from 1) of the child: a conference's next state and the event that tells of it.
fn step_of(step: u64) -> (ConferenceRecord, Event) {
    let conference = conference(step % CONFERENCES, format!("step {step}"));
    let seq = step.div_ceil(CONFERENCES);
    let data = serde_json::to_value(&conference).expect("a conference is JSON");
    let event = Event { r#type: "conference_updated".to_owned(), data, seq, tm_event: NOW };
    (ConferenceRecord { conference, event_seq: seq }, event)
}

/// Sends step `step`'s change and event, and asks for an answer.
async fn send(writer: &mpsc::Sender<Write>, step: u64) -> oneshot::Receiver<Result<Reply, NotDurable>> {
    let (record, event) = step_of(step);
    let conference = record.conference.id;
    let (to, answer) = oneshot::channel();
    let reply = Reply::Conference(Box::new(record.conference.clone()));
    for write in [
        Write::Change(Change::Conference(Box::new(record))),
        Write::Change(Change::Event { customer: OWNER, conference, event: Box::new(event) }),
        Write::Reply { to, reply },
    ] {
        writer.send(write).await.expect("the writer runs");
    }
    answer
}

#[tokio::test]
#[ignore = "the child process of the kill test"]
async fn child_writes_until_it_is_killed() {
    let folder = std::env::var_os(CHILD_FOLDER).expect("run by the kill test only");
    let store = open(folder.as_ref()).await.expect("the store opens after a kill");
    let done = store.restore().await.expect("a read").conferences;
    let mut step = done
        .iter()
        .filter_map(|r| r.conference.name.strip_prefix("step ")?.parse().ok())
        .max()
        .unwrap_or(0_u64);
    let (writer, _task) = spawn_writer(store);
    loop {
        step += 1;
        let answer = send(&writer, step).await;
        answer.await.expect("an answer").expect("durable");
        writeln!(std::io::stdout(), "acknowledged {step}").expect("the parent reads");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kills_at_any_moment() {
    let folder = Folder::new();
    let mut rng = Rng::from_number(11);
    let mut acknowledged = 0;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--ignored", "--exact", "--nocapture", "child_writes_until_it_is_killed"])
            .env(CHILD_FOLDER, &folder.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let until = acknowledged + 1 + rng.below(60);
        for line in lines.map_while(Result::ok) {
            if let Some((_, step)) = line.rsplit_once("acknowledged ") {
                acknowledged = step.parse().expect("a number");
                if acknowledged >= until {
                    break;
                }
            }
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("it is gone");
        assert!(acknowledged >= until, "round {round}: the child stopped by itself");

        if !postgres::is_chosen() {
            check(&folder).await;
        }

        let store = open(&folder.0).await.expect("the store opens after a kill");
        for record in store.restore().await.expect("a read").conferences {
            let events = store.events(record.conference.id, 0, 10_000).await.expect("a read");
            let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
            assert_eq!(seqs, (1..=record.event_seq).collect::<Vec<_>>(), "no event is missing");
            let last = events.last().map(|event| event.data["name"].clone());
            assert_eq!(last, Some(record.conference.name.into()), "state and events are of one moment");
        }
        for step in acknowledged.saturating_sub(CONFERENCES - 1).max(1)..=acknowledged {
            let (record, event) = step_of(step);
            let stored = store.events(record.conference.id, event.seq - 1, 1).await.expect("a read");
            assert_eq!(stored, [event], "round {round}, step {step}");
        }
        store.close().await;
    }
}

/// SQLite finds its file whole.
async fn check(folder: &Folder) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.0.join("confab.db"));
    let mut raw = options.connect().await.expect("it opens");
    let verdict = sqlx::query("PRAGMA integrity_check").fetch_one(&mut raw).await.expect("a check");
    assert_eq!(verdict.get::<String, _>(0), "ok");
    raw.close().await.expect("it closes");
}

/// Writes these changes and opens the store anew.
async fn reopened_with(folder: &Folder, changes: Vec<Change>) -> Store {
    let store = open(&folder.0).await.expect("a new store");
    let (writer, task) = spawn_writer(store.clone());
    for change in changes {
        writer.send(Write::Change(change)).await.expect("the writer runs");
    }
    drop(writer);
    task.await.expect("the writer stops, having written");
    store.close().await;
    drop(store);
    open(&folder.0).await.expect("the same store")
}

#[tokio::test]
async fn no_seq_is_used_twice_when_the_last_event_is_newer_than_its_record() {
    let folder = Folder::new();
    let ended = Conference { status: ConferenceStatus::Terminated, ..conference(1, "ended".to_owned()) };
    let mut changes = Vec::new();
    for of in [conference(0, "live".to_owned()), ended.clone()] {
        let event = Event {
            r#type: "conference_updated".to_owned(),
            data: serde_json::json!({}),
            seq: 5,
            tm_event: NOW,
        };
        changes.push(Change::Event { customer: OWNER, conference: of.id, event: Box::new(event) });
        changes.push(Change::Conference(Box::new(ConferenceRecord { conference: of, event_seq: 4 })));
    }
    // One whose events were all trimmed keeps its own count.
    let quiet = ConferenceRecord { conference: conference(2, "quiet".to_owned()), event_seq: 9 };
    changes.push(Change::Conference(Box::new(quiet)));
    let store = reopened_with(&folder, changes).await;
    let restored = store.restore().await.expect("a read");
    let seqs: Vec<_> =
        restored.conferences.iter().map(|r| (r.conference.name.as_str(), r.event_seq)).collect();
    assert_eq!(seqs, [("live", 5), ("quiet", 9), ("ended", 5)]);
    assert_eq!(restored.live(), 2);
    store.delete_ended_conference(OWNER, ended.id, NOW).await.expect("it is deleted");
    let told = store.events(ended.id, 5, 10).await.expect("a read");
    assert_eq!(
        told.iter().map(|event| (event.seq, event.r#type.as_str())).collect::<Vec<_>>(),
        [(6, "conference_deleted")]
    );
}

#[tokio::test]
async fn ended_conferences_are_restored_while_their_hash_is_theirs() {
    let folder = Folder::new();
    let ended = |number, direct_hash: &str, tm_delete| Conference {
        status: ConferenceStatus::Terminated,
        direct_hash: direct_hash.to_owned(),
        tm_end: Some(NOW),
        tm_delete,
        ..conference(number, String::new())
    };
    let kept = ended(1, "00000000000a", Timestamp::NEVER);
    let others = [ended(2, "", Timestamp::NEVER), ended(3, "", NOW)];
    let changes = [&kept, &others[0], &others[1]].into_iter().map(|conference| {
        Change::Conference(Box::new(ConferenceRecord { conference: conference.clone(), event_seq: 1 }))
    });
    let store = reopened_with(&folder, changes.collect()).await;
    let restored = store.restore().await.expect("a read");
    assert_eq!(restored.conferences, [ConferenceRecord { conference: kept.clone(), event_seq: 1 }]);
    assert_eq!(restored.live(), 0);
    store.delete_ended_conference(OWNER, kept.id, NOW).await.expect("it is deleted");
    assert_eq!(store.restore().await.expect("a read").conferences, []);
}

#[tokio::test]
async fn the_first_start_makes_keys_once_and_given_ones_replace_the_given_before() {
    let folder = Folder::new();
    let mut rng = Rng::from_number(3);
    let store = open(&folder.0).await.expect("a new store");
    let first = store.bootstrap(None, None, NOW, &mut rng).await.expect("bootstrap");
    let made = first.created_access_key.clone().expect("a key is made");
    let admin = first.created_admin_key.clone().expect("an admin key is made");
    assert!(is_access_key(&made) && is_access_key(&admin) && made != admin);
    store.close().await;
    drop(store);

    let store = open(&folder.0).await.expect("migrating again changes nothing");
    let second = store.bootstrap(None, None, NOW, &mut rng).await.expect("bootstrap");
    assert_eq!(
        (second.created_access_key, second.created_admin_key, second.customer_id),
        (None, None, first.customer_id)
    );
    assert!(store.is_admin_key(&key_digest(&admin)) && !store.is_admin_key(&key_digest(&made)));
    let owner = store.find_key(&key_digest(&made)).await.expect("a read").expect("the key works");
    assert_eq!(owner.customer, first.customer_id);

    let fixed = |digit: &str| format!("vb_{}", digit.repeat(32));
    for (given, works, dead) in [("1", "1", "2"), ("1", "1", "2"), ("2", "2", "1"), ("1", "1", "2")] {
        let made = store
            .bootstrap(Some(fixed(given)), Some(format!("admin-{given}")), NOW, &mut rng)
            .await
            .expect("bootstrap");
        assert_eq!((made.created_access_key, made.created_admin_key), (None, None));
        assert!(store.find_key(&key_digest(&fixed(works))).await.expect("a read").is_some());
        assert!(store.find_key(&key_digest(&fixed(dead))).await.expect("a read").is_none());
        assert!(
            store.is_admin_key(&key_digest(&format!("admin-{given}")))
                && !store.is_admin_key(&key_digest(&admin))
        );
    }
    assert!(store.find_key(&key_digest(&made)).await.expect("a read").is_some(), "a key that was made stays");
    let wrong = store.bootstrap(Some("vb_short".to_owned()), None, NOW, &mut rng).await;
    assert!(matches!(wrong, Err(StoreError::KeyForm)));
    for file in std::fs::read_dir(&folder.0).expect("the folder") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
        for key in [&made, &admin, &fixed("1")] {
            assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()), "no key is stored");
        }
    }
}

#[tokio::test]
async fn a_second_server_is_kept_out_and_the_folder_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let store = open(&folder.0).await.expect("a new store");
    assert!(matches!(open(&folder.0).await, Err(StoreError::InUse(_))));
    let mode = |path: PathBuf| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(folder.0.clone()), 0o700);
    if !postgres::is_chosen() {
        assert_eq!(mode(folder.0.join("confab.db")), 0o600);
    }
    store.close().await;
    drop(store);
    open(&folder.0).await.expect("free again");
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_named() {
    let folder = Folder::new();
    std::fs::write(&folder.0, "a file").expect("a file");
    let error = open(&folder.0).await.expect_err("a file is no folder").to_string();
    assert!(error.contains(&folder.0.display().to_string()), "{error}");
    std::fs::remove_file(&folder.0).expect("it was there");
}
