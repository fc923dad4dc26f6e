-- Where a leased server is reached, and its console, while it is its tenant's.
CREATE TABLE access (
    workload_id text PRIMARY KEY REFERENCES member ON DELETE CASCADE,
    address text NOT NULL,
    console text
);
