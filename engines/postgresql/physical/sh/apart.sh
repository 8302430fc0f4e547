# Stands before each script that starts a copy before it was handed over, so that none of them forgets what keeps it apart. Of the
# script: $bin, the programs; $data, the directory; $run, where it is served, in a directory that is gone with this shell; $prepared,
# max_prepared_transactions at least.
server=
stop() { kill -INT "$server" 2>/dev/null; wait "$server"; }

# Nobody's configuration but that in $run, and only $run's owner is let in.
apart() {
  rm -rf -- "$run"
  mkdir -m 0700 -- "$run" || exit 1
  trap 'rm -rf -- "$run"' EXIT
  trap '[ -z "$server" ] || stop; exit 143' TERM INT HUP
  : > "$run/postgresql.conf"
  : > "$run/ident.conf"
  printf 'local all all trust\n' > "$run/hba.conf"
  # As many as its log was written under: more than when the backup was planned, where that was changed since.
  known=$("$bin/pg_controldata" -D "$data" | sed -n 's/^max_prepared_xacts setting: *//p')
  [ "${known:-0}" -le "$prepared" ] || prepared=$known
}

# isolated SETTING… &: the server, whose process is $!. No TCP, no archiving, no slot, no worker that would reach out, no library.
isolated() {
  # A server that begins to recover sends all its files to disk: here not one by one. From version 14 on.
  syncfs=
  case $(uname)/$("$bin/postgres" -V) in
    *' 13'[.a-z]*) ;;
    Linux/*) syncfs='-c recovery_init_sync_method=syncfs' ;;
  esac
  exec "$bin/postgres" -D "$data" -p 5432 \
    -c config_file="$run/postgresql.conf" -c hba_file="$run/hba.conf" -c ident_file="$run/ident.conf" \
    -c listen_addresses= -c unix_socket_directories="$run" -c unix_socket_permissions=0700 -c external_pid_file= \
    -c archive_mode=off -c primary_conninfo= -c primary_slot_name= -c max_wal_senders=0 \
    -c max_logical_replication_workers=0 -c autovacuum=off -c ssl=off -c jit=off \
    -c shared_preload_libraries= -c session_preload_libraries= -c local_preload_libraries= \
    -c logging_collector=off -c log_destination=stderr \
    -c max_prepared_transactions="$prepared" $syncfs "$@"
}
