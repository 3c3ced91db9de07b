//! Statements that both databases understand, and the rows they answer with.
//!
//! A statement is written once, its values as `$1`, `$2` …, in the SQL that SQLite and PostgreSQL share.
//! Every number is a 64-bit integer, a truth 0 or 1, an id its hyphened text. What the two do not share
//! is in [`super::database`] and in the migrations.

use std::borrow::Cow;
use std::collections::VecDeque;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Database, Decode, Encode, Postgres, Row as _, Sqlite, Type};

use super::database::{Connection, Target};

/// How many rows a statement writes, the most first: of each kind of row only so many are prepared.
const ROWS_AT_ONCE: [usize; 3] = [64, 8, 1];
/// Room for the values of nearly every statement.
const VALUES_USUAL: usize = 10;

/// A value for a `$n`.
#[derive(Clone, Debug)]
pub(super) enum Value<'q> {
    Text(Option<Cow<'q, str>>),
    Integer(Option<i64>),
    Bytes(Cow<'q, [u8]>),
}

/// A statement and its values.
pub(super) struct Query<'q> {
    sql: Cow<'static, str>,
    values: Vec<Value<'q>>,
}

/// A statement without values yet.
pub(super) fn query<'q>(sql: &'static str) -> Query<'q> {
    Query { sql: Cow::Borrowed(sql), values: Vec::with_capacity(VALUES_USUAL) }
}

/// Writes rows in order, by as few statements as may be: each is a way to the database and back. `row`
/// is how one is written, `(?, ?, 0)`, with a `?` for each of its values; `head` comes before the rows
/// and `tail` after them. Gives the rows of all answers.
pub(super) async fn write_rows(
    connection: &mut Connection,
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    rows: impl IntoIterator<Item = Vec<Value<'_>>>,
) -> Result<Vec<Row>, sqlx::Error> {
    let mut rows: VecDeque<_> = rows.into_iter().collect();
    let mut answers = Vec::new();
    for size in ROWS_AT_ONCE {
        while rows.len() >= size {
            let sql = Cow::Owned(format!("{head}{}{tail}", numbered(row, size)));
            let values = rows.drain(..size).flatten().collect();
            answers.extend(Query { sql, values }.fetch_all(&mut *connection).await?);
        }
    }
    Ok(answers)
}

/// `row` written `times` times, its values numbered through.
fn numbered(row: &str, times: usize) -> String {
    let mut text = String::with_capacity(times * (row.len() + 16));
    let mut next = 0;
    for time in 0..times {
        text.push_str(if time == 0 { " " } else { ", " });
        for character in row.chars() {
            if character == '?' {
                next += 1;
                text.push('$');
                text.push_str(&next.to_string());
            } else {
                text.push(character);
            }
        }
    }
    text.push(' ');
    text
}

