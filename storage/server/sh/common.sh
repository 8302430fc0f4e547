# What a machine is asked about the objects that lie there, in the form that storage/local has them. POSIX sh with coreutils
# or busybox. Words: VERB ROOT, then what the verb takes. Keys are known to be good; paths are relative to the root, so
# that a leading dash is none of an option, and a root that is not there is never made.
# Exit 3: the root is not there. 4: it is not there. 5: not all bytes came. 6: something is there already. 7: too large.
# Anything else: the reason is on standard error.

LC_ALL=C
export LC_ALL
umask 077
hf_verb=$1 hf_root=$2
shift 2
hf_scratch=./.holdfast-uploads

hf_fail() {
  printf '%s\n' "$1" >&2
  exit 1
}

# hf_absent SAID CODE: ends with CODE if what was said means that something is not there.
hf_absent() {
  case $1 in
  *'No such file'* | *'Not a directory'* | *nonexistent*) exit "$2" ;;
  esac
  hf_fail "$1"
}

if ! cd "$hf_root" 2>/dev/null; then
  hf_said=$(stat -L -c %F "$hf_root" 2>&1) || hf_absent "$hf_said" 3
  [ -d "$hf_root" ] || exit 3
  hf_fail 'Permission denied'
fi

# hf_sync PATH...: durable. What went away meanwhile needs it no more; some network file systems have no such thing for
# directories, there the server orders the names itself. Never everything at once, where it can be helped: a database runs here.
hf_sync() {
  hf_said=$(sync "$@" 2>&1) && return
  case $hf_said in
  *'No such file'* | *'Invalid argument'* | *'not supported'* | *'Bad file desc'*) ;;
  *[Uu]sage* | *'not found'* | *option*) sync || hf_fail "$hf_said" ;;
  *) hf_fail "$hf_said" ;;
  esac
}

# hf_up FOLDER: sets hf_folder to what it lies in, to nothing at the root.
hf_up() {
  case $1 in
  */*) hf_folder=${1%/*} ;;
  *) hf_folder= ;;
  esac
}

# hf_make FOLDER: with all above it, below the root.
hf_make() {
  hf_makes=0
  until [ -d "./$1" ] || hf_said=$(mkdir -p "./$1" 2>&1); do
    hf_makes=$((hf_makes + 1))
    case $hf_said in
    *'File exists'*)
      # Another mkdir of the same moment, unless it is a file.
      if [ "$hf_makes" -ge 3 ]; then hf_fail "$hf_said: Not a directory"; fi
      ;;
    # Somebody who prunes empty directories took one of them away again in between.
    *'No such file'*) if [ "$hf_makes" -ge 100 ]; then hf_fail "$hf_said"; fi ;;
    *) hf_fail "$hf_said" ;;
    esac
  done
}

hf_make_scratch() {
  [ -d "$hf_scratch" ] && return
  hf_said=$(mkdir "$hf_scratch" 2>&1) || [ -d "$hf_scratch" ] || hf_fail "$hf_said"
  hf_sync .
}

# hf_see PATH: sets hf_seen to its bytes, time of change in seconds, and inode; nothing if it is no file.
hf_see() {
  hf_seen=
  [ -f "$1" ] && hf_seen=$(stat -L -c '%s %Y %i' "$1" 2>/dev/null) && return
  hf_said=$(stat -L -c %F "$1" 2>&1) || hf_absent "$hf_said" 4
  exit 4
}

# hf_publish FILE KEY EXCLUSIVE: gives a synced file its final name, durably. A link never replaces, a rename does.
hf_publish() {
  hf_up "$2"
  hf_tries=0
  while :; do
    [ -z "$hf_folder" ] || hf_make "$hf_folder"
    if [ -d "./$2" ]; then hf_fail 'Is a directory'; fi
    if [ -n "$3" ]; then
      hf_said=$(ln "$1" "./$2" 2>&1) && break
      if [ -e "./$2" ]; then
        # The same file: an earlier call was killed, or its answer was lost, after it had linked.
        if [ "$1" -ef "./$2" ]; then break; fi
        exit 6
      fi
    else
      # Between file systems mv would copy.
      if [ "$(stat -c %d "$1" 2>/dev/null)" = "$(stat -c %d "./$hf_folder" 2>/dev/null)" ]; then
        hf_said=$(mv -f "$1" "./$2" 2>&1) && break
      else
        hf_said='Invalid cross-device link'
      fi
    fi
    # Somebody who prunes empty directories may have taken the parent away again in between.
    hf_tries=$((hf_tries + 1))
    if [ "$hf_tries" -ge 20 ] || ! [ -e "$1" ]; then hf_absent "$hf_said" 4; fi
    case $hf_said in
    *'No such file'* | *cross-device*) [ -d "./$hf_folder" ] && [ "$hf_tries" -gt 5 ] && hf_fail "$hf_said" ;;
    *) hf_fail "$hf_said" ;;
    esac
  done
  # Up to the root: whoever made a directory on the way may not have come to syncing it.
  set --
  while [ -n "$hf_folder" ]; do
    set -- "$@" "./$hf_folder"
    hf_up "$hf_folder"
  done
  hf_sync "$@" .
}

# hf_prune FOLDER: removes directories that became empty, up to the root. rmdir refuses those that did not.
hf_prune() {
  hf_folder=$1
  while [ -n "$hf_folder" ]; do
    rmdir "./$hf_folder" 2>/dev/null || ! [ -d "./$hf_folder" ] || break
    hf_up "$hf_folder"
  done
}

# hf_skip BYTES: file 3 is read from there on.
hf_skip() {
  dd bs=65536 skip="$(($1 / 65536))" count=0 <&3 2>/dev/null
  [ "$(($1 % 65536))" -eq 0 ] || dd bs=1 skip="$(($1 % 65536))" count=0 <&3 2>/dev/null
}

# hf_give BYTES: so many of file 3, from where it stands.
hf_give() {
  [ "$(($1 / 1048576))" -eq 0 ] || dd bs=1048576 count="$(($1 / 1048576))" <&3 || exit 1
  [ "$(($1 % 1048576))" -eq 0 ] || head -c "$(($1 % 1048576))" <&3 || exit 1
}
