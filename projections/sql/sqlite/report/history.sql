-- What the history of attempts reads: each with what its task was asked to do, newest first.

-- page --
SELECT a.task_id, a.attempt, a.name, a.queue, a.outcome, t.state, a.run_as, t.actor, a.worker, a.claimed_at, a.started_at,
       a.finished_at, a.wait_ms, a.run_ms, a.cpu_ms, a.error_type, a.error_message, a.cause, t.args, t.labels,
       o.bytes, o.pruned_at, a.claimed_position
  FROM report_v1.attempts AS a
  JOIN report_v1.tasks AS t ON t.task_id = a.task_id
  LEFT JOIN report_v1.output AS o ON o.task_id = a.task_id AND o.attempt = a.attempt
 WHERE {where} AND a.claimed_position < ?
 ORDER BY a.claimed_position DESC LIMIT ?;

-- with_output --
-- Those whose output is still kept; what runs, and what was taken from its worker, is in the view only once it ended well.
o.pruned_at IS NULL AND (o.bytes > 0 OR o.bytes IS NULL AND a.outcome IN ('running', 'lost', 'interrupted', 'cancelled'));

-- hours --
SELECT * FROM report_v1.hourly WHERE {where} ORDER BY hour, name, queue;
