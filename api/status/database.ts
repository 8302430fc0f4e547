/** One database on the status screen: what can be restored, how long it takes, what is wrong, what runs. */
import { listBackups } from '../../catalog/backups.ts'
import type { StoredConnection } from '../../catalog/connections.ts'
import type { StoredDestination } from '../../catalog/destinations.ts'
import { findOperation, listOperations } from '../../catalog/operations.ts'
import { engineOf } from '../../engines/index.ts'
import type { BackupRecord, CopyRecord, OperationRecord } from '../../model/records.ts'
import type { ScheduleRecord } from '../../model/schedules.ts'
import { shellWord } from '../../model/shell.ts'
import type { DatabaseStatus, StatusProblem } from '../../model/views.ts'
import { type Keyring, keyFilesOf } from '../../storage/keys.ts'
import type { ApiContext } from '../context.ts'
import { copiesStatus } from './copies.ts'
import { drillProblems, lastDrill } from './drill.ts'
import { estimate, type Measured } from './estimate.ts'
import { logStatus } from './log.ts'
import type { Look } from './look.ts'
import { brokenPromises, scheduledBackups, shownSchedule } from './schedules.ts'

/** What one round of the screen has found out already. */
export interface Round {
  context: ApiContext
  now: Date
  destinations: readonly StoredDestination[]
  looks: ReadonlyMap<string, Look>
  keyring: Keyring
  measured: readonly Measured[]
  open: readonly OperationRecord[]
  /** By connection. */
  schedules: ReadonlyMap<string, readonly ScheduleRecord[]>
}

/** Backups that are looked at until one can be restored. */
const depth = 10
/** Without a schedule there is no promise to be late for; a day is what people expect then. */
const oldSeconds = 26 * 3600

export const levels = ['healthy', 'warning', 'critical'] as const

export async function statusOf(
  round: Round,
  name: string,
  connection: StoredConnection | undefined,
): Promise<DatabaseStatus> {
  const { catalog } = round.context
  const backups = await listBackups(catalog, { connection: name, committed: true }, undefined, depth)
  const problems: StatusProblem[] = []
  let latest: Judged | undefined
  for (const backup of backups) {
    const judged = await judge(round, backup)
    if (judged.problem === undefined) {
      latest = judged
      problems.push(...judged.others)
      break
    }
    problems.push(judged.problem)
  }
  const found = latest?.backup
  const ageSeconds =
    found && Math.max(0, Math.floor((round.now.getTime() - Date.parse(found.startedAt)) / 1000))
  const operations = round.open.filter(one => one.connection === name)
  const scheduled = await scheduledBackups(catalog, round.schedules.get(name) ?? [])
  const underWay = operations.some(one => one.kind === 'backup')
  for (const one of scheduled) problems.push(...brokenPromises(one, found?.startedAt, round.now, underWay))
  if (latest === undefined) problems.push(nothingToRestore(name, backups.length, connection !== undefined))
  else problems.push(...worries(round, latest))
  const promised = scheduled.some(({ schedule }) => !schedule.paused)
  if (found !== undefined && (ageSeconds ?? 0) > oldSeconds && !promised && !underWay) {
    problems.push(old(name, ageSeconds ?? 0))
  }
  if (connection === undefined && found !== undefined) problems.push(noConnection(name))
  const log = connection && (await logStatus(round, connection))
  problems.push(...(log?.problems ?? []))
  const drill = await lastDrill(catalog, name)
  problems.push(...drillProblems(drill))
  problems.push(...(await lastFailure(round, name, found)), ...operations.flatMap(waiting))
  const severity = (problem: StatusProblem) => (problem.level === 'note' ? 0 : levels.indexOf(problem.level))
  problems.sort((a, b) => severity(b) - severity(a))
  return {
    connection: name,
    engine: connection?.engine ?? backups[0]?.engine ?? '',
    address: connection?.address ?? null,
    level: levels[Math.max(0, ...problems.map(severity))] ?? 'healthy',
    latestBackup: latest === undefined ? null : shown(latest, ageSeconds ?? 0),
    ageSeconds: ageSeconds ?? null,
    restore: found === undefined ? null : await restoreOf(round, found),
    copies:
      latest === undefined
        ? null
        : copiesStatus(
            latest.backup,
            latest.whole,
            backups.slice(backups.indexOf(latest.backup) + 1),
            round.destinations,
            round.now,
          ),
    log: log?.shown ?? null,
    drill: drill ?? null,
    operations: operations.map(openOperation),
    schedules: scheduled.map(one => shownSchedule(one, round.now)),
    problems,
  }
}

