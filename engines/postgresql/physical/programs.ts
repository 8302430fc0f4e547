/** The server's own programs on a host: a physical restore needs them, and no server. */
import { readFileSync } from 'node:fs'
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

/** One of the scripts of this folder. */
export const shellText = (name: string): string =>
  readFileSync(new URL(`./sh/${name}.sh`, import.meta.url), 'utf8')

/** Before a script that starts a copy: its functions `apart`, `isolated` and `stop`. */
export const isolatedServer = shellText('apart')

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
