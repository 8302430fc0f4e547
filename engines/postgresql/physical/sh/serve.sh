bin=$1 data=$2 prepared=$3 run=$4 port=$5
rm -rf -- "$run"
mkdir -m 0700 -- "$run" || exit 1
trap 'rm -rf -- "$run"' EXIT
printf 'local all all trust\n' > "$run/hba.conf"
: > "$run/postgresql.conf"
: > "$run/ident.conf"
known=$("$bin/pg_controldata" -D "$data" | sed -n 's/^max_prepared_xacts setting: *//p')
[ "${known:-0}" -le "$prepared" ] || prepared=$known
stop() { kill -INT "$server" 2>/dev/null; wait "$server"; exit 143; }
tries=0
while [ "$tries" -lt 30 ]; do
  tries=$((tries + 1))
  isolated -p "$port" -c restore_command= -c max_prepared_transactions="$prepared" > "$run/log" 2>&1 < /dev/null &
  server=$!
  trap stop TERM INT HUP
  wait "$server"
  # Killed, or its processes of before have not noticed yet.
  sleep 1
done
tail -n 20 "$run/log" >&2
exit 1
