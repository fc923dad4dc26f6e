-- The usage ledger: one line a request, what it cost by which price, which batches it came in.

CREATE TABLE project (
    project_id text PRIMARY KEY,
    name text NOT NULL,
    organization_id text,
    organization_name text NOT NULL,
    version bigint NOT NULL
);

CREATE TABLE price (
    price_id text PRIMARY KEY,
    model text NOT NULL CHECK (model <> ''),
    price_microeur_per_mtoken_in bigint NOT NULL CHECK (price_microeur_per_mtoken_in >= 0),
    price_microeur_per_mtoken_out bigint NOT NULL CHECK (price_microeur_per_mtoken_out >= 0),
    valid_from timestamptz NOT NULL,
    UNIQUE (model, valid_from)
);

-- The default is older than any request: every request has a price.
INSERT INTO price (price_id, model, price_microeur_per_mtoken_in, price_microeur_per_mtoken_out, valid_from)
VALUES
    ('default-1', '*', 200000, 600000, '2000-01-01T00:00:00Z'),
    ('tiny-1', 'tiny', 50000, 150000, '2026-01-01T00:00:00Z'),
    ('all-minilm-l6-v2-1', 'all-minilm-l6-v2', 20000, 0, '2026-01-01T00:00:00Z');

-- What rounding has left over, in millionths of a micro-euro.
CREATE TABLE remainder (
    project_id text NOT NULL,
    price_id text NOT NULL REFERENCES price,
    remainder integer NOT NULL CHECK (remainder >= 0 AND remainder < 1000000),
    PRIMARY KEY (project_id, price_id)
) WITH (fillfactor = 70);

CREATE TABLE usage_row (
    request_id text PRIMARY KEY,
    organization text NOT NULL,
    project text NOT NULL,
    key_id text NOT NULL,
    endpoint_id text NOT NULL,
    model text NOT NULL,
    route text NOT NULL,
    streamed boolean NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('completed', 'aborted', 'failed')),
    status integer NOT NULL,
    tokens_from text NOT NULL CHECK (tokens_from IN ('engine', 'counted', 'none')),
    prompt_tokens bigint CHECK (prompt_tokens >= 0),
    completion_tokens bigint CHECK (completion_tokens >= 0),
    cached_tokens bigint CHECK (cached_tokens >= 0),
    workload_id text,
    node_id text,
    attempts integer NOT NULL,
    queue_us bigint,
    first_token_us bigint,
    reason text,
    traceparent text,
    cost_microeur bigint NOT NULL CHECK (cost_microeur >= 0),
    price_id text NOT NULL REFERENCES price,
    producer text NOT NULL,
    epoch bigint NOT NULL,
    sequence bigint NOT NULL,
    recorded_at timestamptz NOT NULL
);

CREATE INDEX usage_row_by_project ON usage_row (project, started_at);
CREATE INDEX usage_row_by_time ON usage_row USING brin (started_at);

-- The same lines summed by the hour they started in, kept in the same transaction.
CREATE TABLE usage_hour (
    project text NOT NULL,
    model text NOT NULL,
    hour timestamptz NOT NULL,
    requests bigint NOT NULL CHECK (requests > 0),
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    cost_microeur bigint NOT NULL,
    aborted bigint NOT NULL,
    failed bigint NOT NULL,
    PRIMARY KEY (project, model, hour)
) WITH (fillfactor = 70);

-- Who numbers batches; its row lock puts a producer's batches one after the other.
CREATE TABLE producer (
    producer text PRIMARY KEY,
    heard_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Which numbers of an epoch stand in the ledger: [[low, high], ...].
CREATE TABLE producer_epoch (
    producer text NOT NULL REFERENCES producer,
    epoch bigint NOT NULL CHECK (epoch >= 0),
    held jsonb NOT NULL,
    PRIMARY KEY (producer, epoch)
) WITH (fillfactor = 50);
