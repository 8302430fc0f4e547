
# Uploads by parts, as storage/local/uploads.ts has them: upload.json, data, parts (the journal), object.

hf_boot=
if [ -r /proc/sys/kernel/random/boot_id ]; then read -r hf_boot </proc/sys/kernel/random/boot_id; fi

# hf_note LINE FILE: one line in one piece. It begins with a line feed, so that one cut by a crash does not spoil the next.
# Then by cat: the shell's own words for a full disk do not say that it is full.
hf_note() { { printf '\n%s\n' "$1" >>"$2"; } 2>/dev/null || printf '\n%s\n' "$1" | cat >>"$2"; }

# hf_where: sets hf_position to where file 3 stands. Not every dd says how many bytes it wrote.
hf_where() {
  hf_position=
  while read -r hf_name hf_value; do
    case $hf_name in pos:) hf_position=$hf_value ;; esac
  done </proc/self/fdinfo/3
}

case $hf_verb in
open)
  # ID NAME TEXT. Made under another name first: an upload that is there at all is there whole.
  hf_make_scratch
  [ ! -d "$hf_scratch/$1" ] || exit 0
  hf_new=$hf_scratch/$2
  hf_said=$(mkdir "$hf_new" 2>&1) || hf_fail "$hf_said"
  trap 'rm -rf "$hf_new"' EXIT
  printf %s "$3" | cat >"$hf_new/upload.json" || exit 1
  : >"$hf_new/data" || exit 1
  : >"$hf_new/parts" || exit 1
  hf_sync "$hf_new/upload.json" "$hf_new/data" "$hf_new/parts" "$hf_new"
  hf_said=$(mv "$hf_new" "$hf_scratch/$1" 2>&1) || hf_fail "$hf_said"
  hf_sync "$hf_scratch"
  ;;
part)
  # ID OFFSET BYTES NAME BEGIN END; the bytes come through standard input.
  hf_upload=$hf_scratch/$1
  # A second name: opened by it, the file is never made anew where an abort or a completion took it away.
  hf_said=$(ln "$hf_upload/data" "$hf_upload/$4" 2>&1) || hf_absent "$hf_said" 4
  exec 3<>"$hf_upload/$4"
  rm -f "$hf_upload/$4"
  hf_note "$5" "$hf_upload/parts" || exit 1
  [ "$(($2 % 262144))" -eq 0 ] || dd bs=1 seek="$(($2 % 262144))" count=0 </dev/null >&3 2>/dev/null
  hf_said=$(dd bs=262144 seek="$(($2 / 262144))" 2>&1 >&3) || hf_fail "$hf_said"
  # The end of the input may be the end of the link: the length tells.
  hf_where
  [ "$hf_position" = "$(($2 + $3))" ] || exit 5
  hf_note "$6$hf_boot\"}" "$hf_upload/parts" || exit 1
  ;;
parts)
  # ID: the boot, what it is, its journal; each begins on a line of its own.
  hf_see "$hf_scratch/$1/parts"
  printf '%s\n' "$hf_boot"
  cat "$hf_scratch/$1/upload.json" || exit 1
  printf '\n'
  cat "$hf_scratch/$1/parts" || exit 1
  ;;
hash)
  # ID, then pairs of offset and length: the SHA-256 of each.
  hf_file=$hf_scratch/$1/data
  [ -f "$hf_file" ] || hf_file=$hf_scratch/$1/object
  hf_see "$hf_file"
  shift
  while [ "$#" -ge 2 ]; do
    exec 3<"$hf_file"
    hf_skip "$1"
    hf_give "$2" 2>/dev/null | sha256sum || exit 1
    shift 2
  done
  ;;
complete)
  # ID KEY BYTES. Repeatable after a kill.
  hf_upload=$hf_scratch/$1
  hf_object=$hf_upload/object
  # Taken away from writers first.
  [ ! -e "$hf_upload/data" ] || mv -f "$hf_upload/data" "$hf_object" 2>/dev/null
  hf_see "$hf_object"
  hf_said=$(truncate -s "$3" "$hf_object" 2>&1 && chmod 600 "$hf_object" 2>&1) || hf_absent "$hf_said" 4
  hf_said=$(dd if=/dev/null of="$hf_object" conv=notrunc,fsync 2>&1) || hf_absent "$hf_said" 4
  hf_see "$hf_object"
  hf_publish "$hf_object" "$2" exclusive
  printf '%s\n' "$hf_seen"
  set -- "$1"
  hf_verb=abort
  ;;
uploads)
  # Of each open upload its id and what it is, in one line.
  for hf_each in "$hf_scratch"/*/; do
    hf_each=${hf_each%/}
    [ -f "$hf_each/upload.json" ] || continue
    hf_said=$(cat "$hf_each/upload.json" 2>&1) || case $hf_said in
    *'No such file'*) continue ;;
    *) hf_fail "$hf_said" ;;
    esac
    printf '%s\t%s\n' "${hf_each##*/}" "$hf_said"
  done
  ;;
esac

if [ "$hf_verb" = abort ]; then
  # ID. The rename makes it gone at once for everybody; what is left of a killed removal is found under the second name.
  hf_gone=$hf_scratch/gone-$1
  rm -rf "$hf_gone" || exit 1
  if [ -e "$hf_scratch/$1" ]; then
    hf_said=$(mv "$hf_scratch/$1" "$hf_gone" 2>&1) || case $hf_said in
    *'No such file'*) ;;
    *) hf_fail "$hf_said" ;;
    esac
    hf_sync "$hf_scratch"
    rm -rf "$hf_gone" || exit 1
  fi
fi
exit 0
