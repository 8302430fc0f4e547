/**
 * Reading what a client printed that was asked many things in one script: before each answer stands a line with our random mark,
 * so that no answer can be taken for another one.
 */
import { z } from 'zod'
import type { CheckResult } from '../model/types.ts'
import type { CommandResult, Examination, Examined } from './engine.ts'
import { checkedToken } from './names.ts'

/** The line before the answer to `what`; `end` stands after the last one. */
export const markLine = (token: string, what: string): string => `holdfast-${checkedToken(token)} ${what}`

/** Each answer by what was asked. What came after an error was never asked, and has none. */
export function answersIn(token: string, { stdout }: CommandResult): Map<string, string> {
  const answers = new Map<string, string>()
  const begins = markLine(token, '')
  let asked: string | undefined
  let lines: string[] = []
  const keep = () => asked !== undefined && answers.set(asked, lines.join('\n').trimEnd())
  for (const line of stdout.split('\n')) {
    if (line.startsWith(begins)) {
      keep()
      asked = line.slice(begins.length)
      lines = []
    } else lines.push(line)
  }
  // What was being answered when it ended is no answer.
  return answers
}

const shownCharacters = 500
const shown = (text: string): string =>
  text.length > shownCharacters ? `${text.slice(0, shownCharacters)}…` : text

/** One check per query. */
export function queryChecks(
  { queries }: Pick<Examination, 'queries'>,
  answers: ReadonlyMap<string, string>,
  said: string,
): CheckResult[] {
  const failed = queries.findIndex((_, index) => !answers.has(`query ${index}`))
  return queries.map(({ name, expect }, index) => {
    const base = { id: `examine.query-${index + 1}`, title: name }
    const fail = (detail: string): CheckResult => ({
      ...base,
      answer: 'fail',
      code: 'drill.check-failed',
      detail,
    })
    const found = answers.get(`query ${index}`)
    if (found === undefined) {
      return fail(
        index === failed
          ? `It could not be asked: ${shown(said.trim())}`
          : 'Not asked: one before it failed.',
      )
    }
    if (found === expect.trimEnd()) return { ...base, answer: 'pass', detail: shown(found) }
    return fail(`Expected "${shown(expect.trimEnd())}", found "${shown(found)}".`)
  })
}

const rowLine = z.object({ table: z.string(), rows: z.int() })

/** A line of JSON per table. */
export function rowsIn(answer: string | undefined): z.infer<typeof rowLine>[] {
  const lines = (answer ?? '').split('\n').filter(line => line !== '')
  return lines.map(line => rowLine.parse(JSON.parse(line)))
}

/** Below this a table may have become as large, or as small, between the server's last look at it and the backup. */
const fewRows = 1000

/**
 * Against what the server's statistics said just before the backup: estimates, so that only what no estimate explains fails it. A
 * large table that has come back empty does; one that is gone, or of another size by far, is a warning.
 */
export function expectedRows(
  counted: readonly z.infer<typeof rowLine>[],
  estimates: readonly { table: string; rows: number | null }[],
): { rows: Examined['rows']; check: CheckResult } {
  const known = new Map(estimates.map(one => [one.table, one.rows]))
  const rows = counted.map(one => ({ ...one, expected: known.get(one.table) ?? null }))
  const base = { id: 'examine.rows-expected', title: 'Rows against the manifest' }
  const compared = rows.flatMap(({ table, rows: found, expected }) =>
    expected === null ? [] : [{ table, found, expected }],
  )
  const names = new Set(counted.map(one => one.table))
  // Where there are more than are counted, one that is not among them is not gone.
  const gone = counted.length < mostTables ? estimates.filter(({ table }) => !names.has(table)) : []
  const empty = compared.filter(({ found, expected }) => found === 0 && expected >= fewRows)
  const other = compared.filter(
    ({ found, expected }) =>
      Math.abs(found - expected) >= fewRows && (found > 2 * expected || 2 * found < expected),
  )
  const words = (all: typeof compared) =>
    all
      .slice(0, 10)
      .map(({ table, found, expected }) => `${table} ${expected} → ${found}`)
      .join(', ') + (all.length > 10 ? ` and ${all.length - 10} more` : '')
  if (empty.length > 0) {
    const detail = `Empty in the copy, and not when it was backed up: ${words(empty)}.`
    return { rows, check: { ...base, answer: 'fail', code: 'drill.check-failed', detail } }
  }
  if (gone.length > 0 || other.length > 0) {
    const lost = gone.slice(0, 10).map(({ table }) => table)
    const parts = [
      ...(lost.length > 0 ? [`Not in the copy: ${lost.join(', ')} (dropped while the backup ran?).`] : []),
      ...(other.length > 0 ? [`Far from the estimates of the backup: ${words(other)}.`] : []),
    ]
    return { rows, check: { ...base, answer: 'warn', detail: parts.join(' ') } }
  }
  const detail =
    compared.length === 0
      ? 'Counted, not compared: there are no numbers of rows of that moment.'
      : `${compared.length} of ${rows.length} tables agree with the estimates of the backup; of the others it has none.`
  return { rows, check: { ...base, answer: 'pass', detail } }
}

/** As many as are counted, and as a manifest tells of. */
const mostTables = 1000

export function rowsCheck(rows: Examined['rows'], counted: boolean, said: string): CheckResult {
  const base = { id: 'examine.rows', title: 'Rows of every table can be read' }
  if (!counted) {
    return {
      ...base,
      answer: 'fail',
      code: 'drill.check-failed',
      detail: `They could not be counted: ${shown(said.trim())}`,
    }
  }
  const total = rows.reduce((sum, one) => sum + one.rows, 0)
  const detail = `${total} rows in ${rows.length} tables`
  return {
    ...base,
    answer: total === 0 ? 'warn' : 'pass',
    detail: total === 0 ? `${detail}: the copy is empty` : detail,
  }
}
