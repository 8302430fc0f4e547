/** pg_dump's and pg_dumpall's plain SQL: every COPY has its end, every dump its trailer. */
import { type Bytes, counted, cutShort, type Findings, type FormatReader, malformed } from '../../reading.ts'
import { columnsOf, readRows, tableOf } from './rows.ts'

const begins = /^-- PostgreSQL database (cluster )?dump$/
const ends = /^-- PostgreSQL database (cluster )?dump complete$/
const copy = /^COPY .* FROM stdin;$/
/** Of one line; only longer ones are not looked at. */
const mostOfLine = 256 << 10
const nextLine = 0x0a

export const plainReader: FormatReader = {
  format: 'pgdump-plain',
  title: 'PostgreSQL dump, plain SQL',
  claims: head => /^(\s*|--)*-- PostgreSQL database (cluster )?dump$/m.test(head.toString('latin1', 0, 4096)),
  facts(head) {
    const text = head.toString('latin1')
    const [, restrictKey] = /^\\restrict ([A-Za-z0-9]{16,128})$/m.exec(text) ?? []
    const makes = /^-- PostgreSQL database cluster dump$/m.test(text)
      ? 'cluster'
      : /^CREATE DATABASE [\s\S]*^\\connect /m.test(text)
        ? 'database'
        : undefined
    return {
      ...(restrictKey === undefined ? {} : { restrictKey }),
      ...(makes === undefined ? {} : { makes }),
    }
  },
  read: readPlain,
}

interface Reading {
  line: number
  offset: number
  /** Dumps that have begun and not ended: a cluster's holds its databases'. */
  open: { cluster: boolean; line: number }[]
  complete: number
  tables: number
  rows: number
  serverVersion: string | undefined
  database: string | undefined
}

async function readPlain(bytes: Bytes): Promise<Findings> {
  const state: Reading = {
    line: 1,
    offset: 0,
    open: [],
    complete: 0,
    tables: 0,
    rows: 0,
    serverVersion: undefined,
    database: undefined,
  }
  const lines = lineReader(bytes)
  for (;;) {
    state.offset = lines.offset()
    const text = await lines.next()
    if (text === undefined) break
    if (text.includes(0)) {
      throw malformed('It holds a NUL byte, which no dump does', { line: state.line, offset: state.offset })
    }
    const line = text.toString('utf8')
    if (copy.test(line)) await readCopy(line, lines, state)
    else look(line, state)
    state.line += 1
  }
  const left = state.open.at(-1)
  if (left || state.complete === 0) {
    throw cutShort(
      `Its last line, "-- PostgreSQL database ${left?.cluster ? 'cluster ' : ''}dump complete", is missing`,
      { line: state.line - 1, offset: bytes.offset },
    )
  }
  return {
    words: `${state.database === undefined ? '' : `of ${state.database}, `}PostgreSQL ${state.serverVersion ?? 'of an unknown version'}: data of ${counted(state.tables, 'table')}, ${counted(state.rows, 'row')}, ${counted(state.line - 1, 'line')}`,
    ...(state.serverVersion === undefined ? {} : { serverVersion: state.serverVersion }),
    ...(state.database === undefined ? {} : { database: state.database }),
  }
}

function look(line: string, state: Reading): void {
  const version = /^-- Dumped from database version (\S+)/.exec(line)
  if (version) state.serverVersion = version[1]
  const connected = /^\\connect (?:-reuse-previous=on "dbname='([^']+)'"|"?([^"\s]+)"?)/.exec(line)
  if (connected) state.database = connected[1] ?? connected[2]
  const began = begins.exec(line)
  if (began) state.open.push({ cluster: began[1] !== undefined, line: state.line })
  const ended = ends.exec(line)
  if (!ended) return
  const last = state.open.pop()
  if (!last || last.cluster !== (ended[1] !== undefined)) {
    throw malformed('A dump ends that did not begin, or before one within it has ended', {
      line: state.line,
      offset: state.offset,
    })
  }
  state.complete += 1
}

async function readCopy(statement: string, lines: Lines, state: Reading): Promise<void> {
  const table = tableOf(statement)
  const first = state.line + 1
  const began = lines.offset()
  const rows = readRows(columnsOf(statement))
  while (!rows.ended) {
    const chunk = await lines.chunk()
    if (chunk === undefined) break
    lines.giveBack(chunk.subarray(rows.push(chunk)))
    if (rows.bad) break
  }
  const { bad } = rows
  if (bad) {
    throw malformed(`${bad.what}, a row`, {
      table,
      row: bad.row,
      line: first + bad.row - 1,
      offset: began + bad.offset,
    })
  }
  if (!rows.ended) {
    throw cutShort('Its COPY has no end mark', {
      table,
      row: rows.count,
      line: first + rows.count,
      offset: lines.offset(),
    })
  }
  state.tables += 1
  state.rows += rows.count
  state.line += rows.count + 1
}

interface Lines {
  /** The next line without its end, its first 256 KiB; undefined at the end. */
  next(): Promise<Buffer | undefined>
  chunk(): Promise<Buffer | undefined>
  giveBack(rest: Buffer): void
  offset(): number
}

function lineReader(bytes: Bytes): Lines {
  let held: Buffer = Buffer.alloc(0)
  const chunk = async () => {
    if (held.length === 0) return await bytes.next()
    const piece = held
    held = Buffer.alloc(0)
    return piece
  }
  return {
    chunk,
    giveBack(rest) {
      held = rest
    },
    offset: () => bytes.offset - held.length,
    async next() {
      const pieces: Buffer[] = []
      let length = 0
      for (;;) {
        const piece = await chunk()
        if (piece === undefined) return pieces.length === 0 ? undefined : Buffer.concat(pieces)
        const end = piece.indexOf(nextLine)
        const part = end < 0 ? piece : piece.subarray(0, end)
        if (length < mostOfLine) pieces.push(Buffer.from(part.subarray(0, mostOfLine - length)))
        length += part.length
        if (end < 0) continue
        held = piece.subarray(end + 1)
        return Buffer.concat(pieces)
      }
    },
  }
}
