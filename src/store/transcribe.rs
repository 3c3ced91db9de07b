//! Transcriptions and transcripts as stored.

use super::database::Connection;
use super::page::{Cursor, Page};
use super::query::query;
use super::read::body;
use super::writer::encode;
use super::{Store, StoreError};
use crate::bridge::resource::{Transcribe, TranscribeStatus, Transcript};
use crate::id::{ConferenceId, CustomerId, TranscribeId};

/// Transcripts kept in all; the oldest are deleted first.
pub const TRANSCRIPTS_TOTAL_MAX: u64 = 1_000_000;

impl Store {
    /// A transcription of this customer.
    pub async fn transcribe(
        &self,
        customer: CustomerId,
        id: TranscribeId,
    ) -> Result<Option<Transcribe>, StoreError> {
        let row = query("SELECT body FROM transcribes WHERE id = $1 AND customer_id = $2")
            .bind(id.to_string())
            .bind(customer.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| body(&row, "transcribe")).transpose()
    }

    /// A page of a customer's transcriptions, newest first.
    pub async fn transcribes(
        &self,
        customer: CustomerId,
        conference: Option<ConferenceId>,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<Page<Transcribe>, StoreError> {
        let (before, before_id) = Cursor::bounds(after);
        let rows = query(
            "SELECT body FROM transcribes WHERE customer_id = $1 AND ($2 IS NULL OR reference_id = $2) \
             AND (tm_create, id) < ($3, $4) ORDER BY tm_create DESC, id DESC LIMIT $5",
        )
        .bind(customer.to_string())
        .bind(conference.map(|id| id.to_string()))
        .bind(before)
        .bind(before_id)
        .bind(i64::from(size) + 1)
        .fetch_all(&self.inner.readers)
        .await?;
        let rows = rows.iter().map(|row| body(row, "transcribe")).collect::<Result<_, _>>()?;
        Ok(Page::from_rows(rows, size, |t: &Transcribe| Cursor { tm_create: t.tm_create, id: t.id.0 }))
    }

    /// A page of what was heard in a customer's transcription, newest first.
    pub async fn transcripts(
        &self,
        customer: CustomerId,
        transcribe: TranscribeId,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<Page<Transcript>, StoreError> {
        let (before, before_id) = Cursor::bounds(after);
        let rows = query(
            "SELECT body FROM transcripts WHERE customer_id = $1 AND transcribe_id = $2 \
             AND (tm_create, id) < ($3, $4) ORDER BY tm_create DESC, id DESC LIMIT $5",
        )
        .bind(customer.to_string())
        .bind(transcribe.to_string())
        .bind(before)
        .bind(before_id)
        .bind(i64::from(size) + 1)
        .fetch_all(&self.inner.readers)
        .await?;
        let rows = rows.iter().map(|row| body(row, "transcript")).collect::<Result<_, _>>()?;
        Ok(Page::from_rows(rows, size, |t: &Transcript| Cursor { tm_create: t.tm_create, id: t.id.0 }))
    }

    /// Every transcription that was not done: what a restart goes on with.
    pub async fn open_transcribes(&self) -> Result<Vec<Transcribe>, StoreError> {
        let rows = query("SELECT body FROM transcribes WHERE status <> 'done' ORDER BY tm_create, id")
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(|row| body(row, "transcribe")).collect()
    }
}

/// Writes the newest state of a transcription within the batch.
pub(super) async fn upsert(connection: &mut Connection, transcribe: &Transcribe) -> Result<(), sqlx::Error> {
    query(
        "INSERT INTO transcribes (id, customer_id, reference_id, status, tm_create, body) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body",
    )
    .bind(transcribe.id.to_string())
    .bind(transcribe.customer_id.to_string())
    .bind(transcribe.reference_id.to_string())
    .bind(match transcribe.status {
        TranscribeStatus::Progressing => "progressing",
        TranscribeStatus::Done => "done",
    })
    .bind(transcribe.tm_create.as_micros())
    .bind(encode(transcribe)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes one transcript within the batch. One that is there already (a retried batch) is left alone.
pub(super) async fn insert_transcript(
    connection: &mut Connection,
    transcript: &Transcript,
) -> Result<(), sqlx::Error> {
    query(
        "INSERT INTO transcripts (id, customer_id, transcribe_id, tm_create, body) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(transcript.id.to_string())
    .bind(transcript.customer_id.to_string())
    .bind(transcript.transcribe_id.to_string())
    .bind(transcript.tm_create.as_micros())
    .bind(encode(transcript)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes what the limit does not allow to keep, after these were written.
pub(super) async fn trim(connection: &mut Connection, written: &[Transcript]) -> Result<(), sqlx::Error> {
    if !written.is_empty() {
        query("DELETE FROM transcripts WHERE position <= (SELECT max(position) FROM transcripts) - $1")
            .bind(i64::try_from(TRANSCRIPTS_TOTAL_MAX).unwrap_or(i64::MAX))
            .execute(connection)
            .await?;
    }
    Ok(())
}
