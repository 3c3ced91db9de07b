-- `body` is the resource as JSON. `uploaded` tells whether its files are where they stay.
CREATE TABLE recordings (
    id            TEXT PRIMARY KEY NOT NULL,
    customer_id   TEXT NOT NULL,
    conference_id TEXT NOT NULL,
    status        TEXT NOT NULL,
    deleted       INTEGER NOT NULL,
    uploaded      INTEGER NOT NULL DEFAULT 0,
    size_bytes    INTEGER NOT NULL,
    tm_create     INTEGER NOT NULL,
    body          TEXT NOT NULL
) STRICT;
CREATE INDEX recordings_page ON recordings (customer_id, tm_create, id) WHERE deleted = 0;
CREATE INDEX recordings_live ON recordings (id) WHERE status <> 'ended';
CREATE INDEX recordings_kept ON recordings (tm_create) WHERE deleted = 0;
