-- How many attempts failed, by hour and task: for good or to be retried.
SELECT hour, name,
       sum(succeeded + failed + retried) AS ended,
       sum(failed + retried) AS unsuccessful,
       round(100.0 * sum(failed + retried) / sum(succeeded + failed + retried), 1) AS percent
  FROM report_v1.hourly
 GROUP BY hour, name
HAVING sum(succeeded + failed + retried) > 0
 ORDER BY hour DESC, percent DESC, name
 LIMIT 100;
