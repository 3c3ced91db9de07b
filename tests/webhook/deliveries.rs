//! What is told, to whom, and what becomes of it when nobody listens.

use std::time::Duration;

use confab::net::http;
use confab::store::CustomerChange;
use confab::webhook::request::signature;
use confab::webhook::schedule;

use crate::receiver::{Answer, Heard, Receiver, assert_whole_and_in_order};
use crate::world::{Folder, World, conference, local, quick};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn seqs(heard: &[Heard]) -> Vec<u64> {
    heard.iter().map(Heard::seq).collect()
}

#[tokio::test]
async fn events_are_told_signed_and_in_order_and_then_forgotten() {
    let folder = Folder::new();
    let receiver = Receiver::start().await;
    let world = World::open(&folder.0, quick(), local()).await;
    let signed = world.customer(1, &receiver.uri("signed"), "secret").await;
    let plain = world.customer(2, &receiver.uri("plain"), "").await;
    let silent = world.customer(3, "", "").await;
    for seq in 1..=40 {
        for customer in [signed, plain, silent] {
            world.happen(customer, customer.0.as_u128(), seq).await;
        }
    }
    receiver.wait("80 events", |heard| heard.len() == 80).await;
    world.wait_for_outbox(0).await;
    for path in ["signed", "plain"] {
        assert_eq!(seqs(&receiver.heard_at(path)), (1..=40).collect::<Vec<_>>(), "{path}");
        assert_eq!(receiver.most_at_once(path), 1, "one at a time of a conference");
    }
    let first = &receiver.heard_at("signed")[0];
    assert_eq!(first.headers["x-voipbin-signature"], signature("secret", &first.body).as_str());
    assert_eq!(
        (first.method.as_str(), &first.headers["content-type"]),
        ("POST", &"application/json".parse().expect("a value"))
    );
    let text = std::str::from_utf8(&first.body).expect("text");
    assert!(text.starts_with("{\"type\":\"conferencecall_joined\",\"data\":{"), "{text}");
    assert!(text.ends_with("\"seq\":1,\"tm_event\":\"2023-11-14 22:13:20.000000\"}"), "{text}");
    assert!(!receiver.heard_at("plain")[0].headers.contains_key("x-voipbin-signature"));
    world.close().await;
}

#[tokio::test]
async fn the_customers_method_is_used_and_a_webhook_taken_away_is_told_no_more() {
    let folder = Folder::new();
    let receiver = Receiver::start().await;
    receiver.answer("a", Answer::Code(503));
    let world = World::open(&folder.0, quick(), local()).await;
    let owner = world.customer(1, &receiver.uri("a"), "").await;
    let set = |uri: String, method: &str| CustomerChange {
        webhook_uri: Some(uri),
        webhook_method: Some(method.to_owned()),
        ..CustomerChange::default()
    };
    world.happen(owner, 1, 1).await;
    receiver.wait("an attempt", |heard| !heard.is_empty()).await;
    let now = world.wall();
    world.store.update_customer(owner, set(receiver.uri("b"), "PUT"), now).await.expect("a change");
    let heard = receiver.wait("it at the new place", |heard| heard.iter().any(|one| one.path == "b")).await;
    assert_eq!(heard.last().map(|one| one.method.as_str()), Some("PUT"));
    world.wait_for_outbox(0).await;
    receiver.answer("b", Answer::Code(503));
    world.happen(owner, 1, 2).await;
    receiver.wait("an attempt", |heard| heard.iter().any(|one| one.seq() == 2)).await;
    world.store.update_customer(owner, set(String::new(), ""), now).await.expect("a change");
    world.wait_for_outbox(0).await;
    let page = world.store.webhook_failures(owner, None, None, 10).await.expect("a read");
    assert_eq!(page.rows, [], "nobody wants to hear it: it is no failure");
    world.close().await;
}

