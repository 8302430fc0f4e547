/**
 * The server's programs out of an image, for a drill on a host that has a container engine instead of PostgreSQL. What runs in such
 * a container sees the directories of the copy and nothing else: no network, no capability, a root that it cannot write. It carries
 * the mark of its plan as a label; what is removed is what has that label. Arguments: docker-run(1) and podman-run(1).
 */
import { HoldfastError } from '../../../model/errors.ts'
import type { Command } from '../../engine.ts'
import { asOwner, type ProgramFacts, script } from './programs.ts'

/** Of `programFacts`. */
export type Container = NonNullable<ProgramFacts['container']>

const labelOf = (mark: string) => `holdfast.mark=${mark}`

/** No image is fetched: that would be counted as recovery time, and what came would not be what was looked at. */
const cutOff = [
  ...['run', '--rm', '--interactive', '--pull', 'never', '--network', 'none', '--log-driver', 'none'],
  ...['--read-only', '--tmpfs', '/tmp', '--shm-size', '256m', '--workdir', '/', '--cap-drop', 'ALL'],
  ...['--security-opt', 'no-new-privileges', '--security-opt', 'label=disable', '--entrypoint', 'sh'],
]

/** Prints the ids of user and group that the tools run as, the image's id, then what `look` says within it. */
const lookInImage = `engine=$1 image=$2 look=$3
shift 3
id -u
id -g
id=$("$engine" image inspect --format '{{.Id}}' "$image") || exit
echo "$id"
"$engine" "$@" "$id" -c "$look" < /dev/null`

export const lookInto = ({ engine, image }: { engine: string; image: string }, look: string): Command =>
  script(lookInImage, engine, image, look, ...cutOff)

/** One that ended is being removed by its engine, and cannot be by us meanwhile. */
const remove = `gone() {
  tries=0
  while left=$("$engine" ps --all --quiet --filter "label=$label") || return 1; [ -n "$left" ]; do
    "$engine" rm --force --volumes $left > /dev/null 2>&1 && continue
    tries=$((tries + 1))
    [ "$tries" -lt 30 ] || { "$engine" rm --force --volumes $left > /dev/null; return 1; }
    sleep 1
  done
}
engine=$1 label=$2
shift 2
gone || exit 1`

/** The container is a child of its engine, not of us: who kills our process group leaves it, and the next run removes it first. */
const removeAndRun = `${remove}
exec 3<&0
"$engine" "$@" <&3 3<&- &
trap 'gone; exit 143' TERM INT HUP
wait "$!"
code=$?
[ "$code" -lt 125 ] || [ "$code" -gt 127 ] || echo 'holdfast: the container was not started' >&2
exit "$code"`

/**
 * Whose processes wrote that file is over: they were in a container that is gone. In the next one somebody else has the number of
 * their server, which PostgreSQL takes for it.
 */
const begin = `umask 077 && rm -f -- "$1/postmaster.pid" && shift && exec "$@"`

/** By the server's programs, wherever they are. `directories`: what a container is to see, by the same names; the copy's data first. */
export function byPrograms(
  programs: ProgramFacts,
  mark: string,
  directories: readonly string[],
  command: Command,
): Command {
  const { container } = programs
  if (!container) return asOwner(programs, command)
  const [{ argv, env = {} }] = command.stages
  const options = [
    ...['--label', labelOf(mark), '--user', container.user],
    ...(container.keepsIds ? ['--userns', 'keep-id'] : []),
    ...Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
    ...directories.flatMap(path => ['--mount', `type=bind,source=${path},target=${path}`]),
  ]
  const within = ['-c', begin, 'sh', directories[0] ?? '/', ...argv]
  return {
    ...command,
    ...script(
      removeAndRun,
      container.engine,
      labelOf(mark),
      ...cutOff,
      ...options,
      container.image,
      ...within,
    ),
  }
}

export const removeContainers = ({ engine }: Container, mark: string): Command =>
  script(remove, engine, labelOf(mark))

/** A comma ends a field of `--mount`. */
export function expectMountable(directory: string): void {
  if (!/[",]/.test(directory)) return
  throw new HoldfastError(
    'request.invalid',
    `target.database: "${directory}" cannot be mounted: it holds a comma or a quote.`,
  )
}
