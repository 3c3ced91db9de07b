-- Where a customer's events are told. The secret signs them; it is needed in the clear and never shown.
ALTER TABLE customers ADD COLUMN webhook_uri    TEXT NOT NULL DEFAULT '';
ALTER TABLE customers ADD COLUMN webhook_method TEXT NOT NULL DEFAULT '';
ALTER TABLE customers ADD COLUMN webhook_secret TEXT NOT NULL DEFAULT '';

-- What is yet to be told, in order by `position`, which is never used twice. `body` is what is sent.
CREATE TABLE outbox (
    position      INTEGER PRIMARY KEY AUTOINCREMENT,
    customer_id   TEXT NOT NULL,
    conference_id TEXT NOT NULL,
    seq           INTEGER NOT NULL,
    tm_queue      INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    reason        TEXT NOT NULL,
    body          TEXT NOT NULL
) STRICT;
CREATE INDEX outbox_of_conference ON outbox (conference_id, position);

-- What could not be told in time, kept to be looked at and told again.
CREATE TABLE webhook_failures (
    position      INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    customer_id   TEXT NOT NULL,
    conference_id TEXT NOT NULL,
    seq           INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    reason        TEXT NOT NULL,
    body          TEXT NOT NULL,
    tm_create     INTEGER NOT NULL
) STRICT;
CREATE INDEX webhook_failures_page ON webhook_failures (customer_id, tm_create, id);
