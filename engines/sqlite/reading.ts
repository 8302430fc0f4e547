/** Reading SQLite's files and the shell's dumps: engines/reading.ts. */

import type { Json } from '../../model/types.ts'
import type { Command } from '../engine.ts'
import {
  type Bytes,
  counted,
  cutShort,
  type Findings,
  type FormatReader,
  malformed,
  type Scratch,
} from '../reading.ts'
import { scriptReader } from './script.ts'
import { readOnlyShell } from './shell.ts'

const magic = 'SQLite format 3\0'
const headerBytes = 100
const keptFile = 'database.sqlite'

/** Length and header by ourselves; every page, index and row by SQLite's own `integrity_check`. */
const fileReader: FormatReader = {
  format: 'sqlite-file',
  title: 'SQLite database',
  claims: head => head.toString('latin1', 0, magic.length) === magic,
  facts: headerFacts,
  beside: ['-wal', '-journal'],
  read: readFile,
}

function headerFacts(head: Buffer): Record<string, Json> {
  if (head.length < headerBytes) return {}
  return {
    pageSize: pageBytesOf(head),
    journalMode: head[18] === 2 ? 'wal' : 'delete',
    applicationId: head.readInt32BE(68),
  }
}

function pageBytesOf(header: Buffer): number {
  const said = header.readUInt16BE(16)
  return said === 1 ? 65_536 : said
}

async function readFile(bytes: Bytes, scratch: Scratch): Promise<Findings> {
  bytes.inside = 'the header of the database'
  const header = Buffer.from(await bytes.take(headerBytes))
  if (!fileReader.claims(header))
    throw malformed('It does not begin as a SQLite database does', { offset: 0 })
  const pageBytes = pageBytesOf(header)
  if (pageBytes < 512 || (pageBytes & (pageBytes - 1)) !== 0) {
    throw malformed(`Its header says pages of ${pageBytes} bytes`, { offset: 16 })
  }
  const keep = async (chunk: Buffer) => {
    if (scratch.file === undefined) await scratch.append(keptFile, chunk)
  }
  await keep(header)
  for (let chunk = await bytes.next(); chunk !== undefined; chunk = await bytes.next()) await keep(chunk)
  const length = bytes.offset
  // Versions before 3.7.0 leave the count as it was; the two counters say whether it counts.
  const pages = header.readUInt32BE(24) === header.readUInt32BE(92) ? header.readUInt32BE(28) : 0
  if (pages > 0 && length < pages * pageBytes) {
    throw cutShort(
      `It ends inside page ${Math.floor(length / pageBytes) + 1} of ${pages}, each of ${pageBytes} bytes`,
      { offset: length },
    )
  }
  if (length % pageBytes !== 0) {
    throw cutShort(`Its length is no multiple of its page size, ${pageBytes}`, { offset: length })
  }
  return {
    words: `${counted(length / pageBytes, 'page')} of ${pageBytes} bytes`,
    toolCheck: {
      title: 'PRAGMA integrity_check',
      // One that says more is damaged all the same; what it says is bounded here.
      command: immutable(scratch.file ?? keptFile, 'PRAGMA integrity_check(20);\n'),
      read({ exits, stdout, stderrTail }) {
        if (exits[0] === 127) return undefined
        const answer = stdout.trim()
        if (exits[0] === 0 && answer === 'ok') return 'integrity_check: ok'
        const what = (answer === '' ? stderrTail.trim() : answer).split('\n').slice(0, 5).join('; ')
        throw malformed(`integrity_check: ${what.slice(0, 600)}`, pageIn(what, pageBytes))
      },
    },
  }
}

/** Nothing is written beside it, whatever its journal mode: it may be somebody else's. */
const immutable = (path: string, sql: string): Command =>
  readOnlyShell(`file:${path.split('/').map(encodeURIComponent).join('/')}?immutable=1`, sql, { safe: true })

/** "Tree 5 page 17: …", "page 4 is never used": where that page lies. */
function pageIn(answer: string, pageBytes: number): { offset?: number } {
  const [, page] = /\bpage (\d+)/i.exec(answer) ?? []
  return page === undefined ? {} : { offset: (Number(page) - 1) * pageBytes }
}

export const readers: readonly FormatReader[] = [fileReader, scriptReader]
