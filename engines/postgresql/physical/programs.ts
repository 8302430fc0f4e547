/** The server's own programs on a host: a physical restore needs them, and no server. */
import { z } from 'zod'
import type { Command } from '../../engine.ts'

export const programFacts = z.object({
  /** Tools that run as root act as this user and group: no PostgreSQL runs as root. null: as they are. */
  actAs: z.object({ user: z.int().positive(), group: z.int() }).nullable(),
  /** Directories with `postgres` in them. */
  servers: z.array(z.object({ directory: z.string(), version: z.string() })),
  /** Those are directories of this image. */
  container: z
    .object({
      engine: z.enum(['docker', 'podman']),
      /** Its id. */
      image: z.string(),
      /** Ids of user and group, as in `999:999`. */
      user: z.string(),
      /** Whoever the tools run as has the same id within: an ordinary user's containers map it otherwise. */
      keepsIds: z.boolean(),
    })
    .nullable(),
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

/**
 * Arguments of `postgres` in a script, wherever a copy is started before it was handed over: nobody's configuration but that in
 * `$run`, no TCP, no archiving, no slot, no worker that would reach out, no library. One place, so that no copy forgets one of them.
 */
export const isolated = [
  '-c config_file="$run/postgresql.conf" -c hba_file="$run/hba.conf" -c ident_file="$run/ident.conf"',
  '-c listen_addresses= -c unix_socket_directories="$run" -c unix_socket_permissions=0700 -c external_pid_file=',
  '-c archive_mode=off -c primary_conninfo= -c primary_slot_name= -c max_wal_senders=0',
  '-c max_logical_replication_workers=0 -c autovacuum=off -c ssl=off -c jit=off',
  '-c shared_preload_libraries= -c session_preload_libraries= -c local_preload_libraries=',
  '-c logging_collector=off -c log_destination=stderr',
].join(' ')

/** Before a script: `isolated SETTING… &` is that server of `$data`, and `$!` its process. */
export const isolatedServer = `isolated() {
  # A server that begins to recover sends all its files to disk: here not one by one. From version 14 on.
  syncfs=
  case $(uname)/$("$bin/postgres" -V) in
    *' 13'[.a-z]*) ;;
    Linux/*) syncfs='-c recovery_init_sync_method=syncfs' ;;
  esac
  exec "$bin/postgres" -D "$data" -p 5432 ${isolated} $syncfs "$@"
}
`

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
