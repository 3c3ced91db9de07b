-- Files of recordings that are to be in object storage, are there, or are to go from there. A recording's
-- `uploaded` is 1 once its files are listed here.
CREATE TABLE recording_files (
    recording_id TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    -- `waiting`: to be uploaded, and still in the data folder. `stored`: there, whole. `going`: to be deleted.
    state        TEXT NOT NULL,
    -- `s3://bucket/key`: where it is, or will be.
    location     TEXT NOT NULL,
    -- An upload in parts that was begun and not completed; empty for none.
    upload_id    TEXT NOT NULL DEFAULT '',
    size_bytes   BIGINT NOT NULL,
    -- What was tried since its state is what it is, how the last try failed, and when the next is due.
    attempts     BIGINT NOT NULL DEFAULT 0,
    failure      TEXT NOT NULL DEFAULT '',
    tm_next      BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (recording_id, name)
);
CREATE INDEX recording_files_due ON recording_files (tm_next) WHERE state <> 'stored';
CREATE INDEX recordings_to_list ON recordings (id) WHERE status = 'ended' AND deleted = 0 AND uploaded = 0;
