-- The queue view: one row per live task, field by field its TaskState, and the position of its TaskQueued.

-- create_queue --
-- Rows are changed and deleted all the time: pages keep room for new versions, and old ones are swept soon.
CREATE TABLE IF NOT EXISTS queue (
    position bigint PRIMARY KEY,
    task_id text COLLATE "C" NOT NULL UNIQUE,
    version bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    priority bigint NOT NULL,
    due_us bigint NOT NULL,
    queued_us bigint NOT NULL,
    run_as text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    used bigint NOT NULL,
    max_attempts bigint,
    retry_first double precision NOT NULL,
    retry_factor double precision NOT NULL,
    retry_cap double precision NOT NULL,
    retry_jitter double precision NOT NULL,
    timeout double precision,
    kill_after double precision NOT NULL,
    key_stream text COLLATE "C",
    unique_until text COLLATE "C" NOT NULL,
    key_held bigint NOT NULL,
    worker text COLLATE "C",
    claimed_us bigint,
    cancel_us bigint,
    lost bigint NOT NULL,
    concurrency_key text COLLATE "C",
    expires_us bigint
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01,
        autovacuum_analyze_threshold = 1000, autovacuum_analyze_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);

-- index_free --
-- Waiting tasks without a concurrency key. Those with one are apart, so that a key whose limit is full hides none of
-- these; and since most tasks have none, the two indexes on keys cost nothing where no key is used.
CREATE INDEX IF NOT EXISTS queue_free ON queue (name, queue, priority, due_us, position)
 WHERE status = 'waiting' AND concurrency_key IS NULL;

-- index_keyed --
CREATE INDEX IF NOT EXISTS queue_keyed ON queue (name, queue, priority, due_us, position)
 WHERE status = 'waiting' AND concurrency_key IS NOT NULL;

-- index_keys --
CREATE INDEX IF NOT EXISTS queue_keys ON queue (name, queue, priority, concurrency_key, due_us, position)
 WHERE status = 'waiting' AND concurrency_key IS NOT NULL;

-- index_lost --
CREATE INDEX IF NOT EXISTS queue_lost ON queue (due_us, position) WHERE status = 'waiting' AND lost = 1;

-- index_used --
CREATE INDEX IF NOT EXISTS queue_used ON queue (used) WHERE status = 'waiting' AND used > 0;

-- index_running --
-- What a worker holds, and all that is counted of running tasks, without a look at their rows.
CREATE INDEX IF NOT EXISTS queue_running ON queue (worker, name, queue, concurrency_key, status)
 WHERE status = 'running';

-- index_expires --
CREATE INDEX IF NOT EXISTS queue_expires ON queue (expires_us, position) WHERE status = 'waiting' AND expires_us IS NOT NULL;

-- create_workers --
-- Heartbeats: one mutable row per worker process, no event.
CREATE TABLE IF NOT EXISTS workers (
    worker_id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    host text COLLATE "C" NOT NULL,
    boot text COLLATE "C" NOT NULL,
    pid bigint NOT NULL,
    pid_started double precision NOT NULL,
    started_us bigint NOT NULL,
    beat_us bigint NOT NULL,
    beats bigint NOT NULL,
    threads bigint NOT NULL,
    queues text NOT NULL,
    lease_us bigint NOT NULL,
    names text NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);

