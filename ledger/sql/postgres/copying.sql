-- A ledger as a copy of another: events at the positions that they have there, and what is kept beside the log.

-- place_event --
INSERT INTO stored_events (notification_id, originator_id, originator_version, topic, state)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::bytea[]);

-- create_copied --
-- Up to where the log was copied: positions below may be missing, as they were rolled back in the other ledger.
CREATE TABLE IF NOT EXISTS copied (upto bigint NOT NULL);

-- has_copied --
SELECT relname FROM pg_class WHERE oid = to_regclass('copied');

-- copied_upto --
SELECT coalesce(max(upto), 0) FROM copied;

-- note_copied --
INSERT INTO copied (upto) VALUES ($1);

-- go_on_after --
-- The next position that is drawn is one more.
SELECT setval('positions', $1::bigint);

-- output_sizes --
-- What each attempt has printed: how many rows and bytes.
SELECT task_id, attempt, count(*), sum(length(body))::bigint FROM output GROUP BY task_id, attempt;

-- all_attempts --
SELECT name, started_us, task_id, attempt FROM output_attempts;

-- deliveries --
SELECT hook, version FROM deliveries;

-- put_delivery --
INSERT INTO deliveries (hook, version, failures, next_us) VALUES ($1, $2, 0, 0)
    ON CONFLICT (hook) DO UPDATE SET version = excluded.version;
