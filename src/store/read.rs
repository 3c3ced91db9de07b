//! Reads of conferences and conferencecalls: by id, by the page, and what a restart needs. Also the
//! one change the store makes by itself: deleting a conference that has ended.

use serde::de::DeserializeOwned;

use super::page::{Cursor, Page};
use super::pending::PendingEvent;
use super::query::{Row, query};
use super::{Store, StoreError, event, outbox, writer};
use crate::bridge::ENDED_HASHES_MAX;
use crate::bridge::event::{ConferenceRecord, Event};
use crate::bridge::resource::{
    Conference, ConferenceStatus, ConferenceType, Conferencecall, ConferencecallStatus, Transcribe,
};
use crate::id::{ConferenceId, ConferencecallId, CustomerId};
use crate::time::Timestamp;

/// What the bridge goes on with after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// Every conference that had not ended, and then the ended ones whose hash is answered 410, the
    /// longest ended first.
    pub conferences: Vec<ConferenceRecord>,
    /// Every conferencecall that was open; its call is gone.
    pub open_calls: Vec<Conferencecall>,
    /// Every transcription that was not done.
    pub transcribes: Vec<Transcribe>,
}

impl Restored {
    /// How many of the conferences go on.
    pub fn live(&self) -> usize {
        self.conferences.iter().filter(|r| r.conference.status != ConferenceStatus::Terminated).count()
    }
}

/// What [`Store::delete_ended_conference`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// No such conference of this customer.
    Unknown,
    /// It has not ended, as far as the disk knows.
    Live(Box<Conference>),
    /// It is deleted, now or since earlier.
    Deleted(Box<Conference>),
}

impl Store {
    /// Every conference and conferencecall that had not ended, and the ended conferences whose hash is
    /// still theirs: the [`ENDED_HASHES_MAX`] that ended last.
    pub async fn restore(&self) -> Result<Restored, StoreError> {
        let rows = query(
            "SELECT event_seq, body FROM conference_records WHERE status <> 'terminated' ORDER BY tm_create, id",
        )
        .fetch_all(&self.inner.readers)
        .await?;
        let mut conferences = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        conferences.extend(self.ended_with_hash(ENDED_HASHES_MAX).await?);
        let rows = query("SELECT body FROM conferencecalls WHERE status <> 'leaved' ORDER BY tm_create, id")
            .fetch_all(&self.inner.readers)
            .await?;
        let open_calls = rows.iter().map(conferencecall).collect::<Result<_, _>>()?;
        Ok(Restored { conferences, open_calls, transcribes: self.open_transcribes().await? })
    }

    /// The `max` conferences that ended last and still have a hash, the longest ended first.
    pub(super) async fn ended_with_hash(&self, max: usize) -> Result<Vec<ConferenceRecord>, StoreError> {
        let rows = query(
            "SELECT event_seq, body FROM conference_records WHERE status = 'terminated' AND deleted = 0 \
             AND json_extract(body, '$.direct_hash') <> '' ORDER BY json_extract(body, '$.tm_end') DESC LIMIT $1",
        )
        .bind(i64::try_from(max).unwrap_or(i64::MAX))
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter().rev().map(record).collect()
    }

    /// A conference of this customer, deleted or not.
    pub async fn conference(
        &self,
        customer: CustomerId,
        id: ConferenceId,
    ) -> Result<Option<Conference>, StoreError> {
        let row = query("SELECT body FROM conferences WHERE id = $1 AND customer_id = $2")
            .bind(id.to_string())
            .bind(customer.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| conference(&row)).transpose()
    }

