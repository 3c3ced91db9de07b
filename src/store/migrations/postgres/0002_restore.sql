-- A member of a JSON text, named as SQLite names it, so that statements need not differ: only `$.name`
-- is understood. A text with an escaped NUL, which PostgreSQL cannot make a character of, has none: an
-- index must never refuse a row.
CREATE FUNCTION json_extract(body TEXT, path TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE STRICT
    AS $$ SELECT CASE WHEN strpos(body, '\u0000') = 0 THEN body::json ->> substr(path, 3) END $$;

-- What a restart goes on with: the ended conferences whose hash is still answered, by their end.
CREATE INDEX conferences_ended ON conferences (json_extract(body, '$.tm_end'))
    WHERE status = 'terminated' AND deleted = 0;

-- The record of a conference, whose seq is never less than that of its last event on disk: the event
-- may have been committed in a batch before the record.
CREATE VIEW conference_records AS
    SELECT id, customer_id, status, deleted, tm_create, body,
           greatest(event_seq, (SELECT max(seq) FROM events WHERE conference_id = conferences.id)) AS event_seq
    FROM conferences;
