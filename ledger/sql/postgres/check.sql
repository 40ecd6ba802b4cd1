-- What a deep check asks of the log and of the tables beside it; every row found is damage.

-- gaps --
-- Streams whose versions do not run from 1 without a gap: stream, how many events, lowest and highest version.
SELECT originator_id, count(*), min(originator_version), max(originator_version) FROM stored_events
 GROUP BY originator_id HAVING min(originator_version) <> 1 OR max(originator_version) <> count(*);

-- disorder --
-- Versions that stand before an older version of their stream: stream, version, position.
SELECT a.originator_id, b.originator_version, b.notification_id FROM stored_events AS a
  JOIN stored_events AS b ON b.originator_id = a.originator_id AND b.originator_version = a.originator_version + 1
 WHERE b.notification_id < a.notification_id;

-- key_repeats --
-- Keys reserved twice or released twice in a row: stream, version.
SELECT b.originator_id, b.originator_version FROM stored_events AS a
  JOIN stored_events AS b ON b.originator_id = a.originator_id AND b.originator_version = a.originator_version + 1
 WHERE a.originator_id >= 'key:' AND a.originator_id < 'key;' AND a.topic = b.topic;

-- last_of_keys --
-- The newest event of each key.
SELECT DISTINCT ON (originator_id) notification_id, originator_id, originator_version, topic, state FROM stored_events
 WHERE originator_id >= 'key:' AND originator_id < 'key;' ORDER BY originator_id, originator_version DESC;

-- held_keys --
-- The keys that live tasks hold by the queue view.
SELECT key_stream, task_id FROM queue WHERE key_held = 1;

-- output_unlisted --
-- Attempts whose output pruning would never find, and attempts that it would look for in vain.
SELECT task_id, attempt FROM (SELECT DISTINCT task_id, attempt FROM output) AS o
 EXCEPT SELECT task_id, attempt FROM output_attempts;

-- output_listed_in_vain --
SELECT task_id, attempt FROM output_attempts
 EXCEPT SELECT task_id, attempt FROM (SELECT DISTINCT task_id, attempt FROM output) AS o;

-- output_of_nobody --
-- Output of attempts that the log does not know.
SELECT task_id, attempt FROM (SELECT DISTINCT task_id, attempt FROM output) AS o
 WHERE (SELECT count(*) FROM stored_events
         WHERE originator_id = 'task:' || o.task_id AND topic = 'TaskClaimed.v1') < o.attempt;
