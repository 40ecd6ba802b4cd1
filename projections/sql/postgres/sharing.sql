-- What a worker looks at before it claims beside others.

-- standing --
-- How many events a checkpoint is behind, at most so many; whether one of them may govern claims; how many of them are
-- in the rows already; when the next task expires and the next schedule is to be looked at; how many tasks run;
-- whether something waits in the inbox. The log is read by its index from the checkpoint on, whatever the planner
-- thinks of a bound that it does not know.
SELECT l.count, l.governs,
       (SELECT coalesce(sum(last - greatest(first, $1 + 1) + 1), 0)::bigint FROM passed WHERE view = $2 AND last > $1),
       (SELECT min(expires_us) FROM queue WHERE status = 'waiting' AND expires_us IS NOT NULL),
       (SELECT next_us FROM schedules WHERE next_us IS NOT NULL ORDER BY next_us LIMIT 1),
       (SELECT count(*) FROM queue WHERE status = 'running'),
       EXISTS (SELECT 1 FROM inbox WHERE error IS NULL)
  FROM (SELECT count(*), coalesce(bool_or(e.originator_id >= 'ledger' AND e.originator_id < 'queue;'), false) AS governs
          FROM (SELECT originator_id FROM stored_events WHERE notification_id > $1
                 ORDER BY notification_id LIMIT $3) AS e) AS l;
