//! Access keys: made here, shown once, kept as SHA-256.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::customer::{time_column, uuid_column};
use super::database::Connection;
use super::page::{Cursor, Page};
use super::query::{Row, query};
use super::{Store, StoreError};
use crate::id::CustomerId;
use crate::rng::Rng;
use crate::time::{Duration, Timestamp};

/// What every access key begins with.
pub const KEY_PREFIX: &str = "vb_";
/// The characters after it.
pub const KEY_CHARACTERS: usize = 32;
/// How much of a key may be shown: enough to tell keys apart, nothing to guess the rest by.
const SHOWN_CHARACTERS: usize = 8;
/// Keys whose owner is remembered; beyond it the memory starts anew.
const KEYS_CACHED_MAX: usize = 10_000;

/// What an access key may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look, and nothing else.
    Read,
    /// Look and change.
    #[default]
    Manage,
}

impl Scope {
    /// The word for it, as in the API.
    fn word(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Manage => "manage",
        }
    }
}

/// An access key, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Accesskey {
    /// The access key's id.
    pub id: Uuid,
    /// The customer it acts for.
    #[schema(value_type = Uuid)]
    pub customer_id: CustomerId,
    /// Name, for people.
    pub name: String,
    /// Description, for people.
    pub detail: String,
    /// The key itself in the answer that makes it; empty ever after.
    pub token: String,
    /// Its first characters.
    pub token_prefix: String,
    /// What it may do: `read` or `manage`.
    pub scope: Scope,
    /// When it stops working, or `9999-01-01 00:00:00.000000`.
    #[schema(value_type = String)]
    pub tm_expire: Timestamp,
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

/// What a new access key is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccesskey {
    /// Whom it acts for.
    pub customer: CustomerId,
    /// Name.
    pub name: String,
    /// Description.
    pub detail: String,
    /// What it may do.
    pub scope: Scope,
    /// When it stops working; [`Timestamp::NEVER`] for never.
    pub tm_expire: Timestamp,
}

/// Changes of an access key: `None` leaves a key as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccesskeyChange {
    /// New name.
    pub name: Option<String>,
    /// New description.
    pub detail: Option<String>,
    /// New scope.
    pub scope: Option<Scope>,
    /// New end.
    pub tm_expire: Option<Timestamp>,
}

/// Whom a valid key acts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyOwner {
    /// The key's id.
    pub accesskey: Uuid,
    /// The customer.
    pub customer: CustomerId,
    /// What it may do.
    pub scope: Scope,
    /// When the key stops working.
    pub tm_expire: Timestamp,
}

/// A remembered owner and the state of all keys it was read in.
#[derive(Clone, Copy, Debug)]
pub(super) struct CachedKey {
    generation: u64,
    owner: KeyOwner,
}

