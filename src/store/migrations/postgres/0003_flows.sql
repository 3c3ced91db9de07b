-- Flows and their runs. `body` is the resource as JSON; the columns beside it are what lists and
-- restarts select by.
CREATE TABLE flows (
    id          TEXT COLLATE "C" PRIMARY KEY,
    customer_id TEXT COLLATE "C" NOT NULL,
    deleted     BIGINT NOT NULL,
    tm_create   BIGINT NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX flows_page ON flows (customer_id, tm_create, id) WHERE deleted = 0;

CREATE TABLE activeflows (
    id            TEXT COLLATE "C" PRIMARY KEY,
    customer_id   TEXT COLLATE "C" NOT NULL,
    conference_id TEXT COLLATE "C" NOT NULL,
    flow_id       TEXT COLLATE "C" NOT NULL,
    running       BIGINT NOT NULL,
    tm_create     BIGINT NOT NULL,
    body          TEXT NOT NULL
);
CREATE INDEX activeflows_page ON activeflows (customer_id, tm_create, id);
CREATE INDEX activeflows_of_conference ON activeflows (conference_id, tm_create, id);
CREATE INDEX activeflows_of_flow ON activeflows (flow_id, tm_create, id);
CREATE INDEX activeflows_running ON activeflows (id) WHERE running = 1;
CREATE INDEX activeflows_age ON activeflows (tm_create, id);
