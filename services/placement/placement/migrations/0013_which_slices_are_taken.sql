-- GPUs in MIG mode are given in instances: each takes memory slices of its own, as bits.
ALTER TABLE device
    -- Whether it is in MIG mode, as its agent last said.
    ADD COLUMN mig boolean NOT NULL DEFAULT false,
    ADD COLUMN taken_slices integer NOT NULL DEFAULT 0 CHECK (taken_slices BETWEEN 0 AND 255),
    -- How many slices all instances have together: as many as are taken, so that none is given twice.
    ADD COLUMN slices_held integer NOT NULL DEFAULT 0,
    ADD CHECK (bit_count(taken_slices::bit(8)) = slices_held),
    ADD CHECK (taken_milli = 0 OR taken_slices = 0);
