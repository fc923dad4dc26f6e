-- What operators have freed of what lost gateways held, and who: kept for good, and for people to read.
CREATE TABLE released (
    producer text NOT NULL,
    epoch bigint NOT NULL,
    scope_id text NOT NULL REFERENCES ceiling,
    period_start timestamptz NOT NULL,
    amount_microeur bigint NOT NULL CHECK (amount_microeur > 0),
    released_at timestamptz NOT NULL,
    actor text NOT NULL,
    PRIMARY KEY (producer, epoch, scope_id, period_start)
);
