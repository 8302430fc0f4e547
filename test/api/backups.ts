/** Backups made through the worker's routes and the commit protocol, as a worker does it, without tools and workflows. */

import { createHash, randomBytes } from 'node:crypto'
import { catalogClient } from '../../catalog/client.ts'
import type { WorkerCatalog } from '../../catalog/worker.ts'
import { wholeCompression } from '../../model/compression.ts'
import { backupIdFor, readable } from '../../model/ids.ts'
import type { Manifest } from '../../model/manifest.ts'
import { backupPrefix, commitManifest, committedAtOf } from '../../storage/backups.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import type { TestApi } from './support.ts'

export const workerOf = (t: TestApi): WorkerCatalog => catalogClient({ url: t.api.url, token: t.workerToken })

export const opened = async (t: TestApi, name: string): Promise<Destination> => {
  const { record, secrets } = await workerOf(t).destination(name)
  return await openDestination(record, secrets)
}

/** Records an attempt and puts its object; the operation's row must be there. */
export async function attemptOf(
  t: TestApi,
  to: Destination,
  names: { operationId: string; backupId: string; connection: string; destination: string },
) {
  const attemptId = readable(randomBytes(10))
  const key = `${backupPrefix(names.connection, names.backupId)}${attemptId}/items.zst`
  const body = randomBytes(100)
  const { destination, ...rest } = names
  await workerOf(t).recordAttempt({
    ...rest,
    destinations: [destination],
    attemptId,
    createdAt: new Date().toISOString(),
    artifacts: [
      {
        name: 'items',
        key,
        uploads: {},
        encryption: null,
        encoder: 'none',
        compression: wholeCompression({}),
      },
    ],
  })
  await to.put(key, body)
  return { attemptId, key, body }
}

/** Signs and commits; does not tell the catalog. */
export async function commit(
  t: TestApi,
  to: Destination,
  names: { backupId: string; connection: string },
  attempt: Awaited<ReturnType<typeof attemptOf>>,
): Promise<Manifest> {
  const { installationId } = await workerOf(t).writer()
  const at = new Date().toISOString()
  const manifest: Manifest = {
    format: 'holdfast-manifest/1',
    backupId: names.backupId,
    installationId,
    epoch: 1,
    attemptId: attempt.attemptId,
    connection: names.connection,
    engine: 'sqlite',
    method: 'physical',
    toolFormat: 'copy',
    type: 'full',
    consistency: 'snapshot',
    server: { identity: 'sqlite:test', version: '3.40.1', database: 'items.db' },
    facts: { pages: 2 },
    tools: [{ name: 'sqlite3', version: '3.40.1' }],
    commands: ['sqlite3 items.db'],
    artifacts: [
      {
        name: 'items',
        object: `${attempt.attemptId}/items.zst`,
        format: 'sqlite-file',
        storedBytes: attempt.body.length,
        storedSha256: createHash('sha256').update(attempt.body).digest('hex'),
        toolBytes: 8192,
        compressedBytes: attempt.body.length,
        compression: { codec: 'zstd', level: 3, encoder: 'none', frameBytes: 4194304, frames: 1 },
        encryption: null,
      },
    ],
    parent: null,
    startedAt: at,
    endedAt: at,
    labels: { why: 'test' },
  }
  await commitManifest(to, await workerOf(t).signManifest(manifest))
  return manifest
}

export const newBackupId = (): string => backupIdFor(new Date(), 'full', randomBytes(8))

/** The copy, as a worker tells the catalog of it. */
export const foundIn = async (to: Destination, { connection, backupId }: Manifest) => ({
  destination: 'vault',
  committedAt: await committedAtOf(to, connection, backupId),
})
