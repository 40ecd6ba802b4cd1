-- What two roles beside the owner may do: `app` works, `report` only looks. The names stand for those given.

-- grants --
-- Run as the owner, in the ledger's database, when its tables and views have been made (`workledger db init`).
GRANT USAGE ON SCHEMA "schema" TO "app", "report";
-- The log: added to, never changed. The owner's trigger refuses changes even where somebody grants them.
GRANT SELECT, INSERT ON "schema".stored_events TO "app";
GRANT USAGE ON SEQUENCE "schema".positions TO "app";
GRANT SELECT ON "schema".events TO "app", "report";
-- What callers queue in transactions of their own, until it is taken into the log.
GRANT SELECT, INSERT, UPDATE, DELETE ON "schema".inbox TO "app";
-- What can be made anew from the log, and heartbeats and output, which are no part of it.
GRANT SELECT, INSERT, UPDATE ON "schema".notification_tracking TO "app";
GRANT SELECT, INSERT, DELETE ON "schema".passed TO "app";
GRANT SELECT, INSERT, UPDATE, DELETE ON "schema".queue, "schema".workers, "schema".schedules, "schema".components,
      "schema".marks, "schema".limits, "schema".output, "schema".output_attempts,
      "schema".deliveries TO "app";
GRANT SELECT ON "schema".queue, "schema".workers, "schema".schedules, "schema".components, "schema".marks,
      "schema".limits TO "report";
-- Views that the owner makes anew (`workledger db upgrade`) are as open as these.
ALTER DEFAULT PRIVILEGES IN SCHEMA "schema" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "app";
ALTER DEFAULT PRIVILEGES IN SCHEMA "schema" GRANT SELECT ON TABLES TO "report";
