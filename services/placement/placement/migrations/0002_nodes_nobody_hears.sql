-- Silent with too many others to be given up: what such a node runs stays, and nothing new comes to it.
ALTER TABLE node ADD COLUMN silent boolean NOT NULL DEFAULT false;
