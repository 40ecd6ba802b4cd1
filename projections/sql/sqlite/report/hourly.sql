-- The report view `hourly`: per hour, task name and queue, what happened within the hour.

-- create_hourly --
CREATE TABLE {table} (
    hour TEXT NOT NULL, -- Beginning of the hour.
    name TEXT NOT NULL, -- Task name.
    queue TEXT NOT NULL, -- Queue.
    queued INTEGER NOT NULL, -- Tasks queued.
    started INTEGER NOT NULL, -- Attempts claimed.
    succeeded INTEGER NOT NULL, -- Tasks that succeeded.
    failed INTEGER NOT NULL, -- Tasks that failed for good.
    retried INTEGER NOT NULL, -- Attempts that failed, were lost or delayed, and are to be followed by another.
    lost INTEGER NOT NULL, -- Attempts that were lost, counted under failed or retried too.
    interrupted INTEGER NOT NULL, -- Attempts that were given back.
    cancelled INTEGER NOT NULL, -- Tasks that were cancelled.
    wait_p50_ms REAL, -- Half of the attempts claimed had waited so long from due, or less.
    wait_p95_ms REAL, -- Nineteen of twenty.
    wait_max_ms REAL, -- All.
    run_p50_ms REAL, -- Half of the attempts that ended had run so long, or less.
    run_p95_ms REAL, -- Nineteen of twenty.
    run_max_ms REAL, -- All.
    wait_buckets TEXT NOT NULL, -- How many waits fell into which bucket, as JSON.
    run_buckets TEXT NOT NULL, -- How many runs fell into which bucket, as JSON.
    PRIMARY KEY (hour, name, queue)
);
