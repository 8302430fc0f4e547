/** The status screen as lines: fits 80 columns, worst first; what is well takes one line each in a large fleet. */
import type { DatabaseStatus, StatusProblem, StatusView } from '../model/views.ts'
import { clean, duration, padEnd, padStart, paint, time, wrapped } from './terminal.ts'

export interface Screen {
  columns: number
  /** Everything about every database, however many there are. */
  detailed: boolean
  /** Appended to each command: `--profile prod`. */
  flags: string
}

const marks = { healthy: '✓', warning: '!', critical: '✗' } as const
const colours = { healthy: 'green', warning: 'yellow', critical: 'red' } as const
const problemColours = { note: 'dim', warning: 'yellow', critical: 'red' } as const

/** Up to so many databases are shown with their command even when all is well. */
const fewDatabases = 6

export function statusLines(status: StatusView, screen: Screen): string[] {
  const { databases, destinations, temporal } = status
  const nameWidth = Math.min(24, Math.max(8, ...databases.map(one => one.connection.length)))
  const lines = [paint('bold', summary(status)), '']
  for (const problem of status.problems) lines.push(...problemLines(problem, '', screen))
  for (const problem of destinations.flatMap(one => one.problems))
    lines.push(...problemLines(problem, '', screen))
  if (lines.length > 2) lines.push('')
  if (databases.length === 0) lines.push('No connections yet: holdfast connection add NAME URL')
  else {
    const heads = row(['DATABASE', 'RECOVERABLE TO', 'AGE', 'VERIFIED', 'RESTORE TAKES'], nameWidth)
    lines.push(paint('dim', `  ${heads}`))
  }
  const few = screen.detailed || databases.length <= fewDatabases
  for (const one of databases) {
    lines.push(`${paint(colours[one.level], marks[one.level])} ${row(cells(one), nameWidth)}`)
    lines.push(...below(one, few, screen))
  }
  if (!few) lines.push('', `The command for one of them: holdfast status DATABASE${screen.flags}`)
  const places = destinations.map(
    one => `${clean(one.name)} ${one.reachable ? (one.readOnly ? 'read only' : 'ok') : 'away'}`,
  )
  const workers = temporal.workers === null ? 'unknown' : String(temporal.workers)
  lines.push('')
  lines.push(
    ...wrapped(`destinations: ${places.join(', ') || 'none'}`, '', screen.columns).map(line =>
      paint('dim', line),
    ),
  )
  lines.push(paint('dim', `Temporal: ${temporal.reachable ? 'ok' : 'does not answer'}, workers: ${workers}`))
  return lines
}

function summary({ databases, at, version }: StatusView): string {
  const count = (level: DatabaseStatus['level']) => databases.filter(one => one.level === level).length
  const parts = [
    [count('critical'), 'in danger'],
    [count('warning'), 'to be looked at'],
    [count('healthy'), 'well'],
  ] as const
  const told = parts.filter(([n]) => n > 0).map(([n, words]) => `${n} ${words}`)
  const few = told.join(', ') || 'nothing to watch over yet'
  return `${few} · ${time(at)} · Holdfast ${version}`
}

function row(
  [name = '', moment = '', age = '', verified = '', takes = '']: string[],
  nameWidth: number,
): string {
  const shown = name.length > nameWidth ? `${name.slice(0, nameWidth - 1)}…` : name
  const left = `${padEnd(shown, nameWidth)}  ${padEnd(moment, 16)}  ${padStart(age, 8)}  `
  return `${left}${padEnd(verified, 8)}  ${takes}`.trimEnd()
}

function cells({ connection, latestBackup: latest, restore }: DatabaseStatus): string[] {
  if (latest === null) return [clean(connection), 'never', '', '', '']
  const verified = latest.verified === null ? 'no' : latest.verified.level
  return [
    clean(connection),
    time(latest.startedAt).slice(0, 16),
    ageOf(latest.ageSeconds),
    verified,
    restore === null || restore.seconds === null ? 'not known' : takes(restore.seconds, restore.basis),
  ]
}

/** What a backup took says at least how long; what was measured elsewhere says about. */
function takes(seconds: number, basis: NonNullable<DatabaseStatus['restore']>['basis']): string {
  const mark = basis === 'backup' ? '≥' : '~'
  return `${mark} ${duration(Math.max(0.1, seconds) * 1000)}`
}

