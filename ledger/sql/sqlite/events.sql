-- The immutable log. The column literally named rowid is the position: VACUUM cannot renumber it.

-- create_events --
CREATE TABLE IF NOT EXISTS stored_events (
    rowid INTEGER PRIMARY KEY CHECK (rowid > 0),
    originator_id TEXT NOT NULL,
    originator_version INTEGER NOT NULL,
    topic TEXT NOT NULL,
    state BLOB NOT NULL,
    UNIQUE (originator_id, originator_version)
);

-- refuse_update --
CREATE TRIGGER IF NOT EXISTS stored_events_no_update BEFORE UPDATE ON stored_events
BEGIN SELECT RAISE(ABORT, 'events are immutable: UPDATE refused'); END;

-- refuse_delete --
CREATE TRIGGER IF NOT EXISTS stored_events_no_delete BEFORE DELETE ON stored_events
BEGIN SELECT RAISE(ABORT, 'events are immutable: DELETE refused'); END;

-- refuse_replace --
-- INSERT OR REPLACE fires no delete trigger, so an existing position or version is refused before the insert.
CREATE TRIGGER IF NOT EXISTS stored_events_no_replace BEFORE INSERT ON stored_events
WHEN EXISTS (SELECT 1 FROM stored_events
              WHERE originator_id = NEW.originator_id AND originator_version = NEW.originator_version)
  OR (NEW.rowid <> -1 AND NEW.rowid <= (SELECT max(rowid) FROM stored_events))
BEGIN SELECT RAISE(ABORT, 'events are immutable: this stream version or position exists'); END;

-- create_readable --
-- The log as people read it with SQL.
CREATE VIEW IF NOT EXISTS events AS
SELECT rowid AS position, originator_id AS stream, originator_version AS version, topic,
       CAST(state AS TEXT) AS data
  FROM stored_events;

-- integrity --
PRAGMA integrity_check;

-- insert_event --
INSERT INTO stored_events (rowid, originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?, ?);

-- head --
SELECT coalesce(max(rowid), 0) FROM stored_events;

-- events_after --
SELECT rowid, originator_id, originator_version, topic, state
  FROM stored_events WHERE rowid > ? ORDER BY rowid LIMIT ?;

-- events_before --
SELECT rowid, originator_id, originator_version, topic, state
  FROM stored_events WHERE rowid < ? ORDER BY rowid DESC LIMIT ?;

-- stream --
SELECT rowid, originator_id, originator_version, topic, state
  FROM stored_events WHERE originator_id = ? AND originator_version > ? ORDER BY originator_version;

-- last_of_stream --
SELECT rowid, originator_id, originator_version, topic, state
  FROM stored_events WHERE originator_id = ? ORDER BY originator_version DESC LIMIT 1;

-- event_at --
SELECT rowid, state FROM stored_events WHERE originator_id = ? AND originator_version = ?;
