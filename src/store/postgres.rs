//! PostgreSQL: sessions that come back by themselves, one of which writes.
//!
//! The session that writes holds an advisory lock for as long as it lives, so nobody else can write
//! between two of its transactions unnoticed: when it is lost, its successor writes nothing before it
//! has the lock, and that the server gives only when the one before is gone, its last transaction
//! committed or rolled back.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Postgres, Row as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use url::Url;

use super::database::ends_session;
use super::query::PreparedFor;
use super::{ACQUIRE_TIMEOUT, READERS_MAX, StoreError, migration};
use crate::config::DatabaseUrl;

/// How long it may take until the server greets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one statement that writes may take until its session is given up. While it takes, nothing
/// else is written and replies wait; the server gives up a little sooner.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same of one that reads: at the start that may be every conference there is.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A session that was idle for so long is asked whether it still lives.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// What every session begins with: that the server hears within half a minute of a client that is gone
/// without a word.
const SETTINGS: &str =
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4";
/// What sessions that read go on with.
const READING: &str = "SET default_transaction_read_only = on; SET statement_timeout = '29s'";
/// What the session that writes goes on with: the lock of the schema, which the session before may hold
/// for a moment yet; and that a commit waits for the disk where the server is set not to.
const WRITING: &str = "SET statement_timeout = '4s'; SET lock_timeout = '3s'; \
    SELECT pg_advisory_lock(hashtextextended('confab in ' || coalesce(current_schema(), ''), 0)); \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
/// `lock_not_available`.
const NO_LOCK: &str = "55P03";

/// Opens the database, migrating it where needed: sessions that read, and the one that writes.
pub(super) async fn open(address: &DatabaseUrl) -> Result<(Sessions, Sessions), StoreError> {
    let failed = |error| explain(address, error);
    let options = options(address).map_err(failed)?;
    let writers = Sessions::new(options.clone(), WRITING, WRITE_TIMEOUT, 1);
    let mut writer = writers.acquire().await.map_err(failed)?;
    let encoding = sqlx::query("SELECT current_setting('server_encoding')");
    let encoding = writer.fetch_all(encoding).await.map_err(failed)?;
    let encoding: String = encoding.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    if encoding != "UTF8" {
        return Err(StoreError::Unsuitable { database: address.to_string(), encoding });
    }
    writer.migrate(address).await?;
    writers.was_renewed();
    Ok((Sessions::new(options, READING, READ_TIMEOUT, READERS_MAX), writers))
}

/// How to connect. What the address leaves out comes from the environment and `.pgpass`, as for `psql`.
fn options(address: &DatabaseUrl) -> Result<PgConnectOptions, sqlx::Error> {
    let url =
        Url::parse(address.with_password()).map_err(|error| sqlx::Error::Configuration(error.into()))?;
    let options = PgConnectOptions::from_url(&url)?;
    let is_named = options.get_application_name().is_some();
    Ok(if is_named { options } else { options.application_name("confab") })
}

/// The error of a first connection, with what to look at.
fn explain(address: &DatabaseUrl, error: sqlx::Error) -> StoreError {
    const TLS: &str = "check sslmode and sslrootcert in the address";
    let database = address.to_string();
    if is_taken(&error) {
        return StoreError::DatabaseInUse(database);
    }
    let code = match &error {
        sqlx::Error::Database(error) => error.code().unwrap_or_default().into_owned(),
        _ => String::new(),
    };
    let check = match (code.as_str(), &error) {
        ("28P01" | "28000", _) => "check the user and its password, and what pg_hba.conf allows",
        ("3D000", _) => "make the database: createdb -E UTF8 NAME",
        ("42501", _) => "the user must own the database, or be granted CREATE on its schema",
        ("53300", _) => "the server has no connection left: Confab needs five",
        (_, sqlx::Error::Tls(_)) => TLS,
        // What rustls says of a certificate.
        (_, sqlx::Error::Io(error)) if error.kind() == ErrorKind::InvalidData => TLS,
        _ => "check that the server runs and can be reached: pg_isready -d ADDRESS",
    };
    StoreError::Unreachable { database, check, source: error }
}

/// Another one has the database.
fn taken() -> sqlx::Error {
    io::Error::new(ErrorKind::ResourceBusy, "another confab uses the database").into()
}

fn is_taken(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == ErrorKind::ResourceBusy)
}

/// Waits for the server, but not for ever.
async fn limited<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(limit, answer)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(ErrorKind::TimedOut, "the database does not answer").into()))
}

/// Sessions of one kind, made when they are needed.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    options: PgConnectOptions,
    /// What each begins with.
    settings: &'static str,
    /// How long one of their statements may take.
    limit: Duration,
    /// Those that nobody uses, since when; the one used last comes last.
    idle: Mutex<Vec<(PgConnection, Instant)>>,
    max: u32,
    /// One permit a session.
    permits: Arc<Semaphore>,
    renewed: AtomicBool,
}

impl std::fmt::Debug for Inner {
    /// Without the options: the password is there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Inner {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        // A poisoned lock still holds a whole list: it is changed in one step.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = limited(CONNECT_TIMEOUT, self.options.connect()).await?;
        limited(CONNECT_TIMEOUT, connection.execute(SETTINGS)).await?;
        let made = limited(WRITE_TIMEOUT, connection.execute(self.settings)).await;
        match made {
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == NO_LOCK) => {
                Err(taken())
            }
            made => made.map(drop),
        }?;
        self.renewed.store(true, Ordering::Relaxed);
        Ok(connection)
    }
}

