//! The writer: batches the bridge's changes into transactions and releases replies in order, each
//! only when what it speaks of is on disk.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{error, info};

use super::audit::{self, Audit};
use super::database::Connection;
use super::event::EVENTS_TOTAL_MAX;
use super::flow::ACTIVEFLOWS_MAX;
use super::outbox::{self, Moves, OutboxChange};
use super::pending::{EVENTS_PENDING_MAX, Pending, RESOURCES_PENDING_MAX};
use super::query::write_rows;
use super::read::{conference_status, conference_type, conferencecall_status};
use super::{Store, count, event, flow, recording, transcribe};
use crate::bridge::command::Reply;
use crate::bridge::event::{Change, ConferenceRecord};
use crate::bridge::resource::{Conference, Conferencecall, RecordingStatus};
use crate::time::Timestamp;

/// Writes that wait for the writer; beyond it the control task waits.
pub const WRITES_WAITING_MAX: usize = 16_384;
/// Writes taken into one transaction.
pub const BATCH_MAX: usize = 1024;
/// How long after a failed commit the next is tried; doubles up to [`RETRY_LAST`].
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest wait between two tries.
const RETRY_LAST: Duration = Duration::from_secs(5);
/// Tries to write what is left when the server stops.
const LAST_TRIES: usize = 3;

/// The change is in effect, but it could not be written to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the change is in effect but not durable: the store cannot write")]
pub struct NotDurable;

/// What the writer is given, in the order the bridge made it.
#[derive(Debug)]
pub enum Write {
    /// A step of the projection.
    Change(Change),
    /// An answer that waits until every change before it is on disk.
    Reply {
        /// Who asked.
        to: oneshot::Sender<Result<Reply, NotDurable>>,
        /// The answer.
        reply: Reply,
    },
    /// What became of an event of the outbox.
    Outbox(OutboxChange),
    /// An entry of the audit log.
    Audit {
        /// The entry.
        audit: Box<Audit>,
        /// Tells when it is on disk, or that it has to wait for it.
        done: oneshot::Sender<Result<(), NotDurable>>,
    },
    /// Tells when every change before it is on disk, trying at once.
    Flush(oneshot::Sender<Result<(), NotDurable>>),
}

/// Starts the writer. It stops, having written what it can, when every sender is gone.
pub fn spawn_writer(store: Store) -> (mpsc::Sender<Write>, JoinHandle<()>) {
    let (sender, inbox) = mpsc::channel(WRITES_WAITING_MAX);
    let writer = Writer::new(store, RESOURCES_PENDING_MAX, EVENTS_PENDING_MAX);
    (sender, tokio::spawn(writer.run(inbox)))
}

/// Who waits for the batch to be on disk.
#[derive(Debug)]
enum Waiting {
    Reply(oneshot::Sender<Result<Reply, NotDurable>>, Reply),
    Flush(oneshot::Sender<Result<(), NotDurable>>),
}

/// What a batch did beside what it was given.
struct Written {
    /// Events that went to keep the limits.
    events_trimmed: u64,
    /// Entries of the audit log that went to keep the limits.
    audits_trimmed: u64,
    /// What came into the outbox and left it.
    moves: Moves,
}

/// The running writer.
pub(super) struct Writer {
    store: Store,
    pending: Pending,
    waiting: Vec<Waiting>,
    /// After a failed commit: when to try again, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
}

