-- Who may use the cloud. Of a key or a token only the SHA-256 digest is kept, in hex.

CREATE TABLE organization (
    organization_id text PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    generation bigint NOT NULL CHECK (generation > 0)
);

CREATE TABLE project (
    project_id text PRIMARY KEY,
    organization_id text NOT NULL REFERENCES organization,
    name text NOT NULL,
    created_at timestamptz NOT NULL,
    generation bigint NOT NULL CHECK (generation > 0),
    UNIQUE (organization_id, name)
);

CREATE INDEX project_by_name ON project (name);

CREATE TABLE api_key (
    key_id text PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('admin', 'project')),
    project_id text REFERENCES project,
    digest text NOT NULL UNIQUE CHECK (digest ~ '^[0-9a-f]{64}$'),
    hint text NOT NULL,
    created_at timestamptz NOT NULL,
    generation bigint NOT NULL CHECK (generation > 0),
    expires_at timestamptz,
    revoked_at timestamptz,
    CHECK ((role = 'project') = (project_id IS NOT NULL))
);

CREATE INDEX api_key_by_project ON api_key (project_id, key_id);

CREATE TABLE join_token (
    token_id text PRIMARY KEY,
    digest text NOT NULL UNIQUE CHECK (digest ~ '^[0-9a-f]{64}$'),
    uses_left integer NOT NULL CHECK (uses_left >= 0),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE node (
    node_id text PRIMARY KEY,
    public_key text NOT NULL UNIQUE CHECK (public_key ~ '^U[A-Z2-7]{55}$'),
    name text NOT NULL,
    site text NOT NULL,
    token_id text NOT NULL REFERENCES join_token,
    enrolled_at timestamptz NOT NULL
);
