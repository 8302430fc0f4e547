/**
 * Recovery to a target: the restored base backup, not yet named, replays the archived log as a server that nobody can reach, and
 * stops where the target says. What PostgreSQL is told for it stands on its command line: of a promoted copy nothing of it remains.
 */
import { HoldfastError, isErrorCode } from '../../../model/errors.ts'
import type { Manifest } from '../../../model/manifest.ts'
import type { RecoveryOrder, RecoveryTarget } from '../../../model/records.ts'
import type { Replayed } from '../../../model/replayed.ts'
import { shellWord } from '../../../model/shell.ts'
import { formatLsn, parseLsn, segmentNumber } from '../../../model/wal.ts'
import type { CommandResult, Step } from '../../engine.ts'
import { toolError } from '../../explain.ts'
import { one, step } from '../../steps.ts'
import { factsOf } from '../facts.ts'
import { clusterOf } from './facts.ts'
import { asOwner, isolatedServer, type ProgramFacts, script, shellText } from './programs.ts'
import type { Places } from './restore.ts'

/** restore_command: a percent sign has a meaning of its own there. */
const fetchCommand = (walConfig: string): string =>
  `holdfast wal fetch --config ${shellWord(walConfig).replaceAll('%', '%%')} "%f" "%p"`

const targetSettings = (target: RecoveryTarget): [string, string][] => {
  switch (target.kind) {
    case 'time':
      // Names of zones are not known yet when its command line is read, and Z is one.
      return [['recovery_target_time', target.time.replace('Z', '+00')], inclusion(target)]
    case 'lsn':
      return [['recovery_target_lsn', target.lsn], inclusion(target)]
    case 'xid':
      return [['recovery_target_xid', target.xid], inclusion(target)]
    case 'name':
      return [['recovery_target_name', target.name]]
    case 'immediate':
      return [['recovery_target', 'immediate']]
    case 'latest':
      return []
  }
}
const inclusion = ({ inclusive }: { inclusive: boolean }): [string, string] => [
  'recovery_target_inclusive',
  inclusive ? 'on' : 'off',
]

const settingsOf = ({ target, timeline, walConfig }: RecoveryOrder): [string, string][] => [
  ['restore_command', fetchCommand(walConfig)],
  ...targetSettings(target),
  ['recovery_target_timeline', String(timeline)],
]

/** Commands of the server that was backed up: one of them removes files of its archive. */
const notOurs = [
  ['recovery_end_command', ''],
  ['archive_cleanup_command', ''],
] as const

/** What of it belongs into the copy's own configuration. */
export function ownSettings(order: RecoveryOrder): string {
  const { action, port } = order
  const settings = [
    ...(port === null ? [] : [['port', String(port)] as const]),
    ...(action === 'promote'
      ? []
      : [...settingsOf(order), ['recovery_target_action', action] as const, ...notOurs]),
  ]
  return settings
    .map(([name, value]) => `${name} = '${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'\n`)
    .join('')
}

/** Of an earlier recovery of the server that was backed up: two targets are one too many, also where one of them is ''. */
export const forgetTargets = ['sed', '-i', '-e', '/^[[:space:]]*recovery_target/d'] as const

/**
 * Starts the server in the foreground of this very process group, with no standby's queries: what they ask of its settings does not
 * hold up the replay. It is done when it takes connections, or where it is to stay in recovery, when it has shut itself down for
 * the target. Every second, how far it is. A run that was killed is taken up again from its last restart point.
 * One that died after it had left recovery, and before its own timeline began, would go on past the target when it starts again: it
 * is sent back into recovery.
 * Arguments: programs, data directory, user, max_prepared_transactions, socket directory, result, action, timeline; then PostgreSQL's own.
 */
const replayScript = isolatedServer + shellText('replay')

/**
 * Left running as whoever gets it would start it: by its own configuration, which says that it archives nothing. Where that lay
 * outside of the data directory (Debian) it is not in the copy: then only its owner is let in, by a socket.
 * Arguments: programs, data directory.
 */
const startScript = shellText('start')

