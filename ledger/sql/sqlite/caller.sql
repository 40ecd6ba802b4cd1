-- What is said over a caller's own connection, in its transaction.

-- put --
-- Said over the caller's connection; the rows are a JSON list of [task id, topic, state, duplicates].
INSERT INTO main.inbox (task_id, topic, state, duplicates)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')
  FROM json_each(:rows) ORDER BY key;

-- place --
-- Said over the caller's connection: which files it has open.
PRAGMA database_list;
