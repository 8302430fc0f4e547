# hf_private ROOT: what is staged is a database in clear. Nobody else may look, and nobody else may have prepared the place.
hf_private() {
  for hf_each in "$1" "$1/jobs" "$1/data"; do
    mkdir -p -- "$hf_each" || exit 1
    if [ -L "$hf_each" ] || [ "$(stat -c %u -- "$hf_each")" != "$(id -u)" ]; then
      printf '%s is not a private directory of this user\n' "$hf_each" >&2
      exit 1
    fi
    chmod go-rwx -- "$hf_each" || exit 1
  done
}

