-- The report view `operators`: who did what, to what, and why. Queueing a task is no act of an operator.

-- create_operators --
CREATE TABLE {table} (
    position INTEGER PRIMARY KEY, -- Position in the log.
    at TEXT NOT NULL, -- When.
    actor TEXT NOT NULL, -- Who.
    action TEXT NOT NULL, -- What: the event's class, `TaskRetried`.
    target TEXT NOT NULL, -- To what: the stream, `task:<id>`.
    name TEXT, -- Name of the task or schedule.
    reason TEXT, -- Why.
    command TEXT NOT NULL, -- Id of the act; the events of one act share it.
    data TEXT NOT NULL -- What else the event says, as JSON.
);

-- index_actor --
CREATE INDEX {index}_actor ON {table} (actor, at);