#[tokio::test]
async fn a_receiver_that_hangs_or_fails_holds_up_nobody_else() {
    let folder = Folder::new();
    let receiver = Receiver::start().await;
    for (path, answer) in [("hangs", Answer::Hang), ("fails", Answer::Code(500))] {
        receiver.answer(path, answer);
    }
    let settings = schedule::Settings { in_flight_max: 16, in_flight_per_customer_max: 2, ..quick() };
    let world = World::open(&folder.0, settings, local()).await;
    let hangs = world.customer(1, &receiver.uri("hangs"), "").await;
    let fails = world.customer(2, &receiver.uri("fails"), "").await;
    let well = world.customer(3, &receiver.uri("well"), "").await;
    for seq in 1..=5 {
        for number in 0..40 {
            for (customer, base) in [(hangs, 1000), (fails, 2000), (well, 3000)] {
                world.happen(customer, base + number, seq).await;
            }
        }
    }
    let enough = |heard: &[Heard]| heard.iter().filter(|one| one.path == "well").count() == 200;
    receiver.wait("all events of the one that is well", enough).await;
    assert!(receiver.most_at_once("hangs") <= 2, "its share and no more");
    assert_whole_and_in_order(
        &receiver.heard_at("well"),
        &(0..40).map(|number| (conference(3000 + number).to_string(), 5)).collect(),
    );
    world.wait_for_outbox(400).await;
    receiver.answer("fails", Answer::Code(204));
    world.wait_for_outbox(200).await;
    let heard: Vec<Heard> = receiver.heard_at("fails");
    for number in 0..40 {
        let id = conference(2000 + number).to_string();
        let told: Vec<u64> = heard.iter().filter(|one| one.conference() == id).map(Heard::seq).collect();
        assert!(told.is_sorted(), "{id}: {told:?}");
    }
    world.close().await;
}

#[tokio::test]
async fn what_is_a_day_old_becomes_a_dead_letter_and_can_be_told_again() {
    let folder = Folder::new();
    let receiver = Receiver::start().await;
    receiver.answer("a", Answer::Code(500));
    let world = World::open(&folder.0, quick(), local()).await;
    let owner = world.customer(1, &receiver.uri("a"), "").await;
    let other = world.customer(2, "", "").await;
    for seq in 1..=600_u64 {
        world.happen(owner, 1 + u128::from(seq % 2), seq.div_ceil(2)).await;
    }
    world.flush().await;
    receiver.wait("an attempt", |heard| !heard.is_empty()).await;
    world.advance(DAY - Duration::from_secs(1));
    world.happen(owner, 9, 1).await;
    receiver
        .wait("an attempt of the new one", |heard| {
            heard.iter().any(|one| one.conference() == conference(9).to_string())
        })
        .await;
    world.flush().await;
    assert_eq!(world.store.outbox_rows_total(), 601, "nothing is given up early");
    world.advance(Duration::from_secs(1));
    // The clock jumped: a further event wakes the task.
    world.happen(owner, 9, 2).await;
    world.wait_for_outbox(2).await;
    let page = world.store.webhook_failures(owner, None, None, 100).await.expect("a read");
    assert_eq!((page.rows.len(), page.next.is_some()), (100, true));
    let of_one = world.store.webhook_failures(owner, Some(conference(1)), None, 1000).await.expect("a read");
    assert_eq!(of_one.rows.len(), 300);
    let first = of_one.rows.iter().find(|one| one.event["seq"] == 1).expect("the first");
    assert!(first.attempts >= 1 && first.reason.contains("500"), "{first:?}");
    assert_eq!(first.tm_create, world.wall());
    assert_eq!(world.store.webhook_failures(other, None, None, 10).await.expect("a read").rows, []);
    assert_eq!(world.store.replay_webhook(other, first.id, world.wall()).await.expect("a write"), None);

    receiver.answer("a", Answer::Code(200));
    world.wait_for_outbox(0).await;
    let before = receiver.heard().len();
    let replayed = world.store.replay_webhook(owner, first.id, world.wall()).await.expect("a write");
    assert_eq!(replayed.as_ref().map(|one| one.id), Some(first.id));
    receiver.wait("it once more", |heard| heard.len() == before + 1).await;
    assert_eq!(world.store.replay_webhook(owner, first.id, world.wall()).await.expect("a write"), None);
    assert_eq!(world.store.replay_webhooks(owner, world.wall()).await.expect("a write"), 599);
    let heard = receiver.wait("all of them", |heard| heard.len() == before + 600).await;
    for number in [1, 2] {
        let id = conference(number).to_string();
        let told: Vec<u64> =
            heard[before..].iter().filter(|one| one.conference() == id).map(Heard::seq).collect();
        assert_eq!(told, (1..=300).collect::<Vec<_>>(), "in order again");
    }
    world.wait_for_outbox(0).await;
    assert_eq!(world.store.webhook_failures(owner, None, None, 10).await.expect("a read").rows, []);
    assert_eq!(world.store.counters().webhooks_dead, 600);
    world.close().await;
}

