-- Where a server stands (its rack, PDU, NVLink domain …), what that place is certified for, what it draws.
ALTER TABLE node
    ADD COLUMN cpus bigint NOT NULL DEFAULT 0 CHECK (cpus >= 0),
    ADD COLUMN place text NOT NULL DEFAULT '{}',
    ADD COLUMN assurances text NOT NULL DEFAULT '[]',
    ADD COLUMN idle_w bigint NOT NULL DEFAULT 0 CHECK (idle_w >= 0),
    ADD COLUMN gpu_w bigint NOT NULL DEFAULT 0 CHECK (gpu_w >= 0);
