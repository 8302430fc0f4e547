/** Which programs of the server a host has, or an image on it. */
import { HoldfastError } from '../../../model/errors.ts'
import type { Image } from '../../../model/records.ts'
import type { CommandResult, Probe, ServerFacts } from '../../engine.ts'
import type { PostgresqlConnection } from '../connection.ts'
import { lookInto } from './container.ts'
import { type ProgramFacts, script } from './programs.ts'

const lookForServers = `id -u
id -u postgres 2>/dev/null || echo -
id -g postgres 2>/dev/null || echo -
for d in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* /usr/local/pgsql/bin /opt/homebrew/opt/postgresql@*/bin; do
  [ -x "$d/postgres" ] && printf '%s\\t%s\\n' "$d" "$("$d/postgres" --version)"
done
IFS=:
for d in $PATH; do
  [ -x "$d/postgres" ] && [ -x "$d/pg_controldata" ] && printf '%s\\t%s\\n' "$d" "$("$d/postgres" --version)"
done
exit 0`

/** Its identity is not asked for: the server may be what was lost. */
export function probePrograms(settings: PostgresqlConnection, image?: Image): Probe<ServerFacts> {
  return {
    commands: {
      programs: script(lookForServers),
      ...(image ? { image: lookInto(image, lookForServers) } : {}),
    },
    read({ programs, image: within }) {
      const here = readLook(programs, 'on this host')
      const facts: ProgramFacts = image ? { actAs: here.actAs, ...inImage(image, within, here.actAs) } : here
      return {
        identity: '',
        version: facts.servers[0]?.version ?? '',
        database: settings.database,
        sizeBytes: 0,
        facts: { programs: facts },
        tools: [],
      }
    },
  }
}

function readLook(said: CommandResult | undefined, where: string): ProgramFacts {
  const [user, owner, group, ...lines] = (said?.stdout ?? '').split('\n')
  if (said?.exits.some(exit => exit !== 0) !== false || !/^\d+$/.test(user ?? '')) {
    throw new HoldfastError(
      'tool.failed',
      `Looking for PostgreSQL's programs ${where} failed. ${said?.stderrTail.trim().slice(-600) ?? ''}`,
    )
  }
  const isRoot = user === '0'
  if (isRoot && !(Number(owner) > 0)) {
    throw new HoldfastError(
      'restore.mismatch',
      'The tools of this connection run as root, as whom PostgreSQL does not run, and there is no user postgres on their host.',
      { hint: 'Restore through a host whose tools run as the owner of the server (runAs).' },
    )
  }
  return {
    actAs: isRoot ? { user: Number(owner), group: Number(group) } : null,
    servers: serversIn(lines),
    container: null,
  }
}

const serversIn = (lines: readonly string[]): ProgramFacts['servers'] =>
  lines.flatMap(line => {
    const [, directory, version] = /^([^\t]+)\t.*\(PostgreSQL\) (\d+\S*)/.exec(line) ?? []
    return directory === undefined || version === undefined ? [] : [{ directory, version }]
  })

function inImage(
  { engine, image }: Image,
  said: CommandResult | undefined,
  actAs: ProgramFacts['actAs'],
): Pick<ProgramFacts, 'servers' | 'container'> {
  const [user = '', group = '', id = '', ...lines] = (said?.stdout ?? '').split('\n')
  if (said?.exits.some(exit => exit !== 0) !== false) {
    const isMissing = said?.exits.includes(127) && id === ''
    throw new HoldfastError(
      isMissing ? 'host.tool-missing' : 'tool.failed',
      `Looking for PostgreSQL's programs in the image ${image} by ${engine} on this host failed. ${said?.stderrTail.trim().slice(-600) ?? ''}`,
      isMissing ? {} : { hint: `Get the image on that host first: ${engine} pull ${image}` },
    )
  }
  return {
    servers: serversIn(lines),
    container: {
      engine,
      image: id,
      user: actAs ? `${actAs.user}:${actAs.group}` : `${user}:${group}`,
      keepsIds: engine === 'podman' && actAs === null,
    },
  }
}
