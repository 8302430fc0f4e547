# The swap of a data directory, on its host. Killed between any two instructions it leaves the old directory or the new one,
# whole, and no supervisor that would start anything; the next run goes on from what is there. It tells the directories by
# their inodes, never by what was noted: the journal is for people, and for what cannot be seen any more (did the old server run?).
# POSIX sh; needs Linux's /proc and coreutils.
verb=$1 data=$2 copy=$3 kept=$4 journal=$5 mark=$6 old=$7 system=$8
shift 8
# alone: settings that end the configuration where a standby is replaced, of what has to be a server of its own; else ''.
owner=$1 group=$2 bin=$3 kind=$4 what=$5 log=$6 options=$7 alone=$8
cd / && umask 077 || exit 1
parent=$(dirname -- "$data")

refuse() {
  printf 'holdfast %s: %s\n' "$1" "$2" >&2
  exit 5
}

# Nothing is written by root where the owner of the server may put links.
user=$(id -u)
own() {
  if [ "$user" = 0 ]; then setpriv --reuid="$owner" --regid="$group" --init-groups "$@"; else "$@"; fi
}

identity() { stat -c %d:%i -- "$1" 2>/dev/null; }
is_old() { [ "$(identity "$1")" = "$old" ]; }
# The mark is in the copy until it was handed over.
is_copy() { [ -d "$1" ] && [ ! -L "$1" ] && [ -e "$1/$mark" ] && ! is_old "$1"; }

note() {
  printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" | own tee -a -- "$journal" >/dev/null && own sync -- "$journal" || exit 1
}
noted() { grep -q " $1\$" "$journal" 2>/dev/null; }

# begin yes|no: whole or not there, whenever the machine stops.
begin() {
  [ ! -e "$journal" ] || return 0
  printf 'running %s\n' "$1" | own tee -- "$journal.new" >/dev/null &&
    own sync -- "$journal.new" &&
    own mv -f -T -- "$journal.new" "$journal" &&
    own sync -- "$parent" || exit 1
}

# server_in DIRECTORY: a postmaster of it lives.
server_in() {
  pid=
  { read -r pid <"$1/postmaster.pid"; } 2>/dev/null
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  [ "$(stat -L -c %d:%i -- "/proc/$pid/cwd" 2>/dev/null)" = "$(identity "$1")" ]
}

ready_in() {
  server_in "$1" || return 1
  # A standby may let nobody in.
  case $(sed -n 8p "$1/postmaster.pid" 2>/dev/null) in ready* | standby*) ;; *) return 1 ;; esac
}

# anybody_in DIRECTORY: sets list to the processes of servers that work there, whatever became of their postmaster's pid file.
anybody_in() {
  list=
  for each in /proc/[0-9]*; do
    name=
    { read -r name <"$each/comm"; } 2>/dev/null
    case $name in postgres | postmaster) ;; *) continue ;; esac
    [ "$(stat -L -c %d:%i -- "$each/cwd" 2>/dev/null)" != "$(identity "$1")" ] || list="$list ${each#/proc/}"
  done
  [ -n "$list" ]
}

# A mask outlives a reboot: what is started meanwhile is nothing. It is a link, which systemctl leaves to the kernel to write.
units=/etc/systemd/system
masked() { systemctl "$1" --quiet -- "$what" && { [ ! -d "$units" ] || sync -- "$units"; } || exit 1; }
hold() { [ "$kind" != systemd ] || masked mask; }
release() { [ "$kind" != systemd ] || masked unmask; }

# stop_in DIRECTORY [last resort]. Not by systemctl: a unit that is masked has forgotten how its server is to be stopped.
stop_in() {
  if [ "$kind" = program ]; then
    "$what" stop "$1" </dev/null >&2 || refuse database.busy "$what stop $1 failed"
  elif server_in "$1"; then
    own "$bin/pg_ctl" stop -s -D "$1" -m fast -w -t 3600 </dev/null >&2 ||
      { [ -n "${2-}" ] && own "$bin/pg_ctl" stop -s -D "$1" -m immediate -w -t 600 </dev/null >&2; } ||
      refuse database.busy "the server in $1 does not stop"
  fi
  tries=0
  while anybody_in "$1"; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || refuse database.busy "processes of a server still work in $1:$list"
    sleep 0.1
  done
}

# start_in DIRECTORY: returns when it takes connections.
start_in() {
  failed=
  case $kind in
  systemd) systemctl start -- "$what" >&2 || failed=1 ;;
  program) "$what" start "$1" </dev/null >&2 || failed=1 ;;
  *)
    # The server must not be taken for a process of this job, nor inherit what was set for our tools.
    server_in "$1" ||
      own env -u HOLDFAST_JOB -u PGOPTIONS -u PGHOSTADDR -u PGPASSFILE -u PGDATA -u LC_ALL \
        "$bin/pg_ctl" start -s -D "$1" -w -t 300 -l "$log" -o "$options" </dev/null >&2 || failed=1
    ;;
  esac
  missed=0 tries=0
  until ready_in "$1"; do
    tries=$((tries + 1))
    server_in "$1" || missed=$((missed + 1))
    if [ "$tries" -gt 3000 ] || [ "$missed" -gt 100 ] || { [ -n "$failed" ] && [ "$missed" -gt 0 ]; }; then
      said=
      [ ! -f "$log" ] || said=$(own tail -n 6 -- "$log" 2>/dev/null | tr '\n' '|')
      refuse restore.not-started "the server in $1 does not come up. ${said:+Its log ends: $said}"
    fi
    sleep 0.1
  done
}