interface Judged {
  backup: BackupRecord
  /** The copy that a restore would read. */
  copy: CopyRecord
  seen: boolean | null
  keyAtHand: boolean | null
  /** Why it cannot be restored. */
  problem: StatusProblem | undefined
  /** Every copy that can be restored as far as we know. */
  whole: CopyRecord[]
  /** What is wrong with copies beside the one to read. */
  others: StatusProblem[]
}

type JudgedCopy = Omit<Judged, 'whole' | 'others'>

/** By the best of its copies: one that was seen just now, else one that may be there. */
async function judge(round: Round, backup: BackupRecord): Promise<Judged> {
  const judged: JudgedCopy[] = []
  for (const copy of backup.copies) {
    if (copy.state === 'committed') judged.push(await judgeCopy(round, backup, copy))
  }
  const whole = judged.filter(one => one.problem === undefined)
  const best = whole.find(one => one.seen) ?? whole[0] ?? judged[0]
  if (!best) throw new Error(`Backup ${backup.id} has no copy.`)
  const others = judged.flatMap(({ problem }) =>
    problem === undefined || best.problem !== undefined ? [] : [{ ...problem, level: 'warning' as const }],
  )
  return { ...best, whole: whole.map(({ copy }) => copy), others }
}

async function judgeCopy(round: Round, backup: BackupRecord, copy: CopyRecord): Promise<JudgedCopy> {
  const { id, encrypted } = backup
  const { destination, verified } = copy
  const look = round.looks.get(destination)
  const seen = (await look?.isThere(backup)) ?? null
  const keyAtHand = encrypted ? await keyIsHere(round, backup, look) : true
  const problem = (code: string, detail: string, hint: string, command: string | null = null) =>
    ({ level: 'critical', code, detail, hint, command }) as const
  const found =
    verified?.ok === false
      ? problem(
          'artifact.corrupted',
          `Backup ${id} is damaged in ${destination}: ${verified.detail}`,
          'Make a new one; another copy or an older one is used until then.',
          `holdfast backup ${backup.connection}`,
        )
      : seen === false
        ? problem(
            'manifest.missing',
            `Backup ${id} is in the catalog, but not in ${destination} any more.`,
            'Somebody removed it there. Make a new one, and look at who may delete there.',
            `holdfast backup ${backup.connection}`,
          )
        : keyAtHand === false
          ? problem(
              'key.missing',
              `Backup ${id} is encrypted, and no key that opens it is here.`,
              'Put its key file into the keys directory of the API.',
            )
          : undefined
  return { backup, copy, seen, keyAtHand, problem: found }
}

/** Whom a backup was encrypted for is asked of our own memory first, else of the keys beside it. */
async function keyIsHere({ context, keyring }: Round, backup: BackupRecord, look: Look | undefined) {
  const opening = keyFilesOf(keyring)
  const operation = backup.operationId && (await findOperation(context.catalog, backup.operationId))
  if (operation && 'recipients' in operation.input) {
    const { recipients } = operation.input
    if (opening.some(key => recipients.includes(key.name))) return true
  }
  const kids = await look?.keysOf(backup)
  return kids === undefined ? null : opening.some(key => kids.includes(key.kid))
}

function shown(
  { backup, copy, seen, keyAtHand }: Judged,
  ageSeconds: number,
): NonNullable<DatabaseStatus['latestBackup']> {
  const { id, database, startedAt, toolBytes, storedBytes, encrypted } = backup
  const { destination, verified } = copy
  return {
    id,
    database,
    destination,
    startedAt,
    ageSeconds,
    toolBytes,
    storedBytes,
    verified: verified?.ok ? { level: verified.level, at: verified.at } : null,
    encrypted,
    keyAtHand,
    seen,
  }
}

function nothingToRestore(name: string, damaged: number, connected: boolean): StatusProblem {
  return {
    level: 'critical',
    code: 'backup.not-found',
    detail: damaged === 0 ? 'There is no backup of it.' : 'None of its last backups can be restored.',
    hint: 'Make one now.',
    command: connected ? `holdfast backup ${name}` : null,
  }
}

function old(name: string, ageSeconds: number): StatusProblem {
  const days = Math.floor(ageSeconds / 86_400) || 1
  return {
    level: 'warning',
    code: 'backup.old',
    detail: `The latest backup is ${days === 1 ? 'a day' : `${days} days`} old, and no schedule makes the next one.`,
    hint: `Make one now, and let a schedule make the others (holdfast schedule add --help).`,
    command: `holdfast backup ${name}`,
  }
}

