-- The report view `tasks`: one row per task that ever was.
-- Times are text in UTC of fixed width, so that they sort.

-- create_tasks --
CREATE TABLE {table} (
    task_id TEXT NOT NULL UNIQUE, -- The task.
    name TEXT NOT NULL, -- Task name.
    args TEXT NOT NULL, -- Arguments as a JSON object; hidden ones are shown as hidden.
    queue TEXT NOT NULL, -- Queue.
    priority INTEGER NOT NULL, -- −100 to 100, higher first.
    state TEXT NOT NULL, -- `waiting`, `running`, `succeeded`, `failed` or `cancelled`.
    attempt INTEGER NOT NULL, -- Number of the newest attempt; 0 before the first.
    attempts_used INTEGER NOT NULL, -- Attempts used in this round: failed, lost or delayed.
    max_attempts INTEGER, -- Attempts that may be used; NULL never gives up.
    run_as TEXT NOT NULL, -- Identity it runs under.
    actor TEXT NOT NULL, -- Who queued it.
    reason TEXT, -- Why.
    unique_key TEXT, -- Its unique key.
    labels TEXT NOT NULL, -- Labels, as a JSON list.
    parent TEXT, -- Task that queued it.
    queued_at TEXT NOT NULL, -- When it was queued.
    due_at TEXT NOT NULL, -- When it is, or was, due.
    started_at TEXT, -- When its newest attempt began.
    finished_at TEXT, -- When that ended; NULL while it runs.
    ended_at TEXT, -- When the task ended; NULL while it lives.
    wait_ms REAL, -- From due to claimed, of the newest attempt.
    run_ms REAL, -- From started to finished, of the newest attempt that has ended.
    worker TEXT, -- Worker of the newest attempt.
    result TEXT, -- What it returned, as JSON.
    error_type TEXT, -- Of its last error; NULL again once it succeeds.
    error_message TEXT, -- What that said.
    error_traceback TEXT, -- Where it was raised.
    lost_attempts INTEGER NOT NULL, -- How often an attempt was lost.
    late_results INTEGER NOT NULL, -- How often a result came too late.
    expires_at TEXT, -- When it is cancelled if it waits for its first attempt then.
    first_position INTEGER PRIMARY KEY, -- Position of its first event.
    last_position INTEGER NOT NULL, -- Position of its newest event.
    progress TEXT, -- How far the newest attempt said that it is, as JSON.
    fold TEXT NOT NULL -- The state that the next event is folded onto.
);

-- index_state --
CREATE INDEX {index}_state ON {table} (state, first_position);

-- index_name --
CREATE INDEX {index}_name ON {table} (name, first_position);