# exchanged A B: both names at once, where this machine has a way; false, and nothing changed, where it has none.
exchanged() {
  before=$(identity "$1")
  own mv --exchange -T -- "$1" "$2" 2>/dev/null
  [ "$(identity "$2")" != "$before" ] || return 0
  number=
  case $(uname -m) in
  x86_64) number=316 ;;
  aarch64 | riscv64 | loongarch64) number=276 ;;
  ppc64le) number=357 ;;
  s390x) number=347 ;;
  esac
  [ -z "$number" ] ||
    own perl -e 'exit(syscall($ARGV[0] + 0, -100, $ARGV[1], -100, $ARGV[2], 2) == 0 ? 0 : 1)' "$number" "$1" "$2" 2>/dev/null
  [ "$(identity "$2")" != "$before" ] || return 0
  own python3 -c 'import ctypes, os, sys
names = [os.fsencode(name) for name in sys.argv[1:]]
sys.exit(0 if ctypes.CDLL(None).renameat2(-100, names[0], -100, names[1], 2) == 0 else 1)' "$1" "$2" 2>/dev/null
  [ "$(identity "$2")" = "$before" ]
}

move() { own mv -T -- "$1" "$2" || exit 1; }

# Brings the old one's name back, from wherever a swap has come to.
take_back() {
  if is_old "$kept"; then
    if [ ! -e "$data" ]; then
      move "$kept" "$data"
    elif ! exchanged "$data" "$kept"; then
      move "$data" "$copy"
      move "$kept" "$data"
    fi
  fi
  if is_copy "$kept"; then move "$kept" "$copy"; fi
  own sync -- "$parent" || exit 1
}

# Clients are in: with the mark goes the way back. The journal, which says that they may be, outlives it on disk.
settle() {
  own rm -f -- "$data/$mark" && own sync -- "$data" || exit 1
  drop_journal
}
drop_journal() { own rm -f -- "$journal" && own sync -- "$parent" || exit 1; }

case $verb in
exchange)
  if is_old "$kept"; then
    # The other half of two renames.
    if [ ! -e "$data" ] && is_copy "$copy"; then move "$copy" "$data"; fi
    [ -d "$data" ] || refuse restore.target-changed "the restored copy is neither $data nor $copy"
    own sync -- "$parent" || exit 1
    exit 0
  fi
  is_old "$data" || refuse restore.target-changed "$data is not the directory that the plan replaces (device and inode $old)"
  [ "$(od -An -tu8 -N8 "$data/global/pg_control" | tr -d ' ')" = "$system" ] ||
    refuse restore.target-changed "$data does not belong to the server with the system identifier $system any more"
  if [ -e "$data/standby.signal" ]; then follows=yes; else follows=; fi
  [ "${alone:+yes}" = "$follows" ] ||
    refuse restore.target-changed "$data has become a standby since it was planned, or is none any more"
  is_copy "$copy" || is_copy "$kept" || refuse restore.target-changed "the restored copy $copy is not there any more"
  if server_in "$data"; then begin yes; else begin no; fi
  hold
  note held
  stop_in "$data"
  note stopped
  if is_copy "$copy"; then move "$copy" "$kept"; fi
  if ! exchanged "$data" "$kept"; then
    move "$kept" "$copy"
    move "$data" "$kept"
    move "$copy" "$data"
  fi
  own sync -- "$parent" || exit 1
  if anybody_in "$kept"; then
    take_back
    refuse database.busy "somebody started the server in $data after it was stopped"
  fi
  note exchanged
  ;;
is-exchanged) is_old "$kept" && [ -d "$data" ] ;;
open)
  is_old "$kept" || refuse restore.target-changed "the old directory is not kept as $kept"
  [ -d "$data" ] && ! is_old "$data" || refuse restore.target-changed "the new directory is not $data"
  if is_copy "$data"; then
    if ! noted opening; then
      # Whoever started it by hand met a server that archives nothing.
      stop_in "$data"
      for name in postgresql.conf postgresql.auto.conf pg_hba.conf pg_ident.conf; do
        ends=
        [ "$name" != postgresql.auto.conf ] || ends=$alone
        if [ -e "$kept/$name" ] || [ -L "$kept/$name" ]; then
          own rm -f -- "$data/$name.holdfast" &&
            own cp -a ${ends:+-L} -- "$kept/$name" "$data/$name.holdfast" &&
            { [ -z "$ends" ] || printf '%s' "$ends" | own tee -a -- "$data/$name.holdfast" >/dev/null; } &&
            own mv -f -T -- "$data/$name.holdfast" "$data/$name" || exit 1
        elif [ "$name" = postgresql.auto.conf ] && [ -z "$ends" ]; then
          own rm -f -- "$data/$name" || exit 1
        fi
      done
      own sync -f -- "$data" || exit 1
      note opening
    fi
    release
    start_in "$data"
  fi
  settle
  ;;
is-open)
  [ -d "$data" ] && ! is_old "$data" || exit 1
  if is_copy "$data"; then
    # Clients may be in already: what is left to do is to say so.
    noted opening && ready_in "$data" || exit 1
  fi
  settle
  ;;
roll-back)
  is_old "$data" || is_copy "$data" || [ ! -e "$data" ] || refuse restore.target-changed "the new directory was handed over"
  is_old "$data" || begin yes
  if [ -e "$journal" ]; then
    if is_copy "$data"; then
      hold
      stop_in "$data" 'last resort'
    fi
    take_back
    is_old "$data" || refuse restore.target-changed "the old directory is neither $data nor $kept"
    release
    if grep -qx 'running yes' "$journal"; then start_in "$data"; fi
    drop_journal
  fi
  ;;
is-rolled-back) is_old "$data" && [ ! -e "$journal" ] && ! is_copy "$kept" ;;
*) exit 2 ;;
esac
