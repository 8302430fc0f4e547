/** The tool's own bytes of an artifact: opened, authenticated, decompressed. */
import { randomBytes } from 'node:crypto'
import { link, open, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Readable, Transform, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { HoldfastError } from '../../model/errors.ts'
import type { ArtifactEntry } from '../../model/manifest.ts'
import { backupPrefix } from '../../storage/backups.ts'
import { openArtifact } from '../../storage/reader.ts'
import { unpackerOf } from '../../storage/unpack.ts'
import type { OpenedBackup, Source } from './source.ts'

export function artifactOf(backup: OpenedBackup, name: string | undefined): ArtifactEntry {
  const { artifacts, backupId } = backup.manifest
  const found =
    name === undefined && artifacts.length === 1 ? artifacts[0] : artifacts.find(a => a.name === name)
  if (found !== undefined) return found
  const names = artifacts.map(artifact => artifact.name).join(', ')
  throw new HoldfastError(
    'request.invalid',
    name === undefined
      ? `Backup ${backupId} has several artifacts: say which with --artifact (${names}).`
      : `Backup ${backupId} has no artifact "${name}", only ${names}.`,
  )
}

/** Compressed bytes, authenticated. The stream ends without error only if the whole artifact is what was written. */
export async function openBytes(
  source: Source,
  backup: OpenedBackup,
  entry: ArtifactEntry,
  options: { signal: AbortSignal; onProgress(storedBytes: number): void },
): Promise<Readable> {
  const { connection, backupId } = backup.manifest
  return openArtifact({
    destination: source.destination,
    key: `${backupPrefix(connection, backupId)}${entry.object}`,
    entry,
    dataKey: await backup.dataKey(entry.name),
    signal: options.signal,
    onProgress: options.onProgress,
  })
}

/** Writes the tool's bytes to `sink` and ends it. Throws unless all of them came, as many as the manifest says. */
export async function writeBytes(
  compressed: Readable,
  entry: ArtifactEntry,
  sink: Writable,
  signal: AbortSignal,
): Promise<void> {
  let count = 0
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      count += chunk.length
      done(null, chunk)
    },
    flush(done) {
      if (count === entry.toolBytes) return done()
      done(
        new HoldfastError(
          'artifact.corrupted',
          `Artifact ${entry.name} unpacks to ${count} bytes, its manifest says ${entry.toolBytes}.`,
        ),
      )
    },
  })
  await pipeline(compressed, unpackerOf(entry.compression), counter, sink, { signal })
}

/** The file appears whole or not at all, and never over another one. */
export async function writeFileWhole(path: string, fill: (sink: Writable) => Promise<void>): Promise<void> {
  const draft = join(dirname(path), `.holdfast-${randomBytes(6).toString('hex')}.part`)
  try {
    // Opened here, not by the stream when it gets to it: what fails at once would remove the draft before it exists.
    const file = await open(draft, 'wx', 0o600)
    await fill(file.createWriteStream({ flush: true })).finally(() => file.close())
    await link(draft, path)
    const folder = await open(dirname(path), 'r')
    await folder.sync().finally(() => folder.close())
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'EEXIST') throw new HoldfastError('restore.target-exists', `${path} exists already.`)
    if (code === 'ENOSPC') {
      throw new HoldfastError('restore.target-full', `Writing ${path}: the file system is full.`, {
        cause: error,
      })
    }
    if (error instanceof Error && (code === 'ENOENT' || code === 'EACCES' || code === 'EROFS')) {
      throw new HoldfastError('request.invalid', `Writing ${path}: ${error.message}.`, { cause: error })
    }
    throw error
  } finally {
    await rm(draft, { force: true })
  }
}
