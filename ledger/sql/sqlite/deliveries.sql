-- What each hook was given of the notices: one mutable row a hook beside the log, no event; deleting it forgets that.

-- create_deliveries --
-- `version` is that of the ledger stream up to which the hook has been given everything; `worker` gives it more now.
CREATE TABLE IF NOT EXISTS deliveries (
    hook TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    worker TEXT,
    until_us INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    next_us INTEGER NOT NULL DEFAULT 0,
    error TEXT
) WITHOUT ROWID;

-- has_deliveries --
SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'deliveries';

-- begin_hook --
INSERT OR IGNORE INTO deliveries (hook, version) VALUES (?, ?);

-- delivery --
SELECT * FROM deliveries WHERE hook = ?;

-- all_deliveries --
SELECT * FROM deliveries ORDER BY hook;

-- take --
UPDATE deliveries SET worker = ?, until_us = ? WHERE hook = ? AND (worker IS NULL OR until_us <= ?) AND next_us <= ?;

-- done --
UPDATE deliveries SET version = ?, worker = NULL, failures = 0, next_us = 0, error = NULL WHERE hook = ? AND version < ?;

-- failed --
UPDATE deliveries SET worker = NULL, failures = failures + 1, next_us = ?, error = ? WHERE hook = ? AND worker = ?;

-- release --
UPDATE deliveries SET worker = NULL WHERE hook = ? AND worker = ?;
