-- What the acts on the running of tasks read beside the streams.

-- last_of_topics --
-- The newest event of a stream with one of a JSON list of topics.
SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events
 WHERE originator_id = $1 AND topic IN (SELECT json_array_elements_text($2::json))
 ORDER BY originator_version DESC LIMIT 1;

-- has_view --
SELECT 1 WHERE to_regclass('queue') IS NOT NULL;

-- count_running --
SELECT count(*) FROM queue WHERE status = 'running';
