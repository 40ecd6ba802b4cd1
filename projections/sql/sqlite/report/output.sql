-- The report view `output`: what is known of the output of each ended attempt; the text itself is in the ledger.

-- create_output --
CREATE TABLE {table} (
    task_id TEXT NOT NULL, -- The task.
    attempt INTEGER NOT NULL, -- Number of the attempt.
    name TEXT NOT NULL, -- Task name.
    bytes INTEGER NOT NULL, -- Kept text, as UTF-8.
    lines INTEGER NOT NULL, -- Kept lines.
    dropped_bytes INTEGER NOT NULL, -- Printed, but not kept.
    dropped_lines INTEGER NOT NULL, -- Lines not kept.
    sha256 TEXT NOT NULL, -- Of the kept text in order.
    at TEXT NOT NULL, -- When the attempt's end was recorded.
    pruned_at TEXT, -- When the kept text was deleted.
    PRIMARY KEY (task_id, attempt)
);
