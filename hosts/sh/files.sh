# What a worker asks a host about its files, where it has no files of its own there. Called as control.sh is.
# Exit 4: it is not there. 5: not all bytes came. 6: too large. Anything else: the reason is on standard error.

LC_ALL=C
export LC_ALL
umask 077
hf_verb=$1
shift

hf_missing() {
  case $1 in
  *'No such file or directory'* | *'Not a directory'*) exit 4 ;;
  esac
  printf '%s\n' "$1" >&2
  exit 1
}

# hf_seen PATH FORMAT: sets hf_text, following symbolic links.
hf_seen() {
  hf_text=$(stat -L -c "$2" -- "$1" 2>&1) || hf_missing "$hf_text"
}

# hf_durable PATH: old coreutils and some busyboxes sync everything instead.
hf_durable() { sync -- "$1" 2>/dev/null || sync; }

# hf_above PATH: sets hf_up.
hf_above() {
  hf_up=${1%/*}
  [ -n "$hf_up" ] || hf_up=/
}

case $hf_verb in
stat)
  hf_seen "$1" '%s %Y %d:%i %F'
  printf '%s\n' "$hf_text"
  ;;
list)
  hf_seen "$1" %F
  ls -A -- "$1"
  ;;
size)
  # A directory that a tool is writing to: files come and go.
  find "$1" -type f -exec stat -c %s -- {} + 2>/dev/null | {
    hf_sum=0
    while read -r hf_one; do hf_sum=$((hf_sum + hf_one)); done
    echo "$hf_sum"
  }
  ;;
read)
  hf_seen "$1" %s
  if [ "$3" -lt 0 ]; then
    exec tail -c "+$(($2 + 1))" -- "$1"
  else
    tail -c "+$(($2 + 1))" -- "$1" 2>/dev/null | head -c "$3"
  fi
  ;;
read-small)
  hf_seen "$1" %s
  [ "$hf_text" -le "$2" ] || exit 6
  exec cat -- "$1"
  ;;
write)
  # The end of the input may be the end of the link: the length tells.
  hf_new=$1.$3.tmp
  hf_above "$1"
  hf_said=$(dd of="$hf_new" bs=65536 conv=fsync 2>&1) || {
    printf '%s\n' "$hf_said" >&2
    rm -f -- "$hf_new"
    exit 1
  }
  if [ "$(($(wc -c <"$hf_new")))" -ne "$2" ]; then
    rm -f -- "$hf_new"
    exit 5
  fi
  mv -f -- "$hf_new" "$1" || {
    rm -f -- "$hf_new"
    exit 1
  }
  hf_durable "$hf_up"
  ;;
append)
  hf_above "$1"
  hf_old=0 hf_begin=
  if [ -e "$1" ]; then
    hf_old=$(($(wc -c <"$1")))
    # A line cut short by a crash stays alone: ours begins on its own.
    [ "$hf_old" -eq 0 ] || [ -z "$(tail -c 1 -- "$1")" ] || hf_begin='
'
  fi
  if printf '%s%s\n' "$hf_begin" "$2" | cat >>"$1"; then
    hf_durable "$1"
    [ "$hf_old" -gt 0 ] || hf_durable "$hf_up"
  else
    [ ! -e "$1" ] || truncate -s "$hf_old" -- "$1"
    exit 1
  fi
  ;;
ensure)
  hf_private "$2"
  mkdir -p -- "$1"
  ;;
remove)
  rm -rf -- "$1"
  ;;
free)
  hf_path=$1
  # Not made yet: what is above it decides.
  while [ ! -e "$hf_path" ] && [ "$hf_path" != / ]; do
    hf_above "$hf_path"
    hf_path=$hf_up
  done
  hf_text=$(stat -f -c '%a %S' -- "$hf_path") || exit 1
  echo "$((${hf_text% *} * ${hf_text#* }))"
  ;;
esac
