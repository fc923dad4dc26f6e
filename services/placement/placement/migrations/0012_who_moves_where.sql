-- A replica that an operator has asked to sit elsewhere: on which node, and until when that is tried.
ALTER TABLE workload
    ADD COLUMN moves_to text REFERENCES node (node_id),
    ADD COLUMN moves_until timestamptz,
    ADD CHECK ((moves_to IS NULL) = (moves_until IS NULL));
CREATE INDEX workload_moves ON workload (created_at) WHERE moves_to IS NOT NULL;
