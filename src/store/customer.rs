//! Customers, the owners of conferences.

use std::sync::atomic::Ordering;

use serde::Serialize;
use uuid::Uuid;

use super::page::{Cursor, Page};
use super::query::{Row, query};
use super::{Store, StoreError};
use crate::id::CustomerId;
use crate::time::Timestamp;

/// A customer, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Customer {
    /// The customer's id.
    #[schema(value_type = Uuid)]
    pub id: CustomerId,
    /// Name, for people.
    pub name: String,
    /// Description, for people.
    pub detail: String,
    /// Where people of it are reached.
    pub email: String,
    /// Where its events are sent; empty for nowhere.
    pub webhook_uri: String,
    /// The HTTP method they are sent by; empty for POST.
    pub webhook_method: String,
    /// When it was created.
    #[schema(value_type = String)]
    pub tm_create: Timestamp,
    /// When it last changed, or `9999-01-01 00:00:00.000000`.
    #[schema(value_type = String)]
    pub tm_update: Timestamp,
    /// When it was deleted, or `9999-01-01 00:00:00.000000`.
    #[schema(value_type = String)]
    pub tm_delete: Timestamp,
}

/// What a new customer is made from.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NewCustomer {
    /// Name.
    pub name: String,
    /// Description.
    pub detail: String,
    /// Where people of it are reached.
    pub email: String,
    /// Where its events are sent; empty for nowhere.
    pub webhook_uri: String,
    /// By which HTTP method; empty for POST.
    pub webhook_method: String,
    /// What signs them; empty for no signature.
    pub webhook_secret: String,
}

/// Changes of a customer: `None` leaves a key as it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomerChange {
    /// New name.
    pub name: Option<String>,
    /// New description.
    pub detail: Option<String>,
    /// New address.
    pub email: Option<String>,
    /// New place for its events.
    pub webhook_uri: Option<String>,
    /// New HTTP method.
    pub webhook_method: Option<String>,
    /// New secret that signs.
    pub webhook_secret: Option<String>,
}

impl Store {
    /// Makes a customer with this id.
    pub async fn create_customer(
        &self,
        id: CustomerId,
        new: NewCustomer,
        now: Timestamp,
    ) -> Result<Customer, StoreError> {
        query(
            "INSERT INTO customers (id, name, detail, webhook_uri, webhook_method, webhook_secret, tm_create, tm_update, tm_delete, email) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)",
        )
        .bind(id.to_string())
        .bind(&new.name)
        .bind(&new.detail)
        .bind(&new.webhook_uri)
        .bind(&new.webhook_method)
        .bind(&new.webhook_secret)
        .bind(now.as_micros())
        .bind(Timestamp::NEVER.as_micros())
        .bind(&new.email)
        .execute(&self.inner.writer)
        .await?;
        let NewCustomer { name, detail, email, webhook_uri, webhook_method, .. } = new;
        Ok(Customer {
            id,
            name,
            detail,
            email,
            webhook_uri,
            webhook_method,
            tm_create: now,
            tm_update: Timestamp::NEVER,
            tm_delete: Timestamp::NEVER,
        })
    }

