//! A copy of the database as it is at one moment, taken while a server uses it or not.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, query};

use super::StoreError;
use super::sqlite::{BUSY_TIMEOUT, DATABASE_FILE};

/// Copies the database in `data_dir` to the new file `to`. Writers are not held up.
pub async fn copy_database(data_dir: &Path, to: &Path) -> Result<(), StoreError> {
    let options =
        SqliteConnectOptions::new().filename(data_dir.join(DATABASE_FILE)).busy_timeout(BUSY_TIMEOUT);
    let mut connection: SqliteConnection = options.connect().await?;
    let copied =
        query("VACUUM INTO ?1").bind(to.to_string_lossy().into_owned()).execute(&mut connection).await;
    connection.close().await?;
    copied?;
    Ok(())
}
