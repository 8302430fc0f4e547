/**
 * Foreign backups: dumps and archives that Holdfast did not make. Nobody signed them; what stands for a manifest is the
 * description below, written when the file was catalogued and completed when it was first read to its end.
 */
import type { Manifest } from './manifest.ts'
import type { Json } from './types.ts'

/** `foreign` is in the type's place of such a backup's id. */
export const isForeignId = (backupId: string): boolean => /^\d{8}T\d{6}Z-foreign-[a-z0-9]+$/.test(backupId)

export const foreignWrappings = ['gzip', 'zstd', 'lz4', 'bzip2', 'xz'] as const
export type ForeignWrapping = (typeof foreignWrappings)[number]

/** What it is: by its beginning when it was catalogued; by all of it once it was read to its end. */
export interface ForeignContent {
  /** null: of no format that is known, or wrapped so that only reading it tells. */
  engine: string | null
  /** As manifests have it, e.g. `pgdump-custom`. */
  format: string | null
  wrapping: ForeignWrapping | null
  /** What its beginning says of the database that a restore needs to know. */
  facts: Record<string, Json>
}

/** The file as it was met; what lies there now must still be this. */
export interface ForeignFile extends ForeignContent {
  /** Key of the object, relative to the destination. */
  key: string
  bytes: number
  modifiedAt: string
  /** The store's own tag. null: it has none, and the time has to do. */
  tag: string | null
  /** SHA-256 of the stored bytes, hex; null: nobody has read them to the end yet. */
  sha256: string | null
  /** Without its wrapping; null: not known yet. */
  contentBytes: number | null
}

/** What reading it to the end has told. */
export type ForeignReading = Pick<ForeignFile, 'sha256'> &
  Partial<Pick<ForeignFile, 'engine' | 'format' | 'wrapping' | 'facts' | 'contentBytes'>>

/** Azure puts an ETag in quotes when asked for one object, and without them in a list. */
const unquoted = (tag: string): string => tag.replaceAll('"', '')

/** Two looks at one key that saw the same object. */
export const isSameFile = (
  one: Pick<ForeignFile, 'bytes' | 'tag' | 'modifiedAt'>,
  other: Pick<ForeignFile, 'bytes' | 'tag' | 'modifiedAt'>,
): boolean =>
  one.bytes === other.bytes &&
  (one.tag !== null && other.tag !== null
    ? unquoted(one.tag) === unquoted(other.tag)
    : one.modifiedAt === other.modifiedAt)

const codecs: Record<ForeignWrapping, Manifest['artifacts'][number]['compression']['codec'] | undefined> = {
  gzip: 'gzip',
  zstd: 'zstd',
  lz4: 'lz4',
  bzip2: undefined,
  xz: undefined,
}

/** A restore takes it away on the way to the tool. */
export const isUnwrapped = (wrapping: ForeignWrapping): boolean => codecs[wrapping] !== undefined

/** Frames of other programs may refer back this far (2^31 bytes). */
const longestWindow = 31

/**
 * In the form of a manifest, for everything that reads one. It is nobody's: no installation, no attempt, no signature; and
 * what is not known is empty. A wrapping that a restore cannot take away is said in the format, which no engine then takes.
 */
export function manifestOfForeign(backupId: string, file: ForeignFile): Manifest {
  const codec = file.wrapping === null ? 'none' : codecs[file.wrapping]
  const format = file.format ?? 'unknown'
  return {
    format: 'holdfast-manifest/1',
    backupId,
    installationId: '',
    epoch: 1,
    attemptId: '',
    connection: '',
    engine: file.engine ?? '',
    method: file.format === 'sqlite-file' ? 'physical' : 'logical',
    toolFormat: format,
    type: 'full',
    // Who made it knows; the weakest is what may be relied on.
    consistency: 'fuzzy',
    server: { identity: '', version: '', database: '' },
    facts: file.facts,
    tools: [],
    commands: [],
    artifacts: [
      {
        name: file.key.slice(file.key.lastIndexOf('/') + 1),
        object: file.key,
        format: codec === undefined ? `${format}+${file.wrapping}` : format,
        storedBytes: file.bytes,
        storedSha256: file.sha256 ?? '',
        toolBytes: file.contentBytes ?? (file.wrapping === null ? file.bytes : 0),
        compressedBytes: file.bytes,
        compression: {
          codec: codec ?? 'none',
          level: 0,
          encoder: '',
          frameBytes: 0,
          frames: 0,
          ...(codec === 'zstd' ? { longWindow: longestWindow } : {}),
        },
        encryption: null,
      },
    ],
    parent: null,
    startedAt: file.modifiedAt,
    endedAt: file.modifiedAt,
    labels: {},
  }
}

/** For whoever is to agree to a restore of it. */
export function unsignedWords({ backupId, artifacts }: Manifest): string | null {
  const [file] = artifacts
  if (!isForeignId(backupId) || !file) return null
  return `Nobody signed this backup: it is foreign. Only you can say where ${file.object} comes from, and whether what is in it may run on the target. Restored is the file with SHA-256 ${file.storedSha256}, or nothing.`
}
