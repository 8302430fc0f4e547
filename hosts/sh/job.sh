# The wrapper of one job: its process is the leader of the job's session and group. See docs/hosts.md.
# Above this line: what hosts/script.ts generated (hf_mode … and the functions hf_again, hf_secrets, hf_stage_N, hf_pipeline).
# Descriptors: 1 the last program's output, 2 reports, 3 exits, 4 a stage's output, 5 control words, 6 data out,
# 8 the held end of the feed, 9 the exit file.

hf_fail() {
  printf 'holdfast failed %s\n' "$1" >&2
  exit 1
}

# Reads one escaped secret from the control pipe. Only builtins: nothing of it is ever in an argument list.
hf_secret() {
  IFS= read -r hf_line <&5 || exit 1
  hf_value=$(printf '%bx' "$hf_line")
  hf_value=${hf_value%x}
}

# Programs get the locale the wrapper was started with.
hf_locale() {
  if [ -n "$hf_had_locale" ]; then LC_ALL=$hf_locale; else unset LC_ALL; fi
}

# hf_wrap N: one stage. Its exit goes to 3; the end of what it says is kept in a preallocated file, so that the
# reason of a full disk survives the full disk. The shells outlive TERM to report; the program does not inherit that.
hf_wrap() {
  trap : HUP INT TERM PIPE
  {
    {
      trap : HUP INT TERM PIPE
      (
        trap - HUP INT TERM PIPE
        "hf_stage_$1"
      ) 2>&1 >&4 3>&- 4>&-
      hf_code=$?
      printf '%s %s\n' "$1" "$hf_code" >&3
      case $hf_code in 141) ;; 129 | 1[3-9]? | 2??) hf_bury >/dev/null 2>&1 3>&- 4>&- ;; esac
    } | (
      trap '' HUP INT TERM
      exec tail -c 8192 1<>"$hf_job/$hf_run/stderr.$1" 2>/dev/null 3>&- 4>&-
    )
  } 4>&1
}

# hf_bury: a program that a signal has ended took none of its children with it. They would hold its pipes open for as long as
# they live (pg_basebackup's second process streams WAL for ever), and nobody would hear of the end.
hf_bury() {
  hf_i=0
  while hf_members "$$"; do
    hf_others=
    for hf_one in $hf_list; do
      case " $hf_kin " in *" $hf_one "*) continue ;; esac
      hf_look "$hf_one" || continue
      if hf_look "$hf_parent" && [ "$hf_pgrp" = "$$" ]; then continue; fi
      hf_others="$hf_others $hf_one"
    done
    [ -n "$hf_others" ] || break
    hf_i=$((hf_i + 1))
    case $hf_i in
    1 | 5 | 15) kill -s TERM $hf_others ;;
    [1-9] | [1-4]?) ;;
    *) kill -s KILL $hf_others ;;
    esac
    [ "$hf_i" -lt 300 ] || break
    hf_tick
  done
}

# hf_clear: nothing of the group but the wrapper and the leash may be left: TERM, KILL after five seconds.
hf_clear() {
  hf_i=0
  while hf_members "$$"; do
    hf_others=
    for hf_one in $hf_list; do
      case " $hf_kin " in *" $hf_one "*) ;; *) hf_others="$hf_others $hf_one" ;; esac
    done
    [ -n "$hf_others" ] || break
    hf_i=$((hf_i + 1))
    case $hf_i in
    # Again, for a program that was being started when the first came.
    1 | 5 | 15) kill -s TERM $hf_others 2>/dev/null ;;
    [1-9] | [1-4]? | 50) ;;
    *) kill -s KILL $hf_others 2>/dev/null ;;
    esac
    [ "$hf_i" -lt 300 ] || break
    hf_tick
  done
}

# The leash: as long as the worker holds the other end, the job lives. It also holds the feed open (8): the kernel
# closing the worker's end must not look like the end of the data; only "complete" lets go.
hf_hold() {
  trap : HUP INT TERM PIPE
  if [ -r /proc/self/stat ]; then read -r hf_leash hf_line </proc/self/stat; else hf_leash=$(sh -c 'echo "$PPID"'); fi
  hf_kin="$$ $hf_leash"
  hf_beat=0
  while IFS= read -r hf_word <&5; do
    case $hf_word in
    complete)
      # Whoever else holds it open goes by its name.
      rm -f -- "$hf_in"
      exec 8>&-
      ;;
    beat)
      # In place: no block is needed for it on a full disk.
      hf_beat=$((hf_beat + 1))
      printf '%s\n' "$hf_beat" 1<>"$hf_job/$hf_run/beats"
      ;;
    stop) hf_pull ;;
    esac
  done
  hf_exits_of "$hf_job/$hf_run" || hf_pull
  exit 0
}

