/** What the shell's `.dump` prints: a transaction that begins, statements that are whole, and its COMMIT at the end. */
import { type Bytes, counted, cutShort, type Findings, type FormatReader, malformed } from '../reading.ts'

export const scriptReader: FormatReader = {
  format: 'sqlite-dump',
  title: 'SQLite dump, SQL',
  claims: head => /^PRAGMA foreign_keys=OFF;\r?\nBEGIN TRANSACTION;/m.test(head.toString('latin1', 0, 8192)),
  read: readScript,
}

/** Of each statement so much is looked at. */
const kept = 160

type Inside = 'code' | 'line comment' | 'comment' | "'" | '"' | '`' | ']'

async function readScript(bytes: Bytes): Promise<Findings> {
  let line = 1
  let inside: Inside = 'code'
  let openedLine = 1
  let previous = 0
  let statement = ''
  let statementLine = 1
  let comment = ''
  let last = ''
  let statements = 0
  let inserts = 0
  const place = (offset: number) => ({
    line,
    offset,
    ...(statement === '' ? {} : { statement: subject(statement) }),
  })
  const ended = () => {
    last = statement.trim()
    statements += 1
    if (/^INSERT INTO/i.test(last)) inserts += 1
    statement = ''
  }
  const commented = (offset: number) => {
    // The shell writes down that it could not read a table, and goes on.
    if (/\*{6} ERROR|due to errors/.test(comment)) {
      throw malformed(`The shell that wrote it met an error: ${comment.trim().slice(0, 200)}`, place(offset))
    }
    comment = ''
  }
  for (;;) {
    const begins = bytes.offset
    const chunk = await bytes.next(1 << 20)
    if (chunk === undefined) break
    for (let at = 0; at < chunk.length; at += 1) {
      const byte = chunk[at] as number
      if (byte === 0x0a) line += 1
      else if (byte === 0) throw malformed('It holds a NUL byte, which no dump does', place(begins + at))
      if (inside === "'" || inside === '"' || inside === '`' || inside === ']') {
        // A doubled quote closes and opens again: the same in the end.
        if (byte === inside.charCodeAt(0)) inside = 'code'
        previous = byte
        continue
      }
      if (inside === 'line comment' || inside === 'comment') {
        if (comment.length < kept) comment += String.fromCharCode(byte)
        const closes = inside === 'comment' ? byte === 0x2f && previous === 0x2a : byte === 0x0a
        if (closes) {
          inside = 'code'
          commented(begins + at)
          previous = 0
        } else previous = byte
        continue
      }
      const starts = startOf(byte, previous)
      if (starts !== undefined) {
        inside = starts
        openedLine = line
        if (starts === 'comment' || starts === 'line comment') {
          statement = statement.slice(0, -1)
          comment = ''
          previous = 0
          continue
        }
      }
      previous = byte
      if (byte === 0x3b) ended()
      else if (statement !== '' || byte > 0x20) {
        if (statement === '') statementLine = line
        if (statement.length < kept) statement += String.fromCharCode(byte)
      }
    }
  }
  if (inside === 'line comment') commented(bytes.offset)
  const end = { line, offset: bytes.offset }
  if (inside !== 'code' && inside !== 'line comment') {
    throw cutShort(
      `It ends inside a ${inside === 'comment' ? 'comment' : 'value'} that begins on line ${openedLine}`,
      {
        ...end,
        statement: subject(statement),
      },
    )
  }
  if (statement.trim() !== '') {
    throw cutShort(`It ends inside a statement that begins on line ${statementLine}`, {
      ...end,
      statement: subject(statement),
    })
  }
  if (/^ROLLBACK/i.test(last))
    throw malformed('It ends with ROLLBACK: the shell that wrote it met an error', end)
  if (!/^COMMIT/i.test(last)) {
    throw cutShort('It does not end with COMMIT', {
      ...end,
      ...(last === '' ? {} : { statement: subject(last) }),
    })
  }
  return {
    words: `${counted(statements, 'statement')}, ${counted(inserts, 'row')}, ${counted(line - 1, 'line')}`,
  }
}

function startOf(byte: number, previous: number): Inside | undefined {
  if (byte === 0x27) return "'"
  if (byte === 0x22) return '"'
  if (byte === 0x60) return '`'
  if (byte === 0x5b) return ']'
  if (byte === 0x2d && previous === 0x2d) return 'line comment'
  if (byte === 0x2a && previous === 0x2f) return 'comment'
  return undefined
}

/** `INSERT INTO orders`, `CREATE TABLE "a b"`: enough to find it, no values. */
const subject = (statement: string): string =>
  /^\s*(INSERT INTO|CREATE \w+(?: INDEX)?(?: IF NOT EXISTS)?|UPDATE|DELETE FROM)\s+("(?:[^"]|"")*"|'(?:[^']|'')*'|[\w.]+)/i
    .exec(statement)
    ?.slice(1, 3)
    .join(' ') ?? (/^\s*\w+/.exec(statement)?.[0] ?? '').trim()
