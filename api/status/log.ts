/** What the status screen says of a server's archived log. */
import type { StoredConnection } from '../../catalog/connections.ts'
import { readWatched } from '../../catalog/log-watch.ts'
import { systemIdentifierOf } from '../../model/base-backups.ts'
import { errorTable } from '../../model/errors.ts'
import type { ArchivedLogView, RecoveryWindowView } from '../../model/recovery-views.ts'
import type { DatabaseStatus, StatusProblem } from '../../model/views.ts'
import { basesOf } from '../recovery-windows.ts'
import type { Round } from './database.ts'

/** undefined: it has no archive, or nobody could say. */
export async function logStatus(
  round: Round,
  { name, serverIdentity }: Pick<StoredConnection, 'name' | 'serverIdentity'>,
): Promise<{ shown: DatabaseStatus['log']; problems: StatusProblem[] } | undefined> {
  const systemIdentifier = systemIdentifierOf(serverIdentity)
  if (systemIdentifier === undefined) return undefined
  const stream = { connection: name, systemIdentifier }
  const bases = await basesOf(round.context, name, systemIdentifier)
  const looked = [...round.looks.values()].map(look => look.logOf(stream, bases))
  const archives = (await Promise.all(looked)).filter(archive => archive != null)
  const found = furthest(archives)
  const problems = await alarmProblems(round, name)
  if (found === undefined) return problems.length === 0 ? undefined : { shown: null, problems }
  const { gap, ...best } = found
  const command = `holdfast pitr windows ${name}`
  if (best.to === null) {
    problems.push({
      level: 'warning',
      code: 'wal.no-base',
      detail:
        'Its log is archived, but no physical backup reaches into it: no moment of it can be recovered.',
      hint: 'Make a physical backup (a connection with --method physical).',
      command,
    })
  }
  if (gap !== undefined) {
    problems.push({
      level: 'warning',
      code: 'wal.gap',
      detail: `Segments are missing in the log in ${best.destination}: what comes after ${best.to} cannot be recovered.`,
      hint: 'On the database host: `holdfast wal repair --pgdata DIR`. Else make a new physical backup.',
      command,
    })
  }
  return { shown: best, problems }
}

/** What the watch has found that needs the server's word; holes are seen in the archive itself. */
async function alarmProblems({ context }: Round, connection: string): Promise<StatusProblem[]> {
  const seen = await readWatched(context.catalog, connection)
  const alarms = seen?.alarms.filter(({ code }) => code !== 'wal.gap' && code !== 'wal.no-base') ?? []
  return alarms.map(({ code, detail, since }) => ({
    level: code === 'wal.unwatched' || code === 'wal.behind' ? 'warning' : 'critical',
    code,
    detail: `${detail} Since ${since}.`,
    hint: errorTable[code].hint,
    command: `holdfast pitr status ${connection}`,
  }))
}

type Summed = NonNullable<DatabaseStatus['log']> & { gap: RecoveryWindowView['gaps'][number] | undefined }

/** Of the archives of one server the one that reaches furthest, with the first hole after its newest base backup. */
export const furthest = (archives: readonly ArchivedLogView[]): Summed | undefined =>
  archives.map(summed).sort((a, b) => rank(b).localeCompare(rank(a)))[0]

function summed({ destination, newest, windows }: ArchivedLogView): Summed {
  const window = windows.at(-1)
  const base = window?.bases.at(-1)
  const since = base && window?.gaps.filter(gap => padded(gap.lost.from) >= padded(base.to))
  return {
    gap: since?.[0],
    destination,
    timeline: window?.timeline ?? 1,
    from: base?.from ?? null,
    to: base?.to ?? null,
    archivedAt: newest?.archivedAt ?? null,
    gaps: since?.length ?? 0,
  }
}

/** So that text sorts as places do. */
const padded = (lsn: string): string =>
  lsn
    .split('/')
    .map(half => half.padStart(8, '0'))
    .join('/')

const rank = ({ timeline, to, archivedAt }: NonNullable<DatabaseStatus['log']>): string =>
  [to === null ? 0 : 1, String(timeline).padStart(10, '0'), padded(to ?? ''), archivedAt ?? ''].join(' ')
