-- The report view `attempts`: one row per attempt that ever was.

-- create_attempts --
CREATE TABLE {table} (
    task_id TEXT NOT NULL, -- The task.
    attempt INTEGER NOT NULL, -- Its number, from 1.
    name TEXT NOT NULL, -- Task name.
    queue TEXT NOT NULL, -- Queue.
    run_as TEXT NOT NULL, -- Identity it ran under.
    worker TEXT NOT NULL, -- Worker that held it.
    outcome TEXT NOT NULL, -- `running`, `succeeded`, `failed`, `delayed`, `lost`, `interrupted` or `cancelled`.
    claimed_at TEXT NOT NULL, -- When it was claimed.
    started_at TEXT, -- When the function began: the worker's time where it reported one, else the claim.
    finished_at TEXT, -- When it ended, likewise; NULL while it runs.
    wait_ms REAL NOT NULL, -- From due to claimed.
    run_ms REAL, -- From started to finished.
    error_type TEXT, -- Of what it raised, `AttemptLost` where its process died.
    error_message TEXT, -- What that said.
    cause TEXT, -- Why it was lost or interrupted.
    is_final INTEGER, -- 1 if the task ended with it.
    cpu_ms REAL, -- CPU time of its thread.
    peak_rss_bytes INTEGER, -- Most memory that its process ever had until then.
    claimed_position INTEGER NOT NULL, -- Position of its claim.
    ended_position INTEGER, -- Position of the event that ended it.
    PRIMARY KEY (task_id, attempt)
);

-- index_run --
CREATE INDEX {index}_run ON {table} (name, run_ms);

-- index_claimed --
CREATE INDEX {index}_claimed ON {table} (claimed_position);

-- index_name --
CREATE INDEX {index}_name ON {table} (name, claimed_position);

-- index_outcome --
CREATE INDEX {index}_outcome ON {table} (outcome, claimed_position);
