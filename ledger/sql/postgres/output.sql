-- What attempts print: not part of the log, whose outcome events have the digest; rows may be pruned.

-- create_output --
CREATE TABLE IF NOT EXISTS output (
    task_id text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    chunk bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (task_id, attempt, chunk)
);

-- put_chunk --
INSERT INTO output SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[])
    ON CONFLICT (task_id, attempt, chunk) DO UPDATE SET body = excluded.body;

-- drop_chunk --
DELETE FROM output WHERE task_id = $1 AND attempt = $2 AND chunk = $3;

-- drop_attempt --
DELETE FROM output WHERE task_id = $1 AND attempt = $2;

-- chunks --
SELECT chunk, body FROM output WHERE task_id = $1 AND attempt = $2 AND chunk > $3 ORDER BY chunk;
