#!/bin/sh
# Makes the secrets that docker-compose.yml names, in ./secrets (or the directory given). What is there stays as it is.
#
# The directory is 0700 and the files 0444: services read them as users of their own (bind mounts keep the file's
# owner), and nobody else on this machine gets through the directory.
set -eu

directory=${1:-$(CDPATH='' cd -P "$(dirname "$0")/.." && pwd)/secrets}
umask 077
mkdir -p "$directory"
chmod 700 "$directory"
cd "$directory"

random() { head -c "$1" /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# keep NAME: standard input becomes the file, unless there is one.
keep() {
  if [ -s "$1" ]; then
    echo "kept $directory/$1" >&2
    return
  fi
  cat >"$1.new"
  chmod 444 "$1.new"
  sync "$1.new" 2>/dev/null || sync
  mv "$1.new" "$1"
  echo "made $directory/$1" >&2
}

random 24 | keep postgres_password
random 24 | keep temporal_db_password
random 24 | keep catalog_db_password
printf 'postgres://holdfast:%s@postgres:5432/holdfast' "$(cat catalog_db_password)" | keep catalog_url
random 32 | keep secret_key
printf 'hf_worker_%s' "$(random 32)" | keep worker_token
random 10 | keep store_access_key
random 24 | keep store_secret_key
printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
  "$(cat store_access_key)" "$(cat store_secret_key)" | keep store_credentials

echo 'Keep a copy of this directory away from this machine: secret_key opens the credentials that Holdfast stores.' >&2
