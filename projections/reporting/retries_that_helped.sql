-- Of the tasks whose first attempt did not succeed: how many a further one brought to success, and how many it did not.
SELECT name,
       count(*) AS retried,
       sum(CASE WHEN state = 'succeeded' THEN 1 ELSE 0 END) AS helped,
       sum(CASE WHEN state IN ('failed', 'cancelled') THEN 1 ELSE 0 END) AS in_vain,
       sum(CASE WHEN state IN ('waiting', 'running') THEN 1 ELSE 0 END) AS open,
       max(attempt) AS most_attempts
  FROM report_v1.tasks
 WHERE attempt > 1
 GROUP BY name
 ORDER BY retried DESC, name
 LIMIT 50;
