-- Copies of the folded log, in a file of their own.

-- create --
CREATE TABLE IF NOT EXISTS waypoints (
    position INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    shape TEXT NOT NULL,
    seal TEXT NOT NULL,
    digest TEXT NOT NULL,
    body BLOB NOT NULL
);

-- within --
-- The copies up to a position and time, newest first.
SELECT position, seal, digest, body FROM waypoints WHERE shape = ? AND position <= ? AND at_us <= ?
 ORDER BY position DESC;

-- newest --
SELECT position, seal, digest, body FROM waypoints WHERE shape = ? AND position <= ? AND at_us <= ?
 ORDER BY position DESC LIMIT 1;

-- put --
INSERT OR REPLACE INTO waypoints VALUES (?,?,?,?,?,?);

-- delete --
DELETE FROM waypoints WHERE position = ?;
