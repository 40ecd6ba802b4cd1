-- The controls view: the marks that govern what is claimed, and the limits, field by field their LimitState.

-- create_marks --
CREATE TABLE IF NOT EXISTS marks (
    mark text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    at_us bigint NOT NULL,
    actor text COLLATE "C" NOT NULL,
    reason text COLLATE "C"
);

-- create_limits --
CREATE TABLE IF NOT EXISTS limits (
    scope text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    code bigint,
    hand bigint,
    configuration bigint,
    app text COLLATE "C",
    at_us bigint NOT NULL,
    actor text COLLATE "C" NOT NULL,
    reason text COLLATE "C"
);

-- columns --
-- The columns as they are, in their order; NULL where a table is not there.
SELECT (SELECT string_agg(attname::text, ',' ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = to_regclass('marks') AND attnum > 0 AND NOT attisdropped),
       (SELECT string_agg(attname::text, ',' ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = to_regclass('limits') AND attnum > 0 AND NOT attisdropped);

-- drop_marks --
DROP TABLE IF EXISTS marks;

-- drop_limits --
DROP TABLE IF EXISTS limits;

-- put_mark --
INSERT INTO marks SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])
    ON CONFLICT (mark) DO UPDATE SET (position, at_us, actor, reason)
     = (excluded.position, excluded.at_us, excluded.actor, excluded.reason);

-- delete_mark --
DELETE FROM marks WHERE mark = $1;

-- put_limit --
INSERT INTO limits SELECT * FROM unnest(
    $1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[], $8::text[], $9::text[])
    ON CONFLICT (scope) DO UPDATE SET (version, code, hand, configuration, app, at_us, actor, reason)
     = (excluded.version, excluded.code, excluded.hand, excluded.configuration, excluded.app, excluded.at_us,
        excluded.actor, excluded.reason);

-- delete_limit --
DELETE FROM limits WHERE scope = $1;

-- limit_of_scope --
SELECT * FROM limits WHERE scope = $1;

-- all_marks --
SELECT * FROM marks ORDER BY mark;

-- all_limits --
SELECT * FROM limits ORDER BY scope;

-- events_of_streams --
-- The events up to a position of the streams whose names begin with a prefix (up to, not including, a second text).
SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events
 WHERE originator_id >= $1 AND originator_id < $2 AND notification_id <= $3 ORDER BY notification_id;
