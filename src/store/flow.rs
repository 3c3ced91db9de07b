//! Flows and activeflows as stored: written with the batch they belong to, read by id and by the
//! page, trimmed by a limit.

use super::database::Connection;
use super::page::{Cursor, Page};
use super::query::query;
use super::read::body;
use super::writer::encode;
use super::{Store, StoreError};
use crate::bridge::flow::resource::ActiveflowStatus;
use crate::bridge::flow::{Activeflow, Flow};
use crate::id::{ActiveflowId, ConferenceId, CustomerId, FlowId};
use crate::time::Timestamp;

/// Activeflows kept in all; the oldest that are over are deleted first. Up to a few hundred more may be
/// kept until it is looked at again.
pub const ACTIVEFLOWS_MAX: u64 = 200_000;
/// One of so many activeflows has the limit looked at when it is over: that reads the whole index.
const TRIM_EVERY: u128 = 256;

/// The flows a restart goes on with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RestoredFlows {
    /// Every flow that is not deleted.
    pub flows: Vec<Flow>,
    /// Every activeflow that ran when the process ended.
    pub running: Vec<Activeflow>,
}

impl Store {
    /// Every flow that is not deleted, and every activeflow that ran.
    pub async fn restore_flows(&self) -> Result<RestoredFlows, StoreError> {
        let rows = query("SELECT body FROM flows WHERE deleted = 0 ORDER BY tm_create, id")
            .fetch_all(&self.inner.readers)
            .await?;
        let flows = rows.iter().map(|row| body(row, "flow")).collect::<Result<_, _>>()?;
        let rows = query("SELECT body FROM activeflows WHERE running = 1 ORDER BY tm_create, id")
            .fetch_all(&self.inner.readers)
            .await?;
        let running = rows.iter().map(|row| body(row, "activeflow")).collect::<Result<_, _>>()?;
        Ok(RestoredFlows { flows, running })
    }

    /// A flow of this customer, deleted or not.
    pub async fn flow(&self, customer: CustomerId, id: FlowId) -> Result<Option<Flow>, StoreError> {
        let row = query("SELECT body FROM flows WHERE id = $1 AND customer_id = $2")
            .bind(id.to_string())
            .bind(customer.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| body(&row, "flow")).transpose()
    }

    /// A page of a customer's flows that are not deleted, newest first.
    pub async fn flows(
        &self,
        customer: CustomerId,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<Page<Flow>, StoreError> {
        let (before, before_id) = Cursor::bounds(after);
        let rows = query(
            "SELECT body FROM flows WHERE customer_id = $1 AND deleted = 0 AND (tm_create, id) < ($2, $3) \
             ORDER BY tm_create DESC, id DESC LIMIT $4",
        )
        .bind(customer.to_string())
        .bind(before)
        .bind(before_id)
        .bind(i64::from(size) + 1)
        .fetch_all(&self.inner.readers)
        .await?;
        let rows = rows.iter().map(|row| body(row, "flow")).collect::<Result<_, _>>()?;
        Ok(Page::from_rows(rows, size, |flow: &Flow| Cursor { tm_create: flow.tm_create, id: flow.id.0 }))
    }

    /// An activeflow of this customer.
    pub async fn activeflow(
        &self,
        customer: CustomerId,
        id: ActiveflowId,
    ) -> Result<Option<Activeflow>, StoreError> {
        let row = query("SELECT body FROM activeflows WHERE id = $1 AND customer_id = $2")
            .bind(id.to_string())
            .bind(customer.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| body(&row, "activeflow")).transpose()
    }

    /// A page of a customer's activeflows, those that are over included, newest first.
    pub async fn activeflows(
        &self,
        customer: CustomerId,
        conference: Option<ConferenceId>,
        flow: Option<FlowId>,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<Page<Activeflow>, StoreError> {
        let (before, before_id) = Cursor::bounds(after);
        // Three queries, as each has its own index.
        let sql = match (conference, flow) {
            (Some(_), _) => {
                "SELECT body FROM activeflows WHERE conference_id = $2 AND customer_id = $1 AND ($3 IS NULL OR flow_id = $3) \
                 AND (tm_create, id) < ($4, $5) ORDER BY tm_create DESC, id DESC LIMIT $6"
            }
            (None, Some(_)) => {
                "SELECT body FROM activeflows WHERE flow_id = $3 AND customer_id = $1 AND $2 IS NULL \
                 AND (tm_create, id) < ($4, $5) ORDER BY tm_create DESC, id DESC LIMIT $6"
            }
            (None, None) => {
                "SELECT body FROM activeflows WHERE customer_id = $1 AND $2 IS NULL AND $3 IS NULL \
                 AND (tm_create, id) < ($4, $5) ORDER BY tm_create DESC, id DESC LIMIT $6"
            }
        };
        let rows = query(sql)
            .bind(customer.to_string())
            .bind(conference.map(|id| id.to_string()))
            .bind(flow.map(|id| id.to_string()))
            .bind(before)
            .bind(before_id)
            .bind(i64::from(size) + 1)
            .fetch_all(&self.inner.readers)
            .await?;
        let rows = rows.iter().map(|row| body(row, "activeflow")).collect::<Result<_, _>>()?;
        Ok(Page::from_rows(rows, size, |run: &Activeflow| Cursor { tm_create: run.tm_create, id: run.id.0 }))
    }
}

/// Writes the newest state of a flow.
pub(super) async fn upsert_flow(connection: &mut Connection, flow: &Flow) -> Result<(), sqlx::Error> {
    query(
        "INSERT INTO flows (id, customer_id, deleted, tm_create, body) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (id) DO UPDATE SET deleted = excluded.deleted, body = excluded.body",
    )
    .bind(flow.id.to_string())
    .bind(flow.customer_id.to_string())
    .bind(flow.tm_delete != Timestamp::NEVER)
    .bind(flow.tm_create.as_micros())
    .bind(encode(flow)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the newest state of an activeflow.
pub(super) async fn upsert_activeflow(
    connection: &mut Connection,
    run: &Activeflow,
) -> Result<(), sqlx::Error> {
    query(
        "INSERT INTO activeflows (id, customer_id, conference_id, flow_id, running, tm_create, body) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (id) DO UPDATE SET running = excluded.running, body = excluded.body",
    )
    .bind(run.id.to_string())
    .bind(run.customer_id.to_string())
    .bind(run.conference_id.to_string())
    .bind(run.flow_id.to_string())
    .bind(run.status == ActiveflowStatus::Running)
    .bind(run.tm_create.as_micros())
    .bind(encode(run)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the limit is to be looked at after this one was written.
pub(super) fn trims(run: &Activeflow) -> bool {
    run.status == ActiveflowStatus::Ended && run.id.0.as_u128().is_multiple_of(TRIM_EVERY)
}

/// Deletes the oldest activeflows that are over beyond `max`. Returns how many.
pub(super) async fn trim_activeflows(connection: &mut Connection, max: u64) -> Result<u64, sqlx::Error> {
    let done = query(
        "DELETE FROM activeflows WHERE running = 0 AND (tm_create, id) <= \
         (SELECT tm_create, id FROM activeflows ORDER BY tm_create DESC, id DESC LIMIT 1 OFFSET $1)",
    )
    .bind(i64::try_from(max).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(done)
}
