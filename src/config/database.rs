//! The address of a PostgreSQL database: checked, and never shown with its password.

use std::fmt;

use url::Url;

/// What may stand behind the `?`.
const PARAMETERS: [&str; 13] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];
/// How TLS may be asked for.
const TLS_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The address of a PostgreSQL database. It shows itself without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    text: String,
    shown: String,
}

impl DatabaseUrl {
    /// Reads `postgres://user:password@host:port/name?sslmode=…`.
    ///
    /// # Errors
    /// What is wrong; never with a part of the address in it that may hold the password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || "must be an address like postgres://user:password@host:5432/name".to_owned();
        let mut url = Url::parse(text).map_err(|_| form())?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(form());
        }
        for (name, value) in url.query_pairs() {
            if !PARAMETERS.contains(&&*name) {
                return Err(format!(
                    "has a parameter that is none: {name:?}; there are {}",
                    PARAMETERS.join(", ")
                ));
            }
            if name == "sslmode" && !TLS_MODES.contains(&&*value) {
                return Err(format!("sslmode must be one of {}", TLS_MODES.join(", ")));
            }
        }
        let socket = url.query_pairs().find(|(name, _)| name == "host").map(|(_, host)| host.into_owned());
        // Refused only where there is no host, and then there is no password either.
        let _ = url.set_password(None);
        url.set_query(None);
        url.set_fragment(None);
        let shown = match socket {
            Some(socket) => format!("{url} at {socket}"),
            None => url.to_string(),
        };
        Ok(Self { text: text.to_owned(), shown })
    }

    /// The whole address, for who connects.
    pub fn with_password(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatabaseUrl").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        for (text, shown) in [
            (
                "postgres://me:s3cret@db.example:5433/confab?sslmode=verify-full",
                "postgres://me@db.example:5433/confab",
            ),
            ("postgresql://me@db/confab?password=s3cret", "postgresql://me@db/confab"),
            ("postgres://me:s3cret@/confab?host=/run/postgresql", ""),
            (
                "postgres:///confab?host=/run/postgresql&password=s3cret",
                "postgres:///confab at /run/postgresql",
            ),
        ] {
            match DatabaseUrl::parse(text) {
                Ok(url) => {
                    assert_eq!(url.to_string(), shown);
                    assert_eq!(url.with_password(), text);
                    assert!(!format!("{url:?}").contains("s3cret"));
                }
                Err(why) => assert!(shown.is_empty() && !why.contains("s3cret"), "{text}: {why}"),
            }
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_shown() {
        for wrong in [
            "mysql://me:s3cret@db/confab",
            "me:s3cret@db/confab",
            "postgres://me:s3cret@db:port/confab",
            "postgres://me:s3cret@db/confab?sslmod=require",
            "postgres://me:s3cret@db/confab?sslmode=please",
        ] {
            let why = DatabaseUrl::parse(wrong).expect_err(wrong);
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}
