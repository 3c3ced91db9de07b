//! What survives a restart: an embedded SQLite database, a projection of the bridge's changes beside
//! customers and access keys.
//!
//! The journal is a write-ahead log that is synced at every commit, so what was committed survives a
//! kill and a power cut. One connection writes, a few read; [`spawn_writer`] batches the bridge's
//! changes and releases each reply only when what it speaks of is on disk.

mod accesskey;
mod audit;
mod backup;
mod bootstrap;
mod customer;
mod event;
mod feed;
mod flow;
mod outbox;
mod page;
mod pending;
mod read;
mod recording;
mod recordingfile;
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
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, SqlSafeStr as _, Sqlite, Transaction};
use tokio::sync::watch;

use crate::bridge::PartialTranscript;
use crate::id::CustomerId;
pub use accesskey::{
    Accesskey, AccesskeyChange, KEY_CHARACTERS, KEY_PREFIX, KeyOwner, NewAccesskey, Scope, is_access_key,
    key_digest,
};
pub use audit::{AUDITS_KEPT, AUDITS_PER_CUSTOMER_MAX, AUDITS_TOTAL_MAX, Audit};
pub use backup::copy_database;
pub use bootstrap::Bootstrap;
pub use customer::{Customer, CustomerChange, NewCustomer};
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
pub use transcribe::TRANSCRIPTS_TOTAL_MAX;
pub use writer::{BATCH_MAX, NotDurable, WRITES_WAITING_MAX, Write, spawn_writer};

/// The database's file in the data folder.
pub const DATABASE_FILE: &str = "confab.db";
/// Held locked while a server uses the data folder.
const LOCK_FILE: &str = "confab.lock";
/// Connections that read beside the one that writes.
const READERS_MAX: u32 = 4;
/// How long a connection waits for another's lock before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// The page cache of one connection, in KiB.
const CACHE_KIB: u32 = 1024;
/// The log is cut back to this when it is checkpointed.
const JOURNAL_KEPT_BYTES: u32 = 8 << 20;

/// Every migration, in order. Never change one that was released: add another.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "base", include_str!("store/migrations/0001_base.sql")),
    (2, "restore", include_str!("store/migrations/0002_restore.sql")),
    (4, "outbox", include_str!("store/migrations/0004_outbox.sql")),
    (7, "tenancy", include_str!("store/migrations/0007_tenancy.sql")),
    (3, "flows", include_str!("store/migrations/0003_flows.sql")),
    (5, "recordings", include_str!("store/migrations/0005_recordings.sql")),
    (6, "transcribes", include_str!("store/migrations/0006_transcribes.sql")),
    (8, "recording_files", include_str!("store/migrations/0008_recording_files.sql")),
];

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
    readers: SqlitePool,
    /// One connection: SQLite has one writer, and queueing here beats waiting for its lock.
    writer: SqlitePool,
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
        let lock = lock_folder(data_dir)?;
        let options = SqliteConnectOptions::new()
            .filename(data_dir.join(DATABASE_FILE))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL syncs the log at every commit: NORMAL could lose the last ones with the power.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("cache_size", format!("-{CACHE_KIB}"))
            .pragma("journal_size_limit", JOURNAL_KEPT_BYTES.to_string());
        let writer = pool(1).connect_with(options.clone()).await?;
        migrator().run(&writer).await?;
        let readers = pool(READERS_MAX).connect_with(options.pragma("query_only", "on")).await?;
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

    /// Closes the connections; the log is folded into the database.
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
    ///
    /// A full disk makes SQLite roll back by itself; sqlx then still counts the transaction as open
    /// and begins no other. Such a connection is given up for a new one.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        let mut connection = self.inner.writer.acquire().await?;
        if connection.is_in_transaction() {
            // A rollback may just be on its way; it is done once the connection answers.
            connection.ping().await?;
        }
        // Either way it goes before the pool, which has no other, is asked again.
        if connection.is_in_transaction() {
            connection.close().await?;
        } else {
            drop(connection);
        }
        self.inner.writer.begin_with("BEGIN IMMEDIATE").await
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

/// Options of a pool of `connections`.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// The migrations that are part of this binary.
fn migrator() -> Migrator {
    let migrations = MIGRATIONS
        .iter()
        .map(|&(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations)
}

/// Makes the folder, readable by its owner only (direct hashes are credentials), and locks it.
fn lock_folder(data_dir: &Path) -> Result<File, StoreError> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let folder = |source| StoreError::Folder { path: data_dir.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(folder)?;
    let mut open = File::options();
    open.create(true).truncate(false).write(true).mode(0o600);
    let lock = open.open(data_dir.join(LOCK_FILE)).map_err(folder)?;
    // Made before SQLite would, which would let the folder's group and others read it.
    open.open(data_dir.join(DATABASE_FILE)).map_err(folder)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(folder(source)),
    }
}