impl Writer {
    pub(super) fn new(store: Store, resources_max: usize, events_max: usize) -> Self {
        Self { store, pending: Pending::new(resources_max, events_max), waiting: Vec::new(), retry: None }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Write>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let received = match self.retry {
                None => inbox.recv_many(&mut batch, BATCH_MAX).await,
                Some((at, _)) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(at) => {
                        self.settle(true).await;
                        continue;
                    }
                    received = inbox.recv_many(&mut batch, BATCH_MAX) => received,
                },
            };
            if received == 0 {
                break;
            }
            let mut flush = false;
            for write in batch.drain(..) {
                flush |= matches!(write, Write::Flush(_));
                self.absorb(write);
            }
            // While the disk refuses, only the retry timer and a flush knock again.
            self.settle(flush || self.retry.is_none()).await;
        }
        for _ in 0..LAST_TRIES {
            self.settle(true).await;
        }
        if !self.pending.is_empty() {
            error!(changes = self.pending.len(), "the store could not write its last changes; they are lost");
        }
    }

    fn absorb(&mut self, write: Write) {
        match write {
            Write::Change(change) => {
                if !self.pending.absorb(change) {
                    count(&self.store.inner.counts.changes_dropped, 1);
                }
            }
            Write::Outbox(change) => {
                if !self.pending.absorb_outbox(change) {
                    count(&self.store.inner.counts.changes_dropped, 1);
                }
            }
            Write::Audit { audit, done } => {
                if !self.pending.absorb_audit(*audit) {
                    count(&self.store.inner.counts.changes_dropped, 1);
                }
                self.waiting.push(Waiting::Flush(done));
            }
            Write::Reply { to, reply } => self.waiting.push(Waiting::Reply(to, reply)),
            Write::Flush(done) => self.waiting.push(Waiting::Flush(done)),
        }
    }

    /// Writes what is pending, if `attempt`, and tells everyone who waits how it went.
    async fn settle(&mut self, attempt: bool) {
        if !self.pending.is_empty() && attempt {
            match self.commit().await {
                Ok(()) => self.succeeded(),
                Err(failure) => self.failed(&failure),
            }
        }
        let outcome = if self.pending.is_empty() { Ok(()) } else { Err(NotDurable) };
        for waiting in self.waiting.drain(..) {
            // Who asked may have gone: then nobody needs the answer.
            match waiting {
                Waiting::Reply(to, reply) if outcome.is_ok() || changes_nothing(&reply) => {
                    drop(to.send(Ok(reply)))
                }
                Waiting::Reply(to, _) => drop(to.send(Err(NotDurable))),
                Waiting::Flush(done) => drop(done.send(outcome)),
            }
        }
    }

    /// One transaction with everything that is pending.
    async fn commit(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.store.writer().await?;
        match self.write_batch(&mut connection).await {
            Ok(written) => {
                count(&self.store.inner.counts.events_trimmed, written.events_trimmed);
                count(&self.store.inner.counts.audits_trimmed, written.audits_trimmed);
                written.moves.committed(&self.store);
                Ok(())
            }
            Err(failure) => {
                connection.roll_back().await;
                Err(failure)
            }
        }
    }

    /// Writes everything that is pending.
    async fn write_batch(&self, connection: &mut Connection) -> Result<Written, sqlx::Error> {
        let mut moves = Moves::default();
        connection.begin().await?;
        let records = self.pending.conferences.values().map(|record| &**record);
        upsert_conferences(connection, records).await?;
        let calls = self.pending.conferencecalls.values().map(|call| &**call);
        upsert_conferencecalls(connection, calls).await?;
        for resource in self.pending.transcribes.values() {
            transcribe::upsert(connection, resource).await?;
        }
        for transcript in &self.pending.transcripts {
            transcribe::insert_transcript(connection, transcript).await?;
        }
        transcribe::trim(connection, &self.pending.transcripts).await?;
        for recording in self.pending.recordings.values() {
            recording::upsert(connection, recording).await?;
        }
        for stored in self.pending.flows.values() {
            flow::upsert_flow(connection, stored).await?;
        }
        for run in self.pending.activeflows.values() {
            flow::upsert_activeflow(connection, run).await?;
        }
        if self.pending.activeflows.values().any(|run| flow::trims(run)) {
            flow::trim_activeflows(connection, ACTIVEFLOWS_MAX).await?;
        }
        let new = event::insert(connection, &self.pending.events).await?;
        outbox::queue(connection, &self.store.inner.fill, &new, &mut moves).await?;
        outbox::apply(connection, &self.pending.outbox, &mut moves).await?;
        let mut audits_trimmed = 0;
        for entry in &self.pending.audits {
            audits_trimmed += audit::insert(connection, entry).await?;
        }
        let events_trimmed = event::trim(connection, &self.pending.events, EVENTS_TOTAL_MAX).await?;
        connection.commit().await?;
        Ok(Written { events_trimmed, audits_trimmed, moves })
    }

    fn succeeded(&mut self) {
        let inner = &self.store.inner;
        count(&inner.counts.commits, 1);
        count(&inner.counts.changes, self.pending.len() as u64);
        for pending in &self.pending.events {
            inner.feed.tell(pending);
        }
        if self.pending.recordings.values().any(|recording| recording.status == RecordingStatus::Ended) {
            inner.files_changed.send_replace(());
        }
        self.pending.clear();
        if self.retry.take().is_some() {
            info!("the store can write again; every change it kept is on disk");
        }
        inner.durable.send_if_modified(|durable| !std::mem::replace(durable, true));
    }

    fn failed(&mut self, failure: &sqlx::Error) {
        let inner = &self.store.inner;
        count(&inner.counts.commit_failures, 1);
        let wait = self.retry.map_or(RETRY_FIRST, |(_, wait)| (wait * 2).min(RETRY_LAST));
        if self.retry.is_none() {
            error!(%failure, "the store cannot write; changes are kept in memory and tried again");
        }
        self.retry = Some((Instant::now() + wait, wait));
        inner.durable.send_if_modified(|durable| std::mem::replace(durable, false));
    }
}

