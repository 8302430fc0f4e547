bin=$1 data=$2 user=$3 database=$4 prepared=$5 run=$6 kept=$7 amcheck=$8
if [ -e "$kept.label" ]; then
  # A recovery that is over needs none of it, and the WAL that it began with may be gone. The state is told last: whoever dies between
  # the two finds it as it was.
  case $("$bin/pg_controldata" -D "$data" | sed -n 's/^Database cluster state: *//p') in
    'in production' | 'shutting down' | 'shut down') ;;
    *) cp -- "$kept.label" "$data/backup_label" && cp -- "$kept.control" "$data/global/pg_control" || exit 1 ;;
  esac
elif [ -e "$data/backup_label" ]; then
  cp -- "$data/global/pg_control" "$kept.control" && cp -- "$data/backup_label" "$kept.new" &&
    sync -- "$kept.control" "$kept.new" && mv -- "$kept.new" "$kept.label" || exit 1
fi
apart
begin() {
  isolated -c restore_command= > "$run/log" 2>&1 < /dev/null &
  server=$!
}
tries=0
begin
until "$bin/pg_isready" -q -h "$run" -p 5432 -U "$user" -d postgres; do
  if ! kill -0 "$server" 2>/dev/null; then
    wait "$server"
    code=$?
    # Its processes of a run that was killed have not noticed yet.
    if grep -q 'pre-existing shared memory block' "$run/log" && [ "$tries" -lt 30 ]; then
      tries=$((tries + 1))
      sleep 1
      begin
      continue
    fi
    [ "$code" -le 128 ] || exit "$code"
    echo 'holdfast: the copy does not start' >&2
    tail -n 20 "$run/log" >&2
    exit 3
  fi
  sleep 0.2
done
# A name that looks like a connection string is one as an argument, and only a name here.
PGDATABASE=$database; export PGDATABASE
"$bin/psql" -X -A -t -q -w -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -h "$run" -p 5432 -U "$user" -f -
asked=$?
if [ "$asked" = 0 ] && [ "$amcheck" = yes ] && [ -x "$bin/pg_amcheck" ]; then
  echo amcheck
  "$bin/pg_amcheck" -h "$run" -p 5432 -U "$user" -w --all > "$run/amcheck" 2>&1
  echo "exit $?"
  tail -n 20 "$run/amcheck"
fi
stop
code=$?
# It was killed: what was not answered says nothing of the copy.
[ "$code" -le 128 ] || exit "$code"
[ "$asked" = 0 ] || exit "$asked"
rm -f -- "$kept.label"
rm -f -- "$kept.control"
echo controldata
"$bin/pg_controldata" -D "$data"
