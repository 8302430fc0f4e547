#!/bin/sh
# What the entrypoint of the official postgres image does with an empty data directory, as far as we use it: a superuser
# with the password of the file, scripts on a server that only its socket reaches, then the server itself.
set -eu

data=/var/lib/postgresql/data
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }

mkdir -p /run/postgresql
chown postgres: /run/postgresql "$data"
chmod 700 "$data"
if [ ! -s "$data/PG_VERSION" ]; then
  # shellcheck disable=SC2086 # words, as the image takes them
  as_postgres initdb -D "$data" -U postgres --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS
  echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
  as_postgres pg_ctl -D "$data" -w -o "-c listen_addresses=''" start
  for script in /docker-entrypoint-initdb.d/*; do as_postgres "$script"; done
  as_postgres pg_ctl -D "$data" -w -m fast stop
fi
exec setpriv --reuid postgres --regid postgres --init-groups postgres -D "$data" -c "listen_addresses=*"
