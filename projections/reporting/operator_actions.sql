-- Who did what by hand, to what, and why; the newest first.
SELECT at, actor, action, name, target, reason
  FROM report_v1.operators
 ORDER BY position DESC
 LIMIT 50;
