//! The embedded database: a file in the data folder.
//!
//! The journal is a write-ahead log that is synced at every commit, so what was committed survives a
//! kill and a power cut. One connection writes, a few read.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Sqlite, Transaction};

use super::{ACQUIRE_TIMEOUT, READERS_MAX, StoreError, migration};

/// The database's file in the data folder.
pub const DATABASE_FILE: &str = "confab.db";
/// How long a connection waits for another's lock before it gives up.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The page cache of one connection, in KiB.
const CACHE_KIB: u32 = 1024;
/// The log is cut back to this when it is checkpointed.
const JOURNAL_KEPT_BYTES: u32 = 8 << 20;

/// Opens the database in `data_dir`, making and migrating it where needed. Gives those that read and
/// the one that writes: SQLite has one writer, and queueing here beats waiting for its lock.
pub(super) async fn open(data_dir: &Path) -> Result<(SqlitePool, SqlitePool), StoreError> {
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
    migration::sqlite().run(&writer).await?;
    let readers = pool(READERS_MAX).connect_with(options.pragma("query_only", "on")).await?;
    Ok((readers, writer))
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

/// Begins a transaction on the connection that writes.
///
/// A full disk makes SQLite roll back by itself; sqlx then still counts the transaction as open and
/// begins no other. Such a connection is given up for a new one.
pub(super) async fn begin(writer: &SqlitePool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    let mut connection = writer.acquire().await?;
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
    writer.begin_with("BEGIN IMMEDIATE").await
}
