import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Catalog, openCatalog } from '../../catalog/open.ts'
import type { OperationRecord } from '../../model/records.ts'
import { placeForCatalog } from '../support/catalogs.ts'

export const testKey = 'a secret key for tests only'

/** A throw-away catalog; `reopen` closes it and opens the same one again. */
export async function withCatalog(
  work: (tools: {
    catalog: Catalog
    directory: string
    url: string
    reopen(options?: { machine?: string; url?: string }): Promise<Catalog>
  }) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-catalog-'))
  const place = await placeForCatalog(directory)
  const { url } = place
  let open = await openCatalog({ url, secretKey: testKey })
  try {
    await work({
      catalog: open,
      directory,
      url,
      async reopen(options = {}) {
        await open.close()
        open = await openCatalog({ url, secretKey: testKey, ...options })
        return open
      },
    })
  } finally {
    await open.close()
    await place.remove()
    await rm(directory, { recursive: true, force: true })
  }
}

export const operation = (id: string, changes: Partial<OperationRecord> = {}): OperationRecord => ({
  id,
  kind: 'backup',
  state: 'queued',
  connection: 'shop',
  engine: 'sqlite',
  backupId: '20261121T031400Z-full-9f3kabcd',
  destination: 'vault',
  targetDatabase: null,
  workflowId: 'op/sqlite:test',
  runId: null,
  input: {
    version: 1,
    operationId: id,
    backupId: '20261121T031400Z-full-9f3kabcd',
    connection: 'shop',
    engine: 'sqlite',
    method: 'logical',
    serverIdentity: 'sqlite:test',
    destination: 'vault',
    type: 'full',
    toolFormat: 'copy',
    jobs: 1,
    compressionLevel: 3,
    recipients: [],
    labels: {},
    dryRun: false,
    unattended: false,
    parkSeconds: 60,
  },
  phases: [],
  checks: [],
  error: null,
  pauseWanted: false,
  commands: [],
  warnings: [],
  createdAt: new Date().toISOString(),
  endedAt: null,
  ...changes,
})
