/** What people see: colour, tables, sizes, times. Everything for people goes through here. */
import { createInterface } from 'node:readline/promises'
import { styleText } from 'node:util'
import { HoldfastError } from '../model/errors.ts'

/** Colour only on a terminal and without NO_COLOR; Node's own rules. */
export const paint = (style: Parameters<typeof styleText>[0], text: string): string =>
  styleText(style, text, { stream: process.stdout })

export const print = (text = ''): void => {
  process.stdout.write(`${text}\n`)
}
export const printJson = (value: unknown): void => print(JSON.stringify(value))

/** Notices that are not the answer: they must not end up in a pipe. */
export const note = (text: string): void => {
  process.stderr.write(`${text}\n`)
}

export function printError(facts: { code: string; detail: string; hint: string }): void {
  const head = styleText('red', `error ${facts.code}:`, { stream: process.stderr })
  process.stderr.write(`${head} ${clean(facts.detail)}\n`)
  if (facts.hint !== '') process.stderr.write(`hint: ${clean(facts.hint)}\n`)
}

/** Names and tool output come from elsewhere: no control sequences of theirs reach the terminal. */
export const clean = (text: string): string => text.replace(/(?![\n\t])\p{Cc}/gu, '�')

const visible = (text: string): number => {
  let width = 0
  // biome-ignore lint/suspicious/noControlCharactersInRegex: our own colour sequences take no room
  for (const _ of text.replace(/\x1b\[[0-9;]*m/g, '')) width++
  return width
}
export const padEnd = (text: string, width: number): string =>
  text + ' '.repeat(Math.max(0, width - visible(text)))
export const padStart = (text: string, width: number): string =>
  ' '.repeat(Math.max(0, width - visible(text))) + text

/** Breaks at spaces; the first line is indented like the others. */
export function wrapped(text: string, indent: string, columns: number): string[] {
  const room = Math.max(20, columns - indent.length)
  const lines: string[] = []
  let line = ''
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + 1 + word.length > room) {
      lines.push(indent + line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  lines.push(indent + line)
  return lines
}

/** Left-aligned columns under dim headings; `right` names the columns that hold numbers. */
export function table(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  right: string[] = [],
) {
  const cells = rows.map(row => row.map(clean))
  const widths = headings.map((heading, i) =>
    Math.max(heading.length, ...cells.map(row => visible(row[i] ?? ''))),
  )
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => {
        const width = widths[i] ?? 0
        if (right.includes(headings[i] ?? '')) return padStart(cell, width)
        return i === row.length - 1 ? cell : padEnd(cell, width)
      })
      .join('  ')
  print(paint('dim', line(headings)))
  for (const row of cells) print(line(row))
}

/** `name  value` lines; empty values are left out. */
export function fields(pairs: readonly (readonly [string, string | undefined])[]): void {
  const shown = pairs.filter((pair): pair is readonly [string, string] => (pair[1] ?? '') !== '')
  const width = Math.max(...shown.map(([name]) => name.length))
  for (const [name, value] of shown) print(`${paint('dim', padEnd(name, width))}  ${clean(value)}`)
}

/** Decimal, three significant digits: `1.07 GB`. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
  let value = count
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2
  return `${value.toFixed(digits)} ${units[unit]}`
}

/** `0.4 s`, `4 min 10 s`, `2 h 5 min`. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, milliseconds) / 1000
  if (seconds < 60) return `${seconds.toFixed(1)} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** Local time to the second, as people compare it with their watch. */
export function time(iso: string): string {
  const at = new Date(iso)
  const two = (n: number) => String(n).padStart(2, '0')
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
}

/** What was read of standard input and belongs to the next question. */
let unread = ''

/** One line from the terminal, or the first of standard input when that is none; nothing when it ends before. */
export async function askLine(question: string): Promise<string> {
  const asked = createInterface({ input: process.stdin, output: process.stderr })
  const closed = new Promise<string>(resolve => asked.once('close', () => resolve('')))
  try {
    return await Promise.race([asked.question(question), closed])
  } finally {
    asked.close()
  }
}

/** One line without echo from the terminal; the next line of standard input when that is not a terminal. */
export async function askSecret(question: string): Promise<string> {
  const input = process.stdin
  if (input.isTTY) {
    process.stderr.write(question)
    input.setRawMode(true)
  }
  let text = ''
  /** undefined: the line goes on. */
  const take = (letters: string): string | undefined => {
    for (const [index, letter] of [...letters].entries()) {
      if (letter === '\n' || letter === '\r' || letter === '\u0004') {
        unread = [...letters].slice(index + 1).join('')
        return text
      }
      if (letter === '\u0003') {
        throw new HoldfastError('operation.cancelled', 'Nothing was entered.', { hint: '' })
      }
      text = letter === '\u007f' ? text.slice(0, -1) : text + letter
    }
    return undefined
  }
  try {
    const before = take(unread)
    if (before !== undefined) return before
    unread = ''
    for await (const chunk of input.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
      const line = take(String(chunk))
      if (line !== undefined) return line
    }
    return text
  } finally {
    input.pause()
    if (input.isTTY) {
      input.setRawMode(false)
      process.stderr.write('\n')
    }
  }
}
