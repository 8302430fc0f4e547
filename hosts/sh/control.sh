# What a worker asks a host about jobs. Called as: sh -c SCRIPT holdfast VERB ARGUMENTS

hf_which_boot
hf_kin=
hf_verb=$1
shift

# hf_stop_newest JOB: afterwards the job is done only if it had succeeded; otherwise it can be started anew.
hf_stop_newest() {
  hf_judge "$1"
  [ "$hf_life" != none ] || return 0
  hf_stop "$hf_pid" "$hf_since" "$hf_its_boot" "$1" || return 1
  case $hf_its_run in r-*) ;; *) return 0 ;; esac
  if hf_exits_of "$1/$hf_its_run"; then
    case " $hf_exits " in *" "[1-9]*) rm -f -- "$1/$hf_its_run/exit" ;; esac
  fi
  return 0
}

case $hf_verb in
status)
  hf_judge "$1"
  printf '%s %s %s\n' "$hf_life" "$hf_its_run" "$hf_exits"
  ;;
stop)
  hf_newest_fence "$1"
  if [ "$hf_known" -gt "$2" ]; then
    echo stale
    exit 0
  fi
  if [ -d "$1" ]; then (: >"$1/fence-$2") 2>/dev/null; fi
  if hf_stop_newest "$1"; then echo stopped; else echo stuck; fi
  ;;
stop-run)
  # One run of an attached job, and what it leaves; a newer run of the same job is not ours to end.
  hf_answer=stopped
  for hf_each in "$1"/elected-*; do
    hf_identity "$hf_each"
    [ "$hf_its_run" = "$2" ] || continue
    if hf_stop "$hf_pid" "$hf_since" "$hf_its_boot" "$1"; then rm -f -- "$hf_each"; else hf_answer=stuck; fi
  done
  if [ "$hf_answer" = stopped ]; then
    rm -rf -- "${1:?}/${2:?}"
    rmdir -- "$1" "${1%/*}" 2>/dev/null
  fi
  echo "$hf_answer"
  ;;
stop-operation)
  for hf_each in "$1"/*/; do
    [ -d "$hf_each" ] || continue
    (
      hf_stop_newest "${hf_each%/}" || echo stuck
    ) &
  done
  wait
  echo stopped
  ;;
operations)
  for hf_each in "$1"/jobs/*/ "$1"/data/*/; do
    [ -d "$hf_each" ] || continue
    hf_each=${hf_each%/}
    printf '%s\n' "${hf_each##*/}"
  done
  echo listed
  ;;
remove)
  # A program may have left directories that even their owner cannot write.
  rm -rf -- "$@" 2>/dev/null || {
    chmod -R u+rwx -- "$@" 2>/dev/null
    rm -rf -- "$@"
  }
  ;;
find)
  case $1 in
  */*) [ -f "$1" ] && [ -x "$1" ] && printf '%s\n' "$1" ;;
  *)
    IFS=:
    set -f
    for hf_each in $PATH; do
      if [ -f "${hf_each:-.}/$1" ] && [ -x "${hf_each:-.}/$1" ]; then
        printf '%s\n' "${hf_each:-.}/$1"
        break
      fi
    done
    ;;
  esac
  exit 0
  ;;
esac
