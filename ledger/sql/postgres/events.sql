-- The immutable log, in a schema of its own that is first in the search path of every transaction.

-- create_sequence --
-- Positions are drawn one by one: a session that drew some in advance would use them out of order.
CREATE SEQUENCE positions AS bigint MINVALUE 1 CACHE 1;

-- create_events --
CREATE TABLE stored_events (
    originator_id text COLLATE "C" NOT NULL,
    originator_version bigint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    state bytea NOT NULL,
    notification_id bigint PRIMARY KEY CHECK (notification_id > 0),
    UNIQUE (originator_id, originator_version)
);

-- create_tracking --
-- Checkpoints: the library's table. Its rows are changed all the time, so old versions are swept soon.
CREATE TABLE notification_tracking (
    application_name text COLLATE "C" PRIMARY KEY,
    notification_id bigint
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);

-- create_passed --
-- Ranges of positions above a view's checkpoint whose events were brought into its rows by those who appended them.
CREATE TABLE passed (
    view text COLLATE "C" NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (view, first)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);

-- create_refusal --
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are immutable: % refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- refuse_change --
-- ALWAYS: also in a session that calls itself a replica.
CREATE TRIGGER stored_events_are_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON stored_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE stored_events ENABLE ALWAYS TRIGGER stored_events_are_immutable;

-- create_readable --
-- The log as people read it with SQL.
CREATE VIEW events AS
SELECT notification_id AS position, originator_id AS stream, originator_version AS version, topic,
       convert_from(state, 'UTF8') AS data
  FROM stored_events;

-- create_keys --
-- The first half of this log's advisory locks; the second is 1 for the order of positions, 2 for the turn, 3 for catching
-- up, 4 for those who rest. It is fixed here, so that renaming or restoring the schema does not part readers from appenders.
DO $$ BEGIN
    EXECUTE format('CREATE FUNCTION lock_key() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS %L',
                   'SELECT ' || (hashtext(current_schema()) & 2147483647));
END $$;

-- create_version --
CREATE OR REPLACE FUNCTION schema_version() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 2';

-- create_wake --
-- Tell those who rest that this transaction will have committed, if anybody rests: telling makes commits wait for each
-- other. The channel is that of `ledger.postgres_address`. Equal words of one transaction are heard once.
CREATE FUNCTION wake() RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF pg_try_advisory_lock(lock_key(), 4) THEN
        PERFORM pg_advisory_unlock(lock_key(), 4);
    ELSE
        PERFORM pg_notify(left('workledger_' || current_schema(), 63), '');
    END IF;
END $$;

-- create_append --
-- Append events, their positions in the order given, and return these; NULL if all of their versions exist already, and
-- an error if some do. Who may still fill a gap is seen by the shared lock, which is taken before a position is drawn and
-- held to the end. Rows go in by stream, so that two appends never wait for each other crosswise.
CREATE FUNCTION append_events(
    streams text[], versions bigint[], topics text[], states bytea[],
    OUT positions bigint[], OUT transaction bigint, OUT now_us bigint
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    taken record;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(lock_key(), 1);
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    WITH given AS MATERIALIZED (
        SELECT nextval('positions') AS position, u.*
          FROM (SELECT * FROM unnest(streams, versions, topics, states) WITH ORDINALITY AS v(s, n, t, b, i)
                 ORDER BY i) AS u
    ), stored AS (
        INSERT INTO stored_events (notification_id, originator_id, originator_version, topic, state)
        SELECT position, s, n, t, b FROM given ORDER BY s COLLATE "C", n
            ON CONFLICT (originator_id, originator_version) DO NOTHING
        RETURNING notification_id
    )
    SELECT array_agg(notification_id ORDER BY notification_id) INTO positions FROM stored;
    IF cardinality(positions) < cardinality(streams) THEN
        SELECT originator_id AS stream, originator_version AS version INTO taken FROM stored_events
         WHERE (originator_id, originator_version) IN (SELECT * FROM unnest(streams, versions))
           AND notification_id <> ALL (positions) LIMIT 1;
        RAISE EXCEPTION 'stream % has a version % already; somebody else was first', taken.stream, taken.version
              USING ERRCODE = 'unique_violation';
    END IF;
    IF NOT topics <@ ARRAY['TaskClaimed.v1', 'TaskProgressed.v1'] THEN
        PERFORM wake();
    END IF;
    transaction := pg_current_xact_id()::text::bigint;
    now_us := extract(epoch FROM clock_timestamp()) * 1000000;
END $$;

-- create_append_one --
-- The same for one event, which most appends are: 1.6 times as fast.
CREATE FUNCTION append_event(
    stream text, version bigint, event_topic text, event_state bytea,
    OUT positions bigint[], OUT transaction bigint, OUT now_us bigint
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(lock_key(), 1);
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    INSERT INTO stored_events (notification_id, originator_id, originator_version, topic, state)
    VALUES (nextval('positions'), stream, version, event_topic, event_state)
        ON CONFLICT (originator_id, originator_version) DO NOTHING
    RETURNING ARRAY[notification_id] INTO positions;
    IF event_topic <> ALL (ARRAY['TaskClaimed.v1', 'TaskProgressed.v1']) THEN
        PERFORM wake();
    END IF;
    transaction := pg_current_xact_id()::text::bigint;
    now_us := extract(epoch FROM clock_timestamp()) * 1000000;
END $$;

-- append --
SELECT positions, transaction, now_us FROM append_events($1, $2, $3, $4);

-- append_one --
SELECT positions, transaction, now_us FROM append_event($1, $2, $3, $4);

-- append_alone --
-- The same outside a transaction, where nothing is to be set and whoever was first is an error: as it needs no function,
-- the server does a quarter less. The lock is taken before the position is drawn: what OFFSET fences is computed first.
INSERT INTO "schema".stored_events (notification_id, originator_id, originator_version, topic, state)
SELECT nextval('"schema".positions'), $1, $2, $3, $4
  FROM (SELECT pg_advisory_xact_lock_shared("schema".lock_key(), 1) OFFSET 0) AS held
RETURNING notification_id, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
          CASE WHEN $3 = ANY (ARRAY['TaskClaimed.v1', 'TaskProgressed.v1']) THEN NULL
               WHEN pg_try_advisory_lock("schema".lock_key(), 4) THEN pg_advisory_unlock("schema".lock_key(), 4)::text
               ELSE "schema".wake()::text END;

-- is_made --
SELECT to_regproc('schema_version') IS NOT NULL;

-- schema_version --
SELECT schema_version();

-- contents --
-- How many tables, views and sequences a schema has, and whether a ledger is among them; no row if it is not there.
-- Asked of the catalogue's rows: names are looked up in a cache, which may not have heard of another's commit yet.
SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = n.oid),
       EXISTS (SELECT 1 FROM pg_proc WHERE pronamespace = n.oid AND proname = 'schema_version')
  FROM pg_namespace AS n WHERE nspname = $1;

-- is_change_refused --
SELECT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = 'stored_events'::regclass
                  AND tgname = 'stored_events_are_immutable' AND tgenabled = 'A');