/// Whether `text` has the form of an access key: `vb_` and 32 letters or digits.
pub fn is_access_key(text: &str) -> bool {
    text.strip_prefix(KEY_PREFIX)
        .is_some_and(|rest| rest.len() == KEY_CHARACTERS && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// The SHA-256 of a key: all that is ever stored of it.
pub fn key_digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// A fresh key: `vb_` and 32 letters or digits, 190 bits of chance.
pub(super) fn random_key(rng: &mut Rng) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let letters =
        (0..KEY_CHARACTERS).map(|_| char::from(ALPHABET[rng.below(ALPHABET.len() as u64) as usize]));
    KEY_PREFIX.chars().chain(letters).collect()
}

impl Store {
    /// Makes an access key; its `token` is in this answer and nowhere else. The customer must exist.
    pub async fn create_accesskey(
        &self,
        new: NewAccesskey,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Result<Accesskey, StoreError> {
        let token = random_key(rng);
        self.insert_accesskey(rng.uuid(), token, new, now).await
    }

    /// Stores a key that is known already.
    pub(super) async fn insert_accesskey(
        &self,
        id: Uuid,
        token: String,
        new: NewAccesskey,
        now: Timestamp,
    ) -> Result<Accesskey, StoreError> {
        let mut connection = self.writer().await?;
        insert(&mut connection, id, token, new, now).await
    }

    /// Makes a new key beside an old one, which stops working after `overlap`, or when it would have
    /// anyhow. The new one is like the old one was. `None` when there is no such key, or it is deleted.
    pub async fn rotate_accesskey(
        &self,
        id: Uuid,
        overlap: Duration,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Result<Option<Accesskey>, StoreError> {
        let mut batch = self.begin().await?;
        let row = query("SELECT * FROM accesskeys WHERE id = $1 AND tm_delete = $2")
            .bind(id.hyphenated().to_string())
            .bind(Timestamp::NEVER.as_micros())
            .fetch_optional(&mut *batch)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let old = from_row(&row)?;
        let new = NewAccesskey {
            customer: old.customer_id,
            name: old.name,
            detail: old.detail,
            scope: old.scope,
            tm_expire: old.tm_expire,
        };
        let made = insert(&mut batch, rng.uuid(), random_key(rng), new, now).await?;
        query("UPDATE accesskeys SET tm_expire = CASE WHEN tm_expire < $2 THEN tm_expire ELSE $2 END, tm_update = $3 WHERE id = $1")
            .bind(id.hyphenated().to_string())
            .bind(now.plus(overlap).as_micros())
            .bind(now.as_micros())
            .execute(&mut *batch)
            .await?;
        batch.commit().await?;
        self.forget_keys();
        Ok(Some(made))
    }

    /// An access key, deleted or not.
    pub async fn accesskey(&self, id: Uuid) -> Result<Option<Accesskey>, StoreError> {
        let row = query("SELECT * FROM accesskeys WHERE id = $1")
            .bind(id.hyphenated().to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| from_row(&row)).transpose()
    }

    /// A page of the access keys that are not deleted, newest first; of one customer, or all.
    pub async fn accesskeys(
        &self,
        customer: Option<CustomerId>,
        after: Option<Cursor>,
        size: u32,
    ) -> Result<Page<Accesskey>, StoreError> {
        let (before, before_id) = Cursor::bounds(after);
        let rows = query(
            "SELECT * FROM accesskeys WHERE tm_delete = $1 AND ($5 IS NULL OR customer_id = $5) AND (tm_create, id) < ($2, $3) \
             ORDER BY tm_create DESC, id DESC LIMIT $4",
        )
        .bind(Timestamp::NEVER.as_micros())
        .bind(before)
        .bind(before_id)
        .bind(i64::from(size) + 1)
        .bind(customer.map(|id| id.to_string()))
        .fetch_all(&self.inner.readers)
        .await?;
        let rows = rows.iter().map(from_row).collect::<Result<_, _>>()?;
        Ok(Page::from_rows(rows, size, |key: &Accesskey| Cursor { tm_create: key.tm_create, id: key.id }))
    }

    /// Changes an access key that is not deleted; `None` when there is no such one.
    pub async fn update_accesskey(
        &self,
        id: Uuid,
        change: AccesskeyChange,
        now: Timestamp,
    ) -> Result<Option<Accesskey>, StoreError> {
        query(
            "UPDATE accesskeys SET name = coalesce($2, name), detail = coalesce($3, detail), tm_expire = coalesce($4, tm_expire), \
             tm_update = $5, scope = coalesce($7, scope) WHERE id = $1 AND tm_delete = $6",
        )
        .bind(id.hyphenated().to_string())
        .bind(change.name)
        .bind(change.detail)
        .bind(change.tm_expire.map(Timestamp::as_micros))
        .bind(now.as_micros())
        .bind(Timestamp::NEVER.as_micros())
        .bind(change.scope.map(Scope::word))
        .execute(&self.inner.writer)
        .await?;
        self.forget_keys();
        self.accesskey(id).await
    }

    /// Deletes an access key at once; changes nothing when it is deleted already. `None` when there
    /// is no such one.
    pub async fn delete_accesskey(&self, id: Uuid, now: Timestamp) -> Result<Option<Accesskey>, StoreError> {
        query("UPDATE accesskeys SET tm_delete = $2, tm_update = $2 WHERE id = $1 AND tm_delete = $3")
            .bind(id.hyphenated().to_string())
            .bind(now.as_micros())
            .bind(Timestamp::NEVER.as_micros())
            .execute(&self.inner.writer)
            .await?;
        self.forget_keys();
        self.accesskey(id).await
    }

    /// Whom the key with this digest acts for, if it was seen since the last change of any key. Does
    /// not touch the disk.
    pub fn cached_key(&self, digest: &[u8; 32]) -> Option<KeyOwner> {
        let cached = *self.inner.keys.get(digest)?;
        (cached.generation == self.inner.keys_generation.load(Ordering::SeqCst)).then_some(cached.owner)
    }

    /// Whom the key with this digest acts for; `None` for an unknown or deleted key. Whether it has
    /// expired is for the caller to see.
    pub async fn find_key(&self, digest: &[u8; 32]) -> Result<Option<KeyOwner>, StoreError> {
        if let Some(owner) = self.cached_key(digest) {
            return Ok(Some(owner));
        }
        // Read before the row: a change in between makes what is cached below void.
        let generation = self.inner.keys_generation.load(Ordering::SeqCst);
        let row = query(
            "SELECT id, customer_id, scope, tm_expire FROM accesskeys WHERE token_sha256 = $1 AND tm_delete = $2",
        )
        .bind(digest.as_slice())
        .bind(Timestamp::NEVER.as_micros())
        .fetch_optional(&self.inner.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let owner = KeyOwner {
            accesskey: uuid_column(&row, "id")?,
            customer: CustomerId(uuid_column(&row, "customer_id")?),
            scope: scope_column(&row)?,
            tm_expire: time_column(&row, "tm_expire")?,
        };
        if self.inner.keys.len() >= KEYS_CACHED_MAX {
            self.inner.keys.clear();
        }
        self.inner.keys.insert(*digest, CachedKey { generation, owner });
        Ok(Some(owner))
    }
}

fn from_row(row: &Row) -> Result<Accesskey, StoreError> {
    Ok(Accesskey {
        id: uuid_column(row, "id")?,
        customer_id: CustomerId(uuid_column(row, "customer_id")?),
        name: row.try_get("name")?,
        detail: row.try_get("detail")?,
        token: String::new(),
        token_prefix: row.try_get("token_prefix")?,
        scope: scope_column(row)?,
        tm_expire: time_column(row, "tm_expire")?,
        tm_create: time_column(row, "tm_create")?,
        tm_update: time_column(row, "tm_update")?,
        tm_delete: time_column(row, "tm_delete")?,
    })
}

/// A scope stored as its word.
fn scope_column(row: &Row) -> Result<Scope, StoreError> {
    match row.try_get("scope")? {
        "read" => Ok(Scope::Read),
        "manage" => Ok(Scope::Manage),
        other => Err(StoreError::Damaged { what: "scope", why: format!("{other:?} is none") }),
    }
}

/// Stores a key that is known already.
async fn insert(
    connection: &mut Connection,
    id: Uuid,
    token: String,
    new: NewAccesskey,
    now: Timestamp,
) -> Result<Accesskey, StoreError> {
    let token_prefix: String = token.chars().take(SHOWN_CHARACTERS).collect();
    query(
        "INSERT INTO accesskeys (id, customer_id, name, detail, token_prefix, token_sha256, tm_expire, tm_create, tm_update, \
         tm_delete, scope) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)",
    )
    .bind(id.hyphenated().to_string())
    .bind(new.customer.to_string())
    .bind(&new.name)
    .bind(&new.detail)
    .bind(&token_prefix)
    .bind(key_digest(&token).to_vec())
    .bind(new.tm_expire.as_micros())
    .bind(now.as_micros())
    .bind(Timestamp::NEVER.as_micros())
    .bind(new.scope.word())
    .execute(connection)
    .await?;
    let NewAccesskey { customer, name, detail, scope, tm_expire } = new;
    let never = Timestamp::NEVER;
    Ok(Accesskey {
        id,
        customer_id: customer,
        name,
        detail,
        token,
        token_prefix,
        scope,
        tm_expire,
        tm_create: now,
        tm_update: never,
        tm_delete: never,
    })
}
