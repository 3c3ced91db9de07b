-- `body` is the resource as JSON. `uploaded` tells whether its files are where they stay.
CREATE TABLE recordings (
    id            TEXT COLLATE "C" PRIMARY KEY,
    customer_id   TEXT COLLATE "C" NOT NULL,
    conference_id TEXT COLLATE "C" NOT NULL,
    status        TEXT NOT NULL,
    deleted       BIGINT NOT NULL,
    uploaded      BIGINT NOT NULL DEFAULT 0,
    size_bytes    BIGINT NOT NULL,
    tm_create     BIGINT NOT NULL,
    body          TEXT NOT NULL
);
CREATE INDEX recordings_page ON recordings (customer_id, tm_create, id) WHERE deleted = 0;
CREATE INDEX recordings_live ON recordings (id) WHERE status <> 'ended';
CREATE INDEX recordings_kept ON recordings (tm_create) WHERE deleted = 0;
