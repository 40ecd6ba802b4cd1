-- What two roles beside the owner may do: `app` works, `report` only reads reports. The names stand for those given.

-- grants --
-- Run as the owner, in the ledger's database, when its tables and views have been made (`workledger db init`).
GRANT USAGE ON SCHEMA "schema" TO "app";
-- The log: added to, never changed. The owner's trigger refuses changes even where somebody grants them.
GRANT SELECT, INSERT ON "schema".stored_events TO "app";
GRANT USAGE ON SEQUENCE "schema".positions TO "app";
GRANT SELECT ON "schema".events TO "app";
-- What callers queue in transactions of their own, until it is taken into the log.
GRANT SELECT, INSERT, UPDATE, DELETE ON "schema".inbox TO "app";
-- What can be made anew from the log, and heartbeats and output, which are no part of it.
GRANT SELECT, INSERT, UPDATE ON "schema".notification_tracking TO "app";
GRANT SELECT, INSERT, DELETE ON "schema".passed TO "app";
GRANT SELECT, INSERT, UPDATE, DELETE ON "schema".queue, "schema".workers, "schema".schedules, "schema".components,
      "schema".marks, "schema".limits, "schema".output, "schema".output_attempts,
      "schema".deliveries TO "app";
-- Views that the owner makes anew (`workledger db upgrade`) are as open as these.
ALTER DEFAULT PRIVILEGES IN SCHEMA "schema" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "app";
-- The reports are in a schema that belongs to "app", since who keeps them makes tables anew; the owner acts as "app" there.
GRANT "app" TO CURRENT_USER;
CREATE SCHEMA IF NOT EXISTS "reports";
ALTER SCHEMA "reports" OWNER TO "app";
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT format('ALTER TABLE %s OWNER TO %I', c.oid::regclass, pg_get_userbyid(n.nspowner))
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.oid = '"reports"'::regnamespace AND c.relkind = 'r' AND c.relowner <> n.nspowner
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA "reports" TO "report";
GRANT SELECT ON ALL TABLES IN SCHEMA "reports" TO "report";
ALTER DEFAULT PRIVILEGES FOR ROLE "app" IN SCHEMA "reports" GRANT SELECT ON TABLES TO "report";