function below(one: DatabaseStatus, few: boolean, screen: Screen): string[] {
  const lines: string[] = []
  const { restore, latestBackup: latest } = one
  if (restore !== null && latest !== null && (few || one.level !== 'healthy')) {
    lines.push(...commandLines(restore.command, screen))
    if (screen.detailed) {
      const kept = `backup ${latest.id} in ${latest.destination}, ${encryption(latest)}`
      lines.push(...wrapped(kept, '    ', screen.columns))
      lines.push(...wrapped(`restore time: ${restore.detail}`, '    ', screen.columns))
    }
  }
  if (few || one.level !== 'healthy') lines.push(...drillLines(one, screen))
  if (one.log !== null && (few || one.level !== 'healthy')) lines.push(...logLines(one.log, screen))
  if (few || one.level !== 'healthy') lines.push(...copiesLines(one, screen))
  for (const { name, words, next } of few ? one.schedules : []) {
    if (next === null) continue
    lines.push(
      ...wrapped(`next backup ${time(next).slice(0, 16)} (${name}: ${words})`, '    ', screen.columns),
    )
  }
  const told = one.problems.filter(problem => screen.detailed || problem.level !== 'note')
  for (const problem of told) lines.push(...problemLines(problem, '    ', screen))
  for (const operation of one.operations) {
    const doing = operation.phase === null ? '' : `, ${operation.phase}`
    lines.push(
      `    ${paint('cyan', '●')} ${operation.kind} ${operation.state}${doing} since ${time(operation.since)}`,
    )
    // A problem that says the same command was shown already.
    if (!told.some(problem => problem.command === operation.command)) {
      lines.push(...commandLines(operation.command, screen))
    }
  }
  return lines
}

/** What failed stands among the problems. */
function drillLines({ drill, latestBackup }: DatabaseStatus, { columns, detailed }: Screen): string[] {
  if (drill === null) {
    return detailed && latestBackup !== null
      ? ['    no drill yet: nobody has tried whether it can be restored']
      : []
  }
  if (drill.verdict !== 'passed') return []
  const took = drill.rtoMs === null ? '' : `, RTO ${duration(drill.rtoMs)}`
  return wrapped(
    `last drill passed ${time(drill.endedAt ?? drill.startedAt).slice(0, 16)}${took}`,
    '    ',
    columns,
  )
}

function logLines(log: NonNullable<DatabaseStatus['log']>, { columns }: Screen): string[] {
  const { destination, timeline, from, to, archivedAt } = log
  const reach =
    to === null ? 'no base backup reaches into it' : `any place from ${from} to ${to} on timeline ${timeline}`
  const last = archivedAt === null ? '' : `, archived until ${time(archivedAt)}`
  return wrapped(clean(`log in ${destination}: ${reach}${last}`), '    ', columns)
}

const shortWords = {
  copies: 'too few copies',
  media: 'all on disks',
  'off-site': 'none off-site',
  immutable: 'none immutable',
} as const

/** One line; where there is room, what mends each of it. */
function copiesLines({ copies }: DatabaseStatus, { columns, detailed, flags }: Screen): string[] {
  if (copies === null) return []
  const { missing, since, arriving, count, offSite, immutable } = copies
  if (missing.length === 0) {
    const words = `3-2-1: kept, ${count} copies; off-site ${offSite.join(', ')}; immutable ${immutable.join(', ')}`
    return detailed ? wrapped(clean(words), '    ', columns) : []
  }
  const short = missing.map(({ rule }) => shortWords[rule]).join(', ')
  const from = since === null ? '' : ` since ${time(since).slice(0, 16)}`
  const lines = wrapped(`3-2-1: ${short}${from}`, '    ', columns)
  if (arriving.length > 0) {
    lines.push(...wrapped(`it is being copied to ${clean(arriving.join(', '))}`, '      ', columns))
  }
  if (!detailed) return lines
  for (const [index, { detail, hint, command }] of missing.entries()) {
    lines.push(...wrapped(clean(detail), '      ', columns))
    // What the same command mends is said together.
    if (missing[index + 1]?.command === command) continue
    lines.push(
      ...wrapped(`→ ${clean(hint)}`, '      ', columns),
      ...commandLines(command, { columns, flags }),
    )
  }
  return lines
}

const encryption = ({ encrypted, keyAtHand }: NonNullable<DatabaseStatus['latestBackup']>): string =>
  !encrypted
    ? 'not encrypted'
    : keyAtHand === null
      ? 'encrypted, whether its key is here is not known'
      : 'encrypted, its key is here'

function problemLines(problem: StatusProblem, indent: string, screen: Screen): string[] {
  const head = problem.level === 'note' ? 'note' : problem.code
  const [first = '', ...rest] = wrapped(`${head}: ${clean(problem.detail)}`, `${indent}  `, screen.columns)
  const lines = [`${indent}${paint(problemColours[problem.level], first.slice(indent.length + 2))}`]
  lines.push(...rest)
  if (problem.level !== 'note')
    lines.push(...wrapped(`→ ${clean(problem.hint)}`, `${indent}  `, screen.columns))
  if (problem.command !== null) lines.push(...commandLines(problem.command, screen))
  return lines
}

/** For copying: a line that is too long goes on behind a backslash, as the shell reads it. */
function commandLines(command: string, { columns, flags }: Pick<Screen, 'columns' | 'flags'>): string[] {
  const words = `${clean(command)}${flags}`
  if (words.length + 6 <= columns) return [`    $ ${words}`]
  const at = words.search(/ --(?!to\b)/)
  if (at < 0) return [`    $ ${words}`]
  const tail = words.slice(at + 1)
  return [`    $ ${words.slice(0, at)} \\`, `        ${tail}`]
}

/** As short as it may be: `45 s`, `12 min`, `3 h 5 m`, `2 d 4 h`. */
function ageOf(seconds: number): string {
  if (seconds < 100) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 100) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h ${minutes % 60} m`
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}
