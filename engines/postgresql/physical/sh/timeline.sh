bin=$1 data=$2 present=$3 run=$4 prepared=0
control() { "$bin/pg_controldata" -D "$data" | sed -n "s/^$1: *//p"; }
apart
# Only histories, and only to see which numbers are taken.
cat > "$run/fetch" <<'FETCH'
case $2 in *.history) [ -f "$1/pg_wal/$2" ] && cp -- "$1/pg_wal/$2" "$3" ;; *) exit 1 ;; esac
FETCH
HOLDFAST_PRESENT=$present HOLDFAST_FETCH=$run/fetch
export HOLDFAST_PRESENT HOLDFAST_FETCH
: > "$data/recovery.signal" && sync -- "$data/recovery.signal" "$data" || exit 1
isolated -c restore_command='sh "$HOLDFAST_FETCH" "$HOLDFAST_PRESENT" %f %p' -c recovery_target_timeline=current \
  -c recovery_target= -c recovery_target_lsn= -c recovery_target_name= -c recovery_target_time= -c recovery_target_xid= \
  -c recovery_end_command= -c archive_cleanup_command= -c hot_standby=off > "$run/log" 2>&1 < /dev/null &
server=$!
until "$bin/pg_isready" -q -h "$run" -p 5432 -d postgres; do
  if ! kill -0 "$server" 2>/dev/null; then
    echo 'holdfast: the copy does not start' >&2
    tail -n 20 "$run/log" >&2
    exit 3
  fi
  sleep 0.1
done
stop
[ ! -e "$data/recovery.signal" ] && [ "$(control 'Database cluster state')" = 'shut down' ] || exit 1
sync -f -- "$data"
