-- What is asked of the report view `tasks`; its columns are in report/tasks.sql.

-- list_all --
SELECT * FROM tasks
 WHERE first_position < :after
   AND (:queue IS NULL OR queue = :queue)
   AND (:run_as IS NULL OR run_as = :run_as)
   AND (:actor IS NULL OR actor = :actor)
   AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(labels) WHERE value = :label))
   AND (NOT :failed_only OR (error_type IS NOT NULL AND (state = 'failed'
        OR (state IN ('waiting', 'running') AND attempts_used > 0))))
   AND ({where})
 ORDER BY first_position DESC LIMIT :limit;

-- list_name --
SELECT * FROM tasks
 WHERE name = :name AND first_position < :after
   AND (:queue IS NULL OR queue = :queue)
   AND (:run_as IS NULL OR run_as = :run_as)
   AND (:actor IS NULL OR actor = :actor)
   AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(labels) WHERE value = :label))
   AND (NOT :failed_only OR (error_type IS NOT NULL AND (state = 'failed'
        OR (state IN ('waiting', 'running') AND attempts_used > 0))))
   AND ({where})
 ORDER BY first_position DESC LIMIT :limit;

-- list_state --
SELECT * FROM tasks
 WHERE state = :state AND first_position < :after
   AND (:name IS NULL OR name = :name)
   AND (:queue IS NULL OR queue = :queue)
   AND (:run_as IS NULL OR run_as = :run_as)
   AND (:actor IS NULL OR actor = :actor)
   AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(labels) WHERE value = :label))
   AND (NOT :failed_only OR (error_type IS NOT NULL AND (state = 'failed'
        OR (state IN ('waiting', 'running') AND attempts_used > 0))))
   AND ({where})
 ORDER BY first_position DESC LIMIT :limit;

-- list_oldest --
SELECT * FROM tasks
 WHERE first_position > :after AND first_position <= :upto
   AND (:name IS NULL OR name = :name)
   AND (:state IS NULL OR state = :state)
   AND (:queue IS NULL OR queue = :queue)
   AND (:run_as IS NULL OR run_as = :run_as)
   AND (:actor IS NULL OR actor = :actor)
   AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(labels) WHERE value = :label))
   AND (NOT :failed_only OR (error_type IS NOT NULL AND (state = 'failed'
        OR (state IN ('waiting', 'running') AND attempts_used > 0))))
   AND ({where})
 ORDER BY first_position LIMIT :limit;

-- last_position --
SELECT coalesce(max(first_position), 0) FROM tasks;

-- counts_per_state --
SELECT state, count(*) FROM tasks GROUP BY state;

-- slowest --
SELECT * FROM tasks WHERE run_ms IS NOT NULL ORDER BY run_ms DESC, first_position LIMIT ?;

-- failures --
SELECT * FROM tasks WHERE error_type IS NOT NULL ORDER BY last_position DESC LIMIT ?;

-- lost --
SELECT * FROM tasks WHERE lost_attempts > 0 ORDER BY last_position DESC LIMIT ?;
