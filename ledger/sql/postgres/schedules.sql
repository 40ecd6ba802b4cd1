-- What the acts on schedules read beside the streams.

-- schedule_streams --
-- The streams whose names begin with a prefix (up to, not including, a second text), by jumps through the index.
WITH RECURSIVE found(stream) AS (
    SELECT (SELECT min(originator_id) FROM stored_events WHERE originator_id >= $1 AND originator_id < $2)
    UNION ALL
    SELECT (SELECT min(originator_id) FROM stored_events
             WHERE originator_id > found.stream AND originator_id < $2)
      FROM found WHERE found.stream IS NOT NULL
)
SELECT stream FROM found WHERE stream IS NOT NULL;

-- view_columns --
-- The columns of the view, none where it is not there: one of an older shape is of no use before a worker made it anew.
SELECT attname::text FROM pg_attribute
 WHERE attrelid = to_regclass('schedules') AND attnum > 0 AND NOT attisdropped ORDER BY attnum;

-- components_off --
-- The components that are disabled, as far as the view has folded.
SELECT component FROM components;

-- ledger_events --
-- The events of the ledger's own stream after a position: most are notices, which need not be read again and again.
SELECT notification_id, originator_id, originator_version, topic, state
  FROM stored_events WHERE originator_id = 'ledger' AND notification_id > $1 ORDER BY originator_version;

-- row --
-- The view's row: what it has folded need not be read from the streams again.
SELECT * FROM schedules WHERE name = $1;