    /// A customer, deleted or not.
    pub async fn customer(&self, id: CustomerId) -> Result<Option<Customer>, StoreError> {
        let row = query("SELECT * FROM customers WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| from_row(&row)).transpose()
    }

    /// A page of the customers that are not deleted, newest first.
    pub async fn customers(&self, after: Option<Cursor>, size: u32) -> Result<Page<Customer>, StoreError> {
        let (before, before_id) = Cursor::bounds(after);
        let rows = query(
            "SELECT * FROM customers WHERE tm_delete = $1 AND (tm_create, id) < ($2, $3) \
             ORDER BY tm_create DESC, id DESC LIMIT $4",
        )
        .bind(Timestamp::NEVER.as_micros())
        .bind(before)
        .bind(before_id)
        .bind(i64::from(size) + 1)
        .fetch_all(&self.inner.readers)
        .await?;
        let rows = rows.iter().map(from_row).collect::<Result<_, _>>()?;
        Ok(Page::from_rows(rows, size, |c: &Customer| Cursor { tm_create: c.tm_create, id: c.id.0 }))
    }

    /// Changes a customer that is not deleted; `None` when there is no such one.
    pub async fn update_customer(
        &self,
        id: CustomerId,
        change: CustomerChange,
        now: Timestamp,
    ) -> Result<Option<Customer>, StoreError> {
        query(
            "UPDATE customers SET name = coalesce($2, name), detail = coalesce($3, detail), tm_update = $4, \
             webhook_uri = coalesce($6, webhook_uri), webhook_method = coalesce($7, webhook_method), \
             webhook_secret = coalesce($8, webhook_secret), email = coalesce($9, email) WHERE id = $1 AND tm_delete = $5",
        )
        .bind(id.to_string())
        .bind(change.name)
        .bind(change.detail)
        .bind(now.as_micros())
        .bind(Timestamp::NEVER.as_micros())
        .bind(change.webhook_uri)
        .bind(change.webhook_method)
        .bind(change.webhook_secret)
        .bind(change.email)
        .execute(&self.inner.writer)
        .await?;
        self.customer(id).await
    }

    /// Deletes a customer, and with it its access keys; changes nothing when it is deleted already.
    /// `None` when there is no such one.
    pub async fn delete_customer(
        &self,
        id: CustomerId,
        now: Timestamp,
    ) -> Result<Option<Customer>, StoreError> {
        let mut batch = self.begin().await?;
        for sql in [
            "UPDATE customers SET tm_delete = $2, tm_update = $2 WHERE id = $1 AND tm_delete = $3",
            "UPDATE accesskeys SET tm_delete = $2, tm_update = $2 WHERE customer_id = $1 AND tm_delete = $3",
        ] {
            query(sql)
                .bind(id.to_string())
                .bind(now.as_micros())
                .bind(Timestamp::NEVER.as_micros())
                .execute(&mut *batch)
                .await?;
        }
        batch.commit().await?;
        self.forget_keys();
        self.customer(id).await
    }

    /// Whether this customer has conferences that have not ended.
    pub async fn has_live_conferences(&self, id: CustomerId) -> Result<bool, StoreError> {
        let row =
            query("SELECT 1 FROM conferences WHERE customer_id = $1 AND status <> 'terminated' LIMIT 1")
                .bind(id.to_string())
                .fetch_optional(&self.inner.readers)
                .await?;
        Ok(row.is_some())
    }

    /// Makes every cached key be looked up anew.
    pub(super) fn forget_keys(&self) {
        self.inner.keys_generation.fetch_add(1, Ordering::SeqCst);
        self.inner.keys.clear();
        self.inner.keys_changed.send_replace(());
    }
}

fn from_row(row: &Row) -> Result<Customer, StoreError> {
    Ok(Customer {
        id: CustomerId(uuid_column(row, "id")?),
        name: row.try_get("name")?,
        detail: row.try_get("detail")?,
        email: row.try_get("email")?,
        webhook_uri: row.try_get("webhook_uri")?,
        webhook_method: row.try_get("webhook_method")?,
        tm_create: time_column(row, "tm_create")?,
        tm_update: time_column(row, "tm_update")?,
        tm_delete: time_column(row, "tm_delete")?,
    })
}

/// A UUID stored as text.
pub(super) fn uuid_column(row: &Row, column: &'static str) -> Result<Uuid, StoreError> {
    let text: &str = row.try_get(column)?;
    Uuid::parse_str(text).map_err(|error| StoreError::Damaged { what: column, why: error.to_string() })
}

/// A time stored as microseconds.
pub(super) fn time_column(row: &Row, column: &'static str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}