impl Sessions {
    fn new(options: PgConnectOptions, settings: &'static str, limit: Duration, max: u32) -> Self {
        let inner = Inner {
            options,
            settings,
            limit,
            idle: Mutex::new(Vec::new()),
            max,
            permits: Arc::new(Semaphore::new(max as usize)),
            renewed: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A session that lives, as far as can be told.
    pub(super) async fn acquire(&self) -> Result<Session, sqlx::Error> {
        let permit = timeout(ACQUIRE_TIMEOUT, self.inner.permits.clone().acquire_owned())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?
            .map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.inner.idle().pop();
        let connection = match idle {
            Some((connection, since)) if since.elapsed() < TRUSTED_IDLE => connection,
            Some((mut connection, _)) => match limited(CONNECT_TIMEOUT, connection.ping()).await {
                Ok(()) => connection,
                Err(_) => {
                    // A server that went took all of them.
                    self.inner.idle().clear();
                    drop(connection);
                    self.inner.connect().await?
                }
            },
            None => self.inner.connect().await?,
        };
        Ok(Session {
            connection: Some(connection),
            in_batch: false,
            sessions: self.inner.clone(),
            permit: Some(permit),
        })
    }

    /// Whether a session was made since this was last asked.
    pub(super) fn was_renewed(&self) -> bool {
        self.inner.renewed.swap(false, Ordering::Relaxed)
    }

    /// Lets the next one who asks know.
    pub(super) fn renew(&self) {
        self.inner.renewed.store(true, Ordering::Relaxed);
    }

    /// Ends every session once it is idle.
    pub(super) async fn close(&self) {
        // Those on loan come back first, unless one takes too long.
        let all = self.inner.permits.acquire_many(self.inner.max);
        drop(timeout(ACQUIRE_TIMEOUT, all).await);
        self.inner.permits.close();
        let idle = std::mem::take(&mut *self.inner.idle());
        for (connection, _) in idle {
            // One that is gone already needs no word.
            let _ = limited(CONNECT_TIMEOUT, connection.close()).await;
        }
    }
}

/// A session on loan; it goes back when dropped, unless it is lost or was left in the middle of a
/// statement.
#[derive(Debug)]
pub(super) struct Session {
    /// None while a statement runs, and for good when it was lost.
    connection: Option<PgConnection>,
    /// A transaction is open.
    in_batch: bool,
    sessions: Arc<Inner>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Session {
    /// Begins a transaction.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.plain("BEGIN").await?;
        self.in_batch = true;
        Ok(())
    }

    /// Ends the transaction.
    pub(super) async fn end(&mut self, how: &'static str) -> Result<(), sqlx::Error> {
        self.plain(how).await?;
        self.in_batch = false;
        Ok(())
    }

    /// Every row of a statement's answer.
    pub(super) async fn fetch_all(
        &mut self,
        statement: PreparedFor<Postgres>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut connection = self.take()?;
        let done = limited(self.sessions.limit, statement.fetch_all(&mut connection)).await;
        self.put_back(connection, &done);
        done
    }

    /// Executes a statement; gives how many rows it changed.
    pub(super) async fn execute(&mut self, statement: PreparedFor<Postgres>) -> Result<u64, sqlx::Error> {
        let mut connection = self.take()?;
        let done = limited(self.sessions.limit, statement.execute(&mut connection)).await;
        self.put_back(connection, &done);
        done.map(|done| done.rows_affected())
    }

    async fn plain(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        let mut connection = self.take()?;
        let done = limited(self.sessions.limit, connection.execute(statement)).await;
        self.put_back(connection, &done);
        done.map(drop)
    }

    /// Runs the migrations, which may take their time. The lock is held already.
    async fn migrate(&mut self, address: &DatabaseUrl) -> Result<(), StoreError> {
        self.plain("SET statement_timeout = 0").await?;
        let mut connection = self.take()?;
        migration::postgres().run(&mut connection).await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                explain(address, error)
            }
            error => error.into(),
        })?;
        self.connection = Some(connection);
        self.plain("SET statement_timeout = '4s'").await?;
        Ok(())
    }

    /// Taken out for as long as a statement runs: should that be cancelled, what is left is of no use.
    fn take(&mut self) -> Result<PgConnection, sqlx::Error> {
        let lost = || io::Error::new(ErrorKind::NotConnected, "the database's session is lost");
        self.connection.take().ok_or_else(|| lost().into())
    }

    fn put_back<T>(&mut self, connection: PgConnection, done: &Result<T, sqlx::Error>) {
        if !done.as_ref().is_err_and(ends_session) {
            self.connection = Some(connection);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if !self.in_batch {
            self.sessions.idle().push((connection, Instant::now()));
            return;
        }
        // Without a runtime it just goes, and the server rolls back.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (sessions, permit) = (self.sessions.clone(), self.permit.take());
        runtime.spawn(async move {
            let ended = limited(WRITE_TIMEOUT, connection.execute("ROLLBACK")).await;
            if ended.is_ok() {
                sessions.idle().push((connection, Instant::now()));
            }
            drop(permit);
        });
    }
}
