-- What failed health checks took out, and whether that became too much to go on unseen.

CREATE TABLE quarantine (
    site text NOT NULL,
    node_id text NOT NULL REFERENCES node,
    at timestamptz NOT NULL,
    PRIMARY KEY (site, node_id, at)
);

CREATE INDEX quarantine_by_time ON quarantine (at);

CREATE TABLE breaker (
    site text PRIMARY KEY,
    -- Since when failed checks take out nothing more; null while they do.
    tripped_at timestamptz,
    -- When a person last re-armed it: what was before counts no more.
    armed_at timestamptz
);