-- data_version --
-- Differs when the newest events do, also if one has come in below others, and when the inbox has something new.
-- Asked by all who wait, so it is one statement: nothing need be set before.
SELECT coalesce(hashtextextended(string_agg(newest.id::text, ','), 0), 0)
       # (SELECT coalesce(max(number), 0) FROM "schema".inbox)
  FROM (SELECT notification_id AS id FROM "schema".stored_events ORDER BY notification_id DESC LIMIT 64) AS newest;

-- prepare_lock --
-- Two processes may find the schema missing at once.
SELECT pg_advisory_xact_lock(1464616007, hashtext($1));

-- is_closed --
-- Whether there is a schema of this name that this role may not look into.
SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1 AND NOT has_schema_privilege(oid, 'USAGE'));

-- turn --
SELECT pg_advisory_xact_lock(lock_key(), 2);

-- share --
SELECT pg_advisory_xact_lock_shared(lock_key(), 2);

-- catch_up_alone --
-- Whether nobody else catches the views up.
SELECT pg_try_advisory_xact_lock(lock_key(), 3);

-- passed --
SELECT first, last FROM passed WHERE view = $1 AND last > $2 ORDER BY first;

-- pass --
INSERT INTO passed SELECT $1, * FROM unnest($2::bigint[], $3::bigint[]);

-- forget_passed --
DELETE FROM passed WHERE view = $1 AND last <= $2;

-- rest --
-- Waits for nobody: the other side holds it for no longer than a look.
SELECT pg_advisory_lock_shared(lock_key(), 4);

-- rise --
SELECT pg_advisory_unlock_shared(lock_key(), 4);

-- present --
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- server --
-- What durability rests on, and who answers.
SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
       current_setting('server_version_num')::integer, pg_backend_pid(), current_setting('server_encoding');

-- head --
SELECT coalesce(max(notification_id), 0) FROM stored_events;

-- probe --
-- Whether this is a standby; the newest position; then who holds the order's lock: whoever may still fill a gap below.
SELECT pg_is_in_recovery(), (SELECT coalesce(max(notification_id), 0) FROM stored_events),
       ARRAY(SELECT virtualtransaction FROM pg_locks
              WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND pid <> pg_backend_pid()
                AND classid = lock_key()::oid AND objid = 1::oid
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database()));

-- events_between --
SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events
 WHERE notification_id > $1 AND notification_id <= $2 ORDER BY notification_id LIMIT $3;

-- events_in_ranges --
-- The first events, in order, of ranges of positions given as columns in their order.
SELECT e.* FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS r(first, last, n)
  CROSS JOIN LATERAL (
      SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events
       WHERE notification_id >= r.first AND notification_id <= r.last ORDER BY notification_id LIMIT $3) AS e
 ORDER BY r.n, e.notification_id LIMIT $3;

-- events_before --
SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events
 WHERE notification_id < $1 ORDER BY notification_id DESC LIMIT $2;

-- stream --
SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events
 WHERE originator_id = $1 AND originator_version > $2 ORDER BY originator_version;

-- last_of_stream --
SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events
 WHERE originator_id = $1 ORDER BY originator_version DESC LIMIT 1;

-- events_at --
-- The stored ones of these streams at these versions.
SELECT originator_id, originator_version, notification_id, state FROM stored_events
 WHERE (originator_id, originator_version) IN (SELECT * FROM unnest($1::text[], $2::bigint[]));

-- transaction_status --
-- committed, aborted, in progress; an error if no such transaction was ever begun, NULL if it was long ago.
SELECT pg_xact_status($1::text::xid8);
