-- What is asked of the report view `tasks`, on every database; its columns are in report/tasks.sql.

-- list_all --
SELECT * FROM tasks
 WHERE first_position < :after
   AND (CAST(:queue AS TEXT) IS NULL OR queue = :queue)
   AND (CAST(:run_as AS TEXT) IS NULL OR run_as = :run_as)
   AND (CAST(:actor AS TEXT) IS NULL OR actor = :actor)
   AND (CAST(:label AS TEXT) IS NULL OR {has_label})
   AND (:failed_only = 0 OR (error_type IS NOT NULL AND (state = 'failed'
        OR (state IN ('waiting', 'running') AND attempts_used > 0))))
   AND ({where})
 ORDER BY first_position DESC LIMIT :limit;

-- list_name --
SELECT * FROM tasks
 WHERE name = :name AND first_position < :after
   AND (CAST(:queue AS TEXT) IS NULL OR queue = :queue)
   AND (CAST(:run_as AS TEXT) IS NULL OR run_as = :run_as)
   AND (CAST(:actor AS TEXT) IS NULL OR actor = :actor)
   AND (CAST(:label AS TEXT) IS NULL OR {has_label})
   AND (:failed_only = 0 OR (error_type IS NOT NULL AND (state = 'failed'
        OR (state IN ('waiting', 'running') AND attempts_used > 0))))
   AND ({where})
 ORDER BY first_position DESC LIMIT :limit;

-- list_state --
SELECT * FROM tasks
 WHERE state = :state AND first_position < :after
   AND (CAST(:name AS TEXT) IS NULL OR name = :name)
   AND (CAST(:queue AS TEXT) IS NULL OR queue = :queue)
   AND (CAST(:run_as AS TEXT) IS NULL OR run_as = :run_as)
   AND (CAST(:actor AS TEXT) IS NULL OR actor = :actor)
   AND (CAST(:label AS TEXT) IS NULL OR {has_label})
   AND (:failed_only = 0 OR (error_type IS NOT NULL AND (state = 'failed'
        OR (state IN ('waiting', 'running') AND attempts_used > 0))))
   AND ({where})
 ORDER BY first_position DESC LIMIT :limit;

-- list_oldest --
SELECT * FROM tasks
 WHERE first_position > :after AND first_position <= :upto
   AND (CAST(:name AS TEXT) IS NULL OR name = :name)
   AND (CAST(:state AS TEXT) IS NULL OR state = :state)
   AND (CAST(:queue AS TEXT) IS NULL OR queue = :queue)
   AND (CAST(:run_as AS TEXT) IS NULL OR run_as = :run_as)
   AND (CAST(:actor AS TEXT) IS NULL OR actor = :actor)
   AND (CAST(:label AS TEXT) IS NULL OR {has_label})
   AND (:failed_only = 0 OR (error_type IS NOT NULL AND (state = 'failed'
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
