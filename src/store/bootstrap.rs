//! The first start: a customer, an access key and an admin key, so that there is someone to be.

use super::accesskey::{NewAccesskey, Scope, is_access_key, key_digest, random_key};
use super::customer::{NewCustomer, uuid_column};
use super::query::query;
use super::{Store, StoreError};
use crate::id::CustomerId;
use crate::rng::Rng;
use crate::time::Timestamp;

/// The setting that holds the first customer's id.
const DEFAULT_CUSTOMER: &str = "default_customer_id";
/// The setting that holds the admin key's SHA-256.
const ADMIN_KEY: &str = "admin_key_sha256";
/// The name of the first customer and of the access key made for it.
const DEFAULT_NAME: &str = "default";
/// What marks the one access key that the environment fixes.
const FIXED_DETAIL: &str = "fixed by CONFAB_ACCESSKEY";

/// What [`Store::bootstrap`] made; keys are here in the clear once, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The access key, if one was made now.
    pub created_access_key: Option<String>,
    /// The admin key, if one was made now.
    pub created_admin_key: Option<String>,
    /// The first customer.
    pub customer_id: CustomerId,
}

impl Store {
    /// Sees to it that there is a first customer with an access key, and an admin key. Keys that are
    /// given take the place of the ones given before; without, they are made on the first start only.
    pub async fn bootstrap(
        &self,
        accesskey: Option<String>,
        admin_key: Option<String>,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Result<Bootstrap, StoreError> {
        if accesskey.as_deref().is_some_and(|key| !is_access_key(key)) {
            return Err(StoreError::KeyForm);
        }
        let (customer_id, is_new) = self.default_customer(now, rng).await?;
        let created_access_key = match accesskey {
            Some(key) => {
                self.fix_access_key(customer_id, key, now, rng).await?;
                None
            }
            None if is_new || !self.has_accesskeys(customer_id).await? => {
                let new = NewAccesskey {
                    customer: customer_id,
                    name: DEFAULT_NAME.to_owned(),
                    detail: String::new(),
                    scope: Scope::Manage,
                    tm_expire: Timestamp::NEVER,
                };
                Some(self.create_accesskey(new, now, rng).await?.token)
            }
            None => None,
        };
        let created_admin_key = match admin_key {
            Some(key) => {
                self.set_admin_digest(key_digest(&key)).await?;
                None
            }
            None if self.admin_digest().is_none() => {
                let key = random_key(rng);
                self.set_admin_digest(key_digest(&key)).await?;
                Some(key)
            }
            None => None,
        };
        Ok(Bootstrap { created_access_key, created_admin_key, customer_id })
    }

    /// Whether this is the digest of the admin key. Digests may be compared in any time: who does not
    /// know the key cannot steer its digest.
    pub fn is_admin_key(&self, digest: &[u8; 32]) -> bool {
        self.admin_digest().as_ref() == Some(digest)
    }

    fn admin_digest(&self) -> Option<[u8; 32]> {
        // A poisoned lock still holds a whole value: it is replaced in one step.
        *self.inner.admin_digest.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) async fn load_admin_digest(&self) -> Result<(), StoreError> {
        let Some(stored) = self.setting(ADMIN_KEY).await? else { return Ok(()) };
        let digest = stored
            .try_into()
            .map_err(|_| StoreError::Damaged { what: "admin key", why: "it is no SHA-256".to_owned() })?;
        *self.inner.admin_digest.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(digest);
        Ok(())
    }

    async fn set_admin_digest(&self, digest: [u8; 32]) -> Result<(), StoreError> {
        if self.admin_digest() != Some(digest) {
            self.set_setting(ADMIN_KEY, &digest).await?;
            *self.inner.admin_digest.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
                Some(digest);
        }
        Ok(())
    }

    /// The first customer, and whether it was made now.
    async fn default_customer(
        &self,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Result<(CustomerId, bool), StoreError> {
        if let Some(stored) = self.setting(DEFAULT_CUSTOMER).await? {
            let id = uuid::Uuid::from_slice(&stored)
                .map_err(|error| StoreError::Damaged { what: "first customer", why: error.to_string() })?;
            return Ok((CustomerId(id), false));
        }
        let id = CustomerId::random(rng);
        let new = NewCustomer { name: DEFAULT_NAME.to_owned(), ..NewCustomer::default() };
        self.create_customer(id, new, now).await?;
        self.set_setting(DEFAULT_CUSTOMER, id.0.as_bytes()).await?;
        Ok((id, true))
    }

    /// Makes `key` the one fixed key of the customer; the one fixed before stops working.
    async fn fix_access_key(
        &self,
        customer: CustomerId,
        key: String,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Result<(), StoreError> {
        let digest = key_digest(&key);
        if self.find_key(&digest).await?.is_some_and(|owner| owner.customer == customer) {
            return Ok(());
        }
        let never = Timestamp::NEVER.as_micros();
        query("UPDATE accesskeys SET tm_delete = $2, tm_update = $2 WHERE customer_id = $1 AND detail = $3 AND tm_delete = $4")
            .bind(customer.to_string())
            .bind(now.as_micros())
            .bind(FIXED_DETAIL)
            .bind(never)
            .execute(&self.inner.writer)
            .await?;
        // A key that was deleted comes back when it is fixed again: digests are unique.
        let returned = query(
            "UPDATE accesskeys SET tm_delete = $2, tm_update = $3, tm_expire = $2, customer_id = $4, detail = $5, scope = 'manage' \
             WHERE token_sha256 = $1 RETURNING id",
        )
        .bind(digest.to_vec())
        .bind(never)
        .bind(now.as_micros())
        .bind(customer.to_string())
        .bind(FIXED_DETAIL)
        .fetch_optional(&self.inner.writer)
        .await?;
        match returned {
            Some(row) => uuid_column(&row, "id").map(|_| ())?,
            None => {
                let new = NewAccesskey {
                    customer,
                    name: DEFAULT_NAME.to_owned(),
                    detail: FIXED_DETAIL.to_owned(),
                    scope: Scope::Manage,
                    tm_expire: Timestamp::NEVER,
                };
                self.insert_accesskey(rng.uuid(), key, new, now).await?;
            }
        }
        self.forget_keys();
        Ok(())
    }

    async fn has_accesskeys(&self, customer: CustomerId) -> Result<bool, StoreError> {
        let row = query("SELECT 1 FROM accesskeys WHERE customer_id = $1 LIMIT 1")
            .bind(customer.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        Ok(row.is_some())
    }

    async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let row = query("SELECT value FROM settings WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.inner.readers)
            .await?;
        Ok(row.map(|row| row.try_get("value")).transpose()?)
    }

    async fn set_setting(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value")
            .bind(name)
            .bind(value)
            .execute(&self.inner.writer)
            .await?;
        Ok(())
    }
}
