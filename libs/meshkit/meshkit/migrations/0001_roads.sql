-- What every service's database holds of the roads: what it will tell, has heard, answered, given up on.

-- What has been told and is not yet acknowledged by the bus; deleted once it is.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('fact', 'put', 'drop')),
    partition smallint NOT NULL CHECK (partition BETWEEN 0 AND 99),
    -- A fact's subject; the bucket of a put or a drop.
    subject text NOT NULL CHECK (subject <> ''),
    key text NOT NULL CHECK (key <> ''),
    version bigint NOT NULL CHECK (version > 0),
    msg_id text NOT NULL UNIQUE,
    payload bytea NOT NULL,
    traceparent text,
    created_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_threshold = 2000);

CREATE INDEX outbox_by_partition ON outbox (partition, id);

-- One counter a key; its row lock is what puts a key's facts into commit order.
CREATE TABLE key_version (
    key text PRIMARY KEY,
    version bigint NOT NULL CHECK (version > 0)
) WITH (fillfactor = 80);

-- Which facts have had their effect; kept longer than any stream keeps a fact.
CREATE TABLE inbox (
    reader text NOT NULL,
    fact_id text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (reader, fact_id)
);

CREATE INDEX inbox_by_time ON inbox USING brin (at) WITH (pages_per_range = 16);

-- The newest version of each key that a reader has gone past.
CREATE TABLE heard_version (
    reader text NOT NULL,
    key text NOT NULL,
    version bigint NOT NULL CHECK (version >= 0),
    PRIMARY KEY (reader, key)
) WITH (fillfactor = 80);

-- Up to which of a reader's deliveries all are settled, and how many an orderly stop gave back.
CREATE TABLE reader (
    name text PRIMARY KEY,
    settled bigint NOT NULL CHECK (settled >= 0),
    given_back integer NOT NULL DEFAULT 0 CHECK (given_back >= 0)
) WITH (fillfactor = 50);

-- How often a redelivered fact was begun; outlives a worker that it kills.
CREATE TABLE attempt (
    reader text NOT NULL,
    fact_id text NOT NULL,
    tries integer NOT NULL CHECK (tries > 0),
    PRIMARY KEY (reader, fact_id)
);

-- Answers to asks that changed something, as far as they may be stored, given again for a day.
CREATE TABLE reply (
    principal text NOT NULL,
    ask text NOT NULL,
    idempotency_key text NOT NULL,
    body_hash bytea NOT NULL CHECK (length(body_hash) = 32),
    reply bytea NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (principal, ask, idempotency_key)
);

CREATE INDEX reply_by_time ON reply (at);

-- Facts that a reader gave up on, or does not know the type of yet.
CREATE TABLE dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reader text NOT NULL,
    stream text NOT NULL,
    subject text NOT NULL,
    tag text NOT NULL,
    key text NOT NULL,
    version bigint NOT NULL CHECK (version >= 0),
    fact_id text NOT NULL,
    reason text NOT NULL,
    tries integer NOT NULL CHECK (tries >= 0),
    parked boolean NOT NULL,
    payload bytea NOT NULL,
    traceparent text,
    at timestamptz NOT NULL,
    UNIQUE (reader, fact_id)
);

-- Who writes the buckets: the epoch rises with each writer.
CREATE TABLE writer (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch bigint NOT NULL CHECK (epoch >= 0)
);

INSERT INTO writer (epoch) VALUES (0);
