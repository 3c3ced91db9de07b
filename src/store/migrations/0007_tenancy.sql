ALTER TABLE customers ADD COLUMN email TEXT NOT NULL DEFAULT '';

-- `read` or `manage`. Keys made before there were scopes could do everything, and still can.
ALTER TABLE accesskeys ADD COLUMN scope TEXT NOT NULL DEFAULT 'manage';

-- Who changed what: one row a changing call. Never the key, only its id; nil for the admin key, and then
-- the customer is nil too.
CREATE TABLE audits (
    position     INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL,
    customer_id  TEXT NOT NULL,
    accesskey_id TEXT NOT NULL,
    method       TEXT NOT NULL,
    path         TEXT NOT NULL,
    status       INTEGER NOT NULL,
    request_id   TEXT NOT NULL,
    source       TEXT NOT NULL,
    tm_create    INTEGER NOT NULL
) STRICT;
CREATE INDEX audits_page ON audits (tm_create, id);
CREATE INDEX audits_of_customer ON audits (customer_id, tm_create, id);
