-- What a restart goes on with: the ended conferences whose hash is still answered, by their end.
CREATE INDEX conferences_ended ON conferences (json_extract(body, '$.tm_end'))
    WHERE status = 'terminated' AND deleted = 0;

-- The record of a conference, whose seq is never less than that of its last event on disk: the event
-- may have been committed in a batch before the record.
CREATE VIEW conference_records AS
    SELECT id, customer_id, status, deleted, tm_create, body,
           max(event_seq, (SELECT ifnull(max(seq), 0) FROM events WHERE conference_id = conferences.id)) AS event_seq
    FROM conferences;
