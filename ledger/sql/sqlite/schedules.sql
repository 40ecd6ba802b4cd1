-- What the acts on schedules read beside the streams.

-- schedule_streams --
-- The streams whose names begin with a prefix (up to, not including, a second text), by jumps through the index.
WITH RECURSIVE found(stream) AS (
    SELECT (SELECT min(originator_id) FROM stored_events WHERE originator_id >= :first AND originator_id < :beyond)
    UNION ALL
    SELECT (SELECT min(originator_id) FROM stored_events
             WHERE originator_id > found.stream AND originator_id < :beyond)
      FROM found WHERE found.stream IS NOT NULL
)
SELECT stream FROM found WHERE stream IS NOT NULL;

-- has_view --
SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schedules';

-- row --
-- The view's row: what it has folded need not be read from the streams again.
SELECT * FROM schedules WHERE name = ?;