# Over a link that may die unheard: no word for hf_patience seconds is the end of the leash. Its holder stays: the
# programs must not see the end of a feed before they are gone.
hf_watch() {
  hf_nap=
  trap '[ -z "$hf_nap" ] || kill -s KILL "$hf_nap" 2>/dev/null; exit 0' HUP INT TERM
  if [ -r /proc/self/stat ]; then read -r hf_me hf_line </proc/self/stat; else hf_me=$(sh -c 'echo "$PPID"'); fi
  hf_kin="$$ $hf_leash $hf_me"
  hf_quiet=0 hf_heard=
  while [ "$hf_quiet" -lt "$hf_patience" ]; do
    sleep 2 &
    hf_nap=$!
    wait "$hf_nap"
    hf_nap=
    # Gone: whoever started this one wants its end.
    read -r hf_line <"$hf_job/$hf_run/beats" || exit 0
    if [ "$hf_line" = "$hf_heard" ]; then hf_quiet=$((hf_quiet + 2)); else hf_quiet=0; fi
    hf_heard=$hf_line
  done
  trap : HUP INT TERM
  hf_pull
  exit 0
}

hf_pull() {
  kill -s TERM -- "-$$" 2>/dev/null
  kill -s CONT -- "-$$" 2>/dev/null
  hf_clear
}

# One runner per generation: the link carries the identity, so that there is no moment at which somebody is elected
# but unknown. A generation that was lost is never taken away, only followed by the next: no racer can mistake one
# for another.
hf_elect() {
  printf '%s %s %s %s\n' "$$" "$hf_start" "$hf_boot" "$hf_run" >identity || hf_fail 'cannot write the identity'
  if [ "$hf_mode" = detached ]; then
    (: >"$hf_job/fence-$hf_fence") || hf_fail 'cannot write the fence'
  fi
  while :; do
    hf_judge "$hf_job"
    if [ "$hf_mode" = detached ]; then
      hf_newest_fence "$hf_job"
      [ "$hf_known" -le "$hf_fence" ] || hf_leave "stale $hf_known"
      case $hf_life in running | done) hf_leave already ;; esac
    fi
    if [ "$hf_n" -gt 0 ]; then
      hf_stop "$hf_pid" "$hf_since" "$hf_its_boot" "$hf_job" || hf_fail "cannot stop process group $hf_pid"
    fi
    hf_n=$((hf_n + 1))
    if ln identity "../elected-$hf_n" 2>/dev/null; then return; fi
    [ -e "../elected-$hf_n" ] || hf_fail 'cannot link the identity'
  done
}

hf_leave() {
  cd /
  rm -rf -- "$hf_job/$hf_run"
  printf 'holdfast %s\n' "$1" >&2
  exit 0
}

# hf_collect "0 0 1 141 …": sets hf_list to the exits in order, hf_whole if none is missing, hf_signalled.
hf_collect() {
  set -- $1
  while [ $# -gt 1 ]; do
    eval "hf_exit_$1=$2"
    shift 2
  done
  hf_list= hf_whole=1 hf_signalled=
  hf_i=0
  while [ "$hf_i" -lt "$hf_stages" ]; do
    eval "hf_one=\${hf_exit_$hf_i-}"
    # Whoever was told to stop has not succeeded, whatever it says.
    if [ -n "$hf_term" ]; then
      case $hf_one in '') hf_one=137 ;; 0) hf_one=143 ;; esac
    fi
    case $hf_one in
    '') hf_whole= ;;
    141) ;;
    129 | 1[3-9]? | 2??) hf_signalled=1 ;;
    esac
    hf_list="$hf_list $hf_one"
    hf_i=$((hf_i + 1))
  done
}

