//! What survives a restart: a database, a projection of the bridge's changes beside customers and access
//! keys. It is embedded (SQLite) or a server's (PostgreSQL); the statements are the same.
//!
//! One connection writes, a few read; [`spawn_writer`] batches the bridge's changes and releases each
//! reply only when what it speaks of is on disk.

mod accesskey;
mod audit;
mod backup;
mod bootstrap;
mod customer;
mod database;
mod event;
mod feed;
mod flow;
mod migration;
mod outbox;
mod page;
mod pending;
mod postgres;
mod query;
mod read;
mod recording;
mod recordingfile;
mod sqlite;
#[cfg(test)]
mod tests;
mod transcribe;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::watch;

use crate::bridge::PartialTranscript;
use crate::config::DatabaseUrl;
use crate::id::CustomerId;
pub use accesskey::{
    Accesskey, AccesskeyChange, KEY_CHARACTERS, KEY_PREFIX, KeyOwner, NewAccesskey, Scope, is_access_key,
    key_digest,
};
pub use audit::{AUDITS_KEPT, AUDITS_PER_CUSTOMER_MAX, AUDITS_TOTAL_MAX, Audit};
pub use backup::copy_database;
pub use bootstrap::Bootstrap;
pub use customer::{Customer, CustomerChange, NewCustomer};
use database::{Batch, Connection, Pool};
pub use event::{EVENTS_PER_CONFERENCE_MAX, EVENTS_TOTAL_MAX};
pub use feed::{FEED_WAITING_MAX, Listening, PARTIALS_WAITING_MAX, Shown, Told};
pub use flow::{ACTIVEFLOWS_MAX, RestoredFlows};
pub use outbox::{
    Arrival, FAILURES_PER_CUSTOMER_MAX, FAILURES_TOTAL_MAX, OUTBOX_PER_CUSTOMER_MAX, OUTBOX_TOTAL_MAX,
    OutboxChange, OutboxRow, REPLAY_MAX, Webhook, WebhookFailure,
};
pub use page::{Cursor, Page};
pub use pending::{
    AUDITS_PENDING_MAX, EVENTS_PENDING_MAX, OUTBOX_CHANGES_PENDING_MAX, RESOURCES_PENDING_MAX,
};
pub use read::{Ended, Restored};
pub use recording::EndedRecording;
pub use recordingfile::{FileState, FilesDue, RecordingFile};
pub use sqlite::DATABASE_FILE;
pub use transcribe::TRANSCRIPTS_TOTAL_MAX;
pub use writer::{BATCH_MAX, NotDurable, WRITES_WAITING_MAX, Write, spawn_writer};

/// Held locked while a server uses the data folder.
const LOCK_FILE: &str = "confab.lock";
/// Connections that read beside the one that writes.
const READERS_MAX: u32 = 4;
/// How long a request waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data folder cannot be made or opened.
    #[error("the data folder {path}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another server has the data folder.
    #[error("the data folder {0} is in use by another confab; choose another with --data")]
    InUse(PathBuf),
    /// Another server has the database.
    #[error("the database {0} is in use by another confab; choose another with --database")]
    DatabaseInUse(String),
    /// The database cannot be used, and what to look at.
    #[error("the database {database} cannot be used: {source}")]
    Unreachable {
        /// Its address, without the password.
        database: String,
        /// What to look at.
        check: &'static str,
        /// What was said.
        source: sqlx::Error,
    },
    /// The database cannot hold every text.
    #[error("the database {database} has the encoding {encoding:?}, and must have UTF8")]
    Unsuitable {
        /// Its address, without the password.
        database: String,
        /// Its encoding.
        encoding: String,
    },
    /// The database is of another version, or its migration failed.
    #[error("the database's version: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The database refused.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// A stored value is not what this version writes.
    #[error("a stored {what} cannot be read: {why}")]
    Damaged {
        /// What kind of value.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The given access key has not the form of one.
    #[error("an access key must be `vb_` followed by 32 letters or digits")]
    KeyForm,
}

/// Counts what the store did and could not do. Read with [`Store::counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Batches committed.
    pub commits: u64,
    /// Changes in them, after newer states of a resource took the place of older ones.
    pub changes: u64,
    /// Batches that could not be committed.
    pub commit_failures: u64,
    /// Changes lost because too many waited for a disk that cannot be written.
    pub changes_dropped: u64,
    /// Events deleted because a retention limit was reached.
    pub events_trimmed: u64,
    /// Events that found the outbox full and became dead letters at once.
    pub outbox_overflowed: u64,
    /// Events that were given up, those included.
    pub webhooks_dead: u64,
    /// Dead letters deleted because a retention limit was reached.
    pub failures_trimmed: u64,
    /// Entries of the audit log deleted because a retention limit was reached.
    pub audits_trimmed: u64,
}

/// The same, as they are counted.
#[derive(Debug, Default)]
struct Counts {
    commits: AtomicU64,
    changes: AtomicU64,
    commit_failures: AtomicU64,
    changes_dropped: AtomicU64,
    events_trimmed: AtomicU64,
    outbox_overflowed: AtomicU64,
    webhooks_dead: AtomicU64,
    failures_trimmed: AtomicU64,
    audits_trimmed: AtomicU64,
}

