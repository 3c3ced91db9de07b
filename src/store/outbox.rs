//! The outbox: events of customers with a webhook, written in the transaction of the event itself and
//! kept until they are told or too old; and the dead letters, which can be told again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

use super::customer::{time_column, uuid_column};
use super::database::Connection;
use super::event::signed;
use super::page::{Cursor, Page};
use super::pending::PendingEvent;
use super::query::{Row, query, write_rows};
use super::read::{body, damaged};
use super::{Store, StoreError, count};
use crate::bridge::event::Event;
use crate::id::{ConferenceId, CustomerId};
use crate::time::Timestamp;

/// Undelivered events of one customer; a further one becomes a dead letter at once.
pub const OUTBOX_PER_CUSTOMER_MAX: u64 = 100_000;
/// Undelivered events in all; a further one becomes a dead letter at once.
pub const OUTBOX_TOTAL_MAX: u64 = 1_000_000;
/// Dead letters kept of one customer; the oldest are deleted first.
pub const FAILURES_PER_CUSTOMER_MAX: u64 = 100_000;
/// Dead letters kept in all; the oldest are deleted first.
pub const FAILURES_TOTAL_MAX: u64 = 1_000_000;
/// A customer's dead letters are trimmed once for this many: up to so many more may be kept.
const TRIM_EVERY: i64 = 256;
/// Dead letters that one call puts back.
pub const REPLAY_MAX: u32 = 10_000;
/// The longest reason that is kept, in characters.
const REASON_MAX: usize = 200;

/// Where a customer's events go.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The URI.
    pub uri: String,
    /// The HTTP method; never empty.
    pub method: String,
    /// What signs the body; empty for no signature.
    pub secret: String,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("uri", &self.uri)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// A row that came into the outbox, without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its place; later ones have greater.
    pub position: i64,
    /// Whose event it is.
    pub customer: CustomerId,
    /// In which conference.
    pub conference: ConferenceId,
    /// When it was queued: its age counts from here.
    pub queued: Timestamp,
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its place.
    pub position: i64,
    /// What is sent.
    pub body: String,
    /// When it was queued.
    pub queued: Timestamp,
    /// Deliveries tried.
    pub attempts: u32,
}

/// What became of a row, for the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxChange {
    /// It was told, or nobody wants to hear it: it goes.
    Gone {
        /// Whose it is.
        customer: CustomerId,
        /// Which.
        position: i64,
    },
    /// It was tried in vain and stays.
    Failed {
        /// Which.
        position: i64,
        /// Deliveries tried so far.
        attempts: u32,
        /// Why the last failed.
        reason: String,
    },
    /// It is too old: it becomes a dead letter.
    Dead {
        /// Whose it is.
        customer: CustomerId,
        /// Which.
        position: i64,
        /// When.
        at: Timestamp,
    },
}

/// A dead letter, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct WebhookFailure {
    /// The failure's id; the same event that fails again has the same.
    pub id: Uuid,
    /// The customer whose webhook it was for.
    #[schema(value_type = Uuid)]
    pub customer_id: CustomerId,
    /// The conference the event happened in.
    #[schema(value_type = Uuid)]
    pub conference_id: ConferenceId,
    /// The event: `type`, `data`, `seq`, `tm_event`.
    #[schema(value_type = Object)]
    pub event: serde_json::Value,
    /// Deliveries tried.
    pub attempts: u32,
    /// Why the last one failed, or why none was tried.
    pub reason: String,
    /// When it was given up.
    #[schema(value_type = String)]
    pub tm_create: Timestamp,
}

/// How many rows the outbox has. Follows the commits.
#[derive(Debug, Default)]
pub(super) struct Fill {
    total: AtomicU64,
    by_customer: DashMap<CustomerId, u64>,
}

impl Fill {
    /// How many more rows of this customer fit.
    fn room(&self, customer: CustomerId) -> u64 {
        let own = self.by_customer.get(&customer).map_or(0, |entry| *entry);
        let total = self.total.load(Ordering::Relaxed);
        OUTBOX_PER_CUSTOMER_MAX.saturating_sub(own).min(OUTBOX_TOTAL_MAX.saturating_sub(total))
    }

