-- What bounds a scope (an organization, a project, a key or an endpoint), what it has spent, and what
-- gateways hold of it. One row a scope, and it stays: a generation never falls, and gateways that still
-- hold money of a budget that was deleted are not forgotten. Its row lock guards all that is below.
CREATE TABLE ceiling (
    scope_id text PRIMARY KEY,
    scope_kind text NOT NULL CHECK (scope_kind IN ('organization', 'project', 'key', 'endpoint')),
    organization text,
    project text,
    generation bigint NOT NULL CHECK (generation > 0),
    limit_id text UNIQUE,
    limit_generation bigint NOT NULL DEFAULT 0,
    requests_per_minute bigint CHECK (requests_per_minute > 0),
    tokens_per_minute bigint CHECK (tokens_per_minute > 0),
    parallel_requests bigint CHECK (parallel_requests > 0),
    budget_id text UNIQUE,
    budget_generation bigint NOT NULL DEFAULT 0,
    amount_microeur bigint CHECK (amount_microeur >= 0),
    period text NOT NULL DEFAULT 'total' CHECK (period IN ('total', 'day', 'month')),
    hard boolean NOT NULL DEFAULT false,
    warn_percent integer NOT NULL DEFAULT 80 CHECK (warn_percent BETWEEN 1 AND 100),
    -- Rises each time the budget begins to be hard: accounts opened before know nothing of it.
    hardened bigint NOT NULL DEFAULT 0,
    -- The period that the bucket shows.
    period_start timestamptz,
    period_end timestamptz,
    CHECK ((budget_id IS NULL) = (amount_microeur IS NULL)),
    CHECK ((budget_id IS NULL) = (period_start IS NULL)),
    CHECK (limit_id IS NULL
           OR coalesce(requests_per_minute, tokens_per_minute, parallel_requests) IS NOT NULL)
) WITH (fillfactor = 70);

CREATE INDEX ceiling_by_period_end ON ceiling (period_end) WHERE period_end IS NOT NULL;

-- What the ledger's lines of a scope that started in a period cost.
CREATE TABLE spend (
    scope_id text NOT NULL REFERENCES ceiling,
    period_start timestamptz NOT NULL,
    spent_microeur bigint NOT NULL CHECK (spent_microeur >= 0),
    crossed text NOT NULL DEFAULT 'none' CHECK (crossed IN ('none', 'soft', 'hard')),
    PRIMARY KEY (scope_id, period_start)
) WITH (fillfactor = 50);

-- What one gateway, since one start of it, was granted, gave back, and has in the ledger. The rest is
-- outstanding: it may be spent any moment.
CREATE TABLE account (
    scope_id text NOT NULL REFERENCES ceiling,
    period_start timestamptz NOT NULL,
    producer text NOT NULL,
    epoch bigint NOT NULL CHECK (epoch >= 0),
    since timestamptz NOT NULL,
    hardened bigint NOT NULL,
    granted bigint NOT NULL CHECK (granted >= 0),
    returned bigint NOT NULL CHECK (returned >= 0),
    charged bigint NOT NULL CHECK (charged >= 0),
    PRIMARY KEY (scope_id, period_start, producer, epoch),
    CHECK (returned + charged <= granted)
) WITH (fillfactor = 50);

CREATE INDEX account_by_producer ON account (producer, epoch);

-- Gateways that ask for leases. One is alive until its leases end.
CREATE TABLE gateway (
    producer text PRIMARY KEY,
    epoch bigint NOT NULL CHECK (epoch >= 0),
    settled_below bigint NOT NULL CHECK (settled_below >= 0),
    lives_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- What a gateway said it was asked for, and the share of each ceiling that it got.
CREATE TABLE share (
    scope_id text NOT NULL REFERENCES ceiling,
    producer text NOT NULL,
    lives_until timestamptz NOT NULL,
    requests_wanted bigint NOT NULL,
    tokens_wanted bigint NOT NULL,
    parallel_wanted bigint NOT NULL,
    requests bigint CHECK (requests >= 0),
    tokens bigint CHECK (tokens >= 0),
    parallel bigint CHECK (parallel >= 0),
    PRIMARY KEY (scope_id, producer)
) WITH (fillfactor = 50);
