-- What operators set: each tenant's share of the GPUs, and what each part of the site may draw.

CREATE TABLE quota (
    quota_id text PRIMARY KEY,
    site text NOT NULL,
    scope_kind text NOT NULL CHECK (scope_kind IN ('organization', 'project')),
    scope_id text NOT NULL,
    organization text NOT NULL,
    gpus bigint NOT NULL CHECK (gpus >= 0),
    nvlink_domains text NOT NULL DEFAULT '{}',
    weight bigint NOT NULL CHECK (weight >= 0),
    gpus_max bigint CHECK (gpus_max >= gpus),
    generation bigint NOT NULL DEFAULT 1 CHECK (generation > 0),
    UNIQUE (site, scope_kind, scope_id)
);

CREATE TABLE cap (
    cap_id text PRIMARY KEY,
    site text NOT NULL,
    level text NOT NULL CHECK (level IN ('rack', 'pdu', 'row', 'hall', 'site')),
    domain text NOT NULL,
    watts bigint CHECK (watts >= 0),
    generation bigint NOT NULL DEFAULT 1 CHECK (generation > 0),
    since timestamptz NOT NULL,
    UNIQUE (site, level, domain)
);
