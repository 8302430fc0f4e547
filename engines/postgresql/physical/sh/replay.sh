bin=$1 data=$2 user=$3 prepared=$4 run=$5 result=$6 action=$7 timeline=$8
shift 8
apart
# Of all runs: one that dies after it has promoted has said here where it stopped.
log=$result.log
touch -- "$log" || exit 1
begin() {
  now=$("$bin/pg_controldata" -D "$data" | sed -n 's/^Latest checkpoint.s TimeLineID: *//p')
  [ "${now:-0}" -gt "$timeline" ] || touch -- "$data/recovery.signal" || exit 1
  before=$(wc -c < "$log")
  isolated -c hot_standby=off -c recovery_end_command= -c archive_cleanup_command= \
    -c lc_messages=C -c log_line_prefix= -c log_min_messages=log -c log_error_verbosity=default \
    "$@" >> "$log" 2>&1 < /dev/null &
  server=$!
}
said() { tail -c "+$((before + 1))" "$log"; }
tell() {
  tail -c 4000 "$log" | grep -E 'restored log file|current LSN' | tail -n 1 > "$run/at.new"
  mv -- "$run/at.new" "$run/at"
}
tries=0
begin "$@"
until "$bin/pg_isready" -q -h "$run" -p 5432 -U "$user" -d postgres; do
  if ! kill -0 "$server" 2>/dev/null; then
    wait "$server"
    code=$?
    # Its processes of a run that was killed have not noticed yet.
    if said | grep -q -e 'pre-existing shared memory block' -e 'lock file "postmaster.pid" already exists' && [ "$tries" -lt 30 ]; then
      tries=$((tries + 1))
      sleep 1
      begin "$@"
      continue
    fi
    if [ "$action" != promote ] && said | grep -q 'shutdown at recovery target'; then break; fi
    echo "holdfast: recovery ended with $code" >&2
    said | tail -n 30 >&2
    [ "$code" -gt 128 ] && exit "$code"
    exit 3
  fi
  tell
  sleep 1
done
if kill -0 "$server" 2>/dev/null; then stop; fi
# What an agent has laid ahead of it (cli/wal/shelf.ts): it lays no more where that is gone.
for ahead in "$data"/pg_wal/.holdfast-ahead-*; do
  [ ! -d "$ahead" ] || mv -- "$ahead" "$result.ahead" || exit 1
  rm -rf -- "$result.ahead"
done
{
  grep -E 'redo done at|recovery stopping|last completed transaction|selected new timeline' "$log"
  "$bin/pg_controldata" -D "$data" | grep -E '^(Database cluster state|Latest checkpoint.s TimeLineID|Database system identifier):'
} > "$result.new"
sync -- "$result.new" && mv -- "$result.new" "$result"
