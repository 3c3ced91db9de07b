-- Who owns conferences. `tm_*` columns are microseconds since 1970-01-01 UTC; ids are hyphened UUIDs.
CREATE TABLE customers (
    id        TEXT PRIMARY KEY NOT NULL,
    name      TEXT NOT NULL,
    detail    TEXT NOT NULL,
    tm_create INTEGER NOT NULL,
    tm_update INTEGER NOT NULL,
    tm_delete INTEGER NOT NULL
) STRICT;
CREATE INDEX customers_page ON customers (tm_create, id);

-- Keys are kept as SHA-256; the token itself is shown once and never stored.
CREATE TABLE accesskeys (
    id           TEXT PRIMARY KEY NOT NULL,
    customer_id  TEXT NOT NULL REFERENCES customers (id),
    name         TEXT NOT NULL,
    detail       TEXT NOT NULL,
    token_prefix TEXT NOT NULL,
    token_sha256 BLOB NOT NULL UNIQUE,
    tm_expire    INTEGER NOT NULL,
    tm_create    INTEGER NOT NULL,
    tm_update    INTEGER NOT NULL,
    tm_delete    INTEGER NOT NULL
) STRICT;
CREATE INDEX accesskeys_page ON accesskeys (tm_create, id);

-- Facts about this server itself, such as the hash of the admin key.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
) STRICT;

-- `body` is the resource as JSON; the columns beside it are what lists and restarts select by.
CREATE TABLE conferences (
    id          TEXT PRIMARY KEY NOT NULL,
    customer_id TEXT NOT NULL,
    type        TEXT NOT NULL,
    status      TEXT NOT NULL,
    deleted     INTEGER NOT NULL,
    event_seq   INTEGER NOT NULL,
    tm_create   INTEGER NOT NULL,
    body        TEXT NOT NULL
) STRICT;
CREATE INDEX conferences_page ON conferences (customer_id, tm_create, id) WHERE deleted = 0;
CREATE INDEX conferences_live ON conferences (customer_id) WHERE status <> 'terminated';

CREATE TABLE conferencecalls (
    id            TEXT PRIMARY KEY NOT NULL,
    customer_id   TEXT NOT NULL,
    conference_id TEXT NOT NULL,
    status        TEXT NOT NULL,
    tm_create     INTEGER NOT NULL,
    body          TEXT NOT NULL
) STRICT;
CREATE INDEX conferencecalls_page ON conferencecalls (customer_id, tm_create, id);
CREATE INDEX conferencecalls_of_conference ON conferencecalls (conference_id, tm_create, id);
CREATE INDEX conferencecalls_live ON conferencecalls (id) WHERE status <> 'leaved';

-- What happened, oldest first by `position`, which is never used twice.
CREATE TABLE events (
    position      INTEGER PRIMARY KEY AUTOINCREMENT,
    customer_id   TEXT NOT NULL,
    conference_id TEXT NOT NULL,
    seq           INTEGER NOT NULL,
    type          TEXT NOT NULL,
    tm_event      INTEGER NOT NULL,
    data          TEXT NOT NULL,
    UNIQUE (conference_id, seq)
) STRICT;
