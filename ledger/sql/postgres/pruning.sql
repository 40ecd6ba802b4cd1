-- Which attempts have output, for pruning to look through, and what was pruned.

-- create_attempts --
-- One row per attempt that has output: what pruning looks through, by name and time, without touching the bodies.
CREATE TABLE IF NOT EXISTS output_attempts (
    name text COLLATE "C" NOT NULL,
    started_us bigint NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    PRIMARY KEY (name, started_us, task_id, attempt)
);

-- put_attempt --
INSERT INTO output_attempts SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[])
    ON CONFLICT (name, started_us, task_id, attempt) DO NOTHING;

-- forget_attempt --
DELETE FROM output_attempts WHERE name = $1 AND started_us = $2 AND task_id = $3 AND attempt = $4;

-- size --
-- How many bytes an attempt's rows hold.
SELECT coalesce(sum(length(body)), 0)::bigint FROM output WHERE task_id = $1 AND attempt = $2;

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
SELECT started_us, task_id, attempt FROM output_attempts WHERE name = $1
 ORDER BY started_us DESC, task_id DESC, attempt DESC LIMIT 1 OFFSET $2;

-- oldest --
-- The oldest attempts of a name after one of them, up to another: name, the one, the other, how many.
SELECT started_us, task_id, attempt FROM output_attempts
 WHERE name = $1 AND (started_us, task_id, attempt) > ($2, $3, $4) AND (started_us, task_id, attempt) <= ($5, $6, $7)
 ORDER BY started_us, task_id, attempt LIMIT $8;

-- pruned_by --
-- The event that says that the output of one attempt was deleted, found in the stream of its name by its pair as JSON.
SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events
 WHERE originator_id = $1 AND position($2::bytea IN state) > 0 ORDER BY originator_version DESC LIMIT 1;
