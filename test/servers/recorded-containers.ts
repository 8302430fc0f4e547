/**
 * A recorded container engine: the arguments that it takes, what it prints and how it exits are those of docker(1) 28 and podman(1) 5.
 * What it runs is a process of this machine, as the user that was asked for and with nothing but the environment that was asked
 * for, in namespaces of its own (processes, network); and as with the real ones no child of who asked: a client that is killed
 * leaves it. It has no file system of its own.
 */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface RecordedContainers {
  /** A directory for the PATH. */
  path: string
  /** Arguments of each call, without those of the program within. */
  calls(): Promise<string[][]>
  /** Labels of what is there. */
  there(): Promise<string[]>
}

export const imageId = `sha256:${'5e'.repeat(32)}`

/** `binaries`: the only programs of PostgreSQL that are in its image, whose name is `postgres:15`. */
export async function recordedContainers(
  path: string,
  engine: 'docker' | 'podman',
  binaries: string,
): Promise<RecordedContainers> {
  await mkdir(join(path, 'containers'), { recursive: true })
  await mkdir(join(path, 'bin'))
  await writeFile(join(path, 'calls'), '')
  const program = join(path, 'bin', engine)
  await writeFile(program, client(path, engine, binaries), { mode: 0o755 })
  return {
    path: join(path, 'bin'),
    calls: async () =>
      (await readFile(join(path, 'calls'), 'utf8'))
        .split('\n\n')
        .filter(Boolean)
        .map(call => call.split('\n')),
    there: async () => {
      const ids = await readdir(join(path, 'containers'))
      return await Promise.all(ids.map(id => readFile(join(path, 'containers', id, 'label'), 'utf8')))
    },
  }
}

const client = (path: string, engine: string, binaries: string) => `#!/bin/sh
all='${path}/containers'
unknown() { echo "unknown flag: $1" >&2; exit 125; }
verb=$1
shift
case $verb in
image)
  [ "$1 $2 $3" = 'inspect --format {{.Id}}' ] || unknown "$*"
  case $4 in postgres:15 | ${imageId}) echo '${imageId}' ;; *) echo "Error: No such image: $4" >&2; exit 1 ;; esac
  ;;
ps)
  [ "$1 $2 $3" = '--all --quiet --filter' ] || unknown "$*"
  for each in "$all"/*/; do
    [ "label=$(cat "$each/label" 2>/dev/null)" != "$4" ] || basename "$each"
  done
  ;;
rm)
  [ "$1 $2" = '--force --volumes' ] || unknown "$*"
  shift 2
  for each; do
    [ -d "$all/$each" ] || { echo "Error response from daemon: No such container: $each" >&2; exit 1; }
    read -r pid < "$all/$each/pid"
    kill -s KILL -- "-$pid" 2>/dev/null
    # It answers when the last process is gone.
    flock --exclusive --timeout 60 "$all/$each/alive" true || exit 1
    rm -rf -- "$all/$each"
    echo "$each"
  done
  ;;
run)
  { printf '%s\\n' "$verb"; for each; do [ "$each" != -c ] || break; printf '%s\\n' "$each"; done; echo; } >> '${path}/calls'
  label=none user= mounts= env= program= network=
  while [ $# -gt 0 ]; do
    case $1 in
    --rm | --interactive | --read-only) shift ;;
    --log-driver | --tmpfs | --shm-size | --workdir | --cap-drop | --security-opt) shift 2 ;;
    --pull) [ "$2" = never ] || unknown "$2"; shift 2 ;;
    --userns) [ '${engine}' = podman ] && [ "$2" = keep-id ] || unknown "$2"; shift 2 ;;
    --network) network=$2; shift 2 ;;
    --entrypoint) program=$2; shift 2 ;;
    --label) label=$2; shift 2 ;;
    --user) user=$2; shift 2 ;;
    --env) env="$env $2"; shift 2 ;;
    --mount)
      source=\${2#type=bind,source=}
      [ -d "\${source%%,target=*}" ] || { echo "invalid mount config for type bind: bind source path does not exist" >&2; exit 125; }
      shift 2
      ;;
    -*) unknown "$1" ;;
    *) break ;;
    esac
  done
  [ "$1" = '${imageId}' ] || { echo "Unable to find image '$1' locally" >&2; exit 125; }
  shift
  id=$(od -An -N6 -tx1 /dev/urandom | tr -d ' \\n')
  mkdir "$all/$id"
  printf %s "$label" > "$all/$id/label"
  echo 0 > "$all/$id/pid"
  as= new='--net --ipc --pid --fork --kill-child'
  if [ "$(id -u)" = 0 ]; then
    [ -z "$user" ] || as="setpriv --reuid=\${user%:*} --regid=\${user#*:} --clear-groups"
  else
    new="--user --map-current-user $new"
  fi
  [ "$network" = none ] || unknown "network $network"
  # A session of its own, as the engine's: signals to the client's group do not reach it. Its first process stays who it is:
  # who changes its user is not ended with its parent any more.
  exec 3<&0 9> "$all/$id/alive"
  flock --shared 9
  setsid sh -c 'echo $$ > "$0/pid"; "$@"; code=$?; [ ! -d "$0" ] || echo "$code" > "$0/exit"' "$all/$id" \\
    unshare $new sh -c 'cd / && "$@"; exit $?' sh \\
    $as env -i PATH='${binaries}:/usr/bin:/bin' $env "$program" "$@" <&3 3<&- &
  exec 9>&-
  trap : TERM INT HUP
  until [ -e "$all/$id/exit" ] || [ ! -d "$all/$id" ]; do wait "$!" || sleep 0.05; done
  code=$(cat "$all/$id/exit" 2>/dev/null || echo 137)
  rm -rf -- "$all/$id"
  exit "$code"
  ;;
*) unknown "$verb" ;;
esac
`
