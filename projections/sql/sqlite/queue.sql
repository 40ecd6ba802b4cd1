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

-- index_free --
-- Waiting tasks without a concurrency key. Those with one are apart, so that a key whose limit is full hides none of
-- these; and since most tasks have none, the two indexes on keys cost nothing where no key is used.
CREATE INDEX IF NOT EXISTS queue_free ON queue (name, queue, priority, due_us)
 WHERE status = 'waiting' AND concurrency_key IS NULL;

-- index_keyed --
CREATE INDEX IF NOT EXISTS queue_keyed ON queue (name, queue, priority, due_us)
 WHERE status = 'waiting' AND concurrency_key IS NOT NULL;

-- index_keys --
CREATE INDEX IF NOT EXISTS queue_keys ON queue (name, queue, priority, concurrency_key, due_us)
 WHERE status = 'waiting' AND concurrency_key IS NOT NULL;

-- index_lost --
CREATE INDEX IF NOT EXISTS queue_lost ON queue (due_us) WHERE status = 'waiting' AND lost = 1;

-- index_used --
CREATE INDEX IF NOT EXISTS queue_used ON queue (used) WHERE status = 'waiting' AND used > 0;

-- index_running --
-- What a worker holds, and all that is counted of running tasks, without a look at their rows.
CREATE INDEX IF NOT EXISTS queue_running ON queue (worker, name, queue, concurrency_key, status)
 WHERE status = 'running';

-- index_expires --
CREATE INDEX IF NOT EXISTS queue_expires ON queue (expires_us) WHERE status = 'waiting' AND expires_us IS NOT NULL;

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

-- rows_of_tasks --
-- The rows of the tasks of a JSON list of ids.
SELECT * FROM queue WHERE task_id IN (SELECT value FROM json_each(?));

-- hold_rows_of_tasks --
-- The same. (Nobody else writes meanwhile.)
SELECT * FROM queue WHERE task_id IN (SELECT value FROM json_each(?));

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

-- heads --
-- The first waiting task, due or not, of each name, queue and priority, of tasks without a key; by jumps through the
-- index, never a scan of the rows. A jump is three look-ups: compared as one row value, the index would serve its first
-- column alone.
WITH RECURSIVE g(position, name, queue, priority) AS (
    SELECT * FROM (SELECT position, name, queue, priority FROM queue WHERE status = 'waiting' AND concurrency_key IS NULL
                    ORDER BY name, queue, priority, due_us, position LIMIT 1)
    UNION ALL
    SELECT n.position, n.name, n.queue, n.priority FROM g, queue AS n WHERE n.position = coalesce(
        (SELECT m.position FROM queue AS m WHERE m.status = 'waiting' AND m.concurrency_key IS NULL
            AND m.name = g.name AND m.queue = g.queue AND m.priority > g.priority
          ORDER BY m.priority, m.due_us, m.position LIMIT 1),
        (SELECT m.position FROM queue AS m WHERE m.status = 'waiting' AND m.concurrency_key IS NULL
            AND m.name = g.name AND m.queue > g.queue
          ORDER BY m.queue, m.priority, m.due_us, m.position LIMIT 1),
        (SELECT m.position FROM queue AS m WHERE m.status = 'waiting' AND m.concurrency_key IS NULL
            AND m.name > g.name
          ORDER BY m.name, m.queue, m.priority, m.due_us, m.position LIMIT 1))
)
SELECT q.* FROM g JOIN queue AS q ON q.position = g.position;

-- keyed_heads --
-- The same of tasks with a key.
WITH RECURSIVE g(position, name, queue, priority) AS (
    SELECT * FROM (SELECT position, name, queue, priority FROM queue WHERE status = 'waiting' AND concurrency_key IS NOT NULL
                    ORDER BY name, queue, priority, due_us, position LIMIT 1)
    UNION ALL
    SELECT n.position, n.name, n.queue, n.priority FROM g, queue AS n WHERE n.position = coalesce(
        (SELECT m.position FROM queue AS m WHERE m.status = 'waiting' AND m.concurrency_key IS NOT NULL
            AND m.name = g.name AND m.queue = g.queue AND m.priority > g.priority
          ORDER BY m.priority, m.due_us, m.position LIMIT 1),
        (SELECT m.position FROM queue AS m WHERE m.status = 'waiting' AND m.concurrency_key IS NOT NULL
            AND m.name = g.name AND m.queue > g.queue
          ORDER BY m.queue, m.priority, m.due_us, m.position LIMIT 1),
        (SELECT m.position FROM queue AS m WHERE m.status = 'waiting' AND m.concurrency_key IS NOT NULL
            AND m.name > g.name
          ORDER BY m.name, m.queue, m.priority, m.due_us, m.position LIMIT 1))
)
SELECT q.* FROM g JOIN queue AS q ON q.position = g.position;