export const planStart = (directory: string, programs: ProgramFacts & { directory: string }): Step => ({
  ...step('start', 'start it', asOwner(programs, script(startScript, programs.directory, directory))),
  done: asOwner(programs, one(`${programs.directory}/pg_ctl`, '-D', directory, 'status')),
})

/** Nothing but the name of a file. */
const socketPort = 5432

/**
 * As it was for its proofs, but for longer: in the foreground of the job's group, begun again when it was killed.
 * Arguments: programs, data directory, max_prepared_transactions, the socket's directory, port.
 */
const serveScript = isolatedServer + shellText('serve')

export function planServe(
  directory: string,
  socket: string,
  programs: ProgramFacts & { directory: string },
  preparedTransactions: number,
): Step {
  const port = String(socketPort)
  const run = script(
    serveScript,
    ...[programs.directory, directory, String(preparedTransactions), socket, port],
  )
  return {
    ...step('serve', 'serve the copy on a private socket', asOwner(programs, run)),
    resume: 'attach',
    done: asOwner(
      programs,
      one(`${programs.directory}/pg_isready`, '-q', '-h', socket, '-p', port, '-d', 'postgres'),
    ),
  }
}

export const servedAs = (manifest: Manifest, socket: string, database: string) => ({
  settings: {
    host: socket,
    port: socketPort,
    user: clusterOf(manifest).bootstrapUser,
    database,
    maintenanceDatabase: 'postgres',
  },
  serverIdentity: `postgresql:${factsOf(manifest).server.systemIdentifier}/localhost:${socketPort}`,
})

/** Beside the mark of whose it is. */
export const resultOf = ({ temporary, mark }: Places): string => `${temporary}/${mark}.replayed`

export function planReplay(
  order: RecoveryOrder,
  places: Places,
  programs: ProgramFacts & { directory: string },
  { user, preparedTransactions }: { user: string; preparedTransactions: number },
): Step {
  const { action } = order
  const settings = [
    ...settingsOf(order),
    // Without standby's queries a pause is a shutdown; the copy itself says what is meant.
    ['recovery_target_action', action === 'promote' ? 'promote' : 'shutdown'] as const,
  ].flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const run = script(
    replayScript,
    ...[programs.directory, places.temporary, user, String(preparedTransactions), places.socket],
    ...[resultOf(places), action, String(order.timeline), ...settings],
  )
  return {
    id: 'replay',
    title: `replay the log, ${targetWords(order)}`,
    run: asOwner(programs, run),
    output: { to: 'none' },
    resume: 'attach',
    done: asOwner(programs, { stages: [{ argv: ['test', '-e', resultOf(places)] }] }),
    writesTo: 'target',
  }
}

export function targetWords({ target, timeline, action }: RecoveryOrder): string {
  const on = `on timeline ${timeline}, then ${action}`
  switch (target.kind) {
    case 'time':
    case 'lsn':
    case 'xid': {
      const what =
        target.kind === 'time'
          ? target.time
          : target.kind === 'lsn'
            ? target.lsn
            : `transaction ${target.xid}`
      return `${target.inclusive ? 'up to and with' : 'up to, and without,'} ${what} ${on}`
    }
    case 'name':
      return `up to the restore point "${target.name}" ${on}`
    case 'immediate':
      return `until the backup is consistent, ${on}`
    case 'latest':
      return `to the end of the archived log ${on}`
  }
}

/** Of what the server said last: bytes of the log since the beginning, and where that is. */
export function replayedSoFar(
  order: RecoveryOrder,
  line: string,
): { bytes: number; note: string } | undefined {
  const { start, segmentBytes } = order
  const begun = parseLsn(start) ?? 0n
  const segment = /restored log file "([0-9A-F]{24})"/.exec(line)?.[1]
  const number = segment === undefined ? undefined : segmentNumber(segment, segmentBytes)
  const at =
    number === undefined
      ? parseLsn(/current LSN: ([0-9A-F]+\/[0-9A-F]+)/.exec(line)?.[1] ?? '')
      : number * BigInt(segmentBytes)
  if (at === undefined) return undefined
  const bytes = at > begun ? Number(at - begun) : 0
  return { bytes, note: `${formatLsn(at)}${segment === undefined ? '' : `, ${segment}`}` }
}