/// Whether this answer is true without anything new on disk.
fn changes_nothing(reply: &Reply) -> bool {
    matches!(
        reply,
        Reply::Conferences(_)
            | Reply::Conferencecalls(_)
            | Reply::Recordings(_)
            | Reply::Stream(_)
            | Reply::Transcribes(_)
            | Reply::Flows(_)
            | Reply::Activeflows(_)
            | Reply::Refused(_)
    )
}

/// Writes the newest states of conferences. Who is in is left out: that is known live, and after a
/// restart nobody is; a room of thousands would be rewritten whole at every join.
pub(super) async fn upsert_conferences<'r>(
    connection: &mut Connection,
    records: impl IntoIterator<Item = &'r ConferenceRecord>,
) -> Result<(), sqlx::Error> {
    let row = |record: &'r ConferenceRecord| {
        let conference = &record.conference;
        let body = if conference.conferencecall_ids.is_empty() {
            encode(conference)?
        } else {
            encode(&Conference { conferencecall_ids: Vec::new(), ..conference.clone() })?
        };
        Ok(vec![
            conference.id.to_string().into(),
            conference.customer_id.to_string().into(),
            conference_type(conference.r#type).into(),
            conference_status(conference.status).into(),
            (conference.tm_delete != Timestamp::NEVER).into(),
            event::signed(record.event_seq).into(),
            conference.tm_create.as_micros().into(),
            body.into(),
        ])
    };
    let rows = records.into_iter().map(row).collect::<Result<Vec<_>, sqlx::Error>>()?;
    write_rows(
        connection,
        "INSERT INTO conferences (id, customer_id, type, status, deleted, event_seq, tm_create, body) VALUES",
        "(?, ?, ?, ?, ?, ?, ?, ?)",
        "ON CONFLICT (id) DO UPDATE SET status = excluded.status, deleted = excluded.deleted, \
         event_seq = excluded.event_seq, body = excluded.body",
        rows,
    )
    .await?;
    Ok(())
}

async fn upsert_conferencecalls<'r>(
    connection: &mut Connection,
    calls: impl IntoIterator<Item = &'r Conferencecall>,
) -> Result<(), sqlx::Error> {
    let row = |call: &'r Conferencecall| {
        Ok(vec![
            call.id.to_string().into(),
            call.customer_id.to_string().into(),
            call.conference_id.to_string().into(),
            conferencecall_status(call.status).into(),
            call.tm_create.as_micros().into(),
            encode(call)?.into(),
        ])
    };
    let rows = calls.into_iter().map(row).collect::<Result<Vec<_>, sqlx::Error>>()?;
    write_rows(
        connection,
        "INSERT INTO conferencecalls (id, customer_id, conference_id, status, tm_create, body) VALUES",
        "(?, ?, ?, ?, ?, ?)",
        "ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body",
        rows,
    )
    .await?;
    Ok(())
}

pub(super) fn encode<T: serde::Serialize>(resource: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(resource).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}
