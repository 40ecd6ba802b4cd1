-- What the acts on the running of tasks read beside the streams.

-- last_of_topics --
-- The newest event of a stream with one of a JSON list of topics.
SELECT rowid, originator_id, originator_version, topic, state FROM stored_events
 WHERE originator_id = ? AND topic IN (SELECT value FROM json_each(?))
 ORDER BY originator_version DESC LIMIT 1;

-- has_view --
SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'queue';

-- count_running --
SELECT count(*) FROM queue WHERE status = 'running';
