/**
 * Head and table of contents of pg_dump's archives (custom; toc.dat of directory and tar), of PostgreSQL 9.0 and newer.
 * Integers are a sign byte and `intSize` bytes, little-endian; strings a length and their bytes, -1 for none.
 */
import { HoldfastError } from '../../../model/errors.ts'
import { type Bytes, malformed } from '../../reading.ts'
import { columnsOf } from './rows.ts'

export type Compression = 'none' | 'gzip' | 'lz4' | 'zstd'

export interface Entry {
  /** Its place in the table of contents, from 1. */
  number: number
  dumpId: number
  /** "TABLE DATA", "INDEX" … */
  kind: string
  /** `public.orders` for a table's data. */
  name: string
  hasData: boolean
  /** Columns of its rows, where they were written by COPY; null where they were not. */
  copied: { columns: number | undefined } | null
  /** In an archive of several files. */
  file: string | undefined
}

export interface Toc {
  version: string
  compression: Compression
  database: string
  serverVersion: string
  entries: Entry[]
}

/** Its seventh byte after `PGDMP`. */
export type ArchiveKind = 'custom' | 'files'

const magic = 'PGDMP'
const kinds = new Map<number, ArchiveKind>([
  [1, 'custom'],
  [3, 'files'],
])
const oldest = 12
const newest = 16
const mostEntries = 10_000_000

/** Which kind of archive begins so. */
export function archiveKind(head: Buffer): ArchiveKind | undefined {
  if (head.toString('latin1', 0, magic.length) !== magic) return undefined
  return kinds.get(head[10] ?? 0)
}

export async function readToc(bytes: Bytes, kind: ArchiveKind): Promise<Toc> {
  bytes.inside = 'the head of the archive'
  const head = await bytes.take(11)
  if (archiveKind(head) !== kind)
    throw malformed(`It does not begin as an archive of pg_dump does`, { offset: 0 })
  const [major, minor, intSize, offsetSize] = [head[5] ?? 0, head[6] ?? 0, head[8] ?? 0, head[9] ?? 0]
  const version = `${major}.${minor}`
  if (major !== 1 || minor < oldest || minor > newest) {
    throw new HoldfastError(
      'artifact.unknown-format',
      `It is an archive of pg_dump, version ${version}; 1.${oldest} to 1.${newest} (PostgreSQL 9.0 to 18) can be read.`,
    )
  }
  if (intSize !== 4 || offsetSize < 4 || offsetSize > 8) {
    throw malformed(`Its head says integers of ${intSize} and offsets of ${offsetSize} bytes`, { offset: 8 })
  }
  const { int, string } = numbers(bytes)
  const compression = await readCompression(bytes, minor, int)
  for (let field = 0; field < 7; field += 1) await int()
  const database = (await string()) ?? ''
  const serverVersion = (await string()) ?? ''
  await string()
  bytes.inside = 'its table of contents'
  const at = bytes.offset
  const count = await int()
  if (count < 0 || count > mostEntries) {
    throw malformed(`Its table of contents announces ${count} entries`, { offset: at })
  }
  const entries: Entry[] = []
  for (let number = 1; number <= count; number += 1) {
    bytes.inside = `entry ${number} of ${count} of its table of contents`
    entries.push(await readEntry(bytes, { number, minor, kind, offsetSize }))
  }
  return { version, compression, database, serverVersion, entries }
}

async function readCompression(
  bytes: Bytes,
  minor: number,
  int: () => Promise<number>,
): Promise<Compression> {
  if (minor < 15) return (await int()) === 0 ? 'none' : 'gzip'
  const at = bytes.offset
  const code = (await bytes.take(1))[0] ?? 0
  const known = (['none', 'gzip', 'lz4', 'zstd'] as const)[code]
  if (known === undefined)
    throw malformed(`Its head names compression ${code}, which there is not`, { offset: at })
  return known
}

async function readEntry(
  bytes: Bytes,
  {
    number,
    minor,
    kind,
    offsetSize,
  }: { number: number; minor: number; kind: ArchiveKind; offsetSize: number },
): Promise<Entry> {
  const { int, string } = numbers(bytes, number)
  const at = bytes.offset
  const dumpId = await int()
  const hadDumper = await int()
  if (dumpId <= 0 || hadDumper < 0 || hadDumper > 1) {
    throw malformed('The entry is not one', { entry: number, offset: at })
  }
  await string() // oid of its catalog
  await string() // its own oid
  const tag = (await string()) ?? ''
  const described = (await string()) ?? ''
  await int() // section
  await string() // definition
  await string() // drop statement
  const copy = (await string()) ?? ''
  const namespace = (await string()) ?? ''
  await string() // tablespace
  if (minor >= 14) await string() // table access method
  if (minor >= 16) await int() // kind of relation
  await string() // owner
  await string() // with oids
  while ((await string()) !== undefined); // dependencies
  let file: string | undefined
  if (kind === 'custom') await bytes.take(1 + offsetSize)
  else file = (await string()) || undefined
  return {
    number,
    dumpId,
    kind: described,
    name: namespace === '' ? tag : `${namespace}.${tag}`,
    hasData: hadDumper === 1,
    copied: copy === '' ? null : { columns: columnsOf(copy) },
    file,
  }
}

function numbers(bytes: Bytes, entry?: number) {
  const int = async (): Promise<number> => {
    const offset = bytes.offset
    const piece = await bytes.take(5)
    const sign = piece[0] ?? 0
    if (sign > 1) {
      throw malformed('A number does not begin with its sign', { ...(entry ? { entry } : {}), offset })
    }
    const value = piece.readUInt32LE(1)
    return sign === 1 ? -value : value
  }
  const string = async (): Promise<string | undefined> => {
    const length = await int()
    return length < 0 ? undefined : (await bytes.take(length)).toString('utf8')
  }
  return { int, string }
}
