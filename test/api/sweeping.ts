/** A sweep step by step in this process, for what needs neither Temporal nor a worker: its steps, on the catalog of a test's API. */
import { randomBytes } from 'node:crypto'
import type { Turn } from '../../activities/boundary.ts'
import { openContext, type WorkerContext } from '../../activities/context.ts'
import { newLastBeat } from '../../activities/lease.ts'
import type { PausableTurn } from '../../activities/pausing.ts'
import { sweepDestination } from '../../activities/sweep.ts'
import { sweepHost } from '../../activities/sweep-host.ts'
import { type Catalog, openCatalog } from '../../catalog/open.ts'
import { insertOperation, updateOperation } from '../../catalog/operations.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import { planSweep, type Swept } from '../../catalog/sweeps.ts'
import { HoldfastError } from '../../model/errors.ts'
import { readable } from '../../model/ids.ts'
import type { SweepInput } from '../../model/records.ts'
import type { OperationView } from '../../model/views.ts'
import { operation } from '../catalog/support.ts'
import type { TestApi } from './support.ts'

/** The catalog to itself, between two APIs. */
export async function direct<T>(t: TestApi, work: (catalog: Catalog) => Promise<T>): Promise<T> {
  let result: { is: T } | undefined
  await t.restart(async () => {
    const catalog = await openCatalog({
      url: t.settings.catalogUrl,
      secretKey: (await ensureSecretKey(t.settings)).key,
    })
    try {
      result = { is: await work(catalog) }
    } finally {
      await catalog.close()
    }
  })
  if (!result) throw new Error('nothing was done')
  return result.is
}

/** A backup's operation that runs, as its attempt names it. */
export async function addRunning(t: TestApi, id: string, backupId: string) {
  await direct(t, catalog =>
    insertOperation(catalog, operation(id, { backupId, state: 'running', runId: 'r' }), null),
  )
  return { operationId: id, backupId, connection: 'shop', destination: 'vault' }
}

export const closeFailed = (t: TestApi, id: string): Promise<void> =>
  direct(t, async catalog => {
    await updateOperation(catalog, id, { state: 'failed' })
  })

export function turnOf(lease: () => void = () => {}): PausableTurn {
  const turn: Turn = {
    signal: new AbortController().signal,
    fence: 1,
    runId: 'run',
    progress: () => {},
    assertLease: lease,
    lastBeat: newLastBeat(),
  }
  return { ...turn, pausing: new AbortController().signal }
}

/** An open sweep of its own, and what its steps need. */
export async function beginSweep(
  t: TestApi,
  request: Partial<Pick<SweepInput, 'destination' | 'unknown' | 'dryRun'>> = {},
) {
  const id = `op-${readable(randomBytes(14))}`
  const { destination = null, unknown = false, dryRun = false } = request
  const patience = { unattended: false, parkSeconds: 60, parkRetrySeconds: 60 }
  const input: SweepInput = { version: 1, operationId: id, destination, unknown, dryRun, ...patience }
  const row = operation(id, { kind: 'sweep', state: 'running', runId: 'r', backupId: null, connection: null })
  const plan = await direct(t, async catalog => {
    await insertOperation(catalog, { ...row, engine: null, destination, input }, null)
    return await planSweep(catalog, id)
  })
  const context: WorkerContext = await openContext({
    url: t.api.url,
    workerToken: t.workerToken,
    tempDir: t.settings.tempDir,
    ownHost: undefined,
    machine: { queue: 'holdfast/test', waitSeconds: 1 },
    notifyCommand: undefined,
  })
  return {
    input,
    context,
    plan,
    async end(): Promise<Swept> {
      const { swept } = (await t.call<OperationView>('GET', `/v1/operations/${id}`)).body
      await context.catalog.updateOperation(id, { state: 'succeeded' })
      if (!swept) throw new Error('it is no sweep')
      return swept
    },
  }
}

export async function sweepHere(t: TestApi, request: Parameters<typeof beginSweep>[1] = {}): Promise<Swept> {
  const { input, context, plan, end } = await beginSweep(t, request)
  const at = async (place: string, work: () => Promise<unknown>) => {
    try {
      await work()
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      await context.catalog.noteUnswept(input.operationId, place, { code: error.code, detail: error.message })
    }
  }
  for (const name of plan.destinations) {
    await at(name, () => sweepDestination(context, turnOf(), input, name))
  }
  if (!plan.only) {
    const here = await context.onHost('local', turnOf().signal)
    await at('machine here', () => sweepHost(here, turnOf(), input, 'machine here'))
  }
  return await end()
}
