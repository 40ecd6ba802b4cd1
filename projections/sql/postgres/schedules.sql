-- The schedules view: one row per schedule that ever was, field by field its ScheduleState, and when to look at it next.

-- create_schedules --
CREATE TABLE IF NOT EXISTS schedules (
    next_us bigint,
    name text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    app text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    component text COLLATE "C",
    component_off bigint NOT NULL,
    always bigint NOT NULL,
    declared text COLLATE "C" NOT NULL,
    past text COLLATE "C" NOT NULL,
    custom text COLLATE "C",
    override text COLLATE "C",
    fields text COLLATE "C" NOT NULL,
    resolved text COLLATE "C" NOT NULL,
    timezone text COLLATE "C" NOT NULL,
    enabled bigint NOT NULL,
    misfire text COLLATE "C" NOT NULL,
    decided_us bigint NOT NULL,
    pending text COLLATE "C" NOT NULL,
    asked_us bigint,
    run_id text COLLATE "C",
    run_version bigint NOT NULL,
    run_slot_us bigint,
    run_queued_us bigint,
    run_ended_us bigint,
    success_us bigint,
    outcome text COLLATE "C",
    outcome_us bigint,
    failures bigint NOT NULL,
    counted_us bigint NOT NULL,
    noticed_us bigint
);

-- index_next --
CREATE INDEX IF NOT EXISTS schedules_next ON schedules (next_us) WHERE next_us IS NOT NULL;

-- index_run --
CREATE INDEX IF NOT EXISTS schedules_run ON schedules (run_id) WHERE run_id IS NOT NULL;

-- create_components --
-- The components that are disabled.
CREATE TABLE IF NOT EXISTS components (
    component text COLLATE "C" PRIMARY KEY,
    disabled_us bigint NOT NULL
);

-- columns --
-- The columns as they are; none where the table is not there.
SELECT attname::text FROM pg_attribute
 WHERE attrelid = to_regclass('schedules') AND attnum > 0 AND NOT attisdropped ORDER BY attnum;

-- drop_schedules --
DROP TABLE IF EXISTS schedules;

-- drop_components --
DROP TABLE IF EXISTS components;

-- put_schedule --
INSERT INTO schedules SELECT * FROM unnest(
    $1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
    $9::bigint[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
    $17::bigint[], $18::text[], $19::bigint[], $20::text[], $21::bigint[], $22::text[], $23::bigint[],
    $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::text[], $29::bigint[], $30::bigint[],
    $31::bigint[], $32::bigint[])
    ON CONFLICT (name) DO UPDATE SET
       (next_us, version, status, app, task, component, component_off, always, declared, past, custom, override,
        fields, resolved, timezone, enabled, misfire, decided_us, pending, asked_us, run_id, run_version,
        run_slot_us, run_queued_us, run_ended_us, success_us, outcome, outcome_us, failures,
        counted_us, noticed_us)
     = (excluded.next_us, excluded.version, excluded.status, excluded.app, excluded.task, excluded.component,
        excluded.component_off, excluded.always, excluded.declared, excluded.past, excluded.custom,
        excluded.override, excluded.fields, excluded.resolved, excluded.timezone, excluded.enabled,
        excluded.misfire, excluded.decided_us, excluded.pending, excluded.asked_us, excluded.run_id,
        excluded.run_version, excluded.run_slot_us, excluded.run_queued_us, excluded.run_ended_us,
        excluded.success_us, excluded.outcome, excluded.outcome_us, excluded.failures,
        excluded.counted_us, excluded.noticed_us);

-- put_component --
INSERT INTO components VALUES ($1, $2) ON CONFLICT (component) DO UPDATE SET disabled_us = excluded.disabled_us;

-- delete_component --
DELETE FROM components WHERE component = $1;

-- all_components --
SELECT * FROM components ORDER BY component;

-- row_of_name --
SELECT * FROM schedules WHERE name = $1;

-- row_of_run --
SELECT * FROM schedules WHERE run_id = $1;

-- rows_of_component --
SELECT * FROM schedules WHERE component = $1;

-- all_schedules --
SELECT * FROM schedules ORDER BY name;

-- next_schedule --
SELECT next_us FROM schedules WHERE next_us IS NOT NULL ORDER BY next_us LIMIT 1;

-- unnoticed --
-- Schedules that may be found overdue: those of which a notice says so already are left out.
SELECT * FROM schedules WHERE noticed_us IS NULL AND status = 'declared' AND enabled = 1;

-- due_schedules --
SELECT * FROM schedules WHERE next_us <= $1 ORDER BY next_us, name LIMIT $2;

-- runs --
-- The live runs of schedules: task, state, due, attempts used, since when it runs.
SELECT s.name, q.task_id, q.status, q.due_us, q.used, q.claimed_us
  FROM schedules AS s JOIN queue AS q ON q.task_id = s.run_id;
