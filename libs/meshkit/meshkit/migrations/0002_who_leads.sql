-- Where only one process of several may serve: who that is, and that it lives. See meshkit.leading.
ALTER TABLE writer
    ADD COLUMN holder text NOT NULL DEFAULT '',
    ADD COLUMN beat bigint NOT NULL DEFAULT 0;

-- Whether ``given`` is the epoch now, and until this transaction ends: a takeover waits for the lock it takes.
-- Two statements, so that the second sees what was committed while the first waited.
CREATE FUNCTION still_leads(given bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1835365224, 1);
    RETURN (SELECT epoch = given FROM writer);
END
$$;
