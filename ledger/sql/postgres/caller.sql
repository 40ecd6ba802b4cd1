-- What is said over a caller's own connection, in its transaction. The word "schema" stands for that of the ledger.

-- put --
-- Said over the caller's connection; the rows are a JSON list of [task id, topic, state, duplicates]. Workers hear of it when
-- the caller commits.
WITH given AS (
    INSERT INTO "schema".inbox (task_id, topic, state, duplicates)
    SELECT one->>0, one->>1, one->>2, one->>3
      FROM json_array_elements(CAST(:rows AS json)) WITH ORDINALITY AS list(one, place) ORDER BY place
)
SELECT pg_notify('channel', '');

-- place --
-- Said over the caller's connection and over the ledger's own: where it leads to, and the time there.
SELECT CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS bigint),
       CAST((SELECT oid FROM pg_database WHERE datname = current_database()) AS bigint),
       CAST(CAST(to_regclass('"schema".inbox') AS oid) AS bigint),
       CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint);
