-- The report view `firings`: what became of each slot.

-- create_firings --
CREATE TABLE {table} (
    position INTEGER PRIMARY KEY, -- Position of the decision.
    schedule TEXT NOT NULL, -- The schedule.
    decision TEXT NOT NULL, -- `queued`; `skipped`, as the run before had not ended; or `missed`.
    slot TEXT NOT NULL, -- The slot, or the first of several that passed.
    last_slot TEXT NOT NULL, -- The last of them.
    count INTEGER NOT NULL, -- How many.
    is_asked INTEGER NOT NULL, -- 1 for a run that somebody asked for: the slot is the moment of the request.
    task_id TEXT, -- The run that was queued.
    cause TEXT, -- Why slots passed.
    decided_at TEXT NOT NULL, -- When that was decided.
    actor TEXT NOT NULL, -- By whom.
    late_ms REAL -- From slot to decision, of one that was queued.
);

-- index_schedule --
CREATE INDEX {index}_schedule ON {table} (schedule, slot);

-- index_task --
CREATE INDEX {index}_task ON {table} (task_id);
