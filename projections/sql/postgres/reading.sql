-- What the reading commands ask of the queue view's tables, in the ledger's own database.

-- queue_totals --
SELECT queue,
       count(CASE WHEN status = 'waiting' AND due_us <= $1 THEN 1 END),
       count(CASE WHEN status = 'waiting' AND due_us > $1 THEN 1 END),
       count(CASE WHEN status = 'running' THEN 1 END),
       min(CASE WHEN status = 'waiting' AND due_us <= $1 THEN due_us END)
  FROM queue GROUP BY queue ORDER BY queue;

-- running_now --
-- What runs, with the state of its TaskQueued, which has who asked for it.
SELECT q.task_id, q.name, e.state, q.run_as, q.worker, w.host, w.pid, q.claimed_us, q.attempt, q.version
  FROM queue AS q JOIN stored_events AS e ON e.notification_id = q.position LEFT JOIN workers AS w ON w.worker_id = q.worker
 WHERE q.status = 'running' ORDER BY q.claimed_us, q.position;

-- count_before --
SELECT count(*) FROM queue
 WHERE status = 'waiting' AND queue = $1 AND due_us <= $2
   AND (priority > $3 OR (priority = $3 AND (due_us, position) < ($4, $5)));

-- running_per_worker --
SELECT worker, count(*) FROM queue WHERE status = 'running' GROUP BY worker;

-- newest_ids --
-- The newest tasks whose streams lie between two texts.
SELECT originator_id FROM stored_events WHERE originator_id >= $1 AND originator_id < $2 AND originator_version = 1
 ORDER BY originator_id DESC LIMIT $3;

-- newest_names --
-- The names and queues of the newest live tasks.
SELECT DISTINCT name, queue FROM (SELECT name, queue FROM queue ORDER BY position DESC LIMIT 1000) AS newest;
