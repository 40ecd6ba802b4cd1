-- What the filter language is translated to where databases differ; the values are bound.

-- like --
{column} LIKE ? ESCAPE '\';

-- label --
EXISTS (SELECT 1 FROM json_each({column}) WHERE {condition});

-- json_text --
CAST(json_extract({column}, ?) AS TEXT);

-- json_type --
json_type({column}, ?) = ?;

-- of_host --
-- Attempts whose worker was on such a host.
a.worker IN (SELECT worker_id FROM report_v1.workers WHERE {condition});

-- of_schedule --
-- Attempts of runs of such a schedule.
a.task_id IN (SELECT task_id FROM report_v1.firings WHERE {condition});

-- of_component --
-- Attempts of runs of the schedules of such a component.
a.task_id IN (SELECT f.task_id FROM report_v1.schedules AS s JOIN report_v1.firings AS f ON f.schedule = s.name
               WHERE {condition});

-- arriving --
-- Of tasks that wait in the inbox, rows of the tasks report as a JSON list, those that fit.
SELECT task_id FROM (SELECT {columns} FROM json_each(:rows)) WHERE {where};
