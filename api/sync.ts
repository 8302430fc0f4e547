/** Dumps and archives that were not made here, catalogued where they lie. Nothing of them is read but their beginning. */
import { randomBytes } from 'node:crypto'
import { beginningWithin, headBytes, wrappingOf } from '../activities/wrapping.ts'
import { foreignAt, markForeignGone, recordForeign } from '../catalog/foreign.ts'
import { claimOf } from '../engines/index.ts'
import { HoldfastError } from '../model/errors.ts'
import { type ForeignContent, type ForeignFile, isSameFile } from '../model/foreign.ts'
import { backupIdFor } from '../model/ids.ts'
import type { SyncView } from '../model/views.ts'
import type { Destination, ObjectStat } from '../storage/destination.ts'
import { compareKeys } from '../storage/object-key.ts'
import type { ApiContext } from './context.ts'

export type Synced = Omit<SyncView, 'destination'>

/** A request is answered after this long: whoever asks again goes on with what is left. */
const enoughMs = 20_000

/** What Holdfast writes, of this or of another installation: `rebuild` is for that. */
const ours =
  /(^|\/)(\.holdfast-|(installation|epoch-\d+)\.json$|[a-z0-9][a-z0-9-]{0,62}\/(backups\/\d{8}T\d{6}Z-[a-z]+-[a-z0-9]{4,16}|logs)\/)/

/** Dumps of what no engine here reads are catalogued for their names. */
const dumpNames =
  /\.(sql|dump|backup|archive|bak|trn|dmp|rdb|aof|bacpac|tar|tgz|sqlite3?|db)(\.(gz|zst|lz4|bz2|xz))?$/i

/** Files of a dump that is a directory: none of them is a backup by itself. */
const partOfDirectory = /(^|\/)(toc\.dat|blobs(_\d+)?\.toc|\d+\.dat|blob_\d+\.dat)(\.(gz|lz4|zst))?$/

/**
 * Everything below `prefix`. Killed at any moment or asked twice it does no harm: each file is catalogued by itself, what is
 * as it was costs no reading, and nothing is marked gone before the whole was listed.
 */
export async function syncForeign(
  { catalog }: ApiContext,
  name: string,
  opened: Destination,
  { prefix, after }: { prefix: string; after: string | undefined },
): Promise<Synced> {
  const result: Synced = { found: 0, added: 0, back: 0, gone: 0, skipped: 0, next: null, refused: [] }
  const known = await foreignAt(catalog, name)
  const seen = new Set<string>()
  const until = Date.now() + enoughMs
  let last: string | undefined
  for await (const stat of opened.list(prefix)) {
    const { key } = stat
    if (ours.test(key)) continue
    seen.add(key)
    const met = lookOf(stat)
    const same = known.get(key)?.find(one => isSameFile(one.file, met))
    if (same?.there) {
      result.found += 1
      continue
    }
    // Looked at by an earlier request; or left to the next one, of which each looks at one file at least.
    if (after !== undefined && compareKeys(key, after) <= 0) continue
    if (last !== undefined && Date.now() > until) {
      result.next = last
      continue
    }
    last = key
    try {
      const content = same?.file ?? (await contentOf(opened, stat))
      if (!content) {
        result.skipped += 1
        continue
      }
      const { engine, format, wrapping, facts } = content
      const file: ForeignFile = {
        ...met,
        engine,
        format,
        wrapping,
        facts,
        sha256: null,
        contentBytes: wrapping === null ? stat.bytes : null,
      }
      const id = backupIdFor(stat.modifiedAt, 'foreign', randomBytes(8))
      const answer = await recordForeign(catalog, name, id, file)
      result.found += 1
      if (answer !== 'known') result[answer] += 1
    } catch (error) {
      // One that cannot be read does not keep the others; a store that cannot be asked does.
      if (!(error instanceof HoldfastError) || !isOfTheFile(error)) throw error
      result.refused.push({ file: key.slice(0, 1024), code: error.code, detail: error.message })
    }
  }
  for (const [key, all] of known) {
    if (seen.has(key) || !key.startsWith(prefix)) continue
    for (const one of all.filter(({ there }) => there)) {
      await markForeignGone(catalog, name, one.id)
      result.gone += 1
    }
  }
  return result
}

const lookOf = ({ key, bytes, modifiedAt, tag }: ObjectStat) => ({
  key,
  bytes,
  modifiedAt: modifiedAt.toISOString(),
  tag: tag ?? null,
})

const isOfTheFile = ({ code }: HoldfastError): boolean =>
  [
    'request.invalid',
    'artifact.malformed',
    'destination.denied',
    'destination.object-missing',
    'destination.archived',
  ].includes(code)

/** undefined: it does not look like a dump or an archive. */
async function contentOf(
  opened: Destination,
  { key, bytes }: ObjectStat,
): Promise<ForeignContent | undefined> {
  if (bytes === 0 || partOfDirectory.test(key)) return undefined
  const head = await headOf(opened, key, Math.min(bytes, headBytes))
  const wrapping = wrappingOf(head) ?? null
  const begins = wrapping === null ? head : await beginningWithin(wrapping, head)
  const claim = begins && claimOf(begins)
  if (!claim) {
    return dumpNames.test(key) ? { engine: null, format: null, wrapping, facts: {} } : undefined
  }
  const { engine, reader } = claim
  for (const suffix of reader.beside ?? []) {
    if (((await opened.stat(`${key}${suffix}`))?.bytes ?? 0) === 0) continue
    throw new HoldfastError(
      'artifact.malformed',
      `${key}${suffix} lies beside it: it was copied while it was in use, and is no backup without that.`,
      { hint: 'Open both with the engine once, or copy it again with the means of the engine.' },
    )
  }
  return { engine: engine.name, format: reader.format, wrapping, facts: reader.facts?.(begins) ?? {} }
}

async function headOf(opened: Destination, key: string, length: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of await opened.get(key, { offset: 0, length })) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
}