impl<'q> Query<'q> {
    /// The value of the next `$n`.
    pub(super) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Every row of the answer.
    pub(super) async fn fetch_all(self, on: impl Into<Target<'_>>) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match on.into() {
            Target::SqlitePool(pool) => {
                self.prepared::<Sqlite>().fetch_all(pool).await?.into_iter().map(Row::Sqlite).collect()
            }
            Target::Sqlite(connection) => {
                self.prepared::<Sqlite>().fetch_all(connection).await?.into_iter().map(Row::Sqlite).collect()
            }
            Target::Sessions(sessions) => {
                let mut session = sessions.acquire().await?;
                session.fetch_all(self.for_postgres()).await?.into_iter().map(Row::Postgres).collect()
            }
            Target::Session(session) => {
                session.fetch_all(self.for_postgres()).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The first row of the answer, for statements that give one at most.
    pub(super) async fn fetch_optional(self, on: impl Into<Target<'_>>) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.fetch_all(on).await?.into_iter().next())
    }

    /// Executes it; gives how many rows it changed.
    pub(super) async fn execute(self, on: impl Into<Target<'_>>) -> Result<u64, sqlx::Error> {
        Ok(match on.into() {
            Target::SqlitePool(pool) => self.prepared::<Sqlite>().execute(pool).await?.rows_affected(),
            Target::Sqlite(connection) => {
                self.prepared::<Sqlite>().execute(connection).await?.rows_affected()
            }
            Target::Sessions(sessions) => {
                let mut session = sessions.acquire().await?;
                session.execute(self.for_postgres()).await?
            }
            Target::Session(session) => session.execute(self.for_postgres()).await?,
        })
    }

    /// PostgreSQL's text holds no NUL, which JSON lets callers send: it is shown as what cannot be shown.
    fn for_postgres(mut self) -> PreparedFor<Postgres> {
        for value in &mut self.values {
            if let Value::Text(Some(text)) = value
                && text.contains('\0')
            {
                *text = Cow::Owned(text.replace('\0', "\u{fffd}"));
            }
        }
        self.prepared()
    }

    fn prepared<DB: Database>(self) -> PreparedFor<DB>
    where
        for<'t> Option<String>: Encode<'t, DB> + Type<DB>,
        for<'t> Option<&'t str>: Encode<'t, DB> + Type<DB>,
        for<'t> Option<i64>: Encode<'t, DB> + Type<DB>,
        for<'t> &'t [u8]: Encode<'t, DB> + Type<DB>,
    {
        let empty = match self.sql {
            Cow::Borrowed(sql) => sqlx::query::<DB>(sql),
            // Put together of texts that are ours.
            Cow::Owned(sql) => sqlx::query::<DB>(AssertSqlSafe(sql)),
        };
        self.values.into_iter().fold(empty, |query, value| match value {
            Value::Text(Some(Cow::Borrowed(text))) => query.bind(Some(text)),
            Value::Text(Some(Cow::Owned(text))) => query.bind(Some(text)),
            Value::Text(None) => query.bind(None::<String>),
            Value::Integer(number) => query.bind(number),
            Value::Bytes(bytes) => query.bind(&*bytes),
        })
    }
}

/// A statement with its values as one of the databases takes it.
pub(super) type PreparedFor<DB> = sqlx::query::Query<'static, DB, <DB as Database>::Arguments>;

/// A row of an answer.
#[derive(Debug)]
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// Text, bytes or a 64-bit integer.
    pub(super) fn try_get<'r, T>(&'r self, column: &str) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }

    /// A smaller number.
    pub(super) fn number<T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<T, sqlx::Error> {
        T::try_from(self.try_get::<i64>(column)?).map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Some(Cow::Owned(text)))
    }
}

impl<'q> From<&'q String> for Value<'q> {
    fn from(text: &'q String) -> Self {
        Value::Text(Some(Cow::Borrowed(text)))
    }
}

impl<'q> From<&'q str> for Value<'q> {
    fn from(text: &'q str) -> Self {
        Value::Text(Some(Cow::Borrowed(text)))
    }
}

impl From<Option<String>> for Value<'_> {
    fn from(text: Option<String>) -> Self {
        Value::Text(text.map(Cow::Owned))
    }
}

impl<'q> From<Option<&'q str>> for Value<'q> {
    fn from(text: Option<&'q str>) -> Self {
        Value::Text(text.map(Cow::Borrowed))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        Value::Integer(number)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Value::Integer(Some(number))
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Value::Integer(Some(number.into()))
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Value::Integer(Some(truth.into()))
    }
}

impl<'q> From<&'q [u8]> for Value<'q> {
    fn from(bytes: &'q [u8]) -> Self {
        Value::Bytes(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Value::Bytes(Cow::Owned(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_rows_are_numbered_through() {
        assert_eq!(numbered("(?, 0, ?)", 1), " ($1, 0, $2) ");
        assert_eq!(numbered("(?, 0, ?)", 2), " ($1, 0, $2), ($3, 0, $4) ");
    }
}
