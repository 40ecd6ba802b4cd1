-- The controls view: the marks that govern what is claimed, and the limits, field by field their LimitState.

-- create_marks --
CREATE TABLE IF NOT EXISTS marks (
    mark TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT
);

-- create_limits --
CREATE TABLE IF NOT EXISTS limits (
    scope TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    code INTEGER,
    hand INTEGER,
    configuration INTEGER,
    app TEXT,
    at_us INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT
);

-- columns --
-- The columns as they are, in their order; NULL where a table is not there.
SELECT (SELECT group_concat(name) FROM pragma_table_info('marks')),
       (SELECT group_concat(name) FROM pragma_table_info('limits'));

-- drop_marks --
DROP TABLE IF EXISTS marks;

-- drop_limits --
DROP TABLE IF EXISTS limits;

-- put_mark --
INSERT OR REPLACE INTO marks VALUES (?,?,?,?,?);

-- delete_mark --
DELETE FROM marks WHERE mark = ?;

-- put_limit --
INSERT OR REPLACE INTO limits VALUES (?,?,?,?,?,?,?,?,?);

-- delete_limit --
DELETE FROM limits WHERE scope = ?;

-- limit_of_scope --
SELECT * FROM limits WHERE scope = ?;

-- all_marks --
SELECT * FROM marks ORDER BY mark;

-- all_limits --
SELECT * FROM limits ORDER BY scope;

-- events_of_streams --
-- The events up to a position of the streams whose names begin with a prefix (up to, not including, a second text).
SELECT rowid, originator_id, originator_version, topic, state FROM stored_events
 WHERE originator_id >= ? AND originator_id < ? AND rowid <= ? ORDER BY rowid;