    /// Whether any customer has or had a conference with this id.
    pub async fn is_conference_id_taken(&self, id: ConferenceId) -> Result<bool, StoreError> {
        let row = query("SELECT 1 FROM conferences WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        Ok(row.is_some())
    }

    /// A page of a customer's conferences that are not deleted, newest first.
    pub async fn conferences(
        &self,
        customer: CustomerId,
        r#type: Option<ConferenceType>,
        status: Option<ConferenceStatus>,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<Page<Conference>, StoreError> {
        let (before, before_id) = Cursor::bounds(after);
        let rows = query(
            "SELECT body FROM conferences WHERE customer_id = $1 AND deleted = 0 AND ($2 IS NULL OR type = $2) \
             AND ($3 IS NULL OR status = $3) AND (tm_create, id) < ($4, $5) ORDER BY tm_create DESC, id DESC LIMIT $6",
        )
        .bind(customer.to_string())
        .bind(r#type.map(conference_type))
        .bind(status.map(conference_status))
        .bind(before)
        .bind(before_id)
        .bind(i64::from(size) + 1)
        .fetch_all(&self.inner.readers)
        .await?;
        let rows = rows.iter().map(conference).collect::<Result<_, _>>()?;
        Ok(Page::from_rows(rows, size, |c: &Conference| Cursor { tm_create: c.tm_create, id: c.id.0 }))
    }

    /// A conferencecall of this customer.
    pub async fn conferencecall(
        &self,
        customer: CustomerId,
        id: ConferencecallId,
    ) -> Result<Option<Conferencecall>, StoreError> {
        let row = query("SELECT body FROM conferencecalls WHERE id = $1 AND customer_id = $2")
            .bind(id.to_string())
            .bind(customer.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| conferencecall(&row)).transpose()
    }

    /// A page of a customer's conferencecalls, those that have left included, newest first.
    pub async fn conferencecalls(
        &self,
        customer: CustomerId,
        conference: Option<ConferenceId>,
        status: Option<ConferencecallStatus>,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<Page<Conferencecall>, StoreError> {
        // Two queries, as each has its own index.
        let sql = if conference.is_some() {
            "SELECT body FROM conferencecalls WHERE conference_id = $2 AND customer_id = $1 AND ($3 IS NULL OR status = $3) \
             AND (tm_create, id) < ($4, $5) ORDER BY tm_create DESC, id DESC LIMIT $6"
        } else {
            "SELECT body FROM conferencecalls WHERE customer_id = $1 AND $2 IS NULL AND ($3 IS NULL OR status = $3) \
             AND (tm_create, id) < ($4, $5) ORDER BY tm_create DESC, id DESC LIMIT $6"
        };
        let (before, before_id) = Cursor::bounds(after);
        let rows = query(sql)
            .bind(customer.to_string())
            .bind(conference.map(|id| id.to_string()))
            .bind(status.map(conferencecall_status))
            .bind(before)
            .bind(before_id)
            .bind(i64::from(size) + 1)
            .fetch_all(&self.inner.readers)
            .await?;
        let rows = rows.iter().map(conferencecall).collect::<Result<_, _>>()?;
        Ok(Page::from_rows(rows, size, |c: &Conferencecall| Cursor { tm_create: c.tm_create, id: c.id.0 }))
    }

    /// Deletes a conference that has ended and that the bridge has forgotten: sets `tm_delete`, frees
    /// the hash and adds the `conference_deleted` event. Changes nothing when it is deleted already.
    pub async fn delete_ended_conference(
        &self,
        customer: CustomerId,
        id: ConferenceId,
        now: Timestamp,
    ) -> Result<Ended, StoreError> {
        let mut batch = self.begin().await?;
        let row = query("SELECT event_seq, body FROM conference_records WHERE id = $1 AND customer_id = $2")
            .bind(id.to_string())
            .bind(customer.to_string())
            .fetch_optional(&mut *batch)
            .await?;
        let Some(row) = row else { return Ok(Ended::Unknown) };
        let mut record = record(&row)?;
        if record.conference.tm_delete != Timestamp::NEVER {
            return Ok(Ended::Deleted(Box::new(record.conference)));
        }
        if record.conference.status != ConferenceStatus::Terminated {
            return Ok(Ended::Live(Box::new(record.conference)));
        }
        record.conference.tm_delete = now;
        record.conference.tm_update = now;
        record.conference.direct_hash.clear();
        record.event_seq += 1;
        writer::upsert_conferences(&mut batch, [&record]).await?;
        let data = serde_json::to_value(&record.conference).map_err(|error| damaged("conference", &error))?;
        let event =
            Event { r#type: "conference_deleted".to_owned(), data, seq: record.event_seq, tm_event: now };
        let pending = PendingEvent::new(customer, id, Box::new(event));
        let mut moves = outbox::Moves::default();
        let new = event::insert(&mut batch, std::slice::from_ref(&pending)).await?;
        outbox::queue(&mut batch, &self.inner.fill, &new, &mut moves).await?;
        let _held = batch.commit().await?;
        moves.committed(self);
        self.inner.feed.tell(&pending);
        Ok(Ended::Deleted(Box::new(record.conference)))
    }
}

fn conference(row: &Row) -> Result<Conference, StoreError> {
    body(row, "conference")
}

fn record(row: &Row) -> Result<ConferenceRecord, StoreError> {
    Ok(ConferenceRecord {
        conference: conference(row)?,
        event_seq: row.try_get::<i64>("event_seq")?.unsigned_abs(),
    })
}

fn conferencecall(row: &Row) -> Result<Conferencecall, StoreError> {
    body(row, "conferencecall")
}

/// The resource in a row's `body`; `what` names it in the error.
pub(super) fn body<T: DeserializeOwned>(row: &Row, what: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(row.try_get("body")?).map_err(|error| damaged(what, &error))
}

pub(super) fn damaged(what: &'static str, error: &serde_json::Error) -> StoreError {
    StoreError::Damaged { what, why: error.to_string() }
}

/// The word for a conference's type, as in the API.
pub(super) fn conference_type(r#type: ConferenceType) -> &'static str {
    match r#type {
        ConferenceType::Conference => "conference",
        ConferenceType::Connect => "connect",
    }
}

/// The word for a conference's status, as in the API.
pub(super) fn conference_status(status: ConferenceStatus) -> &'static str {
    match status {
        ConferenceStatus::Starting => "starting",
        ConferenceStatus::Progressing => "progressing",
        ConferenceStatus::Terminating => "terminating",
        ConferenceStatus::Terminated => "terminated",
    }
}

/// The word for a conferencecall's status, as in the API.
pub(super) fn conferencecall_status(status: ConferencecallStatus) -> &'static str {
    match status {
        ConferencecallStatus::Joining => "joining",
        ConferencecallStatus::Joined => "joined",
        ConferencecallStatus::Leaving => "leaving",
        ConferencecallStatus::Leaved => "leaved",
    }
}
