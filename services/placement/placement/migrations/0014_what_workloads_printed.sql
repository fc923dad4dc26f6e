-- The end of what a workload printed: which wish for it was the last, and what its node last told.
CREATE TABLE log (
    workload_id text PRIMARY KEY,
    wished bigint NOT NULL DEFAULT 0,
    number bigint,
    at timestamptz,
    text text NOT NULL DEFAULT '',
    cut boolean NOT NULL DEFAULT false,
    touched_at timestamptz NOT NULL
);
CREATE INDEX log_touched ON log (touched_at);
