-- The report view `tasks`: one row per task that ever was, in a file of its own that any tool may read.
-- Times are text in UTC of fixed width, so that they sort; wait_ms and run_ms tell of the newest attempt.

-- create_meta --
CREATE TABLE IF NOT EXISTS meta (
    view TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    checkpoint INTEGER NOT NULL,
    origin TEXT NOT NULL
);

-- create_tasks --
CREATE TABLE IF NOT EXISTS tasks (
    task_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    args TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    attempts_used INTEGER NOT NULL,
    max_attempts INTEGER,
    run_as TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    unique_key TEXT,
    labels TEXT NOT NULL,
    parent TEXT,
    queued_at TEXT NOT NULL,
    due_at TEXT NOT NULL,
    started_at TEXT,
    finished_at TEXT,
    ended_at TEXT,
    wait_ms REAL,
    run_ms REAL,
    worker TEXT,
    result TEXT,
    error_type TEXT,
    error_message TEXT,
    error_traceback TEXT,
    lost_attempts INTEGER NOT NULL,
    late_results INTEGER NOT NULL,
    expires_at TEXT,
    first_position INTEGER NOT NULL,
    last_position INTEGER NOT NULL,
    progress TEXT,
    fold TEXT NOT NULL
);

-- index_position --
CREATE UNIQUE INDEX IF NOT EXISTS tasks_position ON tasks (first_position);

-- index_state --
CREATE INDEX IF NOT EXISTS tasks_state ON tasks (state, first_position);

-- index_name --
CREATE INDEX IF NOT EXISTS tasks_name ON tasks (name, first_position);

-- set_aside --
ALTER TABLE tasks RENAME TO tasks_before;

-- drop_aside --
DROP TABLE IF EXISTS tasks_before;

-- meta --
SELECT version, checkpoint, origin FROM meta WHERE view = 'tasks';

-- has_meta --
SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta';

-- put_meta --
INSERT OR REPLACE INTO meta (view, version, checkpoint, origin) VALUES ('tasks', ?, ?, ?);

-- row --
SELECT * FROM tasks WHERE task_id = ?;

-- all_rows --
SELECT * FROM tasks ORDER BY first_position;

-- put_row --
INSERT OR REPLACE INTO tasks VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?);

-- list_all --
SELECT * FROM tasks
 WHERE first_position < :after
   AND (:queue IS NULL OR queue = :queue)
   AND (:run_as IS NULL OR run_as = :run_as)
   AND (:actor IS NULL OR actor = :actor)
   AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(labels) WHERE value = :label))
   AND (NOT :failed_only OR (error_type IS NOT NULL AND (state = 'failed'
        OR (state IN ('waiting', 'running') AND attempts_used > 0))))
 ORDER BY first_position DESC LIMIT :limit;

-- list_name --
SELECT * FROM tasks
 WHERE name = :name AND first_position < :after
   AND (:queue IS NULL OR queue = :queue)
   AND (:run_as IS NULL OR run_as = :run_as)
   AND (:actor IS NULL OR actor = :actor)
   AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(labels) WHERE value = :label))
   AND (NOT :failed_only OR (error_type IS NOT NULL AND (state = 'failed'
        OR (state IN ('waiting', 'running') AND attempts_used > 0))))
 ORDER BY first_position DESC LIMIT :limit;

-- list_state --
SELECT * FROM tasks
 WHERE state = :state AND first_position < :after
   AND (:name IS NULL OR name = :name)
   AND (:queue IS NULL OR queue = :queue)
   AND (:run_as IS NULL OR run_as = :run_as)
   AND (:actor IS NULL OR actor = :actor)
   AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(labels) WHERE value = :label))
   AND (NOT :failed_only OR (error_type IS NOT NULL AND (state = 'failed'
        OR (state IN ('waiting', 'running') AND attempts_used > 0))))
 ORDER BY first_position DESC LIMIT :limit;

-- list_oldest --
SELECT * FROM tasks
 WHERE first_position > :after AND first_position <= :upto
   AND (:name IS NULL OR name = :name)
   AND (:state IS NULL OR state = :state)
   AND (:queue IS NULL OR queue = :queue)
   AND (:run_as IS NULL OR run_as = :run_as)
   AND (:actor IS NULL OR actor = :actor)
   AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(labels) WHERE value = :label))
   AND (NOT :failed_only OR (error_type IS NOT NULL AND (state = 'failed'
        OR (state IN ('waiting', 'running') AND attempts_used > 0))))
 ORDER BY first_position LIMIT :limit;

-- last_position --
SELECT coalesce(max(first_position), 0) FROM tasks;

-- counts_per_state --
SELECT state, count(*) FROM tasks GROUP BY state;

-- slowest --
SELECT * FROM tasks WHERE run_ms IS NOT NULL ORDER BY run_ms DESC, first_position LIMIT ?;

-- failures --
SELECT * FROM tasks WHERE error_type IS NOT NULL ORDER BY last_position DESC LIMIT ?;

-- lost --
SELECT * FROM tasks WHERE lost_attempts > 0 ORDER BY last_position DESC LIMIT ?;