-- due_rows --
-- The first due tasks without a key of one name, queue and priority, at most so often lost before, that have not expired.
SELECT * FROM queue
 WHERE status = 'waiting' AND concurrency_key IS NULL AND name = ?1 AND queue = ?2 AND priority = ?3 AND due_us <= ?4
   AND lost <= ?5 AND (expires_us IS NULL OR expires_us > ?4) ORDER BY due_us, position LIMIT ?6;

-- keyed_due_rows --
-- The same of tasks with a key.
SELECT * FROM queue
 WHERE status = 'waiting' AND concurrency_key IS NOT NULL AND name = ?1 AND queue = ?2 AND priority = ?3 AND due_us <= ?4
   AND lost <= ?5 AND (expires_us IS NULL OR expires_us > ?4) ORDER BY due_us, position LIMIT ?6;

-- keys --
-- The next keys after one, in their order, of the tasks of one name, queue and priority: each with its first due time.
WITH RECURSIVE k(key) AS (
    SELECT (SELECT min(concurrency_key) FROM queue
             WHERE status = 'waiting' AND concurrency_key IS NOT NULL
               AND name = :name AND queue = :queue AND priority = :priority AND concurrency_key > :after)
    UNION ALL
    SELECT (SELECT min(concurrency_key) FROM queue
             WHERE status = 'waiting' AND concurrency_key IS NOT NULL
               AND name = :name AND queue = :queue AND priority = :priority AND concurrency_key > k.key)
      FROM k WHERE k.key IS NOT NULL
)
SELECT key, (SELECT min(due_us) FROM queue
              WHERE status = 'waiting' AND concurrency_key IS NOT NULL
                AND name = :name AND queue = :queue AND priority = :priority AND concurrency_key = k.key)
  FROM k WHERE key IS NOT NULL LIMIT :most;

-- due_rows_of_key --
-- The first due tasks of one name, queue, priority and key.
SELECT * FROM queue
 WHERE status = 'waiting' AND concurrency_key IS NOT NULL
   AND name = ?1 AND queue = ?2 AND priority = ?3 AND concurrency_key = ?4 AND due_us <= ?5
   AND lost <= ?6 AND (expires_us IS NULL OR expires_us > ?5) ORDER BY due_us, position LIMIT ?7;

-- requests --
-- What the tasks at a JSON list of positions were queued with.
SELECT rowid, state FROM stored_events WHERE rowid IN (SELECT value FROM json_each(?));

-- lost_rows --
-- Waiting tasks whose last attempt was lost, due or not.
SELECT * FROM queue WHERE status = 'waiting' AND lost = 1 ORDER BY due_us, position LIMIT 1000;

-- next_due --
-- When the first of them is due that is not due at a time.
SELECT min(due_us) FROM queue
 WHERE status = 'waiting' AND concurrency_key IS NULL AND name = ? AND queue = ? AND priority = ? AND due_us > ?;

-- keyed_next_due --
SELECT min(due_us) FROM queue
 WHERE status = 'waiting' AND concurrency_key IS NOT NULL AND name = ? AND queue = ? AND priority = ? AND due_us > ?;

-- expired_rows --
-- Waiting tasks whose expiry has come, oldest first.
SELECT * FROM queue WHERE status = 'waiting' AND expires_us IS NOT NULL AND expires_us <= ?
 ORDER BY expires_us, position LIMIT ?;

-- next_expiry --
SELECT min(expires_us) FROM queue WHERE status = 'waiting' AND expires_us IS NOT NULL;

-- running_counts --
SELECT name, queue, concurrency_key, count(*) FROM queue WHERE status = 'running' GROUP BY name, queue, concurrency_key;

-- running_workers --
SELECT DISTINCT worker FROM queue WHERE status = 'running';

-- rows_of_worker --
SELECT * FROM queue WHERE status = 'running' AND worker = ?;

-- counts_of_queue --
SELECT status, count(*) FROM queue WHERE queue = ? GROUP BY status;

-- running_attempts --
SELECT task_id, attempt FROM queue WHERE status = 'running';

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
