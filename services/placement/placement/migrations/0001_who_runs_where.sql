-- What placement knows of projects, nodes and their devices, and who runs where.
-- Columns that hold JSON are text: they are written and read by one program, never searched.

CREATE TABLE project (
    project_id text PRIMARY KEY,
    organization text NOT NULL,
    organization_name text NOT NULL,
    name text NOT NULL
);

CREATE INDEX project_by_name ON project (name);

CREATE TABLE node (
    node_id text PRIMARY KEY,
    name text NOT NULL,
    site text NOT NULL,
    state text NOT NULL CHECK (state IN (
        'enrolled', 'validating', 'ready', 'cordoned', 'draining', 'repairing', 'lost', 'retired')),
    since timestamptz NOT NULL,
    generation bigint NOT NULL DEFAULT 1 CHECK (generation > 0),
    reasons text NOT NULL DEFAULT '[]',
    checks text NOT NULL DEFAULT '[]',
    jurisdiction text NOT NULL DEFAULT '',
    memory_mib bigint NOT NULL DEFAULT 0 CHECK (memory_mib >= 0),
    memory_taken_mib bigint NOT NULL DEFAULT 0 CHECK (memory_taken_mib >= 0),
    address text NOT NULL DEFAULT '',
    -- The last check wished for, and the first whose verdict may open a validating node.
    check_wished bigint NOT NULL DEFAULT 0 CHECK (check_wished >= 0),
    check_needed bigint NOT NULL DEFAULT 0 CHECK (check_needed >= 0)
);

CREATE INDEX node_by_name ON node (name);

CREATE TABLE device (
    node_id text NOT NULL REFERENCES node,
    device_id text NOT NULL,
    index integer NOT NULL CHECK (index >= 0),
    model text NOT NULL,
    memory_mib bigint NOT NULL CHECK (memory_mib >= 0),
    rehearsal boolean NOT NULL,
    present boolean NOT NULL DEFAULT true,
    -- Thousandths of the device that belong to workloads: never more than the whole.
    taken_milli integer NOT NULL DEFAULT 0 CHECK (taken_milli BETWEEN 0 AND 1000),
    PRIMARY KEY (node_id, device_id)
);

CREATE TABLE endpoint (
    endpoint_id text PRIMARY KEY,
    organization text NOT NULL,
    project text NOT NULL REFERENCES project,
    name text NOT NULL,
    site text NOT NULL,
    model text NOT NULL,
    engine text NOT NULL,
    resources text NOT NULL,
    residency text NOT NULL,
    replicas_min integer NOT NULL CHECK (replicas_min >= 0),
    replicas_max integer NOT NULL CHECK (replicas_max >= 1),
    state text NOT NULL CHECK (state IN (
        'pending', 'starting', 'serving', 'degraded', 'stopping', 'stopped', 'asleep')),
    ready integer NOT NULL DEFAULT 0 CHECK (ready >= 0),
    missing integer NOT NULL DEFAULT 0 CHECK (missing >= 0),
    reasons text NOT NULL DEFAULT '[]',
    -- Rises with each change that somebody asked for: what If-Match compares.
    generation bigint NOT NULL DEFAULT 1 CHECK (generation > 0),
    created_at timestamptz NOT NULL,
    since timestamptz NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    retry_at timestamptz,
    -- SHA-256 of the route last put: an unchanged one is not put again.
    route_digest bytea,
    CHECK (replicas_min <= replicas_max)
);

CREATE UNIQUE INDEX endpoint_by_name ON endpoint (project, name) WHERE state <> 'stopped';

CREATE TABLE workload (
    workload_id text PRIMARY KEY,
    endpoint_id text NOT NULL REFERENCES endpoint,
    node_id text NOT NULL REFERENCES node,
    state text NOT NULL CHECK (state IN ('assigned', 'starting', 'ready', 'stopping', 'stopped', 'failed')),
    since timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    ready_at timestamptz,
    reasons text NOT NULL DEFAULT '[]',
    devices text NOT NULL,
    memory_mib bigint NOT NULL CHECK (memory_mib >= 0),
    api_key text NOT NULL,
    scheme text NOT NULL DEFAULT 'http',
    address text,
    replaces text,
    CHECK (state <> 'ready' OR address IS NOT NULL)
);

CREATE INDEX workload_by_endpoint ON workload (endpoint_id, created_at);
CREATE INDEX workload_by_node ON workload (node_id) WHERE state NOT IN ('stopped', 'failed');
