import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { insertConnection } from '../../catalog/connections.ts'
import { type Catalog, openCatalog } from '../../catalog/open.ts'
import { insertSchedule } from '../../catalog/schedules.ts'
import { wholeCompression } from '../../model/compression.ts'
import type { OperationRecord } from '../../model/records.ts'
import type { ScheduleRecord } from '../../model/schedules.ts'
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

/** A catalog with one schedule, made on the 20th of October 2026. */
export async function withSchedule(
  fields: Partial<ScheduleRecord>,
  work: (catalog: Catalog, schedule: ScheduleRecord) => Promise<void>,
): Promise<void> {
  await withCatalog(async ({ catalog }) => {
    await insertConnection(
      catalog,
      {
        name: 'shop',
        engine: 'sqlite',
        method: 'logical',
        twoPerson: false,
        canary: false,
        settings: {},
        secretFields: [],
        host: 'local',
        serverIdentity: 'sqlite:test',
        serverVersion: '3',
        createdAt: '2026-01-01T00:00:00.000Z',
        address: '/shop.db',
        requestKey: null,
      },
      {},
    )
    const schedule: ScheduleRecord = {
      id: 'one',
      name: 'nightly',
      kind: 'backup',
      connection: 'shop',
      destinations: [],
      options: {},
      spec: { cron: '30 2 * * *', timeZone: 'Europe/Berlin' },
      jitterSeconds: 0,
      overlap: 'skip',
      catchUpSeconds: 3600,
      startDeadlineSeconds: 3600,
      startAt: null,
      endAt: null,
      paused: false,
      note: null,
      revision: 1,
      checkedUntil: '2026-10-20T12:00:00.000Z',
      carried: null,
      drift: null,
      requestKey: null,
      createdAt: '2026-10-20T12:00:00.000Z',
      updatedAt: '2026-10-20T12:00:00.000Z',
      ...fields,
    }
    await insertSchedule(catalog, schedule)
    await work(catalog, schedule)
  })
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
    destinations: ['vault'],
    failover: {},
    type: 'full',
    toolFormat: 'copy',
    jobs: 1,
    compression: wholeCompression({}),
    recipients: [],
    labels: {},
    dryRun: false,
    unattended: false,
    parkSeconds: 60,
    parkRetrySeconds: 10,
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
