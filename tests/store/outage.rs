//! PostgreSQL as it fails: away, frozen, killed, taken by another, gone with the answer to a commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use confab::bridge::event::{Change, Event};
use confab::config::DatabaseUrl;
use confab::id::CustomerId;
use confab::rng::Rng;
use confab::store::{Audit, NewCustomer, NotDurable, Store, StoreError, Write, spawn_writer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::postgres::Server;
use crate::{CONFERENCES, Folder, NOW, OWNER, send, step_of};

/// How long anything may take on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(60);

async fn open_at(address: &str, folder: &Folder) -> Result<Store, StoreError> {
    let address = DatabaseUrl::parse(address).expect("an address");
    Store::open_at(&folder.0, Some(&address)).await
}

async fn limited<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it does not take for ever")
}

/// Every step up to `last` is there, and nothing twice.
async fn assert_whole(store: &Store, last: u64) {
    let restored = store.restore().await.expect("a read").conferences;
    assert_eq!(restored.len() as u64, CONFERENCES.min(last));
    for record in restored {
        let events = store.events(record.conference.id, 0, 10_000).await.expect("a read");
        let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=record.event_seq).collect::<Vec<_>>());
        let told = events.last().map(|event| event.data["name"].clone());
        assert_eq!(told, Some(record.conference.name.clone().into()));
        let step: u64 =
            record.conference.name.strip_prefix("step ").expect("a step").parse().expect("a number");
        assert!(step + CONFERENCES > last && step <= last, "{step} of {last}");
    }
}

/// A customer whose events are told.
async fn listening_customer(store: &Store) {
    let new = NewCustomer { webhook_uri: "https://example.com/".to_owned(), ..NewCustomer::default() };
    store.create_customer(OWNER, new, NOW).await.expect("a customer");
}

