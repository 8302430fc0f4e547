bin=$1 data=$2 prepared=$3 run=$4 port=$5
apart
tries=0
while [ "$tries" -lt 30 ]; do
  tries=$((tries + 1))
  isolated -p "$port" -c restore_command= > "$run/log" 2>&1 < /dev/null &
  server=$!
  wait "$server"
  # Killed, or its processes of before have not noticed yet.
  sleep 1
done
tail -n 20 "$run/log" >&2
exit 1
