-- The last health check that somebody asked for: what it takes (a server's disks are erased) nothing else may bring about.
ALTER TABLE node ADD COLUMN check_asked bigint NOT NULL DEFAULT 0 CHECK (check_asked >= 0);
