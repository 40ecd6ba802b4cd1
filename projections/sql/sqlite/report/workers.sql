-- The report view `workers`: one row per worker process that ever was.

-- create_workers --
CREATE TABLE {table} (
    worker_id TEXT PRIMARY KEY, -- The worker: one incarnation, never used again.
    name TEXT NOT NULL, -- Its name.
    host TEXT NOT NULL, -- Host it ran on.
    pid INTEGER, -- Its process.
    app TEXT NOT NULL, -- Where its tasks were declared.
    threads INTEGER, -- Its threads.
    queues TEXT NOT NULL, -- Its queues, as a JSON list; empty: all.
    started_at TEXT, -- When it began to look for work; NULL for work done without a worker process.
    stopped_at TEXT, -- When its end was recorded.
    stop_cause TEXT, -- How it ended.
    claimed INTEGER NOT NULL, -- Attempts it ever held.
    succeeded INTEGER NOT NULL, -- Of them, those that succeeded.
    failed INTEGER NOT NULL, -- Those that raised.
    delayed INTEGER NOT NULL, -- Those that asked to run again later.
    lost INTEGER NOT NULL, -- Those that it took with it.
    interrupted INTEGER NOT NULL, -- Those that were given back.
    cancelled INTEGER NOT NULL, -- Those that ended because of a cancel.
    rejected INTEGER NOT NULL, -- Results that came too late.
    last_at TEXT NOT NULL -- Last that was heard of it here.
);
