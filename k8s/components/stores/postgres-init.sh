#!/usr/bin/env bash
# Run once by the postgres image, on an empty data directory: the owner of the tables, and the reader of contents.
# Everything else (tables, the role that replicates, publication) is made by `engagectl init`.
set -euo pipefail
psql -v ON_ERROR_STOP=1 --username postgres --dbname engage \
  -v owner="$(cat /run/secrets/owner_password)" -v lookup="$(cat /run/secrets/lookup_password)" <<'SQL'
CREATE ROLE engage LOGIN PASSWORD :'owner';
ALTER DATABASE engage OWNER TO engage;
CREATE ROLE engage_lookup LOGIN PASSWORD :'lookup';
ALTER DEFAULT PRIVILEGES FOR ROLE engage IN SCHEMA public GRANT SELECT ON TABLES TO engage_lookup;
SQL
