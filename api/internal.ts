/** `/internal/v1/<method>`: the catalog for workers. Each method of WorkerCatalog is one route; arguments are validated. */
import { z } from '@hono/zod-openapi'
import { Hono } from 'hono'
import type { WorkerCatalog } from '../catalog/worker.ts'
import { workerCatalog } from '../catalog/worker-server.ts'
import { canarySchema } from '../model/canary.ts'
import { compressionMethods } from '../model/compression.ts'
import { isErrorCode } from '../model/errors.ts'
import { foreignWrappings } from '../model/foreign.ts'
import { slugPattern } from '../model/ids.ts'
import { logStreamState, slotEnds } from '../model/log-stream.ts'
import { manifestSchema } from '../model/manifest.ts'
import { replayedSchema } from '../model/replayed.ts'
import { homePaths } from '../model/settings.ts'
import { backupTypes, phases, verifyLevels } from '../model/types.ts'
import { operationView } from '../model/views.ts'
import { walHeaderSchema } from '../model/wal-format.ts'
import type { ApiContext, ApiEnv } from './context.ts'
import { enterRefusal, guarded } from './host-guard.ts'
import { restoreDump } from './one-database.ts'
import { makeWay } from './preempt.ts'
import { fieldsOf, HttpRefusal, InvalidRequest } from './problem.ts'
import { startDue } from './schedules/start.ts'
import { planSweep } from './sweeping.ts'

const name = z.string().regex(slugPattern)
const id = z.string().min(1).max(200)
const errorCode = z.string().refine(isErrorCode)
const jsonRecord = z.record(z.string(), z.json())

const attempt = z.strictObject({
  attemptId: id,
  operationId: id,
  backupId: id,
  connection: name,
  destinations: z.array(name).min(1).max(64),
  createdAt: z.iso.datetime(),
  artifacts: z.array(
    z.strictObject({
      name: z.string().min(1).max(1024),
      key: z.string().min(1).max(2048),
      uploads: z.record(name, z.string().max(4096)),
      encryption: z
        .strictObject({
          jwe: jsonRecord,
          own: jsonRecord.nullable(),
          salt: z.string(),
          noncePrefix: z.string(),
          associatedData: z.string(),
        })
        .nullable(),
      encoder: z.string(),
      compression: z.strictObject({
        method: z.enum(compressionMethods),
        level: z.int(),
        longWindow: z.int().nullable(),
        threads: z.int(),
      }),
    }),
  ),
})

const verified = z.strictObject({
  at: z.iso.datetime(),
  level: z.enum(verifyLevels),
  ok: z.boolean(),
  detail: z.string(),
})

const backup = z.strictObject({
  id,
  connection: name,
  engine: z.enum(['sqlite', 'postgresql']),
  method: z.enum(['logical', 'physical']),
  type: z.enum(backupTypes),
  operationId: id.nullable(),
  serverIdentity: z.string(),
  database: z.string(),
  encrypted: z.boolean(),
  toolBytes: z.int(),
  storedBytes: z.int(),
  startedAt: z.string(),
  endedAt: z.string(),
  labels: z.record(z.string(), z.string()),
  manifest: manifestSchema,
})
const foundCopy = z.union([
  z.strictObject({ destination: name, committedAt: z.iso.datetime() }),
  z.strictObject({
    destination: name,
    committedAt: z.null(),
    trouble: z.string().max(10_000),
    wantedUntil: z.iso.datetime(),
  }),
])

const stagingPurpose = z.enum(['tools', 'download'])

const destructiveStep = z.enum(['exchange', 'open'])

const update = z.strictObject({
  state: operationView.shape.state.optional(),
  phases: z.array(operationView.shape.phases.element.extend({ phase: z.enum(phases) })).optional(),
  checks: operationView.shape.checks.optional(),
  error: z
    .object({
      code: errorCode,
      detail: z.string(),
      hint: z.string(),
      context: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional(),
    })
    .nullable()
    .optional(),
  pauseWanted: z.boolean().optional(),
  commands: z.array(z.string()).optional(),
  warnings: z.array(z.string()).optional(),
  endedAt: z.string().optional(),
  runId: z.string().optional(),
  workflowId: z.string().max(1000).optional(),
})

