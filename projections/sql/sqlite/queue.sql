-- The queue view: one row per live task, field by field its TaskState, and the position of its TaskQueued.

-- create_queue --
CREATE TABLE IF NOT EXISTS queue (
    position INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    status TEXT NOT NULL,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due_us INTEGER NOT NULL,
    queued_us INTEGER NOT NULL,
    run_as TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    used INTEGER NOT NULL,
    max_attempts INTEGER,
    retry_first REAL NOT NULL,
    retry_factor REAL NOT NULL,
    retry_cap REAL NOT NULL,
    retry_jitter REAL NOT NULL,
    timeout REAL,
    kill_after REAL NOT NULL,
    key_stream TEXT,
    unique_until TEXT NOT NULL,
    key_held INTEGER NOT NULL,
    worker TEXT,
    claimed_us INTEGER,
    cancel_us INTEGER,
    lost INTEGER NOT NULL,
    concurrency_key TEXT,
    expires_us INTEGER
);

-- index_waiting --
CREATE INDEX IF NOT EXISTS queue_waiting ON queue (name, queue, priority, due_us) WHERE status = 'waiting';

-- index_lost --
CREATE INDEX IF NOT EXISTS queue_lost ON queue (due_us) WHERE status = 'waiting' AND lost = 1;

-- index_used --
CREATE INDEX IF NOT EXISTS queue_used ON queue (used) WHERE status = 'waiting' AND used > 0;

-- index_running --
CREATE INDEX IF NOT EXISTS queue_running ON queue (worker) WHERE status = 'running';

-- create_workers --
-- Heartbeats: one mutable row per worker process, no event.
CREATE TABLE IF NOT EXISTS workers (
    worker_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    pid INTEGER NOT NULL,
    pid_started REAL NOT NULL,
    started_us INTEGER NOT NULL,
    beat_us INTEGER NOT NULL,
    beats INTEGER NOT NULL,
    threads INTEGER NOT NULL,
    queues TEXT NOT NULL,
    lease_us INTEGER NOT NULL,
    names TEXT NOT NULL
);

-- shapes --
-- The columns of the views' tables as they are, in their order; NULL where a table is not there.
SELECT (SELECT group_concat(name) FROM pragma_table_info('queue')),
       (SELECT group_concat(name) FROM pragma_table_info('workers')),
       (SELECT group_concat(name) FROM pragma_table_info('schedules'));

-- drop_queue --
DROP TABLE IF EXISTS queue;

-- drop_workers --
DROP TABLE IF EXISTS workers;

-- row_of_task --
SELECT * FROM queue WHERE task_id = ?;

-- all_rows --
SELECT * FROM queue ORDER BY position;

-- put_row --
INSERT OR REPLACE INTO queue VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?);

-- delete_rows --
DELETE FROM queue WHERE position IN (SELECT value FROM json_each(?));

-- delete_row --
DELETE FROM queue WHERE position = ?;

-- delete_rows_at_versions --
-- Of a JSON list of [position, version]: the rows that still stand at their version.
DELETE FROM queue WHERE position IN (
    SELECT q.position FROM json_each(?) AS j
      JOIN queue AS q ON q.position = json_extract(j.value, '$[0]') AND q.version = json_extract(j.value, '$[1]'));

-- claim_rows --
-- The rows at a JSON list of positions, as TaskClaimed by one worker at one time leaves them.
UPDATE queue SET version = version + 1, status = 'running', attempt = attempt + 1, worker = ?, claimed_us = ?,
       key_held = CASE unique_until WHEN 'start' THEN 0 ELSE key_held END
 WHERE position IN (SELECT value FROM json_each(?));

-- position_of_first --
SELECT rowid FROM stored_events WHERE originator_id = ? AND originator_version = 1;

-- groups --
-- The distinct (name, queue, priority) of waiting tasks, by jumps through the index, never a scan of the rows. A jump
-- is three look-ups: compared as one row value, the index would serve its first column alone.
WITH RECURSIVE g(name, queue, priority) AS (
    SELECT * FROM (SELECT name, queue, priority FROM queue WHERE status = 'waiting'
                    ORDER BY name, queue, priority LIMIT 1)
    UNION ALL
    SELECT n.name, n.queue, n.priority FROM g, queue AS n WHERE n.rowid = coalesce(
        (SELECT m.rowid FROM queue AS m WHERE m.status = 'waiting' AND m.name = g.name AND m.queue = g.queue
            AND m.priority > g.priority ORDER BY m.priority LIMIT 1),
        (SELECT m.rowid FROM queue AS m WHERE m.status = 'waiting' AND m.name = g.name AND m.queue > g.queue
          ORDER BY m.queue, m.priority LIMIT 1),
        (SELECT m.rowid FROM queue AS m WHERE m.status = 'waiting' AND m.name > g.name
          ORDER BY m.name, m.queue, m.priority LIMIT 1))
)
SELECT name, queue, priority FROM g;

-- due_rows --
-- The first due tasks of one name, queue and priority, with their arguments from the log.
SELECT q.*, e.state FROM queue AS q JOIN stored_events AS e ON e.rowid = q.position
 WHERE q.status = 'waiting' AND q.name = ? AND q.queue = ? AND q.priority = ? AND q.due_us <= ?
 ORDER BY q.due_us, q.position LIMIT ?;

-- fresh_due_rows --
-- The same of tasks whose last attempt was not lost.
SELECT q.*, e.state FROM queue AS q JOIN stored_events AS e ON e.rowid = q.position
 WHERE q.status = 'waiting' AND q.name = ? AND q.queue = ? AND q.priority = ? AND q.due_us <= ? AND q.lost = 0
 ORDER BY q.due_us, q.position LIMIT ?;

-- lost_rows --
-- Waiting tasks whose last attempt was lost, due or not, with their arguments.
SELECT q.*, e.state FROM queue AS q JOIN stored_events AS e ON e.rowid = q.position
 WHERE q.status = 'waiting' AND q.lost = 1 ORDER BY q.due_us LIMIT 1000;

-- next_due --
SELECT min(due_us) FROM queue WHERE status = 'waiting' AND name = ? AND queue = ? AND priority = ?;

-- running_counts --
SELECT name, count(*) FROM queue WHERE status = 'running' GROUP BY name;

-- running_workers --
SELECT DISTINCT worker FROM queue WHERE status = 'running';

-- rows_of_worker --
SELECT * FROM queue WHERE status = 'running' AND worker = ?;

-- count_running --
SELECT count(*) FROM queue WHERE status = 'running';

-- put_worker --
INSERT OR REPLACE INTO workers VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?);

-- beat --
UPDATE workers SET beat_us = ?, beats = beats + 1 WHERE worker_id = ?;

-- worker --
SELECT * FROM workers WHERE worker_id = ?;

-- all_workers --
SELECT * FROM workers ORDER BY started_us, worker_id;

-- delete_worker --
DELETE FROM workers WHERE worker_id = ?;
