-- A ledger as a copy of another: events at the positions that they have there, and what is kept beside the log.

-- place_event --
INSERT INTO stored_events (rowid, originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?, ?);

-- create_copied --
-- Up to where the log was copied: positions below may be missing, as they were rolled back in the other ledger.
CREATE TABLE IF NOT EXISTS copied (upto INTEGER NOT NULL);

-- has_copied --
SELECT name FROM sqlite_master WHERE name = 'copied' AND type = 'table';

-- copied_upto --
SELECT coalesce(max(upto), 0) FROM copied;

-- note_copied --
INSERT INTO copied (upto) VALUES (?);

-- go_on_after --
-- Positions are one more than the newest, so there is nothing to set.
SELECT ?;

-- output_sizes --
-- What each attempt has printed: how many rows and bytes.
SELECT task_id, attempt, count(*), sum(length(body)) FROM output GROUP BY task_id, attempt;

-- all_attempts --
SELECT name, started_us, task_id, attempt FROM output_attempts;

-- deliveries --
SELECT hook, version FROM deliveries;

-- put_delivery --
INSERT INTO deliveries (hook, version, failures, next_us) VALUES (?, ?, 0, 0)
    ON CONFLICT (hook) DO UPDATE SET version = excluded.version;