    /// Starts anew.
    fn set(&self, counts: HashMap<CustomerId, u64>) {
        self.total.store(counts.values().sum(), Ordering::Relaxed);
        self.by_customer.retain(|customer, _| counts.contains_key(customer));
        for (customer, rows) in counts {
            self.by_customer.insert(customer, rows);
        }
    }

    fn add(&self, customer: CustomerId, by: i64) {
        let moved = |number: u64| number.saturating_add_signed(by);
        let left = {
            let mut own = self.by_customer.entry(customer).or_default();
            *own = moved(*own);
            *own
        };
        if left == 0 {
            self.by_customer.remove_if(&customer, |_, own| *own == 0);
        }
        // Always some value: the closure gives one.
        let _ = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |total| Some(moved(total)));
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// What a transaction did to the outbox; counts once it is committed.
#[derive(Debug, Default)]
pub(super) struct Moves {
    by_customer: HashMap<CustomerId, i64>,
    queued: u64,
    overflowed: u64,
    dead: u64,
    failures_trimmed: u64,
    /// Whether a customer has a webhook, asked once in a transaction.
    wanted: HashMap<CustomerId, bool>,
}

impl Moves {
    fn add(&mut self, customer: CustomerId, by: i64) {
        *self.by_customer.entry(customer).or_default() += by;
    }

    fn added(&self, customer: CustomerId) -> u64 {
        self.by_customer.get(&customer).map_or(0, |by| u64::try_from(*by).unwrap_or(0))
    }

    /// The transaction is committed.
    pub(super) fn committed(self, store: &Store) {
        let inner = &store.inner;
        for (customer, by) in self.by_customer {
            inner.fill.add(customer, by);
        }
        count(&inner.counts.outbox_overflowed, self.overflowed);
        count(&inner.counts.webhooks_dead, self.dead + self.overflowed);
        count(&inner.counts.failures_trimmed, self.failures_trimmed);
        if self.queued > 0 {
            inner.feed.outbox_grew();
        }
    }
}

/// Queues events, in their own transaction, where their customer has a webhook.
pub(super) async fn queue(
    connection: &mut Connection,
    fill: &Fill,
    events: &[&PendingEvent],
    moves: &mut Moves,
) -> Result<(), sqlx::Error> {
    let mut rows = Vec::new();
    for pending in events {
        let customer = pending.customer;
        if !is_wanted(connection, customer, moves).await? {
            continue;
        }
        let text = pending.text();
        let body = std::str::from_utf8(&text).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        let (seq, queued) = (signed(pending.event.seq), pending.event.tm_event);
        if moves.added(customer) >= fill.room(customer) {
            let letter = Letter { customer, conference: pending.conference, seq, body };
            let reason = "not tried: too many undelivered events waited";
            letter.insert(connection, reason, 0, queued, moves).await?;
            moves.overflowed += 1;
            continue;
        }
        rows.push(vec![
            customer.to_string().into(),
            pending.conference.to_string().into(),
            seq.into(),
            queued.as_micros().into(),
            body.to_owned().into(),
        ]);
        moves.add(customer, 1);
        moves.queued += 1;
    }
    let head =
        "INSERT INTO outbox (customer_id, conference_id, seq, tm_queue, attempts, reason, body) VALUES";
    write_rows(connection, head, "(?, ?, ?, ?, 0, '', ?)", "", rows).await?;
    Ok(())
}

/// Whether a customer has a webhook; asked once in a transaction.
async fn is_wanted(
    connection: &mut Connection,
    customer: CustomerId,
    moves: &mut Moves,
) -> Result<bool, sqlx::Error> {
    if let Some(wanted) = moves.wanted.get(&customer) {
        return Ok(*wanted);
    }
    let row = query("SELECT 1 FROM customers WHERE id = $1 AND webhook_uri <> ''")
        .bind(customer.to_string())
        .fetch_optional(connection)
        .await?;
    moves.wanted.insert(customer, row.is_some());
    Ok(row.is_some())
}

/// Writes what became of rows, in order.
pub(super) async fn apply(
    connection: &mut Connection,
    changes: &[OutboxChange],
    moves: &mut Moves,
) -> Result<(), sqlx::Error> {
    let is_gone = |change: &OutboxChange| matches!(change, OutboxChange::Gone { .. });
    // Nearly all of them are gone: those in a row go together.
    for run in changes.chunk_by(|one, next| is_gone(one) && is_gone(next)) {
        match &run[0] {
            OutboxChange::Gone { .. } => remove(connection, run, moves).await?,
            OutboxChange::Failed { position, attempts, reason } => {
                let reason: String = reason.chars().take(REASON_MAX).collect();
                query("UPDATE outbox SET attempts = $2, reason = $3 WHERE position = $1")
                    .bind(*position)
                    .bind(*attempts)
                    .bind(reason)
                    .execute(&mut *connection)
                    .await?;
            }
            OutboxChange::Dead { customer, position, at } => {
                bury(connection, *customer, *position, *at, moves).await?
            }
        }
    }
    Ok(())
}

/// Deletes the rows that are gone.
async fn remove(
    connection: &mut Connection,
    gone: &[OutboxChange],
    moves: &mut Moves,
) -> Result<(), sqlx::Error> {
    let positions = gone.iter().filter_map(|change| match change {
        OutboxChange::Gone { customer, position } => Some((*customer, *position)),
        _ => None,
    });
    let mut owners: HashMap<i64, CustomerId> =
        positions.clone().map(|(customer, position)| (position, customer)).collect();
    let rows = write_rows(
        connection,
        "DELETE FROM outbox WHERE position IN (",
        "?",
        ") RETURNING position",
        positions.map(|(_, position)| vec![position.into()]),
    )
    .await?;
    for row in rows {
        if let Some(customer) = owners.remove(&row.try_get::<i64>("position")?) {
            moves.add(customer, -1);
        }
    }
    Ok(())
}

/// Makes a dead letter of a row.
async fn bury(
    connection: &mut Connection,
    customer: CustomerId,
    position: i64,
    at: Timestamp,
    moves: &mut Moves,
) -> Result<(), sqlx::Error> {
    let row =
        query("DELETE FROM outbox WHERE position = $1 RETURNING conference_id, seq, attempts, reason, body")
            .bind(position)
            .fetch_optional(&mut *connection)
            .await?;
    let Some(row) = row else { return Ok(()) };
    let conference: &str = row.try_get("conference_id")?;
    let conference = conference.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let attempts: u32 = row.number("attempts")?;
    let reason = match row.try_get::<&str>("reason")? {
        "" => "not tried: deliveries to the webhook failed until it was too old",
        reason => reason,
    };
    let letter = Letter { customer, conference, seq: row.try_get("seq")?, body: row.try_get("body")? };
    letter.insert(connection, reason, attempts, at, moves).await?;
    moves.add(customer, -1);
    moves.dead += 1;
    Ok(())
}

/// An event that is given up.
struct Letter<'a> {
    customer: CustomerId,
    conference: ConferenceId,
    seq: i64,
    body: &'a str,
}

