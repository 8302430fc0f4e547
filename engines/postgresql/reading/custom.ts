/** pg_dump's custom format: head, table of contents, then one block of data for each table and for the large objects. */
import {
  type Bytes,
  counted,
  cutShort,
  type Findings,
  type FormatReader,
  malformed,
  type Scratch,
} from '../../reading.ts'
import { expectRows, readContent } from './content.ts'
import { listCheck } from './list.ts'
import { archiveKind, type Entry, readToc, type Toc } from './toc.ts'

const dataBlock = 1
const blobsBlock = 3

export const customReader: FormatReader = {
  format: 'pgdump-custom',
  title: 'PostgreSQL dump, custom format',
  claims: head => archiveKind(head) === 'custom',
  read: readCustom,
}

async function readCustom(bytes: Bytes, scratch: Scratch): Promise<Findings> {
  const kept = keeping(bytes, scratch)
  const toc = await readToc(kept.bytes, 'custom')
  await kept.end()
  const wanted = new Map(toc.entries.filter(entry => entry.hasData).map(entry => [entry.dumpId, entry]))
  const expected = wanted.size
  let rows = 0
  let tables = 0
  let last: Entry | undefined
  for (;;) {
    const offset = bytes.offset
    const place = { offset, ...(last ? { table: last.name } : {}) }
    if ((await bytes.peek(1)).length === 0) break
    bytes.inside = `the head of a block of data${last ? `, after that of ${last.name}` : ''}`
    const head = await bytes.take(6)
    const type = head[0] ?? 0
    if ((type !== dataBlock && type !== blobsBlock) || head[1] !== 0) {
      throw malformed(
        `No block of data begins where one should${last ? ', after the table that is named' : ''}`,
        place,
      )
    }
    const dumpId = head.readUInt32LE(2)
    const entry = wanted.get(dumpId)
    if (!entry) throw malformed(`A block of data is of entry id ${dumpId}, which has none to come`, place)
    wanted.delete(dumpId)
    last = entry
    if (type === blobsBlock) await readBlobs(bytes, toc, entry)
    else {
      const read = await readTable(bytes, toc, entry)
      tables += 1
      rows += read
    }
  }
  const missing = [...wanted.values()][0]
  if (missing) {
    throw cutShort(
      `It ends before the data of ${missing.kind === 'TABLE DATA' ? `table ${missing.name}` : missing.kind} (${wanted.size} of ${expected} blocks of data are missing)`,
      { offset: bytes.offset, entry: missing.number },
    )
  }
  return {
    words: `of ${toc.database}, PostgreSQL ${toc.serverVersion}: ${counted(toc.entries.length, 'entry', 'entries')}, data of ${counted(tables, 'table')}${rows > 0 ? `, ${counted(rows, 'row')}` : ''}`,
    serverVersion: toc.serverVersion,
    database: toc.database,
    toolCheck: listCheck(scratch.file ?? 'toc.dump', toc.entries.length),
  }
}

/** The head and the table of contents are kept for pg_restore; it needs no more to list what is there. */
function keeping(bytes: Bytes, scratch: Scratch): { bytes: Bytes; end(): Promise<void> } {
  if (scratch.file !== undefined) return { bytes, end: async () => {} }
  let pieces: Buffer[] = []
  let held = 0
  const write = async () => {
    const chunk = Buffer.concat(pieces)
    pieces = []
    held = 0
    if (chunk.length > 0) await scratch.append('toc.dump', chunk)
  }
  return {
    bytes: {
      get offset() {
        return bytes.offset
      },
      get inside() {
        return bytes.inside
      },
      set inside(what) {
        bytes.inside = what
      },
      next: bytes.next,
      peek: bytes.peek,
      atHand: bytes.atHand,
      drop: bytes.drop,
      async take(count) {
        const piece = await bytes.take(count)
        pieces.push(Buffer.from(piece))
        held += piece.length
        if (held > 1 << 20) await write()
        return piece
      },
    },
    end: write,
  }
}

async function readTable(bytes: Bytes, toc: Toc, entry: Entry): Promise<number> {
  const place = { table: entry.name, entry: entry.number }
  const begins = bytes.offset
  const read = await readContent(
    piecesOf(bytes, `the data of ${entry.name}`, place),
    toc.compression,
    entry.copied?.columns,
    place,
    'stream',
  )
  if (!entry.copied) return 0
  return expectRows(read, toc.compression === 'none' ? { ...place, offset: begins } : place)
}

async function readBlobs(bytes: Bytes, toc: Toc, entry: Entry): Promise<void> {
  for (;;) {
    bytes.inside = 'the large objects'
    const offset = bytes.offset
    const head = await bytes.take(5)
    const oid = head.readUInt32LE(1)
    if (head[0] !== 0)
      throw malformed('The number of a large object is none', { entry: entry.number, offset })
    if (oid === 0) return
    const place = { table: `large object ${oid}`, entry: entry.number }
    const content = piecesOf(bytes, `large object ${oid}`, place)
    await readContent(content, toc.compression, undefined, place, 'stream')
  }
}

/**
 * One stream of data: pieces with their length before them, the last of length 0. Without compression each row is a piece:
 * those that are at hand are given out together.
 */
async function* piecesOf(
  bytes: Bytes,
  inside: string,
  place: { table: string; entry: number },
): AsyncGenerator<Buffer[]> {
  bytes.inside = inside
  for (;;) {
    const whole = wholePieces(bytes)
    if (whole.length > 0) yield whole
    const offset = bytes.offset
    const head = await bytes.take(5)
    let left = head.readUInt32LE(1)
    if (head[0] !== 0) throw malformed('A piece of data announces no length', { ...place, offset })
    if (left === 0) return
    while (left > 0) {
      const piece = await bytes.next(left)
      if (piece === undefined) throw cutShort(`It ends inside ${inside}`, { ...place, offset: bytes.offset })
      left -= piece.length
      yield [piece]
    }
  }
}

function wholePieces(bytes: Bytes): Buffer[] {
  const held = bytes.atHand()
  const pieces: Buffer[] = []
  let at = 0
  while (held.length - at >= 5) {
    const length = held.readUInt32LE(at + 1)
    if (held[at] !== 0 || length === 0 || length > held.length - at - 5) break
    pieces.push(held.subarray(at + 5, at + 5 + length))
    at += 5 + length
  }
  bytes.drop(at)
  return pieces
}
