-- Where a customer's events are told. The secret signs them; it is needed in the clear and never shown.
ALTER TABLE customers ADD COLUMN webhook_uri    TEXT NOT NULL DEFAULT '';
ALTER TABLE customers ADD COLUMN webhook_method TEXT NOT NULL DEFAULT '';
ALTER TABLE customers ADD COLUMN webhook_secret TEXT NOT NULL DEFAULT '';

-- What is yet to be told, in order by `position`, which is never used twice: gaps do no harm here.
-- `body` is what is sent.
CREATE TABLE outbox (
    position      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id   TEXT COLLATE "C" NOT NULL,
    conference_id TEXT COLLATE "C" NOT NULL,
    seq           BIGINT NOT NULL,
    tm_queue      BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,
    reason        TEXT NOT NULL,
    body          TEXT NOT NULL
);
CREATE INDEX outbox_of_conference ON outbox (conference_id, position);

-- What could not be told in time, kept to be looked at and told again. Positions as in `events`.
CREATE TABLE webhook_failures (
    position      BIGINT PRIMARY KEY,
    id            TEXT COLLATE "C" NOT NULL UNIQUE,
    customer_id   TEXT COLLATE "C" NOT NULL,
    conference_id TEXT COLLATE "C" NOT NULL,
    seq           BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,
    reason        TEXT NOT NULL,
    body          TEXT NOT NULL,
    tm_create     BIGINT NOT NULL
);
CREATE FUNCTION next_webhook_failure_position() RETURNS BIGINT LANGUAGE sql VOLATILE
    AS 'SELECT coalesce(max(position), 0) + 1 FROM webhook_failures';
ALTER TABLE webhook_failures ALTER COLUMN position SET DEFAULT next_webhook_failure_position();
CREATE INDEX webhook_failures_page ON webhook_failures (customer_id, tm_create, id);