impl Letter<'_> {
    async fn insert(
        &self,
        connection: &mut Connection,
        reason: &str,
        attempts: u32,
        at: Timestamp,
        moves: &mut Moves,
    ) -> Result<(), sqlx::Error> {
        let row = query(
            "INSERT INTO webhook_failures (id, customer_id, conference_id, seq, attempts, reason, body, tm_create) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING RETURNING position",
        )
        .bind(failure_id(self.conference, self.seq).hyphenated().to_string())
        .bind(self.customer.to_string())
        .bind(self.conference.to_string())
        .bind(self.seq)
        .bind(attempts)
        .bind(reason)
        .bind(self.body)
        .bind(at.as_micros())
        .fetch_optional(&mut *connection)
        .await?;
        let position = row.map(|row| row.try_get::<i64>("position")).transpose()?;
        if position.is_some_and(|position| position % TRIM_EVERY == 0) {
            moves.failures_trimmed +=
                trim_failures(connection, self.customer, FAILURES_PER_CUSTOMER_MAX, FAILURES_TOTAL_MAX)
                    .await?;
        }
        Ok(())
    }
}

/// Deletes dead letters beyond the limits, the oldest first. Returns how many.
async fn trim_failures(
    connection: &mut Connection,
    customer: CustomerId,
    per_customer_max: u64,
    total_max: u64,
) -> Result<u64, sqlx::Error> {
    let own = query(
        "DELETE FROM webhook_failures WHERE customer_id = $1 AND (tm_create, id) <= \
         (SELECT tm_create, id FROM webhook_failures WHERE customer_id = $1 ORDER BY tm_create DESC, id DESC LIMIT 1 OFFSET $2)",
    )
    .bind(customer.to_string())
    .bind(signed(per_customer_max))
    .execute(&mut *connection)
    .await?;
    // Positions have gaps at most where rows were deleted: never more than the total stay.
    let all = query(
        "DELETE FROM webhook_failures WHERE position <= (SELECT max(position) FROM webhook_failures) - $1",
    )
    .bind(signed(total_max))
    .execute(connection)
    .await?;
    Ok(own + all)
}

