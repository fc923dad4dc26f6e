-- What a node draws above idle and for no request is the operator's, and a line of its own.

ALTER TABLE meter
    ADD COLUMN starting_counter_uj bigint CHECK (starting_counter_uj >= 0),
    ADD CHECK (quality IN ('measured', 'estimated'));

ALTER TABLE interval
    ADD COLUMN starting_uj bigint NOT NULL DEFAULT 0 CHECK (starting_uj >= 0),
    ADD COLUMN full_power_w bigint CHECK (full_power_w >= 0),
    -- Part of operator_uj.
    ADD COLUMN non_serving_uj bigint CHECK (non_serving_uj >= 0),
    ADD CHECK (idle_uj + starting_uj <= energy_uj),
    ADD CHECK (non_serving_uj <= operator_uj);

-- A receipt stays what it was where its node moves later.
ALTER TABLE request
    ADD COLUMN jurisdiction text,
    ADD CHECK (quality IN ('measured', 'estimated'));

-- What is old is forgotten by its end: some requests and intervals are never settled.
CREATE INDEX request_by_end ON request (ended_at);
CREATE INDEX interval_by_end ON interval (end_at);
DROP INDEX request_by_settled;
