
case $hf_verb in
put)
  # KEY BYTES NAME EXCLUSIVE; the object comes through standard input. Its end may be the end of the link: the length tells.
  hf_make_scratch
  hf_new=$hf_scratch/$3
  trap 'rm -f "$hf_new"' EXIT
  hf_said=$(dd of="$hf_new" bs=65536 conv=fsync 2>&1) || hf_fail "$hf_said"
  [ "$(($(wc -c <"$hf_new")))" -eq "$2" ] || exit 5
  hf_see "$hf_new"
  hf_publish "$hf_new" "$1" "$4"
  printf '%s\n' "$hf_seen"
  ;;
stat)
  hf_see "./$1"
  printf '%s\n' "$hf_seen"
  ;;
get)
  # KEY OFFSET LENGTH LIMIT: says what it is, then gives the range. LENGTH -1: to its end. LIMIT -1: of any size.
  hf_see "./$1"
  exec 3<"./$1"
  # What is open, not what may have come under its name.
  if [ -e /dev/fd/3 ]; then hf_see /dev/fd/3; fi
  printf '%s\n' "$hf_seen"
  hf_bytes=${hf_seen%% *}
  if [ "$4" -ge 0 ] && [ "$hf_bytes" -gt "$4" ]; then exit 7; fi
  hf_left=$((hf_bytes - $2))
  if [ "$3" -ge 0 ] && [ "$3" -lt "$hf_left" ]; then hf_left=$3; fi
  [ "$hf_left" -gt 0 ] || exit 0
  hf_skip "$2"
  hf_give "$hf_left"
  ;;
list)
  # FOLDER: a line for each file below it, in the order of its name's bytes: name, tab, bytes, time, inode. Names with control
  # characters are none of ours. The last line is a tab.
  exec 4>&1
  hf_said=$({
    find -H "./$1" '(' -path ./.holdfast-uploads -o -name '*[[:cntrl:]]*' ')' -prune -o -type f -exec sh -c '
      stat -c "%n	%s %Y %i" "$@" 2>/dev/null
      :' sh {} + | sort >&4
  } 2>&1 | grep -v 'No such file or directory')
  [ -z "$hf_said" ] || hf_fail "$hf_said"
  printf '\t\n'
  ;;
remove)
  # KEY
  if [ -f "./$1" ]; then
    hf_said=$(rm -f "./$1" 2>&1) || hf_fail "$hf_said"
    hf_up "$1"
    if [ -d "./$hf_folder" ]; then hf_sync "./$hf_folder"; fi
  elif ! [ -d "./$1" ]; then
    hf_said=$(stat -L -c %F "./$1" 2>&1) || hf_absent "$hf_said" 4
  fi
  hf_up "$1"
  hf_prune "$hf_folder"
  ;;
sweep)
  # What killed processes left: aborted uploads at once, unfinished beginnings after a day.
  hf_make_scratch
  rm -rf "$hf_scratch"/gone-*
  find "$hf_scratch/." -maxdepth 1 '(' -name 'put-*' -o -name 'new-*' ')' -mtime +0 -exec rm -rf {} +
  ;;
esac
