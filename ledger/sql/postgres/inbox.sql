-- What callers have queued in transactions of their own: plain rows, until somebody takes them into the log.

-- create_inbox --
-- Rows come and go all the time, so old versions are swept soon. The number of a row needs no right on a sequence.
CREATE TABLE IF NOT EXISTS inbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    state text NOT NULL,
    duplicates text,
    error text
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- index_inbox --
CREATE INDEX IF NOT EXISTS inbox_by_task ON inbox (task_id);

-- has_inbox --
SELECT relname FROM pg_class WHERE oid = to_regclass('inbox');

-- pending --
SELECT number, task_id, topic, state, duplicates, error FROM inbox
 WHERE error IS NULL ORDER BY number LIMIT $1 FOR UPDATE SKIP LOCKED;

-- pending_of_task --
SELECT number, task_id, topic, state, duplicates, error FROM inbox
 WHERE task_id = $1 AND error IS NULL ORDER BY number FOR UPDATE;

-- of_task --
SELECT number, task_id, topic, state, duplicates, error FROM inbox WHERE task_id = $1 ORDER BY number LIMIT 1;

-- newest --
SELECT number, task_id, topic, state, duplicates, error FROM inbox WHERE error IS NULL ORDER BY number DESC LIMIT $1;

-- aside --
SELECT number, task_id, topic, state, duplicates, error FROM inbox WHERE error IS NOT NULL ORDER BY number LIMIT $1;

-- counts --
-- How many wait to be taken in, and how many could not be.
SELECT count(CASE WHEN error IS NULL THEN 1 END), count(error) FROM inbox;

-- queued_already --
-- Which of these streams (a JSON list) the log has.
SELECT value FROM json_array_elements_text($1::json)
 WHERE EXISTS (SELECT 1 FROM stored_events WHERE originator_id = value);

-- delete --
DELETE FROM inbox WHERE number IN (SELECT value::bigint FROM json_array_elements_text($1::json));

-- set_aside --
UPDATE inbox SET error = $1 WHERE number = $2;

-- try_again --
UPDATE inbox SET error = NULL WHERE number = $1;

-- in_both --
-- Rows whose task is in the log: what was taken in is deleted in the same transaction.
SELECT task_id FROM inbox WHERE error IS NULL
   AND EXISTS (SELECT 1 FROM stored_events WHERE originator_id = 'task:' || task_id) ORDER BY number;
