-- What is over is forgotten: tokens that let nobody in any more, keys that doors need not explain.

ALTER TABLE join_token
    -- From the bootstrap file, which names it again at each start: forgotten, it would open anew.
    ADD COLUMN bootstrap boolean NOT NULL DEFAULT true,
    ADD CHECK (expires_at > created_at);
ALTER TABLE join_token ALTER COLUMN bootstrap SET DEFAULT false;

CREATE INDEX join_token_by_end ON join_token (expires_at);
CREATE INDEX node_by_token ON node (token_id);

ALTER TABLE api_key
    -- Whether the bucket holds nothing of it any more.
    ADD COLUMN hidden boolean NOT NULL DEFAULT false;

CREATE INDEX api_key_by_end ON api_key ((least(revoked_at, expires_at))) WHERE NOT hidden;
