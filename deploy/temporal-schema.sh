#!/bin/sh
# Makes Temporal's tables, or brings those of an earlier version up to date. Run before each start of the server: what
# is there already is left alone.
set -eu

SQL_PASSWORD=$(cat /run/secrets/temporal_db_password)
export SQL_PASSWORD

for part in temporal:temporal temporal_visibility:visibility; do
  temporal-sql-tool --database "${part%:*}" setup-schema --version 0.0
  temporal-sql-tool --database "${part%:*}" update-schema --schema-name "postgresql/v12/${part#*:}"
done
