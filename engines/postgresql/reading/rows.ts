/**
 * Rows as COPY writes them: one line each, fields between tabs, `\.` at the end. A line with another number of fields, or a
 * NUL, is damage; so is an end without the mark.
 */

export interface Rows {
  /** Takes bytes up to and with the end mark; returns how many. */
  push(chunk: Buffer): number
  /** The end mark was there. */
  readonly ended: boolean
  readonly count: number
  /** The first line that cannot be a row of this table. */
  readonly bad: BadRow | undefined
}

export interface BadRow {
  row: number
  /** From the first byte of the rows on. */
  offset: number
  what: string
}

const tab = 9
const newline = 10

/** `columns`: undefined takes the first row's number. */
export function readRows(columns: number | undefined): Rows {
  let expected = columns
  let count = 0
  let ended = false
  let bad: BadRow | undefined
  let tabs = 0
  let before = 0
  let lineStart = 0
  // The first two bytes of a line that began in an earlier chunk.
  let first = -1
  let second = -1
  const line = (row: number, offset: number, bytes: number) => {
    const fields = tabs === 0 && bytes === 0 && expected === 0 ? 0 : tabs + 1
    expected ??= fields
    if (fields !== expected && bad === undefined) {
      bad = { row, offset, what: `It has ${fields} fields, the table ${expected}` }
    }
  }
  return {
    push(chunk) {
      for (let at = 0; at < chunk.length; at += 1) {
        const byte = chunk[at] as number
        const column = before + at - lineStart
        if (column < 2) {
          if (column === 0) first = byte
          else second = byte
        }
        if (byte > newline) continue
        if (byte === tab) tabs += 1
        else if (byte === newline) {
          if (column === 2 && first === 0x5c && second === 0x2e) {
            ended = true
            before += at + 1
            return at + 1
          }
          count += 1
          line(count, lineStart, column)
          tabs = 0
          lineStart = before + at + 1
        } else if (byte === 0 && bad === undefined) {
          bad = { row: count + 1, offset: before + at, what: 'It holds a NUL byte, which no dump does' }
        }
      }
      before += chunk.length
      return chunk.length
    },
    get ended() {
      return ended
    },
    get count() {
      return count
    },
    get bad() {
      return bad
    },
  }
}

/** Of `COPY public.t (a, "b,c") FROM stdin;`: how many columns; undefined when it does not say. */
export function columnsOf(copy: string): number | undefined {
  const open = copy.indexOf(' (')
  const close = copy.lastIndexOf(') FROM ')
  if (open < 0 || close < open) return /^COPY \S+ {2}FROM /.test(copy) ? 0 : undefined
  const list = copy.slice(open + 2, close).replace(/"(?:[^"]|"")*"/g, 'x')
  return list.split(',').length
}

/** Of the same: the table, as it stands there. */
export const tableOf = (copy: string): string =>
  /^COPY ((?:"(?:[^"]|"")*"|[^\s"(])+)/.exec(copy)?.[1] ?? copy.slice(0, 80)
