-- A member of an elastic job that was lost, while the others went on: which workload goes on in its stead.
ALTER TABLE member
    ADD COLUMN replaced_by text,
    ADD CHECK (replaced_by IS NULL OR (job_id IS NOT NULL AND state IN ('stopped', 'failed')));
