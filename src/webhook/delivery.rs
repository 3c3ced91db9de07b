//! The task that tells events: reads what came into the outbox, runs what the schedule says is due,
//! and lets the store's writer keep the outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, info, warn};

use super::request;
use super::schedule::{Done, Heard, Job, Next, Schedule, Settings, What};
use crate::net::http::HttpClient;
use crate::rng::Rng;
use crate::store::{OutboxChange, OutboxRow, Store, StoreError, Webhook, Write};
use crate::time::{Duration, Now, Timestamp};

/// Events told by one run before another conference has its turn.
const RUN_MAX: u32 = 16;
/// Events given up by one run.
const GIVE_UP_MAX: u32 = 256;
/// Rows read at once of those that came.
const ARRIVALS_PAGE: u32 = 1000;
/// How soon a failed read of the outbox is tried again.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// The longest sleep: the wall clock, by which events age, may be set in the meantime.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// How long runs under way may take to end when the server stops; what is not told is told after the
/// next start.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What deliveries need.
pub struct Setup {
    /// Where the outbox is.
    pub store: Store,
    /// The store's writer.
    pub writer: mpsc::Sender<Write>,
    /// Both clocks.
    pub clock: Arc<dyn Fn() -> Now + Send + Sync>,
    /// For jitter.
    pub rng: Rng,
    /// How they are told; may change while it runs.
    pub telling: watch::Receiver<Telling>,
}

/// How receivers are told.
#[derive(Clone, Debug)]
pub struct Telling {
    /// Asks them.
    pub client: HttpClient,
    /// How much at once, how soon again, for how long.
    pub settings: Settings,
}

/// What deliveries did, and where they are.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events told.
    pub told: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Events dropped since their customer has no webhook any more.
    pub unwanted: AtomicU64,
    /// Runs under way.
    pub in_flight: AtomicU64,
    /// Conferences with events that are not told.
    pub lanes: AtomicU64,
    /// Receivers that failed again and again.
    pub broken: AtomicU64,
    /// When the oldest event that is not told was queued, in microseconds; 0 for none.
    oldest_us: AtomicI64,
}

impl Counters {
    /// How old the oldest event is that is not told.
    pub fn lag(&self, now: Timestamp) -> Duration {
        match self.oldest_us.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            oldest => now.since(Timestamp::from_micros(oldest)),
        }
    }
}

