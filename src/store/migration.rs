//! The migrations, each written for both databases.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// One step of the schema.
struct Step {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

/// The step whose files are `migrations/<number>_<name>.sql` for SQLite and
/// `migrations/postgres/<number>_<name>.sql`: neither can be without the other.
macro_rules! step {
    ($version:literal, $number:literal, $name:literal) => {
        Step {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("migrations/", $number, "_", $name, ".sql")),
            postgres: include_str!(concat!("migrations/postgres/", $number, "_", $name, ".sql")),
        }
    };
}

/// Every step, in order. Never change one that was released: add another.
const STEPS: &[Step] = &[
    step!(1, "0001", "base"),
    step!(2, "0002", "restore"),
    step!(3, "0003", "flows"),
    step!(4, "0004", "outbox"),
    step!(5, "0005", "recordings"),
    step!(6, "0006", "transcribes"),
    step!(7, "0007", "tenancy"),
    step!(8, "0008", "recording_files"),
];

/// The migrations of SQLite.
pub(super) fn sqlite() -> Migrator {
    migrator(|step| step.sqlite)
}

/// The migrations of PostgreSQL.
pub(super) fn postgres() -> Migrator {
    migrator(|step| step.postgres)
}

fn migrator(sql: impl Fn(&Step) -> &'static str) -> Migrator {
    let migrations = STEPS
        .iter()
        .map(|step| {
            let sql = sql(step).into_sql_str();
            Migration::new(step.version, step.name.into(), MigrationType::Simple, sql, false)
        })
        .collect();
    Migrator::with_migrations(migrations)
}