/// The id of the dead letter of an event: by chance as far as anyone can tell, and yet always the same.
fn failure_id(conference: ConferenceId, seq: i64) -> Uuid {
    let digest =
        Sha256::new().chain_update(conference.0.as_bytes()).chain_update(seq.to_be_bytes()).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

impl Store {
    /// Wakes whenever the outbox has more rows.
    pub fn outbox_grows(&self) -> watch::Receiver<()> {
        self.inner.feed.outbox()
    }

    /// How many events wait to be told.
    pub fn outbox_rows_total(&self) -> u64 {
        self.inner.fill.total()
    }

    /// Counts the rows that are there: at the start, and whenever the counts may be wrong.
    pub(super) async fn load_outbox(&self) -> Result<(), sqlx::Error> {
        let rows = query("SELECT customer_id, count(*) AS rows FROM outbox GROUP BY customer_id")
            .fetch_all(&self.inner.readers)
            .await?;
        let mut counts = HashMap::new();
        for row in rows {
            let customer: &str = row.try_get("customer_id")?;
            let customer = customer.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            counts.insert(customer, row.number("rows")?);
        }
        self.inner.fill.set(counts);
        Ok(())
    }

    /// Up to `limit` rows that came into the outbox after this position, in order.
    pub async fn outbox_arrivals(&self, after: i64, limit: u32) -> Result<Vec<Arrival>, StoreError> {
        let rows = query(
            "SELECT position, customer_id, conference_id, tm_queue FROM outbox WHERE position > $1 ORDER BY position LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await?;
        let arrival = |row: &Row| {
            Ok(Arrival {
                position: row.try_get("position")?,
                customer: CustomerId(uuid_column(row, "customer_id")?),
                conference: ConferenceId(uuid_column(row, "conference_id")?),
                queued: time_column(row, "tm_queue")?,
            })
        };
        rows.iter().map(arrival).collect()
    }

    /// Up to `limit` rows of a conference after this position, in the order they are to be told.
    pub async fn outbox_of(
        &self,
        conference: ConferenceId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = query(
            "SELECT position, body, tm_queue, attempts FROM outbox WHERE conference_id = $1 AND position > $2 \
             ORDER BY position LIMIT $3",
        )
        .bind(conference.to_string())
        .bind(after)
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await?;
        let outbox_row = |row: &Row| {
            Ok(OutboxRow {
                position: row.try_get("position")?,
                body: row.try_get("body")?,
                queued: time_column(row, "tm_queue")?,
                attempts: row.number("attempts")?,
            })
        };
        rows.iter().map(outbox_row).collect()
    }

    /// Where a customer's events go; `None` when nowhere.
    pub async fn webhook_of(&self, customer: CustomerId) -> Result<Option<Webhook>, StoreError> {
        let row = query(
            "SELECT webhook_uri, webhook_method, webhook_secret FROM customers WHERE id = $1 AND webhook_uri <> ''",
        )
        .bind(customer.to_string())
        .fetch_optional(&self.inner.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let method = match row.try_get("webhook_method")? {
            "" => "POST",
            method => method,
        };
        Ok(Some(Webhook {
            uri: row.try_get("webhook_uri")?,
            method: method.to_owned(),
            secret: row.try_get("webhook_secret")?,
        }))
    }

    /// A page of a customer's dead letters, the last given up first; of one conference, or all.
    pub async fn webhook_failures(
        &self,
        customer: CustomerId,
        conference: Option<ConferenceId>,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<Page<WebhookFailure>, StoreError> {
        let (before, before_id) = Cursor::bounds(after);
        let rows = query(
            "SELECT * FROM webhook_failures WHERE customer_id = $1 AND ($2 IS NULL OR conference_id = $2) \
             AND (tm_create, id) < ($3, $4) ORDER BY tm_create DESC, id DESC LIMIT $5",
        )
        .bind(customer.to_string())
        .bind(conference.map(|id| id.to_string()))
        .bind(before)
        .bind(before_id)
        .bind(i64::from(size) + 1)
        .fetch_all(&self.inner.readers)
        .await?;
        let rows = rows.iter().map(failure).collect::<Result<_, _>>()?;
        Ok(Page::from_rows(rows, size, |one: &WebhookFailure| Cursor {
            tm_create: one.tm_create,
            id: one.id,
        }))
    }

    /// Puts a dead letter back into the outbox, behind what waits there, its age counted anew. `None`
    /// when this customer has no such one.
    pub async fn replay_webhook(
        &self,
        customer: CustomerId,
        id: Uuid,
        now: Timestamp,
    ) -> Result<Option<WebhookFailure>, StoreError> {
        let mut batch = self.begin().await?;
        let row = query("DELETE FROM webhook_failures WHERE id = $1 AND customer_id = $2 RETURNING *")
            .bind(id.hyphenated().to_string())
            .bind(customer.to_string())
            .fetch_optional(&mut *batch)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let failure = failure(&row)?;
        let mut moves = Moves::default();
        requeue(&mut batch, customer, &row, now, &mut moves).await?;
        let _held = batch.commit().await?;
        moves.committed(self);
        Ok(Some(failure))
    }

    /// Puts a customer's dead letters back, in order of their conference's `seq`: up to [`REPLAY_MAX`]
    /// and as many as the outbox takes. Returns how many.
    pub async fn replay_webhooks(&self, customer: CustomerId, now: Timestamp) -> Result<u64, StoreError> {
        let room = self.inner.fill.room(customer).min(u64::from(REPLAY_MAX));
        let mut batch = self.begin().await?;
        // The oldest of a conference first: what stays behind is never older than what goes.
        let rows = query(
            "SELECT * FROM webhook_failures WHERE customer_id = $1 ORDER BY conference_id, seq LIMIT $2",
        )
        .bind(customer.to_string())
        .bind(signed(room))
        .fetch_all(&mut *batch)
        .await?;
        let mut moves = Moves::default();
        for row in &rows {
            requeue(&mut batch, customer, row, now, &mut moves).await?;
            query("DELETE FROM webhook_failures WHERE position = $1")
                .bind(row.try_get::<i64>("position")?)
                .execute(&mut *batch)
                .await?;
        }
        let _held = batch.commit().await?;
        moves.committed(self);
        Ok(rows.len() as u64)
    }
}

/// Puts the event of a dead letter's row behind what waits in the outbox.
async fn requeue(
    connection: &mut Connection,
    customer: CustomerId,
    row: &Row,
    now: Timestamp,
    moves: &mut Moves,
) -> Result<(), sqlx::Error> {
    query(
        "INSERT INTO outbox (customer_id, conference_id, seq, tm_queue, attempts, reason, body) \
         VALUES ($1, $2, $3, $4, 0, '', $5)",
    )
    .bind(customer.to_string())
    .bind(row.try_get::<&str>("conference_id")?)
    .bind(row.try_get::<i64>("seq")?)
    .bind(now.as_micros())
    .bind(row.try_get::<&str>("body")?)
    .execute(connection)
    .await?;
    moves.add(customer, 1);
    moves.queued += 1;
    Ok(())
}

fn failure(row: &Row) -> Result<WebhookFailure, StoreError> {
    let event: Event = body(row, "webhook failure")?;
    let event = serde_json::to_value(event).map_err(|error| damaged("webhook failure", &error))?;
    Ok(WebhookFailure {
        id: uuid_column(row, "id")?,
        customer_id: CustomerId(uuid_column(row, "customer_id")?),
        conference_id: ConferenceId(uuid_column(row, "conference_id")?),
        event,
        attempts: row.number("attempts")?,
        reason: row.try_get("reason")?,
        tm_create: time_column(row, "tm_create")?,
    })
}

#[cfg(test)]
mod tests;
