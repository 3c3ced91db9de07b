CREATE TABLE transcribes (
    id           TEXT COLLATE "C" PRIMARY KEY,
    customer_id  TEXT COLLATE "C" NOT NULL,
    reference_id TEXT COLLATE "C" NOT NULL,
    status       TEXT NOT NULL,
    tm_create    BIGINT NOT NULL,
    body         TEXT NOT NULL
);
CREATE INDEX transcribes_page ON transcribes (customer_id, tm_create, id);
CREATE INDEX transcribes_live ON transcribes (id) WHERE status <> 'done';

-- What is oldest goes first when there are too many. Positions as in `events`.
CREATE TABLE transcripts (
    position      BIGINT PRIMARY KEY,
    id            TEXT COLLATE "C" NOT NULL UNIQUE,
    customer_id   TEXT COLLATE "C" NOT NULL,
    transcribe_id TEXT COLLATE "C" NOT NULL,
    tm_create     BIGINT NOT NULL,
    body          TEXT NOT NULL
);
CREATE FUNCTION next_transcript_position() RETURNS BIGINT LANGUAGE sql VOLATILE
    AS 'SELECT coalesce(max(position), 0) + 1 FROM transcripts';
ALTER TABLE transcripts ALTER COLUMN position SET DEFAULT next_transcript_position();
CREATE INDEX transcripts_page ON transcripts (customer_id, transcribe_id, tm_create, id);
