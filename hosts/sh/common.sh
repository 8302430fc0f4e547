# What the job script and the control script share. POSIX sh; needs cat, sleep and (on Linux) /proc.
# Names begin with hf_ so that they never meet a program's environment.

hf_tick() { sleep 0.1 2>/dev/null || sleep 1; }

# hf_look PID: sets hf_state hf_parent hf_pgrp hf_session hf_start; false if there is no such process.
hf_look() {
  hf_text=
  if [ -r /proc/self/stat ]; then
    # A program's name may hold blanks, parentheses and newlines: take what follows the last ") ".
    { while IFS= read -r hf_line || [ -n "$hf_line" ]; do hf_text="$hf_text $hf_line"; done <"/proc/$1/stat"; } 2>/dev/null
    [ -n "$hf_text" ] || return 1
    set -f
    set -- ${hf_text##*) }
    set +f
    hf_state=$1 hf_parent=$2 hf_pgrp=$3 hf_session=$4 hf_start=${20}
  else
    hf_start=$(ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' _)
    [ -n "$hf_start" ] || return 1
    set -- $(ps -o stat=,ppid=,pgid= -p "$1" 2>/dev/null)
    hf_state=${1-X} hf_parent=${2-0} hf_pgrp=${3-0} hf_session=${3-0}
  fi
}

# hf_which_boot: sets hf_boot. A pid means nothing in another boot.
hf_which_boot() {
  if [ -r /proc/sys/kernel/random/boot_id ]; then
    read -r hf_boot </proc/sys/kernel/random/boot_id
  else
    hf_boot=$( (sysctl -n kern.bootsessionuuid || sysctl -n kern.boottime) 2>/dev/null | tr -c 'A-Za-z0-9\n' _)
  fi
}

# hf_members PGID: sets hf_list to the processes of the group that are not zombies (zombies of a container whose
# first process does not reap stay forever and do nothing). Children of hf_kin are left out: the wrapper's own helpers.
hf_members() {
  hf_list=
  if [ -r /proc/self/stat ]; then
    hf_text=$(cat /proc/[0-9]*/stat 2>/dev/null)
    hf_found=
    IFS='
'
    set -f
    for hf_line in $hf_text; do
      case $hf_line in *") "[!ZX]" "*" $1 $1 "*) hf_found="$hf_found ${hf_line%% *}" ;; esac
    done
    unset IFS
    set +f
    # The line was read loosely; ask again for each.
    for hf_one in $hf_found; do
      case $hf_one in *[!0-9]*) continue ;; esac
      hf_look "$hf_one" || continue
      case $hf_state in Z* | X*) continue ;; esac
      [ "$hf_pgrp" = "$1" ] || continue
      case " $hf_kin " in *" $hf_parent "*) ;; *) hf_list="$hf_list $hf_one" ;; esac
    done
  else
    for hf_one in $(ps -A -o pid=,pgid=,stat= | while read -r hf_p hf_g hf_s; do
      case $hf_s in Z*) continue ;; esac
      [ "$hf_g" = "$1" ] && echo "$hf_p"
    done); do
      hf_look "$hf_one" || continue
      case " $hf_kin " in *" $hf_parent "*) ;; *) hf_list="$hf_list $hf_one" ;; esac
    done
  fi
  [ -n "$hf_list" ]
}

# hf_alive PID START BOOT: the very process that wrote this identity lives.
hf_alive() {
  [ "$3" = "$hf_boot" ] && hf_look "$1" && [ "$hf_start" = "$2" ] || return 1
  case $hf_state in Z* | X*) return 1 ;; esac
}

# hf_marked PGID JOB: the leader is gone; is what is left of the group ours? Its number cannot have been given away
# while the group lived, but a later group may have had it and lost its leader too: the environment tells.
hf_marked() {
  hf_members "$1" || return 1
  for hf_one in $hf_list; do
    tr '\0' '\n' <"/proc/$hf_one/environ" 2>/dev/null | grep -qxF "HOLDFAST_JOB=$2" && return 0
  done
  return 1
}

# hf_stop PID START BOOT JOB: TERM to the group, KILL after five seconds, waits until nothing of it is left.
# Touches nothing unless the identity fits. False if the group cannot be killed.
hf_stop() {
  [ "$3" = "$hf_boot" ] || return 0
  if hf_look "$1"; then
    [ "$hf_start" = "$2" ] || return 0
  else
    hf_marked "$1" "$4" || return 0
  fi
  kill -s TERM -- "-$1" 2>/dev/null
  kill -s CONT -- "-$1" 2>/dev/null
  hf_i=0
  while hf_members "$1"; do
    hf_i=$((hf_i + 1))
    case $hf_i in
    # Again, for a program that was being started when the first came.
    5 | 15) kill -s TERM -- "-$1" 2>/dev/null ;;
    50)
      # Stopped first: the death of whoever holds a feed open must not be seen as its end by a program that still runs.
      kill -s STOP -- "-$1" 2>/dev/null
      hf_tick
      ;;
    51) kill -s KILL -- "-$1" 2>/dev/null ;;
    300) return 1 ;;
    esac
    hf_tick
  done
  return 0
}

# hf_newest JOB: sets hf_n to the newest generation (0: never started) and hf_pid hf_since hf_its_boot hf_its_run.
hf_newest() {
  hf_n=0
  while [ -e "$1/elected-$((hf_n + 1))" ]; do hf_n=$((hf_n + 1)); done
  hf_identity "$1/elected-$hf_n"
}

# hf_identity FILE
hf_identity() {
  hf_pid=0 hf_since=0 hf_its_boot=none hf_its_run=none
  [ -e "$1" ] && read -r hf_pid hf_since hf_its_boot hf_its_run <"$1"
  case $hf_pid in '' | *[!0-9]* | 0 | 1) hf_its_boot=none ;; esac
}

# hf_exits_of RUN: sets hf_exits if the run wrote all of them.
hf_exits_of() {
  hf_exits=
  [ -r "$1/exit" ] && read -r hf_line <"$1/exit" || return 1
  case $hf_line in
  "exits "*" end")
    hf_exits=${hf_line#exits }
    hf_exits=${hf_exits% end}
    ;;
  *) return 1 ;;
  esac
}

# hf_judge JOB: sets hf_life to none, running, done or lost, of the newest generation.
# Life is asked first: a runner that ends in between has written its exits.
hf_judge() {
  hf_newest "$1"
  hf_life=lost
  [ "$hf_n" -gt 0 ] || { hf_life=none; return; }
  hf_alive "$hf_pid" "$hf_since" "$hf_its_boot" && hf_life=running
  # Exits of an earlier boot prove nothing: what the program wrote may not have reached the disk.
  [ "$hf_its_boot" = "$hf_boot" ] && hf_exits_of "$1/$hf_its_run" && hf_life=done
  return 0
}

# hf_newest_fence JOB: sets hf_known.
hf_newest_fence() {
  hf_known=0
  for hf_one in "$1"/fence-*; do
    hf_one=${hf_one##*/fence-}
    case $hf_one in '' | *[!0-9]*) continue ;; esac
    [ "$hf_one" -gt "$hf_known" ] && hf_known=$hf_one
  done
  return 0
}