const hookRun = z.strictObject({
  name,
  startedAt: z.iso.datetime(),
  endedAt: z.iso.datetime().nullable(),
  ok: z.boolean().nullable(),
  detail: z.string(),
})
const logEntry = z.strictObject({ id, at: z.iso.datetime(), source: z.string().max(200), text: z.string() })

const sweptItem = z.discriminatedUnion('became', [
  z.strictObject({ became: z.literal('removed'), what: z.string().max(4096) }),
  z.strictObject({
    became: z.literal('skipped'),
    what: z.string().max(4096),
    code: errorCode,
    detail: z.string().max(4096),
  }),
])

const args = {
  connection: z.tuple([name]),
  connectionSecrets: z.tuple([name]),
  destination: z.tuple([name]),
  ownWorker: z.tuple([name]),
  probeSecrets: z.tuple([id]),
  hostOf: z.tuple([id]),
  host: z.tuple([name]),
  storePlan: z.tuple([z.strictObject({ operationId: id, digest: z.string(), plan: z.json() })]),
  plan: z.tuple([id]),
  recordAttempt: z.tuple([attempt]),
  attempts: z.tuple([id]),
  writer: z.tuple([]),
  rememberedEpoch: z.tuple([name]),
  rememberEpoch: z.tuple([name, z.int().positive()]),
  wrapDataKey: z.tuple([z.string(), z.array(name).max(16)]),
  unwrapDataKey: z.tuple([jsonRecord]),
  planScrub: z.tuple([id]),
  recordPassedOver: z.tuple([id, name]),
  dueMoves: z.tuple([id]),
  mayMove: z.tuple([name, id]),
  recordTier: z.tuple([id, name, z.string().max(40).nullable()]),
  planSweep: z.tuple([id]),
  standings: z.tuple([id, name, z.array(id).max(500)]),
  claimLeftovers: z.tuple([id, name, id]),
  unclaim: z.tuple([id]),
  recentlyEnded: z.tuple([name]),
  // What lies in a staging directory, whoever made it.
  statesOf: z.tuple([z.array(z.string().max(1000)).max(100_000)]),
  noteSwept: z.tuple([id, z.string().min(1).max(200), z.array(sweptItem).max(100)]),
  noteUnswept: z.tuple([
    id,
    z.string().min(1).max(200),
    z.strictObject({ code: errorCode, detail: z.string() }),
  ]),
  beginRotation: z.tuple([id]),
  rewrapDataKeys: z.tuple([
    id,
    z
      .array(z.strictObject({ name: z.string().min(1).max(1024), wrapped: z.array(jsonRecord).max(100) }))
      .max(1000),
  ]),
  leftByRotation: z.tuple([id]),
  openedAt: z.tuple([name, z.string().max(200)]),
  recordOpeners: z.tuple([
    z.strictObject({ destination: name, connection: name, backupId: id }),
    z.array(z.string().min(1).max(200)).max(100),
  ]),
  markDeleted: z.tuple([id, name]),
  signManifest: z.tuple([manifestSchema]),
  trustedInstallations: z.tuple([]),
  recordBackup: z.tuple([backup, z.array(foundCopy).min(1).max(64)]),
  foreign: z.tuple([id]),
  recordForeignReading: z.tuple([
    id,
    z.strictObject({
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
      contentBytes: z.int().nonnegative().optional(),
      engine: z.string().min(1).max(100).optional(),
      format: z.string().min(1).max(100).optional(),
      wrapping: z.enum(foreignWrappings).nullable().optional(),
      facts: jsonRecord.optional(),
    }),
  ]),
  recordVerification: z.tuple([id, name, verified]),
  wantApproval: z.tuple([
    id,
    z.strictObject({ planDigest: z.string().max(100), targetName: z.string().max(4096) }),
  ]),
  weighApproval: z.tuple([id, z.string().max(200)]),
  expireApproval: z.tuple([id]),
  withdrawApproval: z.tuple([id]),
  useApproval: z.tuple([id, z.strictObject({ approvalId: id, runId: id, planDigest: z.string().max(100) })]),
  beginDestructive: z.tuple([id, destructiveStep, id]),
  finishDestructive: z.tuple([id, z.enum(['exchange', 'open', 'roll-back'])]),
  destructiveSteps: z.tuple([id]),
  beginRollBack: z.tuple([id]),
  recordKept: z.tuple([
    z.strictObject({
      operationId: id,
      state: z.literal('kept'),
      connection: name,
      name: z.string().min(1).max(8192),
      identity: z.string().min(1).max(200),
      look: z.string().max(20_000),
      goBack: z.string().max(20_000),
      keepUntil: z.iso.datetime(),
      endedAt: z.null(),
    }),
  ]),
  kept: z.tuple([id]),
  endKept: z.tuple([id, z.enum(['dropped', 'gone'])]),
  openPart: z.tuple([id, id]),
  restoreDump: z.tuple([id]),
  noteExamined: z.tuple([
    id,
    z.strictObject({
      rows: z
        .array(
          z.strictObject({
            table: z.string().max(1000),
            rows: z.int().nonnegative(),
            expected: z.int().nonnegative().nullable(),
          }),
        )
        .max(1000),
      canary: canarySchema.nullable(),
    }),
  ]),
  noteReplayed: z.tuple([id, replayedSchema]),
  noteTornDown: z.tuple([id]),
  writeDrillReport: z.tuple([id]),
  updateOperation: z.tuple([id, update]),
  pauseWanted: z.tuple([id]),
  claimStaging: z.tuple([
    z.strictObject({
      operationId: id,
      purpose: stagingPurpose,
      fileSystem: z.string().min(1).max(200),
      bytes: z.int().nonnegative(),
      writtenBytes: z.int().nonnegative(),
      freeBytes: z.int().nonnegative(),
      how: z.enum(['look', 'ask', 'tell']),
    }),
  ]),
  releaseStaging: z.tuple([id, stagingPurpose]),
  bandwidthShare: z.tuple([
    z.strictObject({
      transfer: id,
      operationId: id,
      destination: name,
      host: name,
      wanted: z.int().nonnegative().nullable(),
    }),
  ]),
  hooks: z.tuple([name]),
  hookRun: z.tuple([id, name]),
  recordHookRun: z.tuple([id, hookRun]),
  appendLog: z.tuple([id, logEntry]),
  closedOperations: z.tuple([z.array(id).max(100_000)]),
  logStream: z.tuple([name]),
  noteLogStream: z.tuple([name, logStreamState]),
  endLogStream: z.tuple([name, z.enum(slotEnds)]),
  signLogHeader: z.tuple([walHeaderSchema]),
  makeWay: z.tuple([id]),
  startDue: z.tuple([z.strictObject({ scheduleId: id, dueAt: z.iso.datetime() })]),
} satisfies Record<keyof WorkerCatalog, z.ZodType>

