-- The report view `schedules`: one row per schedule that ever was, and the components that were ever disabled.

-- create_schedules --
CREATE TABLE {table} (
    name TEXT PRIMARY KEY, -- The schedule's name.
    task TEXT NOT NULL, -- Registered function that a run calls.
    app TEXT NOT NULL, -- Application that declared it last.
    status TEXT NOT NULL, -- `declared` or `retired`.
    is_enabled INTEGER NOT NULL, -- 1 while its slots are fired, its component's state left out.
    component TEXT, -- Component that it belongs to.
    is_component_off INTEGER NOT NULL, -- 1 while it stands still because its component is disabled.
    fields TEXT NOT NULL, -- The five fields in force, as written.
    resolved TEXT NOT NULL, -- The same with R and H settled.
    timezone TEXT NOT NULL, -- Time zone in force.
    misfire TEXT NOT NULL, -- What becomes of missed slots: `one`, `skip` or `all`.
    is_customised INTEGER NOT NULL, -- 1 if it is not as its code declares it.
    declared_at TEXT NOT NULL, -- When its code declared it last.
    changed_at TEXT NOT NULL, -- When it was declared or changed last.
    changed_by TEXT NOT NULL, -- Who did that.
    change_reason TEXT, -- Why.
    fired INTEGER NOT NULL, -- Slots fired, runs that were asked for included.
    missed INTEGER NOT NULL, -- Slots that passed without a run at their time.
    last_slot TEXT, -- Slot fired last.
    last_task TEXT, -- Task of its newest run.
    last_success_at TEXT, -- When a run last succeeded.
    last_outcome TEXT, -- Of the newest attempt that has ended.
    failures INTEGER NOT NULL, -- Attempts in a row that failed or were lost.
    fold TEXT NOT NULL -- The state that the next event is folded onto.
);

-- create_components --
CREATE TABLE {table} (
    component TEXT PRIMARY KEY, -- The component.
    is_disabled INTEGER NOT NULL, -- 1 while it is disabled.
    changed_at TEXT NOT NULL, -- Since when.
    changed_by TEXT NOT NULL, -- By whom.
    reason TEXT -- Why.
);

-- create_schedule_runs --
CREATE TABLE {table} (
    task_id TEXT PRIMARY KEY, -- A run.
    schedule TEXT NOT NULL -- The schedule whose newest run it is.
);
