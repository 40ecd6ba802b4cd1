-- The report view `queues`: how many tasks of each queue are in each state.

-- create_queues --
CREATE TABLE {table} (
    queue TEXT PRIMARY KEY, -- The queue.
    queued INTEGER NOT NULL, -- Tasks that it ever had.
    waiting INTEGER NOT NULL, -- Tasks that wait, due or not.
    running INTEGER NOT NULL, -- Tasks that run.
    succeeded INTEGER NOT NULL, -- Tasks that have succeeded.
    failed INTEGER NOT NULL, -- Tasks that have failed.
    cancelled INTEGER NOT NULL, -- Tasks that were cancelled.
    last_at TEXT NOT NULL, -- When something of it changed last.
    is_paused INTEGER NOT NULL, -- 1 while nothing of it is claimed.
    paused_by TEXT, -- Who paused or resumed it last.
    pause_reason TEXT -- Why.
);
