-- What each hook was given of the notices: one mutable row a hook beside the log, no event; deleting it forgets that.

-- create_deliveries --
-- `version` is that of the ledger stream up to which the hook has been given everything; `worker` gives it more now.
CREATE TABLE IF NOT EXISTS deliveries (
    hook text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    worker text COLLATE "C",
    until_us bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    next_us bigint NOT NULL DEFAULT 0,
    error text
);

-- has_deliveries --
SELECT 1 WHERE to_regclass('deliveries') IS NOT NULL;

-- begin_hook --
INSERT INTO deliveries (hook, version) VALUES ($1, $2) ON CONFLICT (hook) DO NOTHING;

-- delivery --
SELECT * FROM deliveries WHERE hook = $1;

-- all_deliveries --
SELECT * FROM deliveries ORDER BY hook;

-- take --
UPDATE deliveries SET worker = $1, until_us = $2 WHERE hook = $3 AND (worker IS NULL OR until_us <= $4) AND next_us <= $5;

-- done --
UPDATE deliveries SET version = $1, worker = NULL, failures = 0, next_us = 0, error = NULL WHERE hook = $2 AND version < $3;

-- failed --
UPDATE deliveries SET worker = NULL, failures = failures + 1, next_us = $1, error = $2 WHERE hook = $3 AND worker = $4;

-- release --
UPDATE deliveries SET worker = NULL WHERE hook = $1 AND worker = $2;
