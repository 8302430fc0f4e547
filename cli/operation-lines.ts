/** An operation as lines: the list of phases with bar, rate and time left. */
import type { WriteStream } from 'node:tty'
import { stripVTControlCharacters } from 'node:util'
import type { OperationView } from '../model/views.ts'
import { bytes, clean, duration, padEnd, padStart, paint, time } from './terminal.ts'

type PhaseView = OperationView['phases'][number]

const marks = { done: '✓', running: '●', failed: '✗', skipped: '–' } as const
const colours = { done: 'green', running: 'cyan', failed: 'red', skipped: 'dim' } as const

/** `backup 20261121T031400Z-full-9f3k  shop → vault`: the backup is what people know; the operation's id follows where it is needed. */
export function heading(operation: OperationView): string {
  const where =
    operation.kind === 'backup'
      ? `${operation.connection} → ${operation.destinations.join(', ')}`
      : operation.kind === 'drill'
        ? `${operation.destination} → a throw-away copy on ${operation.connection}`
        : operation.kind === 'restore' || operation.kind === 'pitr'
          ? `${operation.destination} → ${operation.connection}${operation.target === null ? '' : ` ${operation.target}`}`
          : operation.kind === 'rotateKeys'
            ? 'keys of backups'
            : operation.kind === 'scrub'
              ? operation.destination || 'every destination'
              : operation.kind === 'sweep'
                ? operation.destination || 'every destination and machine'
                : operation.kind === 'copy'
                  ? `→ ${operation.destination}`
                  : operation.kind === 'enablePitr'
                    ? operation.connection
                    : operation.destination
  const what = operation.backup || operation.id
  return `${operation.dryRun ? 'dry run: ' : ''}${paint('bold', operation.kind)} ${what}  ${clean(where)}`
}

/** One phase. `rate` in bytes per second is known while it is being watched. */
export function phaseLine(phase: PhaseView, operation: OperationView, rate: number | undefined): string {
  const mark = paint(colours[phase.state], marks[phase.state])
  const name = padEnd(phase.phase, 11)
  const progress = operation.progress
  if (phase.state === 'running' && progress !== null && progress.phase === phase.phase) {
    return `  ${mark} ${name}  ${running(progress, rate)}`
  }
  const ended = phase.endedAt === undefined ? Date.now() : Date.parse(phase.endedAt)
  const took = duration(ended - Date.parse(phase.startedAt))
  const size = phase.bytes === undefined || phase.bytes === 0 ? '' : bytes(phase.bytes)
  return `  ${mark} ${name}  ${padEnd(clean(phase.summary ?? ''), 52)}${padStart(size, 9)}${padStart(took, 11)}`
}

function running(progress: NonNullable<OperationView['progress']>, rate: number | undefined): string {
  const parts: string[] = []
  const total = progress.totalBytes
  if (total !== undefined && total > 0) {
    // Totals are estimates: what is shown never reaches the end before the phase does.
    const share = Math.min(0.99, progress.bytes / total)
    const full = Math.round(share * 17)
    parts.push('█'.repeat(full) + '░'.repeat(17 - full), `${Math.floor(share * 100)} %`)
    parts.push(`${bytes(progress.bytes)} of ~${bytes(Math.max(total, progress.bytes))}`)
  } else if (progress.bytes > 0) parts.push(bytes(progress.bytes))
  if (rate !== undefined && rate > 0 && progress.bytes > 0) {
    parts.push(`${bytes(rate)}/s`)
    if (total !== undefined && total > progress.bytes) {
      parts.push(`ETA ${duration(((total - progress.bytes) / rate) * 1000)}`)
    }
  }
  const limit = progress.limitBytesPerSecond
  if (limit !== undefined && limit !== null) parts.push(`limited to ${bytes(limit)}/s`)
  if (progress.note !== undefined) parts.push(clean(progress.note))
  if (parts.length === 0) parts.push(duration(Date.now() - Date.parse(progress.startedAt)))
  return parts.join('  ')
}

