-- What is known of the views themselves, and the statements that fit every table of a view.

-- create_meta --
CREATE TABLE meta (
    view TEXT PRIMARY KEY, -- The view.
    version INTEGER NOT NULL, -- Version of its fold.
    checkpoint INTEGER NOT NULL, -- Position up to which it is folded.
    head INTEGER NOT NULL, -- Newest position of the log when it was last written.
    lag INTEGER NOT NULL, -- Events between the two.
    newest_at TEXT, -- Time of the event at the checkpoint.
    written_at TEXT NOT NULL, -- When it was last written.
    built_at TEXT NOT NULL, -- When its building began, from the first event.
    origin TEXT NOT NULL, -- First stream of its log, which tells that log from another.
    shape TEXT NOT NULL, -- Its tables and columns.
    generation INTEGER NOT NULL, -- How often it was built.
    error TEXT -- Why it stands still, for a projection whose fold raised.
);

-- create_building --
-- Views that are being built beside the live ones: their tables have names with the generation.
CREATE TABLE meta_building (
    view TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    checkpoint INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    built_at TEXT NOT NULL
);

-- columns_of --
SELECT name FROM pragma_table_info(?) ORDER BY cid;

-- all_meta --
SELECT view, version, checkpoint, head, lag, newest_at, written_at, built_at, origin, shape, generation, error FROM meta;

-- all_building --
SELECT view, version, checkpoint, generation, built_at FROM meta_building;

-- put_meta --
INSERT INTO meta (view, version, checkpoint, head, lag, newest_at, written_at, built_at, origin, shape, generation, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (view) DO UPDATE SET version = excluded.version, checkpoint = excluded.checkpoint, head = excluded.head,
    lag = excluded.lag, newest_at = excluded.newest_at, written_at = excluded.written_at, built_at = excluded.built_at,
    origin = excluded.origin, shape = excluded.shape, generation = excluded.generation, error = excluded.error;

-- move_meta --
UPDATE meta SET checkpoint = ?, head = ?, lag = ?, newest_at = ?, written_at = ?, error = NULL WHERE view = ?;

-- set_origin --
UPDATE meta SET origin = ? WHERE view = ?;

-- stop_meta --
UPDATE meta SET error = ?, written_at = ? WHERE view = ?;

-- put_building --
INSERT INTO meta_building (view, version, checkpoint, generation, built_at) VALUES (?, ?, ?, ?, ?);

-- move_building --
UPDATE meta_building SET checkpoint = ? WHERE view = ?;

-- delete_building --
DELETE FROM meta_building WHERE view = ?;

-- delete_meta --
DELETE FROM meta WHERE view = ?;

-- all_tables --
SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name;

-- drop_table --
DROP TABLE IF EXISTS "{table}";

-- rename_table --
ALTER TABLE "{table}" RENAME TO "{name}";

-- row --
SELECT {columns} FROM {table} WHERE {key};

-- rows_of --
-- Those whose first key column is in a JSON list.
SELECT {columns} FROM {table} WHERE {first} IN (SELECT value FROM json_each(?));

-- all_rows --
SELECT {columns} FROM {table} ORDER BY {order};

-- put_row --
INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT ({order}) DO UPDATE SET {changes};

-- delete_row --
DELETE FROM {table} WHERE {key};
