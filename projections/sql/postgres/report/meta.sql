-- What is said otherwise to the schema of the reports than to their file; see there for what is the same.

-- exists --
SELECT to_regclass('meta') IS NOT NULL;

-- turn --
-- One after the other, of all processes that write the reports in this schema.
SELECT pg_advisory_xact_lock(hashtextextended('workledger ' || ?, 0));

-- owner --
-- Who owns the schema, whether that is somebody else, and whether this role may act as it.
SELECT pg_get_userbyid(nspowner), pg_get_userbyid(nspowner) <> current_user, pg_has_role(nspowner, 'MEMBER')
  FROM pg_namespace WHERE nspname = ?;

-- all_tables --
SELECT relname FROM pg_class
 WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relkind = 'r'
   AND obj_description(oid, 'pg_class') LIKE 'Workledger: %'
 ORDER BY relname;

-- resting --
-- Views, and the like, that rest on a table.
SELECT DISTINCT r.ev_class::regclass::text FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
 WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
   AND d.refobjid = to_regclass(quote_ident(?)) AND r.ev_class <> d.refobjid;

-- grants --
-- What gives roles the rights on a table that they have on another, but for its owner's.
SELECT format('GRANT %s ON %I TO %s', a.privilege_type, CAST(? AS text),
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
  FROM pg_class AS c, aclexplode(c.relacl) AS a
 WHERE c.oid = to_regclass(quote_ident(?)) AND a.grantee <> c.relowner;

-- columns_of --
SELECT attname FROM pg_attribute
 WHERE attrelid = to_regclass(quote_ident(?)) AND attnum > 0 AND NOT attisdropped
 ORDER BY attnum;

-- row --
SELECT {columns} FROM {table} WHERE {key};

-- rows_of --
-- Those whose first key column is in a JSON list.
SELECT {columns} FROM {table} WHERE {first} = ANY (ARRAY(SELECT json_array_elements_text(CAST(? AS json))));

-- all_rows --
SELECT {columns} FROM {table} ORDER BY {order};

-- put_row --
INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays}) ON CONFLICT ({order}) DO UPDATE SET {changes};

-- delete_row --
DELETE FROM {table} WHERE ({order}) IN (SELECT * FROM unnest({key_arrays}));
