-- The slowest tasks by the 95th percentile of their runs: of twenty attempts, one took longer.
SELECT name,
       count(*) AS runs,
       round(avg(run_ms)) AS mean_ms,
       min(CASE WHEN place >= 0.95 * ended THEN run_ms END) AS p95_ms,
       max(run_ms) AS max_ms
  FROM (SELECT name, run_ms,
               row_number() OVER (PARTITION BY name ORDER BY run_ms) AS place,
               count(*) OVER (PARTITION BY name) AS ended
          FROM report_v1.attempts WHERE run_ms IS NOT NULL AND outcome <> 'interrupted') AS ranked
 GROUP BY name
 ORDER BY p95_ms DESC, name
 LIMIT 20;
