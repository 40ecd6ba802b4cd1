-- The report view `events`: the log, flattened; hidden arguments are shown as hidden.

-- create_events --
CREATE TABLE {table} (
    position INTEGER PRIMARY KEY, -- Position in the log.
    stream TEXT NOT NULL, -- Stream: `task:<id>`, `schedule:<name>`, `worker:<id>` and the like.
    version INTEGER NOT NULL, -- Index in the stream, from 1.
    type TEXT NOT NULL, -- Class of the event: `TaskQueued`.
    task_id TEXT, -- The task, where it is an event of one.
    at TEXT NOT NULL, -- When it was decided.
    actor TEXT NOT NULL, -- Who asked: `user:…`, `worker:…` or `system:…`.
    reason TEXT, -- Why.
    command TEXT NOT NULL, -- Id of the act; the events of one act share it.
    data TEXT NOT NULL -- What else it says, as JSON.
);

-- index_stream --
CREATE INDEX {index}_stream ON {table} (stream, version);
