#!/bin/sh
# Run once by the postgres image, on an empty data directory: a user and databases for each of the two that live here.
# Neither may create databases or see the other's.
set -eu

temporal=$(cat /run/secrets/temporal_db_password)
catalog=$(cat /run/secrets/catalog_db_password)

# By standard input: an argument list can be read by everybody.
psql -X -q -v ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<SQL
\\set temporal_password '$temporal'
\\set catalog_password '$catalog'
CREATE ROLE temporal LOGIN PASSWORD :'temporal_password';
CREATE ROLE holdfast LOGIN PASSWORD :'catalog_password';
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
CREATE DATABASE holdfast OWNER holdfast;
REVOKE CONNECT ON DATABASE temporal, temporal_visibility, holdfast FROM PUBLIC;
SQL