-- shapes --
-- The columns of the views' tables as they are, in their order; NULL where a table is not there.
SELECT (SELECT string_agg(attname::text, ',' ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = to_regclass('queue') AND attnum > 0 AND NOT attisdropped),
       (SELECT string_agg(attname::text, ',' ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = to_regclass('workers') AND attnum > 0 AND NOT attisdropped),
       (SELECT string_agg(attname::text, ',' ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = to_regclass('schedules') AND attnum > 0 AND NOT attisdropped);

-- drop_queue --
DROP TABLE IF EXISTS queue;

-- drop_workers --
DROP TABLE IF EXISTS workers;

-- rows_of_tasks --
-- The rows of the tasks of a JSON list of ids.
SELECT * FROM queue WHERE task_id IN (SELECT json_array_elements_text($1::json));

-- hold_rows_of_tasks --
-- The same, held to the end of the transaction; all who wait for rows do so in the order of positions.
SELECT * FROM queue WHERE task_id IN (SELECT json_array_elements_text($1::json)) ORDER BY position FOR UPDATE;

-- row_of_task --
SELECT * FROM queue WHERE task_id = $1;

-- all_rows --
SELECT * FROM queue ORDER BY position;

-- put_row --
INSERT INTO queue SELECT * FROM unnest(
    $1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::float8[], $15::float8[], $16::float8[], $17::float8[],
    $18::float8[], $19::float8[], $20::text[], $21::text[], $22::bigint[], $23::text[], $24::bigint[], $25::bigint[],
    $26::bigint[], $27::text[], $28::bigint[])
    ON CONFLICT (position) DO UPDATE SET
       (task_id, version, status, name, queue, priority, due_us, queued_us, run_as, attempt, used, max_attempts,
        retry_first, retry_factor, retry_cap, retry_jitter, timeout, kill_after, key_stream, unique_until, key_held,
        worker, claimed_us, cancel_us, lost, concurrency_key, expires_us)
     = (excluded.task_id, excluded.version, excluded.status, excluded.name, excluded.queue, excluded.priority,
        excluded.due_us, excluded.queued_us, excluded.run_as, excluded.attempt, excluded.used, excluded.max_attempts,
        excluded.retry_first, excluded.retry_factor, excluded.retry_cap, excluded.retry_jitter, excluded.timeout,
        excluded.kill_after, excluded.key_stream, excluded.unique_until, excluded.key_held, excluded.worker,
        excluded.claimed_us, excluded.cancel_us, excluded.lost, excluded.concurrency_key, excluded.expires_us);

-- delete_rows --
DELETE FROM queue WHERE position IN (SELECT value::bigint FROM json_array_elements_text($1::json));

-- delete_row --
DELETE FROM queue WHERE position = $1;

-- delete_rows_at_versions --
-- Of a JSON list of [position, version]: the rows that still stand at their version.
DELETE FROM queue WHERE position IN (
    SELECT q.position FROM queue AS q
      JOIN json_array_elements($1::json) AS j ON q.position = (j->>0)::bigint AND q.version = (j->>1)::bigint
     ORDER BY q.position FOR UPDATE OF q);

-- claim_rows --
-- The rows at a JSON list of positions, as TaskClaimed by one worker at one time leaves them.
UPDATE queue SET version = version + 1, status = 'running', attempt = attempt + 1, worker = $1, claimed_us = $2,
       key_held = CASE unique_until WHEN 'start' THEN 0 ELSE key_held END
 WHERE position IN (SELECT value::bigint FROM json_array_elements_text($3::json));

-- position_of_first --
SELECT notification_id FROM stored_events WHERE originator_id = $1 AND originator_version = 1;

-- heads --
-- The first waiting task, due or not, of each name, queue and priority, of tasks without a key; by jumps through the
-- index, never a scan of the rows.
WITH RECURSIVE g AS (
    (SELECT position, name, queue, priority FROM queue WHERE status = 'waiting' AND concurrency_key IS NULL
      ORDER BY name, queue, priority, due_us, position LIMIT 1)
    UNION ALL
    SELECT n.* FROM g CROSS JOIN LATERAL (
        SELECT q.position, q.name, q.queue, q.priority FROM queue AS q
         WHERE q.status = 'waiting' AND q.concurrency_key IS NULL
           AND (q.name, q.queue, q.priority) > (g.name, g.queue, g.priority)
         ORDER BY q.name, q.queue, q.priority, q.due_us, q.position LIMIT 1) AS n
)
SELECT q.* FROM g JOIN queue AS q ON q.position = g.position ORDER BY q.name, q.queue, q.priority;

-- keyed_heads --
-- The same of tasks with a key.
WITH RECURSIVE g AS (
    (SELECT position, name, queue, priority FROM queue WHERE status = 'waiting' AND concurrency_key IS NOT NULL
      ORDER BY name, queue, priority, due_us, position LIMIT 1)
    UNION ALL
    SELECT n.* FROM g CROSS JOIN LATERAL (
        SELECT q.position, q.name, q.queue, q.priority FROM queue AS q
         WHERE q.status = 'waiting' AND q.concurrency_key IS NOT NULL
           AND (q.name, q.queue, q.priority) > (g.name, g.queue, g.priority)
         ORDER BY q.name, q.queue, q.priority, q.due_us, q.position LIMIT 1) AS n
)
SELECT q.* FROM g JOIN queue AS q ON q.position = g.position ORDER BY q.name, q.queue, q.priority;

-- due_rows --
-- The first due tasks without a key of one name, queue and priority, at most so often lost before, that have not expired
-- and that nobody else is about to claim.
SELECT * FROM queue
 WHERE status = 'waiting' AND concurrency_key IS NULL AND name = $1 AND queue = $2 AND priority = $3 AND due_us <= $4
   AND lost <= $5 AND (expires_us IS NULL OR expires_us > $4) ORDER BY due_us, position LIMIT $6
   FOR UPDATE SKIP LOCKED;

-- keyed_due_rows --
-- The same of tasks with a key.
SELECT * FROM queue
 WHERE status = 'waiting' AND concurrency_key IS NOT NULL AND name = $1 AND queue = $2 AND priority = $3 AND due_us <= $4
   AND lost <= $5 AND (expires_us IS NULL OR expires_us > $4) ORDER BY due_us, position LIMIT $6
   FOR UPDATE SKIP LOCKED;

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
   AND name = $1 AND queue = $2 AND priority = $3 AND concurrency_key = $4 AND due_us <= $5
   AND lost <= $6 AND (expires_us IS NULL OR expires_us > $5) ORDER BY due_us, position LIMIT $7
   FOR UPDATE SKIP LOCKED;

-- requests --
-- What the tasks at a JSON list of positions were queued with.
SELECT notification_id, state FROM stored_events
 WHERE notification_id IN (SELECT value::bigint FROM json_array_elements_text($1::json));

-- lost_rows --
-- Waiting tasks whose last attempt was lost, due or not.
SELECT * FROM queue WHERE status = 'waiting' AND lost = 1 ORDER BY due_us, position LIMIT 1000;

-- next_due --
-- When the first of them is due that is not due at a time.
SELECT min(due_us) FROM queue
 WHERE status = 'waiting' AND concurrency_key IS NULL AND name = $1 AND queue = $2 AND priority = $3 AND due_us > $4;

-- keyed_next_due --
SELECT min(due_us) FROM queue
 WHERE status = 'waiting' AND concurrency_key IS NOT NULL AND name = $1 AND queue = $2 AND priority = $3 AND due_us > $4;

-- expired_rows --
-- Waiting tasks whose expiry has come, oldest first.
SELECT * FROM queue WHERE status = 'waiting' AND expires_us IS NOT NULL AND expires_us <= $1
 ORDER BY expires_us, position LIMIT $2;

-- next_expiry --
SELECT min(expires_us) FROM queue WHERE status = 'waiting' AND expires_us IS NOT NULL;

-- running_counts --
SELECT name, queue, concurrency_key, count(*) FROM queue WHERE status = 'running' GROUP BY name, queue, concurrency_key;

-- running_workers --
SELECT DISTINCT worker FROM queue WHERE status = 'running';

-- rows_of_worker --
SELECT * FROM queue WHERE status = 'running' AND worker = $1;

-- counts_of_queue --
SELECT status, count(*) FROM queue WHERE queue = $1 GROUP BY status;

-- running_attempts --
SELECT task_id, attempt FROM queue WHERE status = 'running';

-- count_running --
SELECT count(*) FROM queue WHERE status = 'running';

-- put_worker --
INSERT INTO workers SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::float8[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::bigint[], $11::text[], $12::bigint[], $13::text[])
    ON CONFLICT (worker_id) DO UPDATE SET
       (name, host, boot, pid, pid_started, started_us, beat_us, beats, threads, queues, lease_us, names)
     = (excluded.name, excluded.host, excluded.boot, excluded.pid, excluded.pid_started, excluded.started_us,
        excluded.beat_us, excluded.beats, excluded.threads, excluded.queues, excluded.lease_us, excluded.names);

-- beat --
UPDATE workers SET beat_us = $1, beats = beats + 1 WHERE worker_id = $2;

-- worker --
SELECT * FROM workers WHERE worker_id = $1;

-- all_workers --
SELECT * FROM workers ORDER BY started_us, worker_id;

-- delete_worker --
DELETE FROM workers WHERE worker_id = $1;
