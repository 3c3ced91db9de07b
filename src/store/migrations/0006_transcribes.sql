CREATE TABLE transcribes (
    id           TEXT PRIMARY KEY NOT NULL,
    customer_id  TEXT NOT NULL,
    reference_id TEXT NOT NULL,
    status       TEXT NOT NULL,
    tm_create    INTEGER NOT NULL,
    body         TEXT NOT NULL
) STRICT;
CREATE INDEX transcribes_page ON transcribes (customer_id, tm_create, id);
CREATE INDEX transcribes_live ON transcribes (id) WHERE status <> 'done';

-- `position` is never used twice: what is oldest goes first when there are too many.
CREATE TABLE transcripts (
    position      INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    customer_id   TEXT NOT NULL,
    transcribe_id TEXT NOT NULL,
    tm_create     INTEGER NOT NULL,
    body          TEXT NOT NULL
) STRICT;
CREATE INDEX transcripts_page ON transcripts (customer_id, transcribe_id, tm_create, id);
