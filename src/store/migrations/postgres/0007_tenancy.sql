ALTER TABLE customers ADD COLUMN email TEXT NOT NULL DEFAULT '';

-- `read` or `manage`. Keys made before there were scopes could do everything, and still can.
ALTER TABLE accesskeys ADD COLUMN scope TEXT NOT NULL DEFAULT 'manage';

-- Who changed what: one row a changing call. Never the key, only its id; nil for the admin key, and then
-- the customer is nil too. Positions as in `events`. An id is unique, as a batch whose commit was not
-- answered is written again.
CREATE TABLE audits (
    position     BIGINT PRIMARY KEY,
    id           TEXT COLLATE "C" NOT NULL UNIQUE,
    customer_id  TEXT COLLATE "C" NOT NULL,
    accesskey_id TEXT COLLATE "C" NOT NULL,
    method       TEXT NOT NULL,
    path         TEXT NOT NULL,
    status       BIGINT NOT NULL,
    request_id   TEXT NOT NULL,
    source       TEXT NOT NULL,
    tm_create    BIGINT NOT NULL
);
CREATE FUNCTION next_audit_position() RETURNS BIGINT LANGUAGE sql VOLATILE
    AS 'SELECT coalesce(max(position), 0) + 1 FROM audits';
ALTER TABLE audits ALTER COLUMN position SET DEFAULT next_audit_position();
CREATE INDEX audits_page ON audits (tm_create, id);
CREATE INDEX audits_of_customer ON audits (customer_id, tm_create, id);
