//! Events as stored: written with the batch they belong to, read in order, trimmed by limits.

use super::customer::time_column;
use std::collections::HashSet;

use super::database::Connection;
use super::feed::Told;
use super::pending::PendingEvent;
use super::query::{Row, query, write_rows};
use super::{Store, StoreError};
use crate::bridge::event::Event;
use crate::id::{ConferenceId, CustomerId};

/// Events kept of one conference; older ones are deleted.
pub const EVENTS_PER_CONFERENCE_MAX: u64 = 10_000;
/// Events kept in all; the oldest are deleted first.
pub const EVENTS_TOTAL_MAX: u64 = 1_000_000;
/// A conference is trimmed once for this many of its events: up to so many more may be kept.
const TRIM_EVERY: u64 = 256;

impl Store {
    /// Up to `limit` events of a conference with a `seq` greater than `after_seq`, in order.
    pub async fn events(
        &self,
        conference: ConferenceId,
        after_seq: u64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let rows = query("SELECT type, data, seq, tm_event FROM events WHERE conference_id = $1 AND seq > $2 ORDER BY seq LIMIT $3")
            .bind(conference.to_string())
            .bind(i64::try_from(after_seq).unwrap_or(i64::MAX))
            .bind(limit)
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter()
            .map(|row| {
                let data: &str = row.try_get("data")?;
                Ok(Event {
                    r#type: row.try_get("type")?,
                    data: serde_json::from_str(data)
                        .map_err(|error| StoreError::Damaged { what: "event", why: error.to_string() })?,
                    seq: row.try_get::<i64>("seq")?.unsigned_abs(),
                    tm_event: time_column(row, "tm_event")?,
                })
            })
            .collect()
    }

    /// The same, of a conference of this customer only, as they were told.
    pub async fn events_told(
        &self,
        customer: CustomerId,
        conference: ConferenceId,
        after_seq: u64,
        limit: u32,
    ) -> Result<Vec<Told>, StoreError> {
        let rows = query(
            "SELECT type, data, seq, tm_event FROM events WHERE conference_id = $1 AND customer_id = $2 AND seq > $3 \
             ORDER BY seq LIMIT $4",
        )
        .bind(conference.to_string())
        .bind(customer.to_string())
        .bind(signed(after_seq))
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await?;
        let told = |row: &Row| {
            let (r#type, data): (&str, &str) = (row.try_get("type")?, row.try_get("data")?);
            let seq = row.try_get::<i64>("seq")?.unsigned_abs();
            let tm_event = time_column(row, "tm_event")?;
            let text =
                format!("{{\"type\":\"{type}\",\"data\":{data},\"seq\":{seq},\"tm_event\":\"{tm_event}\"}}");
            Ok(Told { conference, seq, text: text.into() })
        };
        rows.iter().map(told).collect()
    }
}

/// Writes events within the batch. One that is there already (a retried batch) is left alone. Gives those
/// that were new, in order.
pub(super) async fn insert<'e>(
    connection: &mut Connection,
    events: &'e [PendingEvent],
) -> Result<Vec<&'e PendingEvent>, sqlx::Error> {
    let rows = events.iter().map(|pending| {
        vec![
            pending.customer.to_string().into(),
            pending.conference.to_string().into(),
            signed(pending.event.seq).into(),
            (&pending.event.r#type).into(),
            pending.event.tm_event.as_micros().into(),
            pending.event.data.to_string().into(),
        ]
    });
    let rows = write_rows(
        connection,
        "INSERT INTO events (customer_id, conference_id, seq, type, tm_event, data) VALUES",
        "(?, ?, ?, ?, ?, ?)",
        "ON CONFLICT (conference_id, seq) DO NOTHING RETURNING conference_id, seq",
        rows,
    )
    .await?;
    let mut new = HashSet::with_capacity(rows.len());
    for row in &rows {
        new.insert((row.try_get::<&str>("conference_id")?.to_owned(), row.try_get::<i64>("seq")?));
    }
    // Taken out, so that one that was given twice is new once.
    let is_new =
        |pending: &&PendingEvent| new.remove(&(pending.conference.to_string(), signed(pending.event.seq)));
    Ok(events.iter().filter(is_new).collect())
}

/// Deletes what the limits do not allow to keep, after these events were written. Returns how many.
pub(super) async fn trim(
    connection: &mut Connection,
    written: &[PendingEvent],
    total_max: u64,
) -> Result<u64, sqlx::Error> {
    let mut trimmed = 0;
    for pending in written {
        let seq = pending.event.seq;
        if seq > EVENTS_PER_CONFERENCE_MAX && seq.is_multiple_of(TRIM_EVERY) {
            let done = query("DELETE FROM events WHERE conference_id = $1 AND seq <= $2")
                .bind(pending.conference.to_string())
                .bind(signed(seq - EVENTS_PER_CONFERENCE_MAX))
                .execute(&mut *connection)
                .await?;
            trimmed += done;
        }
    }
    if !written.is_empty() {
        // Positions have gaps at most where the limit above deleted: never more than the total stay.
        let done = query("DELETE FROM events WHERE position <= (SELECT max(position) FROM events) - $1")
            .bind(signed(total_max))
            .execute(connection)
            .await?;
        trimmed += done;
    }
    Ok(trimmed)
}

/// SQLite's integers are signed; no count here comes near their end.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
