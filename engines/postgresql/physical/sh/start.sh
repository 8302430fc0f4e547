bin=$1 data=$2
if [ ! -e "$data/postgresql.conf" ]; then
  printf "listen_addresses = ''\nunix_socket_directories = '/tmp'\nunix_socket_permissions = 0700\n" > "$data/postgresql.conf"
fi
[ -e "$data/pg_hba.conf" ] || echo 'local all all peer' > "$data/pg_hba.conf"
[ -e "$data/pg_ident.conf" ] || : > "$data/pg_ident.conf"
# It outlives us: nothing of ours stays open in it.
exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
if ! "$bin/pg_ctl" -s -D "$data" -w -t 300 -l "$data/startup.log" start; then
  tail -n 20 "$data/startup.log" >&2
  exit 1
fi
