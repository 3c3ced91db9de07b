//! The two databases behind one face, and all in which they differ but their schema: how a transaction
//! begins and ends, and what an error means.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Sqlite, Transaction};

use super::StoreError;
use super::postgres::{Session, Sessions};
use super::query::query;
use super::sqlite;

/// Connections to the database.
#[derive(Debug)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(Sessions),
}

impl Pool {
    /// A connection, given back when dropped.
    pub(super) async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        Ok(match self {
            Pool::Sqlite(pool) => Connection::Sqlite(pool.acquire().await?),
            Pool::Postgres(sessions) => Connection::Postgres(sessions.acquire().await?),
        })
    }

    /// A transaction, rolled back when dropped.
    pub(super) async fn begin(&self) -> Result<Batch, sqlx::Error> {
        let connection = match self {
            Pool::Sqlite(pool) => Connection::SqliteBatch(sqlite::begin(pool).await?),
            Pool::Postgres(_) => {
                let mut connection = self.acquire().await?;
                connection.begin().await?;
                connection
            }
        };
        Ok(Batch { connection })
    }

    /// Whether there was a new session since this was last asked: what the one before it wrote last may
    /// be there although nobody was told.
    pub(super) fn was_renewed(&self) -> bool {
        match self {
            Pool::Sqlite(_) => false,
            Pool::Postgres(sessions) => sessions.was_renewed(),
        }
    }

    /// Lets the next one who asks that know.
    pub(super) fn renew(&self) {
        if let Pool::Postgres(sessions) = self {
            sessions.renew();
        }
    }

    /// Closes every connection.
    pub(super) async fn close(&self) {
        match self {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(sessions) => sessions.close().await,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    SqliteBatch(Transaction<'static, Sqlite>),
    Postgres(Session),
}

impl Connection {
    /// Begins a transaction in which nobody else writes.
    ///
    /// The statements are spelled out: a full disk makes SQLite roll back by itself, which sqlx's own
    /// transactions take for one that is still open, and then the connection can begin no more.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Connection::Postgres(session) => session.begin().await,
            _ => query("BEGIN IMMEDIATE").execute(self).await.map(drop),
        }
    }

    /// Commits it.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Connection::Postgres(session) => session.end("COMMIT").await,
            _ => query("COMMIT").execute(self).await.map(drop),
        }
    }

    /// Gives up what was begun. Does nothing where the database has already.
    pub(super) async fn roll_back(&mut self) {
        let _ = match self {
            Connection::Postgres(session) => session.end("ROLLBACK").await,
            _ => query("ROLLBACK").execute(self).await.map(drop),
        };
    }
}

/// A transaction, rolled back when dropped.
#[derive(Debug)]
pub(super) struct Batch {
    connection: Connection,
}

impl Batch {
    /// Commits it. What is given back keeps others from writing: hold it until what was committed is
    /// counted.
    pub(super) async fn commit(self) -> Result<Option<Connection>, sqlx::Error> {
        match self.connection {
            Connection::SqliteBatch(transaction) => transaction.commit().await.map(|()| None),
            mut connection => connection.commit().await.map(|()| Some(connection)),
        }
    }
}

impl Deref for Batch {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Batch {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// What a statement is executed on.
pub(super) enum Target<'a> {
    SqlitePool(&'a SqlitePool),
    Sqlite(&'a mut SqliteConnection),
    Sessions(&'a Sessions),
    Session(&'a mut Session),
}

impl<'a> From<&'a Pool> for Target<'a> {
    fn from(pool: &'a Pool) -> Self {
        match pool {
            Pool::Sqlite(pool) => Target::SqlitePool(pool),
            Pool::Postgres(sessions) => Target::Sessions(sessions),
        }
    }
}

impl<'a> From<&'a mut Connection> for Target<'a> {
    fn from(connection: &'a mut Connection) -> Self {
        match connection {
            Connection::Sqlite(connection) => Target::Sqlite(connection),
            Connection::SqliteBatch(transaction) => Target::Sqlite(transaction),
            Connection::Postgres(session) => Target::Session(session),
        }
    }
}

impl StoreError {
    /// Whether the failure lies in the disk, the way to the database or the load rather than in what was
    /// asked: later it may go well.
    pub fn is_passing(&self) -> bool {
        match self {
            StoreError::Database(error) => is_passing(error),
            _ => false,
        }
    }
}

fn is_passing(error: &sqlx::Error) -> bool {
    /// SQLite's primary result codes: BUSY, LOCKED, IOERR, FULL, CANTOPEN.
    const SQLITE: [u32; 5] = [5, 6, 10, 13, 14];
    /// PostgreSQL's classes: connection, authorisation, resources, operator, system; and single codes: a
    /// server that only reads, a lock that was not given, serialisation and deadlock.
    const POSTGRES: [&str; 9] = ["08", "28", "53", "57", "58", "25006", "55P03", "40001", "40P01"];
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            if error.try_downcast_ref::<PgDatabaseError>().is_some() {
                POSTGRES.iter().any(|passing| code.starts_with(passing))
            } else {
                // The primary code is the low byte of the extended one.
                code.parse::<u32>().is_ok_and(|code| SQLITE.contains(&(code & 0xff)))
            }
        }
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Io(_) => true,
        _ => false,
    }
}

/// Whether a session of PostgreSQL is of no use after this error.
pub(super) fn ends_session(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_none_or(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
        // What the statement or its answer is: the session is as it was.
        sqlx::Error::RowNotFound
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Encode(_)
        | sqlx::Error::Decode(_) => false,
        _ => true,
    }
}
