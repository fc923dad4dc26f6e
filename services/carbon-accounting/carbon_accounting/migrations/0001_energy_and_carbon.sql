-- The energy and carbon ledger: what meters said, whose it is, and what is carried.

CREATE TABLE project (
    project_id text PRIMARY KEY,
    organization text NOT NULL,
    organization_name text NOT NULL,
    name text NOT NULL
);

CREATE TABLE node (
    node_id text PRIMARY KEY,
    site text NOT NULL,
    jurisdiction text NOT NULL
);

-- The last reading of each node's meter.
CREATE TABLE meter (
    node_id text PRIMARY KEY,
    epoch bigint NOT NULL CHECK (epoch >= 0),
    measured_at timestamptz NOT NULL,
    counter_uj bigint NOT NULL CHECK (counter_uj >= 0),
    idle_counter_uj bigint NOT NULL CHECK (idle_counter_uj >= 0),
    quality text NOT NULL
);

-- A node's energy between two readings; settled once, as a whole.
CREATE TABLE interval (
    cause_id text PRIMARY KEY,
    node_id text NOT NULL,
    site text NOT NULL,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL,
    energy_uj bigint NOT NULL CHECK (energy_uj >= 0),
    idle_uj bigint NOT NULL CHECK (idle_uj BETWEEN 0 AND energy_uj),
    quality text NOT NULL CHECK (quality IN ('measured', 'estimated')),
    source text NOT NULL,
    traceparent text,
    settled_at timestamptz,
    factor_id text,
    -- What projects got of it, and what stayed with the operator: together the whole.
    projects_uj bigint CHECK (projects_uj >= 0),
    operator_uj bigint CHECK (operator_uj >= 0),
    -- Why it cannot be settled yet.
    held text,
    CHECK (end_at > start_at),
    CHECK (settled_at IS NULL OR projects_uj + operator_uj = energy_uj)
);

CREATE INDEX interval_to_settle ON interval (end_at, cause_id) WHERE settled_at IS NULL;

CREATE TABLE request (
    request_id text PRIMARY KEY,
    organization text NOT NULL,
    project text NOT NULL,
    site text NOT NULL,
    node_id text,
    ended_at timestamptz NOT NULL,
    weight bigint NOT NULL CHECK (weight >= 0),
    -- The ledger line as metering told it, JSON.
    line text NOT NULL,
    settled_at timestamptz,
    energy_uj bigint CHECK (energy_uj >= 0),
    carbon_ug bigint CHECK (carbon_ug >= 0),
    factor_id text,
    quality text,
    energy_source text,
    CHECK (settled_at IS NULL OR (energy_uj IS NOT NULL AND carbon_ug IS NOT NULL AND factor_id IS NOT NULL))
);

CREATE INDEX request_to_settle ON request (node_id, ended_at) WHERE settled_at IS NULL AND node_id IS NOT NULL;
CREATE INDEX request_by_settled ON request (settled_at);

-- Sums by project, and the operator's under 'operator'. A year of a site passes 64 bits.
CREATE TABLE account (
    account text PRIMARY KEY,
    requests bigint NOT NULL DEFAULT 0 CHECK (requests >= 0),
    energy_uj numeric(40, 0) NOT NULL DEFAULT 0 CHECK (energy_uj >= 0),
    carbon_ug numeric(40, 0) NOT NULL DEFAULT 0 CHECK (carbon_ug >= 0),
    estimated boolean NOT NULL DEFAULT false
);

-- What rounding down left of an account's carbon by one factor, in µJ·mg/kWh: below one whole µg.
CREATE TABLE carry (
    account text NOT NULL,
    factor_id text NOT NULL,
    remainder bigint NOT NULL CHECK (remainder >= 0 AND remainder < 3600000000),
    PRIMARY KEY (account, factor_id)
);
