/**
 * pg_dump's formats of several files: directory (also in a tar of ours) and tar. `toc.dat` may come after the data, so each
 * file is looked at by itself first, and held against the table of contents at the end.
 */
import {
  bytesOf,
  counted,
  cutShort,
  type DirectoryReader,
  type Findings,
  type FormatReader,
  type Member,
  malformed,
  type Scratch,
} from '../../reading.ts'
import { claimsTar, membersOf } from '../../tar.ts'
import { expectRows, type Read, readContent } from './content.ts'
import { listCheck } from './list.ts'
import { archiveKind, type Compression, readToc, type Toc } from './toc.ts'

export const directoryReader: DirectoryReader = {
  format: 'pgdump-directory',
  title: 'PostgreSQL dump, directory format',
  claims: names => names.includes('toc.dat'),
  read: readMembers,
}

const tarReader = (format: string, title: string, claims: FormatReader['claims']): FormatReader => ({
  format,
  title,
  claims,
  read: (bytes, scratch) => readMembers(membersOf(bytes), { ...scratch, file: undefined }),
})

/** pg_dump's own tar begins with its table of contents. */
const beginsWithToc = (head: Buffer): boolean =>
  claimsTar(head) &&
  /^toc\.dat\0/.test(head.toString('latin1', 0, 8)) &&
  archiveKind(head.subarray(512)) === 'files'
const ours = /^(?:\.\/)?(?:[^/]+\/)?(?:\d+\.dat|blobs(?:_\d+)?\.toc|blob_\d+\.dat|toc\.dat)(?:\.\w+)?$/

export const tarReaders = [
  tarReader('pgdump-tar', 'PostgreSQL dump, tar format', beginsWithToc),
  tarReader(
    'pgdump-directory-tar',
    'PostgreSQL dump, directory format in a tar',
    head => claimsTar(head) && ours.test(head.toString('utf8', 0, 100).replace(/\0.*$/s, '')),
  ),
]

interface Seen {
  bytes: number
  read: Read | undefined
  /** Of blobs.toc: the files that it names. */
  names: string[] | undefined
}

async function* single(content: AsyncIterable<Buffer>): AsyncGenerator<Buffer[]> {
  for await (const chunk of content) yield [chunk]
}

const suffixes: Record<string, Compression> = { '.gz': 'gzip', '.lz4': 'lz4', '.zst': 'zstd' }

async function readMembers(members: AsyncIterable<Member>, scratch: Scratch): Promise<Findings> {
  const seen = new Map<string, Seen>()
  let toc: Toc | undefined
  for await (const member of members) {
    const name = member.name.split('/').at(-1) ?? member.name
    if (name === 'toc.dat') {
      toc = await readTocFile(member, scratch)
      continue
    }
    const [, plain = name, suffix = ''] = /^(.*?)(\.gz|\.lz4|\.zst)?$/.exec(name) ?? []
    const compression = suffixes[suffix] ?? 'none'
    const place = { member: name }
    if (plain.endsWith('.toc')) {
      seen.set(plain, { bytes: member.bytes, read: undefined, names: await namesIn(member) })
    } else if (plain.endsWith('.dat')) {
      const read = await readContent(single(member.content), compression, undefined, place, 'file')
      seen.set(plain, { bytes: member.bytes, read, names: undefined })
    }
  }
  if (!toc) throw cutShort('toc.dat, its table of contents, is missing', {})
  const { tables, rows } = compare(toc, seen)
  return {
    words: `of ${toc.database}, PostgreSQL ${toc.serverVersion}: ${counted(toc.entries.length, 'entry', 'entries')}, data of ${counted(tables, 'table')}${rows > 0 ? `, ${counted(rows, 'row')}` : ''}`,
    serverVersion: toc.serverVersion,
    database: toc.database,
    toolCheck: listCheck(scratch.file ?? 'dump', toc.entries.length),
  }
}

async function readTocFile(member: Member, scratch: Scratch): Promise<Toc> {
  const bytes = bytesOf(
    (async function* () {
      for await (const chunk of member.content) {
        if (scratch.file === undefined) await scratch.append('dump/toc.dat', chunk)
        yield chunk
      }
    })(),
  )
  try {
    const toc = await readToc(bytes, 'files')
    const offset = bytes.offset
    if ((await bytes.next()) !== undefined) {
      throw malformed('Bytes follow its table of contents', { member: member.name, offset })
    }
    return toc
  } finally {
    // pg_restore is shown the file as it is.
    while ((await bytes.next()) !== undefined);
  }
}

const mostNames = 16 << 20

async function namesIn(member: Member): Promise<string[]> {
  const pieces: Buffer[] = []
  let held = 0
  for await (const chunk of member.content) {
    held += chunk.length
    if (held > mostNames)
      throw malformed('It is larger than any list of large objects', { member: member.name })
    pieces.push(chunk)
  }
  const lines = Buffer.concat(pieces).toString('utf8').split('\n')
  if (lines.pop() !== '')
    throw cutShort('A list of large objects ends inside a line', { member: member.name })
  return lines.map((line, index) => {
    const [, name] = /^\d+ (\S+)$/.exec(line) ?? []
    if (name === undefined) {
      throw malformed('A line of a list of large objects is none', { member: member.name, line: index + 1 })
    }
    return name.replace(/\.(gz|lz4|zst)$/, '')
  })
}

function compare(toc: Toc, seen: ReadonlyMap<string, Seen>): { tables: number; rows: number } {
  let tables = 0
  let rows = 0
  for (const entry of toc.entries) {
    if (!entry.hasData || entry.file === undefined) continue
    const place = { table: entry.name, member: entry.file, entry: entry.number }
    const found = seen.get(entry.file) ?? (entry.kind === 'BLOBS' ? seen.get('blobs.toc') : undefined)
    if (!found) throw cutShort('A file of it is missing', place)
    for (const name of found.names ?? []) {
      if (!seen.has(name)) throw cutShort('The file of a large object is missing', { ...place, member: name })
    }
    if (!found.read) continue
    tables += 1
    if (entry.copied) rows += expectRows(found.read, place)
  }
  return { tables, rows }
}
