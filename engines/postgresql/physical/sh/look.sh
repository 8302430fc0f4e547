# What lies under a name that a copy is to take: a line `key value` each. Reads only. Arguments: the directory, the systemd unit
# that is named, '' for none.
data=$1 unit=$2
[ -e "$data" ] || [ -L "$data" ] || exit 0
say() { printf '%s %s\n' "$1" "$2"; }
say kind "$(stat -c %F -- "$data")"
[ -d "$data" ] && [ ! -L "$data" ] || exit 0
cd -- "$data" || exit 1
say entries "$(ls -A | wc -l)"
say inode "$(stat -c %d:%i .)"
say owner "$(stat -c %u:%g .)"
say user "$(id -u)"
say mount "$([ "$(stat -c %d .)" = "$(stat -c %d ..)" ] && echo no || echo yes)"
for each in ./*/; do
  [ -L "${each%/}" ] || [ "$(stat -c %d -- "$each")" = "$(stat -c %d .)" ] || say mounted "${each%/}"
done
for each in ./* ./pg_tblspc/*; do
  [ ! -L "$each" ] || say link "$each $(readlink -- "$each")"
done
[ -f PG_VERSION ] && [ -f global/pg_control ] || exit 0
say version "$(head -n 1 PG_VERSION)"
say system "$(od -An -tu8 -N8 global/pg_control | tr -d ' ')"
say state "$(od -An -tu4 -j16 -N4 global/pg_control | tr -d ' ')"
for each in standby.signal recovery.signal; do [ ! -e "$each" ] || say recovery "$each"; done
for each in pg_replslot/*/; do [ ! -d "$each" ] || say slot "$(basename -- "$each")"; done
say kilobytes "$(timeout 20 du -skx . 2>/dev/null | cut -f 1)"
say options "$(head -n 1 postmaster.opts 2>/dev/null)"
[ ! -d /run/systemd/system ] || say systemd yes
pid=
{ read -r pid <postmaster.pid; } 2>/dev/null
case $pid in '' | *[!0-9]*) pid=0 ;; esac
if [ "$(stat -L -c %d:%i -- "/proc/$pid/cwd" 2>/dev/null)" = "$(stat -c %d:%i .)" ]; then
  say pid "$pid"
  say port "$(sed -n 4p postmaster.pid)"
  read -r line <"/proc/$pid/stat"
  set -- ${line##*) }
  say parent "$2 $(cat "/proc/$2/comm" 2>/dev/null)"
  log=$(readlink -- "/proc/$pid/fd/1")
  [ ! -f "$log" ] || say log "$log"
  if [ -z "$unit" ]; then
    unit=$(sed -n 's,^[0-9]*:\(name=systemd\)\{0,1\}:.*/\([^/]*\.service\)$,\2,p' "/proc/$pid/cgroup" | head -n 1)
    # A server that somebody started from a service is not that service.
    [ -n "$unit" ] && [ "$(systemctl show --property=MainPID --value -- "$unit" 2>/dev/null)" = "$pid" ] || unit=
  fi
fi
if [ -n "$unit" ]; then
  say unit "$unit"
  systemctl show --property=LoadState,FragmentPath,UnitFileState,MainPID -- "$unit" 2>/dev/null | sed 's/^/unit-&/;s/=/ /'
fi
exit 0
