/** The content of one table's data, or of a large object: decompressed where it is compressed, and its rows looked at. */
import { createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import { cutShort, malformed, type Place } from '../../reading.ts'
import { type Rows, readRows } from './rows.ts'
import type { Compression } from './toc.ts'

export interface Read {
  bytes: number
  /** null: not looked at, as it is compressed by what Node cannot open. */
  rows: Rows | null
  /** After the end mark of its rows. */
  after: number
}

/** Reads the content to its end. `columns` as for `readRows`; `place` names it in errors. */
export async function readContent(
  content: AsyncIterable<readonly Buffer[]>,
  compression: Compression,
  columns: number | undefined,
  place: Place,
  form: 'stream' | 'file',
): Promise<Read> {
  const rows = readRows(columns)
  const read: Read = { bytes: 0, rows: compression === 'lz4' ? null : rows, after: 0 }
  for await (const chunks of opened(content, compression, place, form)) {
    for (const chunk of chunks) {
      read.bytes += chunk.length
      if (compression === 'lz4') continue
      if (rows.ended) read.after += chunk.length
      else read.after += chunk.length - rows.push(chunk)
    }
  }
  return read
}

/** After the end mark pg_dump writes two empty lines. */
const mostAfter = 8

/** They are rows of COPY, with their end mark and nothing after it; how many. */
export function expectRows({ rows, after }: Read, place: Place): number {
  if (rows === null) return 0
  const { bad, ended, count } = rows
  if (bad) throw malformed(`${bad.what}, a row`, { ...place, row: bad.row })
  if (!ended) throw cutShort('The rows of a table have no end mark', { ...place, row: count })
  if (after > mostAfter) throw malformed('Bytes follow the end mark of the rows', { ...place, row: count })
  return count
}

async function* opened(
  content: AsyncIterable<readonly Buffer[]>,
  compression: Compression,
  place: Place,
  form: 'stream' | 'file',
): AsyncGenerator<readonly Buffer[]> {
  if (compression === 'none' || compression === 'lz4') {
    yield* content
    return
  }
  const decoder =
    compression === 'zstd' ? createZstdDecompress() : form === 'file' ? createGunzip() : createInflate()
  // What goes wrong while it is fed is the content's own trouble, and is thrown as it is.
  let fed: unknown
  const feeding = (async () => {
    try {
      let any = false
      for await (const chunks of content) {
        any = true
        for (const chunk of chunks) {
          if (decoder.destroyed) continue
          if (!decoder.write(chunk)) await new Promise<void>(next => settle(decoder, next))
        }
      }
      // An empty table has an empty stream of its own; nothing at all is cut short.
      if (!any && !decoder.destroyed) decoder.destroy(new Error('unexpected end of file'))
      decoder.end()
    } catch (error) {
      fed = error
      decoder.destroy()
    }
  })()
  try {
    for await (const chunk of decoder) yield [chunk as Buffer]
  } catch (error) {
    await feeding
    if (fed !== undefined) throw fed
    const said = error instanceof Error ? error.message : String(error)
    if (/unexpected end|ends? prematurely|premature close/i.test(said)) {
      throw cutShort('Its compressed data end too early', place)
    }
    throw malformed(`Its compressed data cannot be opened: ${said}`, place)
  }
  await feeding
  if (fed !== undefined) throw fed
}

/** A decoder that drains, fails or is destroyed: in each case nobody has to wait for it. */
function settle(decoder: NodeJS.EventEmitter, next: () => void): void {
  const done = () => {
    for (const event of ['drain', 'close', 'error']) decoder.off(event, done)
    next()
  }
  for (const event of ['drain', 'close', 'error']) decoder.on(event, done)
}