/// Adds to a counter; counters order nothing.
fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// A handle of the database: reads, customers and access keys. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    readers: Pool,
    /// One connection: positions and counts rely on it.
    writer: Pool,
    counts: Counts,
    durable: watch::Sender<bool>,
    feed: feed::Feed,
    fill: outbox::Fill,
    /// Owners of keys seen, by digest; see [`Store::find_key`].
    keys: DashMap<[u8; 32], accesskey::CachedKey>,
    /// Grows with every change of a key or customer: a cached key of an older one is not believed.
    keys_generation: AtomicU64,
    /// Changes with it.
    keys_changed: watch::Sender<()>,
    /// Changes when a recording has ended or was deleted.
    files_changed: watch::Sender<()>,
    admin_digest: RwLock<Option<[u8; 32]>>,
    /// Keeps other servers out of the folder until the last handle is gone.
    _lock: File,
}

impl Store {
    /// Opens the database in `data_dir`, making and migrating it where needed. Fails when the folder
    /// cannot be used, another server has it, or a newer version wrote it.
    pub async fn open(data_dir: &Path) -> Result<Store, StoreError> {
        Self::open_at(data_dir, None).await
    }

    /// The same, with the database at this address instead, if there is one. The folder is held all the
    /// same: what is recorded is there.
    pub async fn open_at(data_dir: &Path, database: Option<&DatabaseUrl>) -> Result<Store, StoreError> {
        let lock = lock_folder(data_dir, database.is_none())?;
        let (readers, writer) = match database {
            None => {
                let (readers, writer) = sqlite::open(data_dir).await?;
                (Pool::Sqlite(readers), Pool::Sqlite(writer))
            }
            Some(address) => {
                let (readers, writer) = postgres::open(address).await?;
                (Pool::Postgres(readers), Pool::Postgres(writer))
            }
        };
        let store = Store {
            inner: Arc::new(Inner {
                readers,
                writer,
                counts: Counts::default(),
                durable: watch::channel(true).0,
                feed: feed::Feed::new(),
                fill: outbox::Fill::default(),
                keys: DashMap::new(),
                keys_generation: AtomicU64::new(0),
                keys_changed: watch::channel(()).0,
                files_changed: watch::channel(()).0,
                admin_digest: RwLock::new(None),
                _lock: lock,
            }),
        };
        store.load_admin_digest().await?;
        store.load_outbox().await?;
        Ok(store)
    }

    /// Closes the connections; of SQLite the log is folded into the file.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }

    /// Listens to a customer's events from now on: each once it is committed, in order. A listener
    /// that is more than [`FEED_WAITING_MAX`] events or [`PARTIALS_WAITING_MAX`] partial transcripts
    /// behind is told how many it missed.
    pub fn listen(&self, customer: CustomerId) -> Listening {
        self.inner.feed.listen(customer)
    }

    /// Shows what a caller is saying to who listens now; it is kept nowhere.
    pub fn show(&self, partial: &PartialTranscript) {
        self.inner.feed.show(partial);
    }

    /// Wakes whenever a key or a customer was changed or deleted.
    pub fn keys_change(&self) -> watch::Receiver<()> {
        self.inner.keys_changed.subscribe()
    }

    /// Ends every listener's feed: the server is ending.
    pub fn end_feeds(&self) {
        self.inner.feed.close();
    }

    /// Begins a transaction on the connection that writes.
    async fn begin(&self) -> Result<Batch, sqlx::Error> {
        let batch = self.inner.writer.begin().await?;
        self.recount().await?;
        Ok(batch)
    }

    /// The connection that writes.
    async fn writer(&self) -> Result<Connection, sqlx::Error> {
        let connection = self.inner.writer.acquire().await?;
        self.recount().await?;
        Ok(connection)
    }

    /// Where the session that writes is a new one, the last commit of the one before may have gone well
    /// although its answer was lost: what it put into the outbox is counted and told of now. Whoever calls
    /// has the connection that writes: nothing is written meanwhile.
    async fn recount(&self) -> Result<(), sqlx::Error> {
        if !self.inner.writer.was_renewed() {
            return Ok(());
        }
        let counted = self.load_outbox().await;
        match counted {
            Ok(()) => self.inner.feed.outbox_grew(),
            Err(_) => self.inner.writer.renew(),
        }
        counted
    }

    /// Whether changes reach the disk; changes to false when a commit fails and back by itself.
    pub fn durability(&self) -> watch::Receiver<bool> {
        self.inner.durable.subscribe()
    }

    /// Whether the last commit reached the disk.
    pub fn is_durable(&self) -> bool {
        *self.inner.durable.borrow()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> StoreCounters {
        let counts = &self.inner.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreCounters {
            commits: read(&counts.commits),
            changes: read(&counts.changes),
            commit_failures: read(&counts.commit_failures),
            changes_dropped: read(&counts.changes_dropped),
            events_trimmed: read(&counts.events_trimmed),
            outbox_overflowed: read(&counts.outbox_overflowed),
            webhooks_dead: read(&counts.webhooks_dead),
            failures_trimmed: read(&counts.failures_trimmed),
            audits_trimmed: read(&counts.audits_trimmed),
        }
    }
}

/// Makes the folder, readable by its owner only (direct hashes are credentials), and locks it.
fn lock_folder(data_dir: &Path, has_database: bool) -> Result<File, StoreError> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let folder = |source| StoreError::Folder { path: data_dir.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(folder)?;
    let mut open = File::options();
    open.create(true).truncate(false).write(true).mode(0o600);
    let lock = open.open(data_dir.join(LOCK_FILE)).map_err(folder)?;
    if has_database {
        // Made before SQLite would, which would let the folder's group and others read it.
        open.open(data_dir.join(sqlite::DATABASE_FILE)).map_err(folder)?;
    }
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(folder(source)),
    }
}