#[tokio::test]
async fn redirects_are_not_followed_and_private_addresses_not_asked() {
    let folder = Folder::new();
    let receiver = Receiver::start().await;
    receiver.answer("a", Answer::Elsewhere);
    let world = World::open(&folder.0, quick(), local()).await;
    let owner = world.customer(1, &receiver.uri("a"), "").await;
    world.happen(owner, 1, 1).await;
    receiver.wait("two attempts", |heard| heard.len() >= 2).await;
    assert!(receiver.heard_at("elsewhere").is_empty());
    world.close().await;

    let folder = Folder::new();
    let careful = http::Settings { allow_private: false, ..local() };
    let world = World::open(&folder.0, quick(), careful).await;
    let port = receiver.address.port();
    let before = receiver.heard().len();
    for (number, host) in
        [(1, "127.0.0.1"), (2, "localhost"), (3, "[::ffff:127.0.0.1]"), (4, "127.1"), (5, "0.0.0.0")]
    {
        let owner = world.customer(number, &format!("http://{host}:{port}/a"), "").await;
        world.happen(owner, number, 1).await;
    }
    world.flush().await;
    let five_failed = async {
        while world.webhooks.counters.failed.load(std::sync::atomic::Ordering::Relaxed) < 10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::receiver::LIMIT, five_failed).await.expect("they fail");
    world.advance(DAY);
    world.happen(world.customer(6, &receiver.uri("a"), "").await, 6, 1).await;
    world.wait_for_outbox(1).await;
    for number in 1..=5 {
        let owner = confab::id::CustomerId(uuid::Uuid::from_u128(number));
        let page = world.store.webhook_failures(owner, None, None, 10).await.expect("a read");
        assert!(page.rows[0].reason.contains("private or loopback"), "{:?}", page.rows);
    }
    assert_eq!(receiver.heard().len(), before, "nobody was asked");
    world.close().await;
}

#[tokio::test]
async fn what_was_not_told_is_told_after_a_restart_in_order() {
    let folder = Folder::new();
    let receiver = Receiver::start().await;
    receiver.answer("a", Answer::Code(500));
    let world = World::open(&folder.0, quick(), local()).await;
    let owner = world.customer(1, &receiver.uri("a"), "").await;
    for seq in 1..=30 {
        world.happen(owner, 1, seq).await;
        world.happen(owner, 2, seq).await;
    }
    world.flush().await;
    receiver.wait("an attempt", |heard| !heard.is_empty()).await;
    world.close().await;
    receiver.answer("a", Answer::Code(200));
    let before = receiver.heard().len();
    let world = World::open(&folder.0, quick(), local()).await;
    assert_eq!(world.store.outbox_rows_total(), 60);
    let heard = receiver.wait("all", |heard| heard.len() >= before + 60).await;
    let last = [1, 2].map(|number| (conference(number).to_string(), 30)).into();
    assert_eq!(assert_whole_and_in_order(&heard[before..], &last), 0, "none twice");
    world.close().await;
}
