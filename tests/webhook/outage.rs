//! kill -9 of the database while callers join and leave: every event is told, in order.

use std::collections::BTreeMap;

use crate::postgres::Server;
use crate::receiver::{LIMIT, Receiver, assert_whole_and_in_order};
use crate::world::{Folder, World, conference, local, quick};

const CONFERENCES: u64 = 20;
const EVENTS_A_LIFE: u64 = 400;
const KILLS: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_told_whole_and_in_order_through_kills_of_the_database() {
    let mut server = Server::with("");
    let (folder, receiver) = (Folder::new(), Receiver::start().await);
    let world = World::open_at(&folder.0, Some(server.address()), quick(), local()).await;
    let owner = world.customer(1, &receiver.uri("a"), "secret").await;
    let mut durability = world.store.durability();
    let mut made = 0;
    for _ in 0..KILLS {
        let mut happen = async |count| {
            for _ in 0..count {
                world.happen(owner, u128::from(made % CONFERENCES), made / CONFERENCES + 1).await;
                made += 1;
            }
        };
        happen(EVENTS_A_LIFE / 2).await;
        let killed = tokio::task::spawn_blocking(move || {
            server.kill();
            server
        });
        happen(EVENTS_A_LIFE / 2).await;
        server = killed.await.expect("it ran");
        happen(CONFERENCES).await;
        server = tokio::task::spawn_blocking(move || {
            server.start_again();
            server
        })
        .await
        .expect("it ran");
        let back = tokio::time::timeout(LIMIT, durability.wait_for(|durable| *durable)).await;
        back.expect("the store writes again").expect("the store lives");
    }
    // Something that is written after the last loss, so that it was noticed.
    let last = (0..CONFERENCES).map(|number| {
        let told = made / CONFERENCES + u64::from(number < made % CONFERENCES);
        (conference(u128::from(number)).to_string(), told)
    });
    let last: BTreeMap<String, u64> = last.collect();
    world.flush().await;
    world.wait_for_outbox(0).await;
    let twice = assert_whole_and_in_order(&receiver.heard(), &last);
    println!("{made} events through {KILLS} kills of the database, {twice} told twice");
    world.close().await;
}
