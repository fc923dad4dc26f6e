-- When nodes are worked on: what is there leaves at the start, and what was taken out comes back at the end.

CREATE TABLE maintenance (
    window_id text PRIMARY KEY,
    site text NOT NULL,
    state text NOT NULL CHECK (state IN ('planned', 'active', 'ended', 'cancelled')),
    reason text NOT NULL,
    planned_by text NOT NULL,
    created_at timestamptz NOT NULL,
    since timestamptz NOT NULL,
    starts_at timestamptz NOT NULL,
    -- Null: until somebody cancels it.
    ends_at timestamptz,
    over_at timestamptz,
    CHECK (ends_at > starts_at),
    CHECK ((state IN ('ended', 'cancelled')) = (over_at IS NOT NULL))
);

CREATE INDEX maintenance_open ON maintenance (site) WHERE over_at IS NULL;
CREATE INDEX maintenance_over ON maintenance (over_at) WHERE over_at IS NOT NULL;

CREATE TABLE maintenance_node (
    window_id text NOT NULL REFERENCES maintenance ON DELETE CASCADE,
    node_id text NOT NULL REFERENCES node,
    PRIMARY KEY (window_id, node_id)
);

CREATE INDEX maintenance_node_by_node ON maintenance_node (node_id);
