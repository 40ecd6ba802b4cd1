-- The attempts that waited longest from due to claimed.
SELECT task_id, name, queue, attempt, claimed_at, round(wait_ms) AS wait_ms
  FROM report_v1.attempts
 ORDER BY wait_ms DESC, claimed_position
 LIMIT 20;
