-- What an export reads of a view: pages by the position, so that it can go on after any of them.

-- last --
SELECT coalesce(max({position}), 0) FROM report_v1.{view};

-- page --
SELECT {columns}, {position} FROM report_v1.{view}
 WHERE {where} AND {position} > ? AND {position} <= ? ORDER BY {position} LIMIT ?;
