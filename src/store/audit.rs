//! The audit log: who made which changing call, when, and how it ended.

use serde::Serialize;
use uuid::Uuid;

use super::customer::{time_column, uuid_column};
use super::database::Connection;
use super::page::{Cursor, Page};
use super::query::{Row, query};
use super::{Store, StoreError};
use crate::id::CustomerId;
use crate::time::{Duration, Timestamp};

/// Entries kept of one customer; the oldest are deleted first.
pub const AUDITS_PER_CUSTOMER_MAX: u32 = 100_000;
/// Entries kept in all; the oldest are deleted first.
pub const AUDITS_TOTAL_MAX: u32 = 1_000_000;
/// How long an entry is kept: 90 days.
pub const AUDITS_KEPT: Duration = Duration::from_secs(90 * 86_400);
/// The log is trimmed once for this many entries: up to so many more may be kept.
const TRIM_EVERY: i64 = 256;

/// An entry of the audit log, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Audit {
    /// The entry's id.
    pub id: Uuid,
    /// The customer the key acts for; nil for the admin key.
    #[schema(value_type = Uuid)]
    pub customer_id: CustomerId,
    /// The access key's id, never the key; nil for the admin key.
    pub accesskey_id: Uuid,
    /// The HTTP method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The id of the request, as in `X-Request-Id`.
    pub request_id: String,
    /// The IP address it came from.
    pub source: String,
    /// When it was answered.
    #[schema(value_type = String)]
    pub tm_create: Timestamp,
}

/// Writes an entry within the batch. Returns how many went to keep the limits.
pub(super) async fn insert(connection: &mut Connection, audit: &Audit) -> Result<u64, sqlx::Error> {
    let row = query(
        "INSERT INTO audits (id, customer_id, accesskey_id, method, path, status, request_id, source, tm_create) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING position",
    )
    .bind(audit.id.hyphenated().to_string())
    .bind(audit.customer_id.to_string())
    .bind(audit.accesskey_id.hyphenated().to_string())
    .bind(&audit.method)
    .bind(&audit.path)
    .bind(u32::from(audit.status))
    .bind(&audit.request_id)
    .bind(&audit.source)
    .bind(audit.tm_create.as_micros())
    .fetch_optional(&mut *connection)
    .await?;
    let position = row.map(|row| row.try_get::<i64>("position")).transpose()?;
    if position.is_none_or(|position| position % TRIM_EVERY != 0) {
        return Ok(0);
    }
    trim(connection, audit.customer_id, audit.tm_create, AUDITS_PER_CUSTOMER_MAX, AUDITS_TOTAL_MAX).await
}

/// Deletes what is too old or too much, the oldest first. Returns how many.
pub(super) async fn trim(
    connection: &mut Connection,
    customer: CustomerId,
    now: Timestamp,
    per_customer_max: u32,
    total_max: u32,
) -> Result<u64, sqlx::Error> {
    let kept_us = i64::try_from(AUDITS_KEPT.as_micros()).unwrap_or(i64::MAX);
    let old = query("DELETE FROM audits WHERE tm_create < $1")
        .bind(now.as_micros().saturating_sub(kept_us))
        .execute(&mut *connection)
        .await?;
    let own = query(
        "DELETE FROM audits WHERE customer_id = $1 AND (tm_create, id) <= \
         (SELECT tm_create, id FROM audits WHERE customer_id = $1 ORDER BY tm_create DESC, id DESC LIMIT 1 OFFSET $2)",
    )
    .bind(customer.to_string())
    .bind(per_customer_max)
    .execute(&mut *connection)
    .await?;
    // Positions have gaps at most where rows were deleted: never more than the total stay.
    let all = query("DELETE FROM audits WHERE position <= (SELECT max(position) FROM audits) - $1")
        .bind(total_max)
        .execute(connection)
        .await?;
    Ok(old + own + all)
}

impl Store {
    /// A page of the audit log, newest first; of one customer, or all.
    pub async fn audits(
        &self,
        customer: Option<CustomerId>,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<Page<Audit>, StoreError> {
        let (before, before_id) = Cursor::bounds(after);
        // Two queries, as each has its own index.
        let sql = if customer.is_some() {
            "SELECT * FROM audits WHERE customer_id = $4 AND (tm_create, id) < ($1, $2) ORDER BY tm_create DESC, id DESC LIMIT $3"
        } else {
            "SELECT * FROM audits WHERE $4 IS NULL AND (tm_create, id) < ($1, $2) ORDER BY tm_create DESC, id DESC LIMIT $3"
        };
        let rows = query(sql)
            .bind(before)
            .bind(before_id)
            .bind(i64::from(size) + 1)
            .bind(customer.map(|id| id.to_string()))
            .fetch_all(&self.inner.readers)
            .await?;
        let rows = rows.iter().map(from_row).collect::<Result<_, _>>()?;
        Ok(Page::from_rows(rows, size, |one: &Audit| Cursor { tm_create: one.tm_create, id: one.id }))
    }
}

fn from_row(row: &Row) -> Result<Audit, StoreError> {
    Ok(Audit {
        id: uuid_column(row, "id")?,
        customer_id: CustomerId(uuid_column(row, "customer_id")?),
        accesskey_id: uuid_column(row, "accesskey_id")?,
        method: row.try_get("method")?,
        path: row.try_get("path")?,
        status: row.number("status")?,
        request_id: row.try_get("request_id")?,
        source: row.try_get("source")?,
        tm_create: time_column(row, "tm_create")?,
    })
}

#[cfg(test)]
mod tests;
