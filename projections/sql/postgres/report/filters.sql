-- What the filter language is translated to where databases differ; the values are bound.

-- like --
{column} LIKE ? ESCAPE '\';

-- label --
EXISTS (SELECT 1 FROM json_array_elements_text(CAST({column} AS json)) AS label (value) WHERE {condition});

-- json_text --
(CAST({column} AS json) #>> CAST(? AS text[]));

-- json_type --
CAST(CAST({column} AS json) #> CAST(? AS text[]) AS text) = ?;

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
