//! kill -9 while a thousand callers a second join and leave: nothing is lost, nothing out of order.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use confab::id::CustomerId;
use confab::store::Write;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::receiver::{LIMIT, Receiver, assert_whole_and_in_order};
use crate::world::{Folder, World, conference, happened, local, quick};

/// Tells the child which folder to write to.
const CHILD_FOLDER: &str = "CONFAB_TEST_WEBHOOK_FOLDER";
/// Tells the child where its customer listens.
const CHILD_URI: &str = "CONFAB_TEST_WEBHOOK_URI";
const OWNER: CustomerId = CustomerId(Uuid::from_u128(1));
/// Conferences that callers join and leave in turn.
const CONFERENCES: u64 = 50;
/// Events a second: a thousand joins and a thousand leaves.
const RATE: u64 = 2000;
/// Events between two acknowledgements.
const BURST: u64 = 100;
/// Events in each life of the child, at least.
const EVENTS_A_LIFE: u64 = 2000;
const KILLS: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child process of the kill test"]
async fn child_makes_events_until_it_is_killed() {
    let folder = std::env::var_os(CHILD_FOLDER).expect("run by the kill test only");
    let uri = std::env::var(CHILD_URI).expect("run by the kill test only");
    let world = World::open(folder.as_ref(), quick(), local()).await;
    if world.store.customer(OWNER).await.expect("a read").is_none() {
        world.customer(1, &uri, "secret").await;
    }
    // Where the killed one was: the bridge is restored from the same numbers.
    let mut made = 0;
    for number in 0..CONFERENCES {
        let mut seq = 0;
        while let Some(event) =
            world.store.events(conference(u128::from(number)), seq, 10_000).await.expect("a read").last()
        {
            seq = event.seq;
        }
        made += seq;
    }
    let mut tick = tokio::time::interval(Duration::from_millis(1000 * BURST / RATE));
    loop {
        tick.tick().await;
        for _ in 0..BURST {
            let (number, seq) = (made % CONFERENCES, made / CONFERENCES + 1);
            let change = happened(OWNER, u128::from(number), seq, world.wall());
            world.writer.send(Write::Change(change)).await.expect("the writer runs");
            made += 1;
        }
        let (done, flushed) = oneshot::channel();
        world.writer.send(Write::Flush(done)).await.expect("the writer runs");
        let now = made;
        tokio::spawn(async move {
            flushed.await.expect("an answer").expect("durable");
            writeln!(std::io::stdout(), "acknowledged {now}").expect("the parent reads");
        });
    }
}

fn start(folder: &Folder, uri: &str) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "--nocapture", "kills::child_makes_events_until_it_is_killed"])
        .env(CHILD_FOLDER, &folder.0)
        .env(CHILD_URI, uri)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child")
}

/// Runs a child until it has made `more` events, then kills it. Returns how many were acknowledged.
fn live_and_die(mut child: Child, before: u64, more: u64) -> u64 {
    let mut acknowledged = before;
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    for line in lines.map_while(Result::ok) {
        if let Some((_, made)) = line.rsplit_once("acknowledged ") {
            acknowledged = acknowledged.max(made.parse().expect("a number"));
            if acknowledged >= before + more {
                break;
            }
        }
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("it is gone");
    assert!(acknowledged >= before + more, "the child stopped by itself");
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_joins_and_leaves_a_second_are_told_whole_and_in_order_through_kills() {
    let folder = Folder::new();
    let receiver = Receiver::start().await;
    let uri = receiver.uri("a");
    let started = clock();
    let mut acknowledged = 0;
    for _ in 0..KILLS {
        let child = start(&folder, &uri);
        let before = acknowledged;
        let life = tokio::task::spawn_blocking(move || live_and_die(child, before, EVENTS_A_LIFE));
        acknowledged = life.await.expect("it ran");
    }
    let made_in = clock() - started;
    let world = World::open(&folder.0, quick(), local()).await;
    let mut last = BTreeMap::new();
    for number in 0..CONFERENCES {
        let id = conference(u128::from(number));
        let events = world.store.events(id, 0, 10_000).await.expect("a read");
        let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "no event is missing on disk");
        last.insert(id.to_string(), seqs.len() as u64);
    }
    let made: u64 = last.values().sum();
    assert!(made >= acknowledged, "{made} on disk, {acknowledged} acknowledged");
    world.wait_for_outbox(0).await;
    let told_in = clock() - started;
    let heard = receiver.heard();
    let twice = assert_whole_and_in_order(&heard, &last);
    println!(
        "{made} events in {} conferences through {KILLS} kills: made in {made_in:.1?}, all told in {told_in:.1?}, {twice} told twice",
        last.len()
    );
    assert!(twice as u64 <= made / 4, "{twice} of {made} were told twice");
    world.close().await;
    assert!(told_in < LIMIT);
}

#[expect(clippy::disallowed_methods, reason = "the test tells how long it took")]
fn clock() -> Instant {
    Instant::now()
}
