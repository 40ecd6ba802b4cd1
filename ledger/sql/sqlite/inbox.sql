-- What callers have queued in transactions of their own: plain rows, until somebody takes them into the log.

-- create_inbox --
CREATE TABLE IF NOT EXISTS inbox (
    number INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    state TEXT NOT NULL,
    duplicates TEXT,
    error TEXT
);

-- index_inbox --
CREATE INDEX IF NOT EXISTS inbox_by_task ON inbox (task_id);

-- has_inbox --
SELECT name FROM sqlite_master WHERE name = 'inbox' AND type = 'table';

-- pending --
SELECT number, task_id, topic, state, duplicates, error FROM inbox WHERE error IS NULL ORDER BY number LIMIT ?;

-- pending_of_task --
SELECT number, task_id, topic, state, duplicates, error FROM inbox WHERE task_id = ? AND error IS NULL ORDER BY number;

-- of_task --
SELECT number, task_id, topic, state, duplicates, error FROM inbox WHERE task_id = ? ORDER BY number LIMIT 1;

-- newest --
SELECT number, task_id, topic, state, duplicates, error FROM inbox WHERE error IS NULL ORDER BY number DESC LIMIT ?;

-- aside --
SELECT number, task_id, topic, state, duplicates, error FROM inbox WHERE error IS NOT NULL ORDER BY number LIMIT ?;

-- counts --
-- How many wait to be taken in, and how many could not be.
SELECT count(CASE WHEN error IS NULL THEN 1 END), count(error) FROM inbox;

-- queued_already --
-- Which of these streams (a JSON list) the log has.
SELECT value FROM json_each(?)
 WHERE EXISTS (SELECT 1 FROM stored_events WHERE originator_id = value);

-- delete --
DELETE FROM inbox WHERE number IN (SELECT value FROM json_each(?));

-- set_aside --
UPDATE inbox SET error = ? WHERE number = ?;

-- try_again --
UPDATE inbox SET error = NULL WHERE number = ?;

-- in_both --
-- Rows whose task is in the log: what was taken in is deleted in the same transaction.
SELECT task_id FROM inbox WHERE error IS NULL
   AND EXISTS (SELECT 1 FROM stored_events WHERE originator_id = 'task:' || task_id) ORDER BY number;