export function internalRoutes(context: ApiContext): Hono<ApiEnv> {
  const catalog: WorkerCatalog = {
    ...workerCatalog(context.catalog, homePaths(context.settings.home).keys),
    makeWay: operationId => makeWay(context, operationId),
    restoreDump: recoveryId => restoreDump(context, recoveryId),
    planSweep: operationId => planSweep(context, operationId),
    startDue: due => startDue(context, due),
  }
  const catalogFor = (host: string | null) => (host === null ? catalog : guarded(context, catalog, host))
  const app = new Hono<ApiEnv>()
  app.post('/:method', async c => {
    const method = c.req.param('method')
    if (!Object.hasOwn(args, method)) throw new HttpRefusal(404, `There is no method of this name.`)
    const known = method as keyof WorkerCatalog
    const parsed = z.strictObject({ args: args[known] }).safeParse(await c.req.json().catch(() => undefined))
    if (!parsed.success) throw new InvalidRequest(fieldsOf(parsed.error))
    // The arguments were just checked against the schema of this very method.
    const call = catalogFor(c.get('workerHost'))[known] as (...given: unknown[]) => Promise<unknown>
    try {
      return c.json({ value: await call(...parsed.data.args) })
    } catch (error) {
      await enterRefusal(context, c, known, error)
      throw error
    }
  })
  return app
}