#[tokio::test]
async fn a_second_server_is_kept_out_of_the_database_until_the_first_is_gone() {
    let server = Server::start();
    let (one, other) = (Folder::new(), Folder::new());
    let store = open_at(&server.address(), &one).await.expect("the store opens");
    let refused = open_at(&server.address(), &other).await.expect_err("it is in use");
    assert!(matches!(refused, StoreError::DatabaseInUse(_)), "{refused}");
    assert!(refused.to_string().contains("in use by another confab"), "{refused}");
    store.close().await;
    drop(store);
    let store = open_at(&server.address(), &other).await.expect("it is free");
    // The writer's session is lost, and with it the lock, which it takes again.
    let address = server.address();
    let mut hand = <sqlx::PgConnection as sqlx::Connection>::connect(&address).await.expect("a connection");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'";
    sqlx::query(end).execute(&mut hand).await.expect("the session ends");
    // Whoever asks first may find the session dead; the next has a new one.
    let _ = store.create_customer(CustomerId(Uuid::from_u128(8)), NewCustomer::default(), NOW).await;
    store
        .create_customer(CustomerId(Uuid::from_u128(9)), NewCustomer::default(), NOW)
        .await
        .expect("a write");
    let refused = open_at(&address, &one).await.expect_err("it is in use");
    assert!(matches!(refused, StoreError::DatabaseInUse(_)), "{refused}");
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_named_with_what_to_check_and_without_the_password() {
    let server = Server::start();
    let told = async |address: String| {
        let folder = Folder::new();
        match open_at(&address, &folder).await.expect_err("it cannot be used") {
            StoreError::Unreachable { database, check, source } => {
                let text = format!("{database} {check} {source}");
                assert!(!text.contains("s3cret"), "{text}");
                assert!(database.starts_with("postgres://"), "{database}");
                check
            }
            other => panic!("{other}"),
        }
    };
    let there = server.address();
    assert!(told("postgres://me:s3cret@127.0.0.1:1/confab".to_owned()).await.contains("pg_isready"));
    assert!(told(there.replace("/postgres?", "/nothing?")).await.contains("createdb"));
    assert!(told(there.replace("//confab@", "//nobody@") + "&password=s3cret").await.contains("pg_hba.conf"));
    let folder = Folder::new();
    let gone = format!("{there}&options=-csearch_path%3Dnothing");
    assert!(open_at(&gone, &folder).await.is_err(), "there is no such schema");
}

#[tokio::test]
async fn while_the_database_is_away_replies_say_so_and_afterwards_nothing_is_missing() {
    let mut server = Server::start();
    let folder = Folder::new();
    let store = open_at(&server.address(), &folder).await.expect("the store opens");
    listening_customer(&store).await;
    let (writer, _task) = spawn_writer(store.clone());
    assert!(limited(send(&writer, 1).await).await.expect("an answer").is_ok());
    let mut durability = store.durability();

    server.kill();
    for step in 2..=50 {
        let answer = limited(send(&writer, step).await).await.expect("an answer");
        assert_eq!(answer.err(), Some(NotDurable), "step {step}");
    }
    assert!(!store.is_durable());
    let refused = store.customer(OWNER).await.expect_err("the database is away");
    assert!(refused.is_passing(), "{refused}");
    let refused = store.delete_customer(OWNER, NOW).await.expect_err("the database is away");
    assert!(refused.is_passing(), "{refused}");

    server.start_again();
    limited(durability.wait_for(|durable| *durable)).await.expect("the store lives");
    assert!(limited(send(&writer, 51).await).await.expect("an answer").is_ok());
    assert_whole(&store, 51).await;
    assert_eq!(store.outbox_rows_total(), 51);
    assert_eq!(store.outbox_arrivals(0, 100).await.expect("a read").len(), 51);
    assert_eq!(store.counters().changes_dropped, 0);
    assert!(store.counters().commit_failures > 0);
}

#[tokio::test]
async fn a_database_that_does_not_answer_holds_nobody_up_for_long() {
    let server = Server::start();
    let folder = Folder::new();
    let store = open_at(&server.address(), &folder).await.expect("the store opens");
    let (writer, _task) = spawn_writer(store.clone());
    assert!(limited(send(&writer, 1).await).await.expect("an answer").is_ok());
    let mut durability = store.durability();

    server.freeze(true);
    let answer = limited(send(&writer, 2).await).await.expect("an answer");
    assert_eq!(answer.err(), Some(NotDurable));
    let refused = store.customer(OWNER).await.expect_err("nobody answers");
    assert!(refused.is_passing(), "{refused}");

    server.freeze(false);
    limited(durability.wait_for(|durable| *durable)).await.expect("the store lives");
    assert!(limited(send(&writer, 3).await).await.expect("an answer").is_ok());
    assert_whole(&store, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_of_the_database() {
    const KILLS: u64 = 4;
    // This one waits for the disk.
    let mut server = Server::with("");
    let folder = Folder::new();
    let store = open_at(&server.address(), &folder).await.expect("the store opens");
    let (writer, _task) = spawn_writer(store.clone());
    let mut rng = Rng::from_number(5);
    let mut step = 0;
    for _ in 0..KILLS {
        let mut acknowledged = 0;
        for _ in 0..1 + rng.below(60) {
            step += 1;
            if limited(send(&writer, step).await).await.expect("an answer").is_ok() {
                acknowledged = step;
            }
        }
        // Killed while a batch is on its way.
        let mut answers = Vec::new();
        for _ in 0..20 {
            step += 1;
            answers.push((step, send(&writer, step).await));
        }
        server = tokio::task::spawn_blocking(move || {
            server.kill();
            server.start_again();
            server
        })
        .await
        .expect("it ran");
        for (of, answer) in answers {
            if limited(answer).await.expect("an answer").is_ok() {
                acknowledged = of;
            }
        }
        // By a pair of eyes that knows nothing of what the writer still keeps.
        let address = server.address();
        let mut eyes =
            limited(<sqlx::PgConnection as sqlx::Connection>::connect(&address)).await.expect("it runs");
        for of in acknowledged.saturating_sub(CONFERENCES - 1).max(1)..=acknowledged {
            let (record, event) = step_of(of);
            let found = sqlx::query("SELECT 1 FROM events WHERE conference_id = $1 AND seq = $2")
                .bind(record.conference.id.to_string())
                .bind(i64::try_from(event.seq).expect("small"))
                .fetch_optional(&mut eyes)
                .await
                .expect("a read");
            assert!(found.is_some(), "step {of} was acknowledged");
        }
    }
    let mut durability = store.durability();
    limited(durability.wait_for(|durable| *durable)).await.expect("the store lives");
    assert_whole(&store, step).await;
}

/// A socket between the store and the server that can lose the answer to a commit.
struct Between {
    folder: Folder,
    loses: Arc<AtomicBool>,
}

impl Between {
    fn start(server: &Server) -> Between {
        let folder = Folder::new();
        std::fs::create_dir_all(&folder.0).expect("a folder");
        let listener = UnixListener::bind(folder.0.join(".s.PGSQL.5432")).expect("a socket");
        let loses = Arc::new(AtomicBool::new(false));
        let (to, loses_it) = (server.socket(), loses.clone());
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                let server = UnixStream::connect(&to).await.expect("the server runs");
                tokio::spawn(pass(client, server, loses_it.clone()));
            }
        });
        Between { folder, loses }
    }
}

