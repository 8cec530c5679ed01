#!/usr/bin/env bash
# Run once by the postgres image, on an empty data directory: the owner of the tables, the reader of contents, the canary.
# Everything else (tables, the role that replicates, publication) is made by `engagectl init`.
set -euo pipefail
psql -v ON_ERROR_STOP=1 --username postgres --dbname engage \
  -v owner="$(cat /run/secrets/owner_password)" -v lookup="$(cat /run/secrets/lookup_password)" \
  -v canary="$(cat /run/secrets/canary_password)" <<'SQL'
CREATE ROLE engage LOGIN PASSWORD :'owner';
ALTER DATABASE engage OWNER TO engage;
CREATE ROLE engage_lookup LOGIN PASSWORD :'lookup';
ALTER DEFAULT PRIVILEGES FOR ROLE engage IN SCHEMA public GRANT SELECT ON TABLES TO engage_lookup;
-- What holds for tables to come is said by table, so that here it may read rows as well.
CREATE ROLE engage_canary LOGIN PASSWORD :'canary';
ALTER DEFAULT PRIVILEGES FOR ROLE engage IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO engage_canary;
ALTER DEFAULT PRIVILEGES FOR ROLE engage IN SCHEMA public GRANT USAGE ON SEQUENCES TO engage_canary;
SQL