hf_main() {
  umask 077
  unset CDPATH ENV BASH_ENV
  hf_had_locale=${LC_ALL+1} hf_locale=${LC_ALL-}
  LC_ALL=C
  hf_kin=$$ hf_leash=0 hf_watcher=
  case $(command -v printf) in printf) ;; *) hf_fail 'the shell has no printf of its own' ;; esac
  hf_look "$$" || hf_fail 'cannot see its own process'
  if [ "$hf_session" != "$$" ]; then
    [ -z "${HOLDFAST_SESSION-}" ] || hf_fail 'cannot get a session of its own'
    if [ -n "$hf_had_locale" ]; then LC_ALL=$hf_locale; else unset LC_ALL; fi
    export HOLDFAST_SESSION=1
    # A group leader cannot become a session leader; its child can.
    if [ "$hf_pgrp" = "$$" ]; then
      exec 5<&0
      (hf_again <&5 5<&-)
      exit
    fi
    hf_again
  fi
  unset HOLDFAST_SESSION
  hf_which_boot
  cd "$hf_job/$hf_run" || hf_fail 'cannot enter the job directory'
  hf_term=
  trap 'hf_term=1' HUP INT TERM
  trap : PIPE
  exec 5<&0 </dev/null
  hf_elect
  hf_generation=$hf_n
  printf 'holdfast elected\n' >&2
  hf_secrets
  exec 9<>exit
  cd "$hf_data" || hf_fail 'cannot enter the staging directory'
  if [ "$hf_mode" = detached ]; then
    if ! (: >"$hf_stdout"); then hf_fail "cannot write $hf_stdout"; fi
    exec 6>"$hf_stdout" 5<&-
    [ -z "$hf_term" ] || exit 1
    printf 'holdfast started\n' >&2
    exec >/dev/null 2>&1
  else
    exec 6>&1
    if [ "$hf_feeds" = 1 ]; then
      mkfifo "$hf_in" || hf_fail 'cannot make the feed'
      exec 7<>"$hf_in"
      exec 8>"$hf_in"
      exec 7>&-
    fi
    # By exec: redirected for the time of a function, the shell would keep the originals open.
    (
      exec >/dev/null 2>&1 6>&- 9>&-
      hf_hold
    ) &
    hf_leash=$!
    hf_kin="$$ $hf_leash"
    exec 5<&- 8>&-
    if [ "$hf_patience" -gt 0 ]; then
      printf '0\n' 1<>"$hf_job/$hf_run/beats"
      (
        exec >/dev/null 2>&1 6>&- 9>&-
        hf_watch
      ) &
      hf_watcher=$!
      hf_kin="$$ $hf_leash $hf_watcher"
    fi
    [ -z "$hf_term" ] || exit 1
    [ "$hf_feeds" = 1 ] || printf 'holdfast started\n' >&2
  fi

  hf_codes=$(
    trap : HUP INT TERM PIPE
    exec 3>&1 >&6 6>&- 9>&-
    hf_pipeline
  )
  # Where a pipe stays open as long as somebody (sshd, sudo) holds it, these words say that no more comes.
  [ -z "$hf_end" ] || printf '%s' "$hf_end" >&6
  exec >/dev/null 6>&-

  hf_collect "$hf_codes"
  hf_codes=$hf_list
  # What is left of the group has lost its head.
  if [ -n "$hf_term$hf_signalled" ] || [ -z "$hf_whole" ]; then hf_clear; fi
  if [ -n "$hf_whole" ]; then
    # In place: no block is needed for it on a full disk.
    printf 'exits%s end\n' "$hf_codes" >&9
    printf 'holdfast exits%s\n' "$hf_codes" >&2
  else
    printf 'holdfast lost\n' >&2
  fi
  [ "$hf_mode" = attached ] || exit 0

  # The worker reads what it needs and lets go; or it is gone. Whoever stops us does not wait for a worker that sleeps.
  [ -n "$hf_term" ] || wait "$hf_leash"
  hf_i=0
  while hf_look "$hf_leash" && [ "$hf_pgrp" = "$$" ] && [ "$hf_state" != Z ]; do
    hf_i=$((hf_i + 1))
    if [ "$hf_i" -gt 20 ]; then kill -s KILL "$hf_leash" 2>/dev/null; fi
    hf_tick
  done
  if [ -n "$hf_watcher" ]; then
    # A signal is lost on a shell that has just been forked and has not set its traps yet: the file says it, too.
    rm -f -- "$hf_job/$hf_run/beats"
    kill -s TERM "$hf_watcher" 2>/dev/null
    wait "$hf_watcher"
  fi
  cd /
  rm -rf -- "$hf_job/$hf_run" "$hf_job/elected-$hf_generation"
  rmdir -- "$hf_job" "${hf_job%/*}" 2>/dev/null
  exit 0
}

hf_main
