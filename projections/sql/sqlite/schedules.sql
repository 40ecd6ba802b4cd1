-- The schedules view: one row per schedule that ever was, field by field its ScheduleState, and when to look at it next.

-- create_schedules --
CREATE TABLE IF NOT EXISTS schedules (
    next_us INTEGER,
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    status TEXT NOT NULL,
    app TEXT NOT NULL,
    task TEXT NOT NULL,
    component TEXT,
    component_off INTEGER NOT NULL,
    always INTEGER NOT NULL,
    declared TEXT NOT NULL,
    past TEXT NOT NULL,
    custom TEXT,
    override TEXT,
    fields TEXT NOT NULL,
    resolved TEXT NOT NULL,
    timezone TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    misfire TEXT NOT NULL,
    decided_us INTEGER NOT NULL,
    pending TEXT NOT NULL,
    asked_us INTEGER,
    run_id TEXT,
    run_version INTEGER NOT NULL,
    run_slot_us INTEGER,
    run_queued_us INTEGER,
    run_ended_us INTEGER,
    success_us INTEGER,
    outcome TEXT,
    outcome_us INTEGER,
    failures INTEGER NOT NULL,
    counted_us INTEGER NOT NULL,
    noticed_us INTEGER
);

-- index_next --
CREATE INDEX IF NOT EXISTS schedules_next ON schedules (next_us) WHERE next_us IS NOT NULL;

-- index_run --
CREATE INDEX IF NOT EXISTS schedules_run ON schedules (run_id) WHERE run_id IS NOT NULL;

-- create_components --
-- The components that are disabled.
CREATE TABLE IF NOT EXISTS components (
    component TEXT PRIMARY KEY,
    disabled_us INTEGER NOT NULL
);

-- columns --
-- The columns as they are; none where the table is not there.
SELECT name FROM pragma_table_info('schedules') ORDER BY cid;

-- drop_schedules --
DROP TABLE IF EXISTS schedules;

-- drop_components --
DROP TABLE IF EXISTS components;

-- put_schedule --
INSERT OR REPLACE INTO schedules VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?);

-- put_component --
INSERT OR REPLACE INTO components VALUES (?,?);

-- delete_component --
DELETE FROM components WHERE component = ?;

-- all_components --
SELECT * FROM components ORDER BY component;

-- row_of_name --
SELECT * FROM schedules WHERE name = ?;

-- row_of_run --
SELECT * FROM schedules WHERE run_id = ?;

-- rows_of_component --
SELECT * FROM schedules WHERE component = ?;

-- all_schedules --
SELECT * FROM schedules ORDER BY name;

-- next_schedule --
SELECT next_us FROM schedules WHERE next_us IS NOT NULL ORDER BY next_us LIMIT 1;

-- unnoticed --
-- Schedules that may be found overdue: those of which a notice says so already are left out.
SELECT * FROM schedules WHERE noticed_us IS NULL AND status = 'declared' AND enabled = 1;

-- due_schedules --
SELECT * FROM schedules WHERE next_us <= ? ORDER BY next_us, name LIMIT ?;

-- runs --
-- The live runs of schedules: task, state, due, attempts used, since when it runs.
SELECT s.name, q.task_id, q.status, q.due_us, q.used, q.claimed_us
  FROM schedules AS s JOIN queue AS q ON q.task_id = s.run_id;
