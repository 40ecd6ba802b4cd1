-- Which attempts have output, for pruning to look through, and what was pruned.

-- create_attempts --
-- One row per attempt that has output: what pruning looks through, by name and time, without touching the bodies.
CREATE TABLE IF NOT EXISTS output_attempts (
    name TEXT NOT NULL,
    started_us INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (name, started_us, task_id, attempt)
) WITHOUT ROWID;

-- put_attempt --
INSERT OR IGNORE INTO output_attempts VALUES (?,?,?,?);

-- forget_attempt --
DELETE FROM output_attempts WHERE name = ? AND started_us = ? AND task_id = ? AND attempt = ?;

-- size --
-- How many bytes an attempt's rows hold; a body's length stands in its row's head, so no body is read.
SELECT coalesce(sum(length(body)), 0) FROM output WHERE task_id = ? AND attempt = ?;

-- names --
-- The names of the tasks that have output, by jumps through the index.
WITH RECURSIVE found(name) AS (
    SELECT (SELECT min(name) FROM output_attempts)
    UNION ALL
    SELECT (SELECT min(name) FROM output_attempts WHERE name > found.name) FROM found WHERE found.name IS NOT NULL
)
SELECT name FROM found WHERE name IS NOT NULL;

-- newest_but --
-- The newest attempt of a name beyond so many newer ones.
SELECT started_us, task_id, attempt FROM output_attempts WHERE name = ?
 ORDER BY started_us DESC, task_id DESC, attempt DESC LIMIT 1 OFFSET ?;

-- oldest --
-- The oldest attempts of a name after one of them, up to another: name, the one, the other, how many.
SELECT started_us, task_id, attempt FROM output_attempts
 WHERE name = ? AND (started_us, task_id, attempt) > (?, ?, ?) AND (started_us, task_id, attempt) <= (?, ?, ?)
 ORDER BY started_us, task_id, attempt LIMIT ?;

-- pruned_by --
-- The event that says that the output of one attempt was deleted, found in the stream of its name by its pair as JSON.
SELECT rowid, originator_id, originator_version, topic, state FROM stored_events
 WHERE originator_id = ? AND instr(state, ?) > 0 ORDER BY originator_version DESC LIMIT 1;