/** What stands below the list when all is over. */
export function summaryLines(operation: OperationView): string[] {
  const lines: string[] = []
  for (const check of operation.checks) {
    if (check.answer === 'pass') continue
    lines.push(`  ${paint(check.answer === 'fail' ? 'red' : 'yellow', check.answer)}  ${clean(check.detail)}`)
    if (check.hint !== undefined) lines.push(`        ${clean(check.hint)}`)
  }
  if (operation.state === 'parked') return [...lines, ...parkedLines(operation)]
  lines.push(...sweptLines(operation))
  for (const warning of operation.warnings) lines.push(`  ${paint('yellow', 'warn')}  ${clean(warning)}`)
  const ended = operation.endedAt === null ? Date.now() : Date.parse(operation.endedAt)
  const took = duration(ended - Date.parse(operation.createdAt))
  const good = operation.state === 'succeeded'
  const word = !good
    ? operation.state
    : !operation.dryRun
      ? 'done'
      : operation.kind === 'sweep'
        ? 'dry run: nothing was removed'
        : 'dry run: it would begin; checked'
  const next =
    !good ||
    operation.dryRun ||
    ['verify', 'rotateKeys', 'copy', 'scrub', 'sweep', 'tiering', 'enablePitr'].includes(operation.kind)
      ? ''
      : operation.kind === 'drill'
        ? ` · what it has shown: holdfast drill report ${operation.id}`
        : operation.kind === 'backup'
          ? ` · restore it beside: holdfast restore ${operation.backup} --target ${operation.connection} --database NEW`
          : ` · ${clean(operation.target ?? '')} is ready`
  lines.push(`${paint(good ? 'green' : 'red', word)} in ${took}${next}`)
  return lines
}

function sweptLines({ swept, dryRun }: OperationView): string[] {
  if (!swept) return []
  const verb = dryRun ? 'would remove' : 'removed'
  const lines = [
    ...swept.removed.map(what => `  ${verb} ${clean(what)}`),
    ...swept.skipped.map(one => `  left ${clean(one.what)}: ${one.code}: ${clean(one.detail)}`),
  ]
  return lines.length === 0 ? ['  Nothing is left over.'] : lines
}

/** What it waits for stands in the error that follows. */
function parkedLines(operation: OperationView): string[] {
  const { parkedUntil: until, retryAt } = operation.error?.context ?? {}
  const limit = [
    typeof retryAt === 'string' ? `; tries again by itself at ${time(retryAt)}` : '',
    typeof until === 'string' ? `; ends as failed after ${time(until)}` : '',
  ].join('')
  return [
    `${paint('yellow', 'parked')}: it keeps what it has done and waits for you${limit}`,
    `  go on: holdfast operation resume ${operation.id} · give up: holdfast operation cancel ${operation.id}`,
  ]
}

/** Redraws in place; what scrolled away stays as it was. */
export function drawOperation(stream: WriteStream): (operation: OperationView) => void {
  let drawn = 0
  let samples: { phase: string; at: number; bytes: number }[] = []
  return operation => {
    const now = Date.now()
    const progress = operation.progress
    if (progress !== null) {
      samples = samples.filter(
        s => s.phase === progress.phase && now - s.at < 5000 && s.bytes <= progress.bytes,
      )
      samples.push({ phase: progress.phase, at: now, bytes: progress.bytes })
    }
    const oldest = samples[0]
    const rate =
      progress === null || oldest === undefined || now - oldest.at < 500
        ? undefined
        : ((progress.bytes - oldest.bytes) * 1000) / (now - oldest.at)
    const lines = [
      heading(operation),
      ...operation.phases.map(phase => phaseLine(phase, operation, rate)),
      ...(['running', 'succeeded'].includes(operation.state) ? [] : [paint('dim', `  ${operation.state}`)]),
    ].map(line => fit(line, stream.columns))
    stream.write(`${drawn > 0 ? `\x1b[${drawn}A` : ''}\x1b[0J${lines.join('\n')}\n`)
    drawn = lines.length
  }
}

/** A line that wraps would break the redrawing: it is cut, and its colours with it. */
function fit(line: string, columns: number): string {
  const bare = stripVTControlCharacters(line)
  return bare.length <= columns ? line : `${bare.slice(0, Math.max(1, columns - 1))}…`
}
