-- As for SQLite, with these differences: every whole number and truth is a BIGINT, as the statements
-- bind it; ids compare byte by byte, whatever the database's collation.
-- Who owns conferences. `tm_*` columns are microseconds since 1970-01-01 UTC; ids are hyphened UUIDs.
CREATE TABLE customers (
    id        TEXT COLLATE "C" PRIMARY KEY,
    name      TEXT NOT NULL,
    detail    TEXT NOT NULL,
    tm_create BIGINT NOT NULL,
    tm_update BIGINT NOT NULL,
    tm_delete BIGINT NOT NULL
);
CREATE INDEX customers_page ON customers (tm_create, id);

-- Keys are kept as SHA-256; the token itself is shown once and never stored.
CREATE TABLE accesskeys (
    id           TEXT COLLATE "C" PRIMARY KEY,
    customer_id  TEXT COLLATE "C" NOT NULL REFERENCES customers (id),
    name         TEXT NOT NULL,
    detail       TEXT NOT NULL,
    token_prefix TEXT NOT NULL,
    token_sha256 BYTEA NOT NULL UNIQUE,
    tm_expire    BIGINT NOT NULL,
    tm_create    BIGINT NOT NULL,
    tm_update    BIGINT NOT NULL,
    tm_delete    BIGINT NOT NULL
);
CREATE INDEX accesskeys_page ON accesskeys (tm_create, id);

-- Facts about this server itself, such as the hash of the admin key.
CREATE TABLE settings (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BYTEA NOT NULL
);

-- `body` is the resource as JSON; the columns beside it are what lists and restarts select by.
CREATE TABLE conferences (
    id          TEXT COLLATE "C" PRIMARY KEY,
    customer_id TEXT COLLATE "C" NOT NULL,
    type        TEXT NOT NULL,
    status      TEXT NOT NULL,
    deleted     BIGINT NOT NULL,
    event_seq   BIGINT NOT NULL,
    tm_create   BIGINT NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX conferences_page ON conferences (customer_id, tm_create, id) WHERE deleted = 0;
CREATE INDEX conferences_live ON conferences (customer_id) WHERE status <> 'terminated';

CREATE TABLE conferencecalls (
    id            TEXT COLLATE "C" PRIMARY KEY,
    customer_id   TEXT COLLATE "C" NOT NULL,
    conference_id TEXT COLLATE "C" NOT NULL,
    status        TEXT NOT NULL,
    tm_create     BIGINT NOT NULL,
    body          TEXT NOT NULL
);
CREATE INDEX conferencecalls_page ON conferencecalls (customer_id, tm_create, id);
CREATE INDEX conferencecalls_of_conference ON conferencecalls (conference_id, tm_create, id);
CREATE INDEX conferencecalls_live ON conferencecalls (id) WHERE status <> 'leaved';

-- What happened, oldest first by `position`. A sequence would have gaps wherever a batch was rolled
-- back, and the limit, which counts back from the newest position, would then delete too much. There is
-- one writer, and the newest row is never deleted: the next position is one more than the last.
CREATE TABLE events (
    position      BIGINT PRIMARY KEY,
    customer_id   TEXT COLLATE "C" NOT NULL,
    conference_id TEXT COLLATE "C" NOT NULL,
    seq           BIGINT NOT NULL,
    type          TEXT NOT NULL,
    tm_event      BIGINT NOT NULL,
    data          TEXT NOT NULL,
    UNIQUE (conference_id, seq)
);
CREATE FUNCTION next_event_position() RETURNS BIGINT LANGUAGE sql VOLATILE
    AS 'SELECT coalesce(max(position), 0) + 1 FROM events';
ALTER TABLE events ALTER COLUMN position SET DEFAULT next_event_position();
