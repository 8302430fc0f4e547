import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Catalog, openCatalog } from '../../catalog/open.ts'
import type { OperationRecord } from '../../model/records.ts'

export const testKey = 'a secret key for tests only'

/** A throw-away catalog; `reopen` closes it and opens the same file again. */
export async function withCatalog(
  work: (tools: {
    catalog: Catalog
    directory: string
    path: string
    reopen(options?: { secretKey?: string; machine?: string; path?: string }): Promise<Catalog>
  }) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-catalog-'))
  const path = join(directory, 'catalog.sqlite')
  let open = await openCatalog({ url: `sqlite:${path}`, secretKey: testKey })
  try {
    await work({
      catalog: open,
      directory,
      path,
      async reopen(options = {}) {
        await open.close()
        open = await openCatalog({
          url: `sqlite:${options.path ?? path}`,
          secretKey: options.secretKey ?? testKey,
          ...(options.machine === undefined ? {} : { machine: options.machine }),
        })
        return open
      },
    })
  } finally {
    await open.close()
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
  },
  phases: [],
  checks: [],
  error: null,
  commands: [],
  warnings: [],
  createdAt: new Date().toISOString(),
  endedAt: null,
  ...changes,
})