/// The running task.
#[derive(Debug)]
pub struct Webhooks {
    /// What it did.
    pub counters: Arc<Counters>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Webhooks {
    /// Starts no more deliveries and waits a moment for those under way.
    pub async fn stop(self) {
        // Gone means stopped.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Starts the task.
pub fn spawn(setup: Setup) -> Webhooks {
    let (stop, stopped) = oneshot::channel();
    let counters = Arc::new(Counters::default());
    let Setup { store, writer, clock, rng, mut telling } = setup;
    let Telling { client, settings } = telling.borrow_and_update().clone();
    let context = Context { store, writer, client, clock, counters: counters.clone(), seen: 0 };
    let schedule = Schedule::new(settings, rng);
    let delivery = Delivery { schedule, context, runs: JoinSet::new(), telling };
    let task = tokio::spawn(delivery.run(stopped));
    Webhooks { counters, stop, task }
}

/// What every run needs.
#[derive(Clone)]
struct Context {
    store: Store,
    writer: mpsc::Sender<Write>,
    client: HttpClient,
    clock: Arc<dyn Fn() -> Now + Send + Sync>,
    counters: Arc<Counters>,
    /// The last position the schedule knows of. A run looks no further, so that nothing is told twice.
    seen: i64,
}

struct Delivery {
    schedule: Schedule,
    context: Context,
    runs: JoinSet<Done>,
    telling: watch::Receiver<Telling>,
}

impl Delivery {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut grows = self.context.store.outbox_grows();
        let mut read_due = true;
        loop {
            let mut limit = SLEEP_MAX;
            if read_due {
                grows.mark_unchanged();
                read_due = !self.take_arrivals().await;
                limit = if read_due { READ_AGAIN } else { limit };
            }
            while let Some(job) = self.schedule.poll(self.now()) {
                self.start(job);
            }
            self.publish();
            let wait = self.schedule.next_timeout(self.now()).map_or(limit, |wait| wait.min(limit));
            tokio::select! {
                _ = &mut stopped => break,
                // Its sender lives as long as the store, which we hold.
                _ = grows.changed() => read_due = true,
                // Its sender gone means that nothing changes any more.
                Ok(()) = self.telling.changed() => self.take_over(),
                Some(ended) = self.runs.join_next() => self.finish(ended),
                () = tokio::time::sleep(wait) => {}
            }
            while let Some(ended) = self.runs.try_join_next() {
                self.finish(ended);
            }
        }
        let ended = async { while self.runs.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, ended).await.is_err() {
            info!("some webhooks were still under way; they are told again after the next start");
        }
    }

    fn now(&self) -> Now {
        (self.context.clock)()
    }

    /// Tells as it is set now; runs under way end as they began.
    fn take_over(&mut self) {
        let Telling { client, settings } = self.telling.borrow_and_update().clone();
        self.context.client = client;
        let now = self.now().instant;
        self.schedule.change(now, settings);
    }

    /// Tells the schedule of all that came. Returns whether it could be read.
    async fn take_arrivals(&mut self) -> bool {
        loop {
            let arrivals = match self.context.store.outbox_arrivals(self.context.seen, ARRIVALS_PAGE).await {
                Ok(arrivals) => arrivals,
                Err(error) => {
                    warn!(%error, "the outbox cannot be read; tried again in a moment");
                    return false;
                }
            };
            let now = self.now().instant;
            for one in &arrivals {
                self.schedule.arrived(now, one.customer, one.conference, one.position, one.queued);
                self.context.seen = one.position;
            }
            if arrivals.len() < ARRIVALS_PAGE as usize {
                return true;
            }
        }
    }

    fn start(&mut self, job: Job) {
        let context = self.context.clone();
        self.runs.spawn(async move {
            match job.what {
                What::Tell => context.tell(job).await,
                What::GiveUp { queued_by } => context.give_up(job, queued_by).await,
            }
        });
    }

    fn finish(&mut self, ended: Result<Done, tokio::task::JoinError>) {
        match ended {
            Ok(done) => self.schedule.done(self.now(), done),
            // Its lane stays in flight until the next start: better late than twice.
            Err(error) => warn!(%error, "a webhook's run ended badly"),
        }
    }

    fn publish(&self) {
        let counters = &self.context.counters;
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        counters.in_flight.store(number(self.schedule.in_flight()), Ordering::Relaxed);
        counters.lanes.store(number(self.schedule.lanes()), Ordering::Relaxed);
        counters.broken.store(number(self.schedule.broken()), Ordering::Relaxed);
        let oldest = self.schedule.oldest().map_or(0, Timestamp::as_micros);
        counters.oldest_us.store(oldest, Ordering::Relaxed);
    }
}

impl Context {
    /// What a run begins with: where to, the rows that are due, and one more to see whether there is.
    async fn read(&self, job: &Job, limit: u32) -> Result<(Option<Webhook>, Vec<OutboxRow>), StoreError> {
        let webhook = self.store.webhook_of(job.customer).await?;
        let mut rows = self.store.outbox_of(job.conference, job.after, limit + 1).await?;
        rows.retain(|row| row.position <= self.seen);
        Ok((webhook, rows))
    }

    /// Tells a conference's events, in order, until one fails.
    async fn tell(&self, job: Job) -> Done {
        let mut done = Done {
            conference: job.conference,
            after: job.after,
            next: Next::Nothing,
            receiver: Heard::NotAsked,
        };
        let (webhook, rows) = match self.read(&job, RUN_MAX).await {
            Ok(read) => read,
            Err(error) => {
                warn!(%error, conference = %job.conference, "a conference's webhooks cannot be read");
                let queued = (self.clock)().wall;
                return Done { next: Next::Queued(queued), receiver: Heard::Unread, ..done };
            }
        };
        let mut took = 0;
        for (told, row) in rows.into_iter().enumerate() {
            if told >= RUN_MAX as usize {
                done.next = Next::Queued(row.queued);
                break;
            }
            let Some(webhook) = &webhook else {
                self.counters.unwanted.fetch_add(1, Ordering::Relaxed);
                done.after = self.gone(&job, row.position).await;
                continue;
            };
            match request::tell(&self.client, webhook, Bytes::from(row.body)).await {
                Ok(()) => {
                    took += 1;
                    done.receiver = Heard::Took;
                    self.counters.told.fetch_add(1, Ordering::Relaxed);
                    done.after = self.gone(&job, row.position).await;
                }
                Err(reason) => {
                    debug!(customer = %job.customer, conference = %job.conference, reason, "a webhook failed");
                    self.counters.failed.fetch_add(1, Ordering::Relaxed);
                    let attempts = row.attempts.saturating_add(1);
                    self.keep(OutboxChange::Failed { position: row.position, attempts, reason }).await;
                    done.next = Next::Queued(row.queued);
                    done.receiver = Heard::Failed { took };
                    break;
                }
            }
        }
        done
    }

    /// Makes dead letters of a conference's events that were queued too long ago.
    async fn give_up(&self, job: Job, queued_by: Timestamp) -> Done {
        let at = (self.clock)().wall;
        let mut done = Done {
            conference: job.conference,
            after: job.after,
            next: Next::Nothing,
            receiver: Heard::NotAsked,
        };
        let rows = match self.read(&job, GIVE_UP_MAX).await {
            Ok((_, rows)) => rows,
            Err(error) => {
                warn!(%error, conference = %job.conference, "a conference's webhooks cannot be read");
                return Done { next: Next::Queued(at), receiver: Heard::Unread, ..done };
            }
        };
        for (given_up, row) in rows.into_iter().enumerate() {
            if given_up >= GIVE_UP_MAX as usize || row.queued > queued_by {
                done.next = Next::Queued(row.queued);
                break;
            }
            self.keep(OutboxChange::Dead { customer: job.customer, position: row.position, at }).await;
            done.after = row.position;
        }
        done
    }

    /// The row is dealt with.
    async fn gone(&self, job: &Job, position: i64) -> i64 {
        self.keep(OutboxChange::Gone { customer: job.customer, position }).await;
        position
    }

    async fn keep(&self, change: OutboxChange) {
        if self.writer.send(Write::Outbox(change)).await.is_err() {
            // The server is ending: the event is told again after the next start.
            debug!("the store's writer is gone");
        }
    }
}
