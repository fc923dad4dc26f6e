-- How many replicas demand asks for within an endpoint's bounds, and what gateways say of demand.

ALTER TABLE endpoint
    ADD COLUMN target integer NOT NULL DEFAULT 4 CHECK (target >= 1),
    ADD COLUMN up_after_ms bigint NOT NULL DEFAULT 5000 CHECK (up_after_ms >= 0),
    ADD COLUMN down_after_ms bigint NOT NULL DEFAULT 60000 CHECK (down_after_ms >= 0),
    ADD COLUMN sleep_after_ms bigint NOT NULL DEFAULT 300000 CHECK (sleep_after_ms >= 0),
    ADD COLUMN routing text NOT NULL DEFAULT '{}',
    ADD COLUMN wanted integer,
    -- What was needed of late, and when the next window passes though nobody tells anything.
    ADD COLUMN need text NOT NULL DEFAULT '{}',
    ADD COLUMN look_at timestamptz;

UPDATE endpoint SET wanted = replicas_min;

ALTER TABLE endpoint
    ALTER COLUMN wanted SET NOT NULL,
    ADD CHECK (wanted BETWEEN replicas_min AND replicas_max);

CREATE INDEX endpoint_by_look ON endpoint (look_at) WHERE look_at IS NOT NULL;

-- A gateway's last word on an endpoint; of two the higher sequence is the truth.
CREATE TABLE demand (
    endpoint_id text NOT NULL REFERENCES endpoint ON DELETE CASCADE,
    producer text NOT NULL,
    sequence bigint NOT NULL,
    in_flight bigint NOT NULL CHECK (in_flight >= 0),
    queued bigint NOT NULL CHECK (queued >= 0),
    waking boolean NOT NULL,
    asked_at timestamptz NOT NULL,
    stands_until timestamptz NOT NULL,
    PRIMARY KEY (endpoint_id, producer)
);

CREATE INDEX demand_by_end ON demand (stands_until);

-- Until when a replica that gets no more requests may finish those it has; then it is told to stop.
ALTER TABLE workload
    ADD COLUMN drains_until timestamptz,
    ADD CHECK (drains_until IS NULL OR state IN ('stopping', 'stopped', 'failed'));

CREATE INDEX workload_by_drain ON workload (drains_until) WHERE drains_until IS NOT NULL;