/// Passes bytes both ways until one side ends, or an answer is to be lost.
async fn pass(mut client: UnixStream, mut server: UnixStream, loses: Arc<AtomicBool>) {
    let (mut from_client, mut from_server) = ([0; 65536], [0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(length @ 1..) = read else { return };
                let sent = &from_client[..length];
                server.write_all(sent).await.expect("the server reads");
                let is_commit = sent.windows(7).any(|part| part == b"COMMIT\0");
                if is_commit && loses.swap(false, Ordering::SeqCst) {
                    let answered = server.read(&mut from_server).await.expect("it is committed");
                    assert!(answered > 0);
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&from_server[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_neither_lost_nor_done_twice() {
    let server = Server::start();
    let between = Between::start(&server);
    let folder = Folder::new();
    let address = server.address_at(&between.folder.0);
    let store = open_at(&address, &folder).await.expect("the store opens");
    listening_customer(&store).await;
    let (writer, _task) = spawn_writer(store.clone());
    let mut grows = store.outbox_grows();
    grows.mark_unchanged();
    let mut durability = store.durability();

    between.loses.store(true, Ordering::SeqCst);
    let (record, _) = step_of(1);
    let event = Event { r#type: "t".to_owned(), data: serde_json::json!({}), seq: 1, tm_event: NOW };
    let audit = Audit {
        id: Uuid::from_u128(77),
        customer_id: OWNER,
        accesskey_id: Uuid::nil(),
        method: "POST".to_owned(),
        path: "/".to_owned(),
        status: 200,
        request_id: "r".to_owned(),
        source: "192.0.2.1".to_owned(),
        tm_create: NOW,
    };
    let happened =
        Change::Event { customer: OWNER, conference: record.conference.id, event: Box::new(event) };
    writer.send(Write::Change(happened)).await.expect("the writer runs");
    let (done, audited) = oneshot::channel();
    writer.send(Write::Audit { audit: Box::new(audit), done }).await.expect("the writer runs");
    limited(audited).await.expect("an answer").expect_err("nobody knows");
    limited(durability.wait_for(|durable| *durable)).await.expect("the store lives");
    assert!(!between.loses.load(Ordering::SeqCst), "an answer was lost");
    assert_eq!(store.audits(None, None, 10).await.expect("a read").rows.len(), 1);
    assert_eq!(store.events(record.conference.id, 0, 10).await.expect("a read").len(), 1);
    assert_eq!(store.outbox_arrivals(0, 10).await.expect("a read").len(), 1);
    assert_eq!(store.outbox_rows_total(), 1, "it is counted");
    limited(grows.changed()).await.expect("the webhooks hear of it");
}

#[tokio::test]
async fn a_text_with_a_nul_does_not_stop_the_writer() {
    let server = Server::start();
    let folder = Folder::new();
    let store = open_at(&server.address(), &folder).await.expect("the store opens");
    let new = NewCustomer { name: "a\0b".to_owned(), ..NewCustomer::default() };
    store.create_customer(OWNER, new, NOW).await.expect("a customer");
    assert_eq!(store.customer(OWNER).await.expect("a read").expect("it is there").name, "a\u{fffd}b");
    let (writer, _task) = spawn_writer(store.clone());
    let (mut record, _) = step_of(1);
    record.conference.name = "a\0b".to_owned();
    record.conference.status = confab::bridge::resource::ConferenceStatus::Terminated;
    record.conference.tm_end = Some(NOW);
    let id = record.conference.id;
    writer.send(Write::Change(Change::Conference(Box::new(record)))).await.expect("the writer runs");
    let (done, flushed) = oneshot::channel();
    writer.send(Write::Flush(done)).await.expect("the writer runs");
    limited(flushed).await.expect("an answer").expect("durable");
    let stored = store.conference(OWNER, id).await.expect("a read").expect("it is there");
    assert_eq!(stored.name, "a\0b");
}

#[tokio::test]
async fn tls_is_spoken_and_checked_as_the_address_asks() {
    let (server, address) = Server::with_tls();
    let authority = server.folder().join("ca.pem");
    let folder = Folder::new();
    let checked = format!("{address}?sslmode=verify-full&sslrootcert={}", authority.display());
    let store = open_at(&checked, &folder).await.expect("the store opens");
    store.customer(OWNER).await.expect("a read");
    let mut hand = <sqlx::PgConnection as sqlx::Connection>::connect(&checked).await.expect("a connection");
    let spoken = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'confab' AND ssl";
    let spoken: i64 = sqlx::query_scalar(spoken).fetch_one(&mut hand).await.expect("a number");
    assert_eq!(spoken, 2, "one reads, one writes");
    store.close().await;
    drop(store);
    for (parameters, goes) in
        [("sslmode=verify-full", false), ("sslmode=require", true), ("sslmode=disable", true)]
    {
        let opened = open_at(&format!("{address}?{parameters}"), &folder).await;
        assert_eq!(opened.is_ok(), goes, "{parameters}: {opened:?}");
        match opened {
            Ok(store) => store.close().await,
            Err(StoreError::Unreachable { check, .. }) => assert!(check.contains("sslrootcert"), "{check}"),
            Err(other) => panic!("{other}"),
        }
    }
}