const noConnection = (name: string): StatusProblem => ({
  level: 'warning',
  code: 'request.not-found',
  detail: 'Its backups are known, its server is not: there is no connection of this name.',
  hint: 'Add it, to restore there and to go on backing it up; or restore to another connection.',
  command: `holdfast connection add ${name} URL`,
})

function worries({ looks }: Round, { backup, copy, seen }: Judged): StatusProblem[] {
  const problems: StatusProblem[] = []
  const trouble = looks.get(copy.destination)?.trouble
  if (seen === null) {
    problems.push({
      level: 'critical',
      code: trouble?.code ?? 'destination.unreachable',
      detail: `Backup ${backup.id} cannot be reached now: destination ${copy.destination} does not answer.`,
      hint: trouble?.hint ?? 'Check the destination.',
      command: `holdfast destination check ${copy.destination}`,
    })
  }
  if (backup.copies.every(({ verified }) => verified === null)) {
    problems.push({
      level: 'note',
      code: 'backup.not-verified',
      detail: `Backup ${backup.id} was never read back.`,
      hint: 'Verify it.',
      command: `holdfast backups verify ${backup.id} --level checksum`,
    })
  }
  return problems
}

/** The newest backup or restore that ended badly and was not made good since. */
async function lastFailure(
  { context }: Round,
  connection: string,
  latest: BackupRecord | undefined,
): Promise<StatusProblem[]> {
  const recent = await listOperations(context.catalog, { connection, kind: 'backup' }, undefined, depth)
  const ended = recent.find(
    one => one.state === 'failed' || one.state === 'succeeded' || one.state === 'partial',
  )
  if (ended?.state !== 'failed' || ended.error === null) return []
  if (latest !== undefined && latest.startedAt > (ended.endedAt ?? ended.createdAt)) return []
  return [
    {
      level: 'warning',
      code: ended.error.code,
      detail: `The last backup failed: ${ended.error.detail}`,
      hint: ended.error.hint,
      command: `holdfast operation show ${ended.id}`,
    },
  ]
}

/** What goes on only when somebody acts. */
function waiting(operation: OperationRecord): StatusProblem[] {
  const { id, kind, state, error } = operation
  const { command } = openOperation(operation)
  if (state === 'parked') {
    return [
      {
        level: 'warning',
        code: error?.code ?? 'operation.parked',
        detail: `The ${kind} ${id} is parked${error === null ? '.' : `: ${error.detail}`}`,
        hint: error?.hint ?? 'See to its cause, then resume or cancel it.',
        command,
      },
    ]
  }
  if (state !== 'awaiting-approval') return []
  const hint = 'Look at its plan, then approve or reject it.'
  const detail = `The ${kind} ${id} waits for approval.`
  return [{ level: 'warning', code: 'operation.awaiting-approval', detail, hint, command }]
}

async function restoreOf(
  round: Round,
  backup: BackupRecord,
): Promise<NonNullable<DatabaseStatus['restore']>> {
  const engine = engineOf(backup.engine)
  const took = (Date.parse(backup.endedAt) - Date.parse(backup.startedAt)) / 1000
  const mark = backup.startedAt.replace(/[-:]/g, '').replace('T', '_').slice(0, 15)
  const method = engine.methods[backup.method]
  const beside = method?.nameBeside?.(backup.manifest, mark) ?? engine.nameBeside(backup.database, mark)
  return {
    ...estimate(
      {
        connection: backup.connection,
        engine: backup.engine,
        engineTitle: engine.title,
        method: backup.method,
        bytes: backup.toolBytes,
        backupSeconds: took > 0 ? took : undefined,
      },
      round.measured,
    ),
    command: `holdfast restore ${backup.id} --target ${backup.connection} --database ${shellWord(beside)}`,
  }
}

function openOperation(operation: OperationRecord): DatabaseStatus['operations'][number] {
  const { id, kind, state, createdAt, phases, error } = operation
  const act =
    state === 'awaiting-approval'
      ? `approve ${id}`
      : state === 'parked' || state === 'paused'
        ? `operation resume ${id}`
        : `operation watch ${id}`
  return {
    id,
    kind,
    state,
    since: createdAt,
    phase: phases.findLast(phase => phase.state === 'running')?.phase ?? null,
    error,
    command: `holdfast ${act}`,
  }
}