/** What the server said at its end. Throws `restore.proof-failed` where that is not what the target names. */
export function readReplayed(order: RecoveryOrder, said: string): Replayed {
  // What is said once more is said of a server that was promoted, died, and came up again.
  const first = (pattern: RegExp) => pattern.exec(said)?.[1] ?? null
  const lsn = first(/redo done at ([0-9A-F]+\/[0-9A-F]+)/)
  const replayed: Replayed = {
    lsn,
    lastTransactionAt: first(/last completed transaction was at log time (.+)$/m),
    stoppedAt: first(/recovery stopping (.+)$/m),
    timeline: Number(first(/^Latest checkpoint.s TimeLineID: +(\d+)$/m) ?? 0),
  }
  const problem = wrong(order, replayed, said)
  if (problem === undefined) return replayed
  throw new HoldfastError('restore.proof-failed', `The recovery is not what was asked for: ${problem}.`)
}

function wrong(
  { target, action, timeline, end, segmentBytes }: RecoveryOrder,
  replayed: Replayed,
  said: string,
) {
  const state = /^Database cluster state: +(.+)$/m.exec(said)?.[1]
  const wanted = action === 'promote' ? 'shut down' : 'shut down in recovery'
  if (state !== wanted) return `pg_controldata says "${state ?? 'nothing'}", not "${wanted}"`
  if (action === 'promote' && replayed.timeline <= timeline) {
    return `the copy is on timeline ${replayed.timeline}, and not on a new one`
  }
  const at = replayed.lsn === null ? undefined : parseLsn(replayed.lsn)
  if (target.kind === 'lsn' && at !== undefined && at < (parseLsn(target.lsn) ?? 0n)) {
    return `it ended with the record at ${replayed.lsn}`
  }
  // The last segment may begin with the rest of a record that is in none after it.
  if (target.kind === 'latest' && (at ?? 0n) + 2n * BigInt(segmentBytes) < (parseLsn(end) ?? 0n)) {
    return `it ended with the record at ${replayed.lsn ?? 'no place'}, and the log was archived up to ${end}`
  }
  if (target.kind !== 'latest' && replayed.stoppedAt === null)
    return 'the server did not say that it stopped for it'
  return undefined
}

/** Whether nothing happened until then is only known from a transaction that came later. */
const afterIt =
  'If the server still runs, make a transaction and have it archived: SELECT pg_current_xact_id(); SELECT pg_switch_wal(); then recover again. Else name the time of the last transaction, or `latest`.'

/** Of a recovery that ended before its target; undefined: not for a reason of its own. */
export function explainReplay(result: CommandResult, order: RecoveryOrder): HoldfastError | undefined {
  const said = result.stderrTail
  if (!/holdfast: recovery ended with/.test(said)) return undefined
  const step = { title: `Recovering ${targetWords(order)}` }
  if (/recovery ended before configured recovery target was reached/.test(said)) {
    const at = /last completed transaction was at log time (.+)$/m.exec(said)?.[1]
    const until = at === undefined ? '' : `; the last transaction in it is of ${at}`
    const words = `the archived log ended before it${until}`
    return toolError(
      'pitr.not-reached',
      result,
      step,
      words,
      order.target.kind === 'time' ? afterIt : undefined,
    )
  }
  if (/requested recovery stop point is before consistent recovery point/.test(said)) {
    const what = 'the target lies before the place where the base backup is consistent'
    return toolError('pitr.unreachable', result, step, what, 'Name an older base backup: --base BACKUP.')
  }
  if (result.exits.some(exit => exit > 128) || /was terminated by signal 9/.test(said)) {
    return toolError('tool.interrupted', result, step, 'a process of the server was killed')
  }
  // The fetching client says its code itself; the last one is why the server gave up.
  const [, code = '', detail = ''] = [...said.matchAll(/^error ([a-z]+(?:\.[a-z-]+)?): (.*)$/gm)].at(-1) ?? []
  if (isErrorCode(code)) return new HoldfastError(code, `${step.title}: ${detail}`)
  if (/No space left on device/.test(said)) {
    return toolError('restore.target-full', result, step, 'the file system of the new directory is full')
  }
  return toolError('pitr.failed', result, step, 'the server ended')
}
