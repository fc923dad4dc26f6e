-- How fast the answer came, why it ended, under which leases, and why the request went where it went.
-- ``explained`` is JSON that is written and read by one program, never searched.

ALTER TABLE usage_row
    ADD COLUMN output_token_us bigint CHECK (output_token_us >= 0),
    ADD COLUMN finish_reason text,
    ADD COLUMN admitted_epoch bigint,
    ADD COLUMN explained text;
