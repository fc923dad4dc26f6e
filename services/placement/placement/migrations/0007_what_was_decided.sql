-- What placement was given and what it decided, in commit order: given again, it decides the same.

CREATE TABLE decision (
    site text NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    epoch bigint NOT NULL CHECK (epoch >= 0),
    at timestamptz NOT NULL,
    input text NOT NULL,
    outcome text NOT NULL,
    PRIMARY KEY (site, seq)
);

CREATE INDEX decision_by_time ON decision USING brin (at) WITH (pages_per_range = 16);

-- One decision at a time: each follows from all before it. Returns the number of the last one, once it is our turn.
-- Two statements, so that the second sees what was committed while the first waited.
CREATE FUNCTION hold_decisions(of text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1886151011);
    RETURN (SELECT coalesce(max(seq), 0) FROM decision WHERE site = of);
END
$$;

-- What a site's memory is after the decision ``seq``: a start goes on from there.
CREATE TABLE snapshot (
    site text NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    epoch bigint NOT NULL CHECK (epoch >= 0),
    at timestamptz NOT NULL,
    -- All but who is where, then that in parts: one that is written at once holds everybody up.
    state bytea[] NOT NULL,
    PRIMARY KEY (site, seq)
);

-- Megabytes that are read once a start: packing them costs more than it saves.
ALTER TABLE snapshot ALTER COLUMN state SET STORAGE EXTERNAL;

ALTER TABLE node ADD COLUMN IF NOT EXISTS cpus bigint NOT NULL DEFAULT 0 CHECK (cpus >= 0);

-- A device's position on its node for as long as it is known there, whatever comes and goes beside it.
ALTER TABLE device ADD COLUMN card integer CHECK (card >= 0);

UPDATE device SET card = placed.card FROM (
    SELECT node_id, device_id, row_number() OVER (PARTITION BY node_id ORDER BY index, device_id) - 1 AS card
    FROM device
) AS placed WHERE placed.node_id = device.node_id AND placed.device_id = device.device_id;

ALTER TABLE device ALTER COLUMN card SET NOT NULL;

CREATE UNIQUE INDEX device_by_card ON device (node_id, card);
