//! Recordings as stored: written with the batch they belong to, read by id and by the page, deleted
//! by their owner or by retention.

use super::database::Connection;
use super::page::{Cursor, Page};
use super::query::{Row, query};
use super::read::body;
use super::{Store, StoreError, writer};
use crate::bridge::resource::{Recording, RecordingStatus};
use crate::id::{ConferenceId, CustomerId, RecordingId};
use crate::time::Timestamp;

/// What [`Store::delete_recording`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum EndedRecording {
    /// No such recording of this customer.
    Unknown,
    /// It has not ended, as far as the disk knows.
    Live,
    /// It is deleted, now or since earlier.
    Deleted(Box<Recording>),
}

impl Store {
    /// A recording of this customer, deleted or not.
    pub async fn recording(
        &self,
        customer: CustomerId,
        id: RecordingId,
    ) -> Result<Option<Recording>, StoreError> {
        let row = query("SELECT body FROM recordings WHERE id = $1 AND customer_id = $2")
            .bind(id.to_string())
            .bind(customer.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| recording(&row)).transpose()
    }

    /// A page of a customer's recordings that are not deleted, newest first.
    pub async fn recordings(
        &self,
        customer: CustomerId,
        conference: Option<ConferenceId>,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<Page<Recording>, StoreError> {
        let (before, before_id) = Cursor::bounds(after);
        let rows = query(
            "SELECT body FROM recordings WHERE customer_id = $1 AND deleted = 0 AND ($2 IS NULL OR conference_id = $2) \
             AND (tm_create, id) < ($3, $4) ORDER BY tm_create DESC, id DESC LIMIT $5",
        )
        .bind(customer.to_string())
        .bind(conference.map(|id| id.to_string()))
        .bind(before)
        .bind(before_id)
        .bind(i64::from(size) + 1)
        .fetch_all(&self.inner.readers)
        .await?;
        let rows = rows.iter().map(recording).collect::<Result<_, _>>()?;
        Ok(Page::from_rows(rows, size, |r: &Recording| Cursor { tm_create: r.tm_create, id: r.id.0 }))
    }

    /// Every recording that had not ended: what a restart closes.
    pub async fn open_recordings(&self) -> Result<Vec<Recording>, StoreError> {
        let rows = query("SELECT body FROM recordings WHERE status <> 'ended' ORDER BY tm_create, id")
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(recording).collect()
    }

    /// Deletes a recording that has ended: sets `tm_delete`; its files in storage are to go. Changes nothing when it is deleted already.
    pub async fn delete_recording(
        &self,
        customer: CustomerId,
        id: RecordingId,
        now: Timestamp,
    ) -> Result<EndedRecording, StoreError> {
        let mut batch = self.begin().await?;
        let row = query("SELECT body FROM recordings WHERE id = $1 AND customer_id = $2")
            .bind(id.to_string())
            .bind(customer.to_string())
            .fetch_optional(&mut *batch)
            .await?;
        let Some(row) = row else { return Ok(EndedRecording::Unknown) };
        let mut recording = recording(&row)?;
        if recording.tm_delete != Timestamp::NEVER {
            return Ok(EndedRecording::Deleted(Box::new(recording)));
        }
        if recording.status != RecordingStatus::Ended {
            return Ok(EndedRecording::Live);
        }
        recording.tm_delete = now;
        recording.tm_update = now;
        upsert(&mut batch, &recording).await?;
        query("UPDATE recording_files SET state = 'going', attempts = 0, failure = '', tm_next = 0 WHERE recording_id = $1")
            .bind(id.to_string())
            .execute(&mut *batch)
            .await?;
        batch.commit().await?;
        self.inner.files_changed.send_replace(());
        Ok(EndedRecording::Deleted(Box::new(recording)))
    }

    /// The recordings that retention wants gone: ended ones made before `before`, and the oldest of
    /// what is more than `bytes_max` in all. Up to `limit`, the oldest first.
    pub async fn outlived_recordings(
        &self,
        before: Timestamp,
        bytes_max: u64,
        limit: u32,
    ) -> Result<Vec<Recording>, StoreError> {
        let rows = query(
            "SELECT body FROM (SELECT body, tm_create, id, status, \
             SUM(size_bytes) OVER (ORDER BY tm_create DESC, id DESC) AS total FROM recordings WHERE deleted = 0) AS kept \
             WHERE status = 'ended' AND (tm_create < $1 OR total > $2) ORDER BY tm_create, id LIMIT $3",
        )
        .bind(before.as_micros())
        .bind(i64::try_from(bytes_max).unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter().map(recording).collect()
    }
}

/// Writes the newest state of a recording.
pub(super) async fn upsert(connection: &mut Connection, recording: &Recording) -> Result<(), sqlx::Error> {
    query(
        "INSERT INTO recordings (id, customer_id, conference_id, status, deleted, size_bytes, tm_create, body) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET status = excluded.status, \
         deleted = excluded.deleted, size_bytes = excluded.size_bytes, body = excluded.body",
    )
    .bind(recording.id.to_string())
    .bind(recording.customer_id.to_string())
    .bind(recording.reference_id.to_string())
    .bind(status(recording.status))
    .bind(recording.tm_delete != Timestamp::NEVER)
    .bind(i64::try_from(recording.size_bytes).unwrap_or(i64::MAX))
    .bind(recording.tm_create.as_micros())
    .bind(writer::encode(recording)?)
    .execute(connection)
    .await?;
    Ok(())
}

fn recording(row: &Row) -> Result<Recording, StoreError> {
    body(row, "recording")
}

/// The word for a recording's status, as in the API.
fn status(status: RecordingStatus) -> &'static str {
    match status {
        RecordingStatus::Initiating => "initiating",
        RecordingStatus::Recording => "recording",
        RecordingStatus::Stopping => "stopping",
        RecordingStatus::Ended => "ended",
    }
}
