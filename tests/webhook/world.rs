//! A store, its writer and the task that delivers, around a clock that the test sets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use confab::bridge::event::{Change, Event};
use confab::config::DatabaseUrl;
use confab::id::{ConferenceId, CustomerId};
use confab::net::http::{self, HttpClient};
use confab::rng::Rng;
use confab::store::{NewCustomer, Store, Write, spawn_writer};
use confab::time::{Now, Timestamp};
use confab::webhook::{self, Webhooks, schedule};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Where the clock starts.
const START_S: u64 = 1_700_000_000;

/// A folder that goes when the test does.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("confab-webhook-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Pauses short enough for a test.
pub fn quick() -> schedule::Settings {
    schedule::Settings {
        backoff_first: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        ..schedule::Settings::default()
    }
}

/// Requests to this machine, with a limit that a busy machine does not reach.
pub fn local() -> http::Settings {
    http::Settings {
        timeout: Duration::from_secs(20),
        allow_private: true,
        answer_max: 1024,
        redirects_max: 0,
    }
}

pub struct World {
    pub store: Store,
    pub writer: mpsc::Sender<Write>,
    pub webhooks: Webhooks,
    pub written: JoinHandle<()>,
    clock_us: Arc<AtomicU64>,
}

impl World {
    pub async fn open(folder: &Path, schedule: schedule::Settings, client: http::Settings) -> World {
        let address = crate::postgres::address_for(folder).await;
        Self::open_at(folder, address, schedule, client).await
    }

    /// The same on the database at this address.
    pub async fn open_at(
        folder: &Path,
        address: Option<String>,
        schedule: schedule::Settings,
        client: http::Settings,
    ) -> World {
        let address = address.map(|address| DatabaseUrl::parse(&address).expect("an address"));
        let store = Store::open_at(folder, address.as_ref()).await.expect("the store opens");
        let (writer, written) = spawn_writer(store.clone());
        let clock_us = Arc::new(AtomicU64::new(START_S * 1_000_000));
        let clock = clock_us.clone();
        let client = HttpClient::new(client).expect("TLS");
        let (_, telling) = watch::channel(webhook::Telling { client, settings: schedule });
        let webhooks = webhook::spawn(webhook::Setup {
            store: store.clone(),
            writer: writer.clone(),
            clock: Arc::new(move || {
                let micros = clock.load(Ordering::Relaxed);
                // The monotonic clock runs by itself: pauses end although the wall clock stands still.
                let instant = confab::net::clock::Clock::new().now();
                Now {
                    instant: instant + Duration::from_micros(micros - START_S * 1_000_000),
                    wall: Timestamp::from_micros(micros as i64),
                }
            }),
            rng: Rng::from_number(3),
            telling,
        });
        World { store, writer, webhooks, written, clock_us }
    }

    /// Lets time pass, for both clocks.
    pub fn advance(&self, by: Duration) {
        self.clock_us.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn wall(&self) -> Timestamp {
        Timestamp::from_micros(self.clock_us.load(Ordering::Relaxed) as i64)
    }

    /// A customer with this webhook.
    pub async fn customer(&self, number: u128, uri: &str, secret: &str) -> CustomerId {
        let id = CustomerId(Uuid::from_u128(number));
        let new = NewCustomer {
            name: number.to_string(),
            webhook_uri: uri.to_owned(),
            webhook_secret: secret.to_owned(),
            ..NewCustomer::default()
        };
        self.store.create_customer(id, new, self.wall()).await.expect("a customer");
        id
    }

    /// Something happens in a conference.
    pub async fn happen(&self, customer: CustomerId, number: u128, seq: u64) {
        self.writer
            .send(Write::Change(happened(customer, number, seq, self.wall())))
            .await
            .expect("the writer runs");
    }

    /// Waits until everything before is on disk.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.writer.send(Write::Flush(done)).await.expect("the writer runs");
        flushed.await.expect("the writer answers").expect("durable");
    }

    /// Waits until the outbox has this many rows.
    pub async fn wait_for_outbox(&self, rows: u64) {
        let wait = async {
            while self.store.outbox_rows_total() != rows {
                self.flush().await;
                tokio::task::yield_now().await;
            }
        };
        let limit = crate::receiver::LIMIT;
        assert!(
            tokio::time::timeout(limit, wait).await.is_ok(),
            "{} rows in the outbox instead of {rows}",
            self.store.outbox_rows_total()
        );
    }

    pub async fn close(self) {
        self.webhooks.stop().await;
        drop(self.writer);
        self.written.await.expect("the writer stops");
        self.store.close().await;
    }
}

pub fn conference(number: u128) -> ConferenceId {
    ConferenceId(Uuid::from_u128(number))
}

/// An event as the bridge would make it.
pub fn happened(customer: CustomerId, number: u128, seq: u64, at: Timestamp) -> Change {
    let r#type = if seq.is_multiple_of(2) { "conferencecall_leaved" } else { "conferencecall_joined" };
    let data =
        json!({"id": conference(number).to_string(), "customer_id": customer.to_string(), "name": "n"});
    let event = Event { r#type: r#type.to_owned(), data, seq, tm_event: at };
    Change::Event { customer, conference: conference(number), event: Box::new(event) }
}
