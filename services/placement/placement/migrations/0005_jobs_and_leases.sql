-- Jobs and leases, and their members: what each node should run for one, or be handed over to.

CREATE TABLE job (
    job_id text PRIMARY KEY,
    organization text NOT NULL,
    project text NOT NULL REFERENCES project,
    name text NOT NULL,
    site text NOT NULL,
    -- All that was asked for and never changes: its command, its size, its terms.
    wished text NOT NULL,
    priority integer NOT NULL CHECK (priority BETWEEN 0 AND 1000),
    state text NOT NULL CHECK (state IN (
        'queued', 'admitted', 'running', 'preempted', 'succeeded', 'failed', 'cancelled')),
    reasons text NOT NULL DEFAULT '[]',
    -- Rises with each change that somebody asked for: what If-Match compares.
    generation bigint NOT NULL DEFAULT 1 CHECK (generation > 0),
    attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    -- What the engine has of it: nothing, a place in its queue, or all its seats.
    place text NOT NULL DEFAULT 'none' CHECK (place IN ('none', 'waits', 'sits')),
    position integer CHECK (position > 0),
    expected_start_at timestamptz,
    created_at timestamptz NOT NULL,
    since timestamptz NOT NULL,
    started_at timestamptz,
    -- When it is to stop, where it may not run for ever.
    due_at timestamptz,
    ended_at timestamptz,
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (ended_at IS NOT NULL)),
    CHECK (state <> 'running' OR started_at IS NOT NULL),
    CHECK (state NOT IN ('admitted', 'running') OR (place = 'sits' AND attempt > 0)),
    CHECK (position IS NULL OR state = 'queued'),
    CHECK (expected_start_at IS NULL OR state = 'queued')
);

CREATE UNIQUE INDEX job_by_name ON job (project, name) WHERE ended_at IS NULL;
CREATE INDEX job_by_project ON job (project, name, job_id);
CREATE INDEX job_that_waits ON job (site, priority DESC, created_at) WHERE state = 'queued';
CREATE INDEX job_by_due ON job (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX job_at_work ON job (site) WHERE ended_at IS NULL OR place <> 'none';
CREATE INDEX job_by_end ON job (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE lease (
    lease_id text PRIMARY KEY,
    organization text NOT NULL,
    project text NOT NULL REFERENCES project,
    name text NOT NULL,
    site text NOT NULL,
    wished text NOT NULL,
    priority integer NOT NULL CHECK (priority BETWEEN 0 AND 1000),
    state text NOT NULL CHECK (state IN (
        'requested', 'reserved', 'provisioning', 'active', 'releasing', 'erasing', 'attesting', 'ended',
        'refused', 'failed')),
    reasons text NOT NULL DEFAULT '[]',
    generation bigint NOT NULL DEFAULT 1 CHECK (generation > 0),
    place text NOT NULL DEFAULT 'none' CHECK (place IN ('none', 'booked', 'waits', 'sits')),
    -- Whether it ends as failed, once its servers are given back.
    spoilt boolean NOT NULL DEFAULT false,
    position integer CHECK (position > 0),
    expected_start_at timestamptz,
    created_at timestamptz NOT NULL,
    since timestamptz NOT NULL,
    starts_at timestamptz NOT NULL,
    -- Until when it waits for room.
    waits_until timestamptz NOT NULL,
    due_at timestamptz,
    active_at timestamptz,
    ended_at timestamptz,
    CHECK ((state IN ('ended', 'refused', 'failed')) = (ended_at IS NOT NULL)),
    CHECK (state <> 'active' OR active_at IS NOT NULL),
    CHECK (state NOT IN ('reserved', 'provisioning', 'active', 'releasing', 'erasing', 'attesting') OR place = 'sits'),
    CHECK (position IS NULL OR state = 'requested'),
    CHECK (expected_start_at IS NULL OR state = 'requested'),
    CHECK (waits_until >= starts_at)
);

CREATE UNIQUE INDEX lease_by_name ON lease (project, name) WHERE ended_at IS NULL;
CREATE INDEX lease_by_project ON lease (project, name, lease_id);
CREATE INDEX lease_that_waits ON lease (site, priority DESC, created_at) WHERE state = 'requested';
CREATE INDEX lease_by_due ON lease (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX lease_at_work ON lease (site) WHERE ended_at IS NULL;
CREATE INDEX lease_by_end ON lease (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE member (
    workload_id text PRIMARY KEY,
    job_id text REFERENCES job ON DELETE CASCADE,
    lease_id text REFERENCES lease ON DELETE CASCADE,
    number integer NOT NULL CHECK (number >= 0),
    attempt integer NOT NULL CHECK (attempt > 0),
    node_id text NOT NULL REFERENCES node,
    state text NOT NULL CHECK (state IN ('assigned', 'starting', 'ready', 'stopping', 'stopped', 'failed')),
    -- How far a server that was a tenant's has come on its way to the next.
    step text NOT NULL DEFAULT 'hold' CHECK (step IN ('hold', 'erase', 'attest', 'done')),
    -- Whether what it takes is taken from its node.
    holds boolean NOT NULL DEFAULT true,
    since timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    exit_code integer,
    reasons text NOT NULL DEFAULT '[]',
    devices text NOT NULL,
    memory_mib bigint NOT NULL CHECK (memory_mib >= 0),
    cpu_milli bigint NOT NULL CHECK (cpu_milli >= 0),
    CHECK ((job_id IS NULL) <> (lease_id IS NULL)),
    CHECK (holds OR state IN ('stopping', 'stopped', 'failed')),
    CHECK (lease_id IS NOT NULL OR step = 'hold'),
    -- A job's member that has ended holds nothing; a lease's holds its server until that is clean.
    CHECK (NOT holds OR lease_id IS NOT NULL OR state NOT IN ('stopped', 'failed')),
    CHECK (step <> 'done' OR NOT holds)
);

CREATE INDEX member_by_job ON member (job_id, attempt, number) WHERE job_id IS NOT NULL;
CREATE INDEX member_by_lease ON member (lease_id, number) WHERE lease_id IS NOT NULL;
CREATE INDEX member_by_node ON member (node_id) WHERE holds OR state NOT IN ('stopped', 'failed');
-- A server that is leased is one lease's.
CREATE UNIQUE INDEX member_alone ON member (node_id) WHERE lease_id IS NOT NULL AND holds;

ALTER TABLE node
    ADD COLUMN cpu_taken_milli bigint NOT NULL DEFAULT 0 CHECK (cpu_taken_milli >= 0),
    -- Until when jobs that cannot be preempted may go on where the node is being emptied.
    ADD COLUMN drain_until timestamptz;
