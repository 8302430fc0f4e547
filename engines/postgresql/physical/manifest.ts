/** `backup_manifest`: every file of a base backup with its length and checksum, and the WAL that makes it consistent. */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { malformed } from '../../reading.ts'
import { type Algorithm, algorithmOf } from './digest.ts'

export interface ManifestFile {
  bytes: number
  /** undefined: it has none. */
  algorithm: Algorithm | undefined
  checksum: string
}

export interface WalRange {
  timeline: number
  start: bigint
  /** The first byte after it. */
  end: bigint
}

export interface BackupManifest {
  /** By path below the data directory; of tablespaces, below `pg_tblspc/OID`. */
  files: ReadonlyMap<string, ManifestFile>
  wal: readonly WalRange[]
  /** From version 2 (PostgreSQL 17) on. */
  systemIdentifier: string | undefined
}

export const manifestName = 'backup_manifest'

const schema = z.object({
  'PostgreSQL-Backup-Manifest-Version': z.union([z.literal(1), z.literal(2)]),
  Files: z.array(
    z.object({
      Path: z.string().optional(),
      'Encoded-Path': z.string().optional(),
      Size: z.int().nonnegative(),
      'Checksum-Algorithm': z.string().optional(),
      Checksum: z.string().optional(),
    }),
  ),
  'WAL-Ranges': z.array(
    z.object({ Timeline: z.int().positive(), 'Start-LSN': z.string(), 'End-LSN': z.string() }),
  ),
  'Manifest-Checksum': z.string(),
})

/** Throws `artifact.malformed`, also where its own checksum does not hold. */
export function readManifest(bytes: Buffer): BackupManifest {
  const bad = (what: string) => malformed(what, { member: manifestName })
  const last = bytes.lastIndexOf('\n"Manifest-Checksum"')
  if (last === -1) throw bad('backup_manifest has no checksum of its own: it is cut')
  let parsed: z.infer<typeof schema>
  try {
    parsed = schema.parse(JSON.parse(bytes.toString('utf8')))
  } catch (error) {
    throw bad(`backup_manifest cannot be read: ${(error as Error).message.slice(0, 200)}`)
  }
  // Everything up to the line that holds it.
  const own = createHash('sha256')
    .update(bytes.subarray(0, last + 1))
    .digest('hex')
  if (own !== parsed['Manifest-Checksum'].toLowerCase()) {
    throw bad('backup_manifest does not have the checksum that it says it has')
  }
  const files = new Map<string, ManifestFile>()
  for (const file of parsed.Files) {
    const encoded = file['Encoded-Path']
    const path = file.Path ?? (encoded === undefined ? undefined : Buffer.from(encoded, 'hex').toString())
    if (path === undefined || files.has(path))
      throw bad(`backup_manifest names ${path ?? 'a file'} twice or not at all`)
    files.set(path, {
      bytes: file.Size,
      algorithm: algorithmOf(file['Checksum-Algorithm'] ?? ''),
      checksum: (file.Checksum ?? '').toLowerCase(),
    })
  }
  return {
    files,
    wal: parsed['WAL-Ranges'].map(range => ({
      timeline: range.Timeline,
      start: lsnOf(range['Start-LSN']),
      end: lsnOf(range['End-LSN']),
    })),
    // A number of 64 bits: JSON.parse would round it.
    systemIdentifier: /"System-Identifier":\s*(\d+)/.exec(bytes.toString('latin1', 0, 4096))?.[1],
  }
}

/** `16/B374D848`. */
export function lsnOf(text: string): bigint {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text)
  if (!match) throw malformed(`"${text}" is no position in the WAL`, { member: manifestName })
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)
}

export const lsnText = (lsn: bigint): string =>
  `${(lsn >> 32n).toString(16)}/${(lsn & 0xffffffffn).toString(16)}`.toUpperCase()

/** The segments that hold a range. */
export function segmentsOf({ timeline, start, end }: WalRange, segmentBytes: number): string[] {
  const size = BigInt(segmentBytes)
  const perLog = 0x1_0000_0000n / size
  const names: string[] = []
  const hex = (value: bigint) => value.toString(16).toUpperCase().padStart(8, '0')
  for (let segment = start / size; segment * size < end; segment += 1n) {
    names.push(`${hex(BigInt(timeline))}${hex(segment / perLog)}${hex(segment % perLog)}`)
  }
  return names
}
