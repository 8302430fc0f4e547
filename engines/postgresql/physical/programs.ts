/** The server's own programs on a host: a physical restore needs them, and no server. */
import { z } from 'zod'
import { HoldfastError } from '../../../model/errors.ts'
import type { Command, Probe, ServerFacts } from '../../engine.ts'
import type { PostgresqlConnection } from '../connection.ts'

export const programFacts = z.object({
  /** Tools that run as root act as this user and group: no PostgreSQL runs as root. null: as they are. */
  actAs: z.object({ user: z.int().positive(), group: z.int() }).nullable(),
  /** Directories with `postgres` in them. */
  servers: z.array(z.object({ directory: z.string(), version: z.string() })),
})
export type ProgramFacts = z.infer<typeof programFacts>

/** What is constant in it is a script; what varies comes in as arguments. */
export const script = (text: string, ...args: string[]): Command => ({
  stages: [
    {
      argv: ['sh', '-c', text, 'sh', ...args],
      env: { LC_ALL: 'C', PGOPTIONS: '', PGHOSTADDR: '', PGPASSFILE: '/dev/null/none' },
    },
  ],
})

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

/** From another directory than the staging of root, which that user may not enter. */
export function asOwner({ actAs }: ProgramFacts, command: Command): Command {
  if (actAs === null) return command
  const [first, ...rest] = command.stages
  const prefix = [
    'setpriv',
    ...[`--reuid=${actAs.user}`, `--regid=${actAs.group}`, '--init-groups'],
    ...['sh', '-c', 'cd / && umask 077 && exec "$@"', 'sh'],
  ] as const
  return { ...command, stages: [{ ...first, argv: [...prefix, ...first.argv] }, ...rest] }
}

/** Its identity is not asked for: the server may be what was lost. */
export function probePrograms(settings: PostgresqlConnection): Probe<ServerFacts> {
  return {
    commands: { programs: script(lookForServers) },
    read({ programs }) {
      const [user, owner, group, ...lines] = (programs?.stdout ?? '').split('\n')
      if (programs?.exits.some(exit => exit !== 0) !== false || !/^\d+$/.test(user ?? '')) {
        throw new HoldfastError(
          'tool.failed',
          `Looking for PostgreSQL's programs on this host failed. ${programs?.stderrTail.trim().slice(-600) ?? ''}`,
        )
      }
      const servers = lines.flatMap(line => {
        const [, directory, version] = /^([^\t]+)\t.*\(PostgreSQL\) (\d+\S*)/.exec(line) ?? []
        return directory === undefined || version === undefined ? [] : [{ directory, version }]
      })
      const isRoot = user === '0'
      if (isRoot && !(Number(owner) > 0)) {
        throw new HoldfastError(
          'restore.mismatch',
          'The tools of this connection run as root, as whom PostgreSQL does not run, and there is no user postgres on their host.',
          { hint: 'Restore through a host whose tools run as the owner of the server (runAs).' },
        )
      }
      const actAs = isRoot ? { user: Number(owner), group: Number(group) } : null
      const facts: ProgramFacts = { actAs, servers }
      return {
        identity: '',
        version: servers[0]?.version ?? '',
        database: settings.database,
        sizeBytes: 0,
        facts: { programs: facts },
        tools: [],
      }
    },
  }
}
