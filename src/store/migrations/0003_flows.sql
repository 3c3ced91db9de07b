-- Flows and their runs. `body` is the resource as JSON; the columns beside it are what lists and
-- restarts select by.
CREATE TABLE flows (
    id          TEXT PRIMARY KEY NOT NULL,
    customer_id TEXT NOT NULL,
    deleted     INTEGER NOT NULL,
    tm_create   INTEGER NOT NULL,
    body        TEXT NOT NULL
) STRICT;
CREATE INDEX flows_page ON flows (customer_id, tm_create, id) WHERE deleted = 0;

CREATE TABLE activeflows (
    id            TEXT PRIMARY KEY NOT NULL,
    customer_id   TEXT NOT NULL,
    conference_id TEXT NOT NULL,
    flow_id       TEXT NOT NULL,
    running       INTEGER NOT NULL,
    tm_create     INTEGER NOT NULL,
    body          TEXT NOT NULL
) STRICT;
CREATE INDEX activeflows_page ON activeflows (customer_id, tm_create, id);
CREATE INDEX activeflows_of_conference ON activeflows (conference_id, tm_create, id);
CREATE INDEX activeflows_of_flow ON activeflows (flow_id, tm_create, id);
CREATE INDEX activeflows_running ON activeflows (id) WHERE running = 1;
CREATE INDEX activeflows_age ON activeflows (tm_create, id);
