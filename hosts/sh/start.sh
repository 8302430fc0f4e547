# Prepares a job's directory and starts its script. Before this: hf_root hf_work hf_job hf_directory hf_mode hf_stages
# hf_text (the script) hf_input hf_has_input hf_nested. Standard input is the script's.

hf_prepare() {
  LC_ALL=C
  export LC_ALL
  umask 077
  hf_private "$hf_root"
  mkdir -p -- "$hf_work" || exit 1
  # A job that ends removes its operation's directory if it was the last in it: that may be under our feet.
  hf_i=0
  until mkdir -p -- "$hf_directory" 2>/dev/null; do
    hf_i=$((hf_i + 1))
    if [ "$hf_i" -ge 100 ]; then mkdir -p -- "$hf_directory" || exit 1; fi
  done
  # Through cat: a shell of its own words may not say why it could not write.
  printf '%s\n' "$hf_text" | cat >"$hf_directory/script" || exit 1
  if [ -n "$hf_has_input" ]; then printf '%s' "$hf_input" | cat >"$hf_directory/input" || exit 1; fi
  # Real data, not holes; on disk before the program starts if the job is to outlive the worker.
  hf_i=0
  while [ "$hf_i" -lt 64 ]; do
    printf 'not yet\n'
    hf_i=$((hf_i + 1))
  done | cat >"$hf_directory/exit" || exit 1
  hf_i=0
  while [ "$hf_i" -lt "$hf_stages" ]; do
    head -c 8192 /dev/zero >"$hf_directory/stderr.$hf_i" || exit 1
    hf_i=$((hf_i + 1))
  done
  if [ "$hf_mode" = detached ]; then sync -- "$hf_directory"/* 2>/dev/null || sync; fi
}

if ! (hf_prepare); then
  printf 'holdfast failed cannot prepare %s\n' "$hf_directory" >&2
  exit 1
fi
cd /
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOLDFAST_JOB=$hf_job
export PATH HOLDFAST_JOB
if [ "$hf_mode" = attached ]; then
  [ -n "$hf_nested" ] || exec /bin/sh "$hf_directory/script"
  # As a child: sudo stops itself together with its own one, when a job is frozen before it is killed.
  /bin/sh "$hf_directory/script"
  exit
fi
# The session ends here, so that it does not count any more; the job has one of its own and says how it began.
exec 5<&0
(/bin/sh "$hf_directory/script" <&5 5<&- 2>&1 >/dev/null &) | cat >&2
