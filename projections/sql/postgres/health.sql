-- What `health` counts in the views beside the log. The rows at :beside (a JSON list of positions) are out of date.

-- waiting --
-- How many wait, how many are due, since when the oldest, and how many are due in paused queues (a JSON list of names),
-- which the others leave out. Tasks with and without a concurrency key have an index each.
SELECT sum(total)::bigint, sum(due)::bigint, min(oldest), sum(held)::bigint FROM (
    SELECT count(*) AS total, count(CASE WHEN due_us <= :now::bigint AND NOT is_paused THEN 1 END) AS due,
           min(CASE WHEN due_us <= :now::bigint AND NOT is_paused THEN due_us END) AS oldest,
           count(CASE WHEN due_us <= :now::bigint AND is_paused THEN 1 END) AS held
      FROM (SELECT due_us, queue IN (SELECT value FROM json_array_elements_text(:paused::json)) AS is_paused
              FROM queue WHERE status = 'waiting' AND concurrency_key IS NULL
               AND position NOT IN (SELECT value::bigint FROM json_array_elements_text(:beside::json))) AS waiting
    UNION ALL
    SELECT count(*) AS total, count(CASE WHEN due_us <= :now::bigint AND NOT is_paused THEN 1 END) AS due,
           min(CASE WHEN due_us <= :now::bigint AND NOT is_paused THEN due_us END) AS oldest,
           count(CASE WHEN due_us <= :now::bigint AND is_paused THEN 1 END) AS held
      FROM (SELECT due_us, queue IN (SELECT value FROM json_array_elements_text(:paused::json)) AS is_paused
              FROM queue WHERE status = 'waiting' AND concurrency_key IS NOT NULL
               AND position NOT IN (SELECT value::bigint FROM json_array_elements_text(:beside::json))) AS waiting) AS found;

-- due_since --
-- The first task that is due since then, of a queue that is not paused.
SELECT task_id, name FROM (
    SELECT task_id, name, position FROM queue
     WHERE status = 'waiting' AND concurrency_key IS NULL AND due_us = :due
       AND queue NOT IN (SELECT value FROM json_array_elements_text(:paused::json))
       AND position NOT IN (SELECT value::bigint FROM json_array_elements_text(:beside::json))
    UNION ALL
    SELECT task_id, name, position FROM queue
     WHERE status = 'waiting' AND concurrency_key IS NOT NULL AND due_us = :due
       AND queue NOT IN (SELECT value FROM json_array_elements_text(:paused::json))
       AND position NOT IN (SELECT value::bigint FROM json_array_elements_text(:beside::json))) AS found
 ORDER BY position LIMIT 1;

-- delays --
-- The policies and counts of used attempts of tasks that wait after some.
SELECT DISTINCT used, retry_first, retry_factor, retry_cap FROM queue
 WHERE status = 'waiting' AND used > 0 AND position NOT IN (SELECT value::bigint FROM json_array_elements_text(:beside::json))
 ORDER BY used, retry_first, retry_factor, retry_cap;

-- delayed --
-- The first tasks of one of these, runs of disabled schedules left out.
SELECT task_id, name, version FROM queue
 WHERE status = 'waiting' AND used > 0 AND used = :used AND retry_first = :first AND retry_factor = :factor
   AND retry_cap = :cap AND position NOT IN (SELECT value::bigint FROM json_array_elements_text(:beside::json))
   AND task_id NOT IN (SELECT run_id FROM schedules WHERE run_id IS NOT NULL
                          AND (status <> 'declared' OR enabled = 0 OR (component_off = 1 AND always = 0)))
 ORDER BY position LIMIT 100;

-- stopped_runs --
-- The newest runs of schedules that are disabled.
SELECT run_id FROM schedules WHERE run_id IS NOT NULL
   AND (status <> 'declared' OR enabled = 0 OR (component_off = 1 AND always = 0));

-- running --
-- The running tasks, oldest attempt first.
SELECT task_id, name, claimed_us FROM queue
 WHERE status = 'running' AND position NOT IN (SELECT value::bigint FROM json_array_elements_text(:beside::json)) ORDER BY claimed_us;

-- overdue --
-- The schedules of which a notice says that they are overdue.
SELECT name FROM schedules WHERE noticed_us IS NOT NULL AND status = 'declared' AND enabled = 1 ORDER BY name;

-- newest_worker --
-- The stream of the worker that started last: their ids are ordered by time.
SELECT max(originator_id) FROM stored_events WHERE originator_id >= 'worker:' AND originator_id < 'worker;';
