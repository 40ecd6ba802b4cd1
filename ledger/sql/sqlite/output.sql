-- What attempts print: not part of the log, whose outcome events have the digest; rows may be pruned.

-- create_output --
CREATE TABLE IF NOT EXISTS output (
    task_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (task_id, attempt, chunk)
) WITHOUT ROWID;

-- put_chunk --
INSERT OR REPLACE INTO output VALUES (?, ?, ?, ?);

-- drop_chunk --
DELETE FROM output WHERE task_id = ? AND attempt = ? AND chunk = ?;

-- drop_attempt --
DELETE FROM output WHERE task_id = ? AND attempt = ?;

-- chunks --
SELECT chunk, body FROM output WHERE task_id = ? AND attempt = ? AND chunk > ? ORDER BY chunk;
