/** Drills as they are accepted, and what is done for those that were ended from outside. */
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { expectRestorable } from '../activities/foreign.ts'
import { findBackup, listBackups } from '../catalog/backups.ts'
import { readConnection, type StoredConnection } from '../catalog/connections.ts'
import { writeDrillReport } from '../catalog/drill-reports.ts'
import { findDrill, unfinishedDrills } from '../catalog/drills.ts'
import type { Catalog } from '../catalog/open.ts'
import { readOperation } from '../catalog/operations.ts'
import { engineOf } from '../engines/index.ts'
import { isDrill } from '../model/drill-report.ts'
import { HoldfastError, hasCode } from '../model/errors.ts'
import { drillWorkflowId } from '../model/ids.ts'
import type { DrillRequestInput } from '../model/inputs.ts'
import type {
  Actor,
  BackupRecord,
  DrillInput,
  Image,
  NeededBackup,
  OperationRecord,
} from '../model/records.ts'
import type { ApiContext } from './context.ts'
import { copiesToRead } from './copying.ts'
import { InvalidRequest } from './problem.ts'
import { assertTargetWithin, assertWithin } from './reach.ts'
import { recoveryFrom } from './recovery.ts'
import { assertRole } from './roles.ts'
import { defaultJobs, neededBy } from './routes/backups.ts'
import { resolveBackup } from './routes/restores.ts'
import { servedAt } from './served.ts'
import { newOperation, newOperationId, patienceOf } from './submit.ts'

type Limited = Pick<Actor, 'connections'>

/** Nobody's token: what a schedule does was allowed when it was made. */
export const unlimited: Limited = { connections: null }

/** Queries run with the rights of the connection, as hooks do. */
export function assertMayDrill(
  actor: Actor,
  options: {
    queries?: unknown[] | undefined
    target?: string | undefined
    container?: Image | undefined
  } = {},
): void {
  if (options.queries && options.queries.length > 0) assertRole(actor, 'admin', 'A drill with queries')
  if (options.container) assertRole(actor, 'admin', 'A drill by the programs of an image')
  if (options.target !== undefined) assertWithin(actor, options.target)
}

export async function newDrill(
  context: ApiContext,
  request: DrillRequestInput,
  actor: Limited,
  operationId = newOperationId(),
): Promise<OperationRecord> {
  const { catalog } = context
  const moment = request.moment && (await momentOf(context, request.moment, request.target, actor))
  const backup = moment?.backup ?? (await resolveBackup(context, request.backup ?? '', actor))
  if (backup.foreign) expectRestorable(backup.id, backup.foreign)
  const named = request.target ?? backup.connection
  if (named === '')
    throw new InvalidRequest([{ path: 'target', message: 'a foreign backup is of none: name one' }])
  const target = await readConnection(catalog, named)
  if (backup.engine !== target.engine || (!backup.foreign && backup.method !== target.method)) {
    const titles = [backup, target].map(one => `${engineOf(one.engine).title} (${one.method})`)
    throw new HoldfastError(
      'restore.mismatch',
      `Backup ${backup.id} is of ${titles[0]}; connection ${target.name} is ${titles[1]}.`,
    )
  }
  const parents = backup.manifest.parent === null ? [] : await neededBy(context, backup)
  if (request.maxBytes !== undefined) await expectSize(catalog, backup, parents, request.maxBytes)
  if (request.container) expectImageFits(backup)
  const database = scratchName(backup, target, request.directory)
  await assertTargetWithin(catalog, actor, target, { database, preempt: false })
  const copies = copiesToRead(backup, request.from)
  const [newest] = await listBackups(
    catalog,
    { connection: backup.connection, committed: true },
    undefined,
    1,
  )
  const input: DrillInput = {
    version: 1,
    operationId,
    backupId: backup.id,
    copies,
    sourceConnection: backup.connection,
    ...(parents.length === 0 ? {} : { parents }),
    targetConnection: target.name,
    targetEngine: target.engine,
    targetDatabase: database,
    serverIdentity: target.serverIdentity,
    jobs: request.jobs ?? defaultJobs(),
    noOwner: request.noOwner ?? false,
    ...(request.bandwidth === undefined ? {} : { bandwidth: request.bandwidth }),
    dryRun: false,
    preempt: false,
    ...patienceOf(context, {}),
    failsFast: true,
    overwriteExisting: false,
    keepOldSeconds: 0,
    safetyBackup: null,
    approvalId: null,
    before: [],
    ...(await servedAt(catalog, target.host, [...copies, ...parents.flatMap(needed => needed.copies)])),
    ...(moment ? { recovery: moment.recovery } : {}),
    drill: {
      newest: newest?.id === backup.id,
      thorough: !request.quick,
      queries: request.queries ?? [],
      maxSeconds: request.maxSeconds ?? null,
      ...(request.container ? { container: request.container } : {}),
    },
  }
  return {
    ...newOperation(),
    id: operationId,
    kind: 'drill',
    // Its tools run there; whose backup it is stands beside it.
    connection: target.name,
    engine: target.engine,
    backupId: backup.id,
    destination: copies[0],
    targetDatabase: database,
    workflowId: drillWorkflowId(backup.connection || backup.id),
    input,
    warnings: [],
    createdAt: new Date().toISOString(),
  }
}

/** Whether it can be reached is settled before anything is touched, as with a recovery. */
async function momentOf(
  context: ApiContext,
  moment: NonNullable<DrillRequestInput['moment']>,
  target: string | undefined,
  actor: Limited,
) {
  assertWithin(actor, moment.connection)
  const source = await readConnection(context.catalog, moment.connection)
  const to = target === undefined ? source : await readConnection(context.catalog, target)
  return await recoveryFrom(context, source, to, moment)
}

export function expectImageFits({ engine, method }: Pick<BackupRecord, 'engine' | 'method'>): void {
  const { title, methods } = engineOf(engine)
  if (methods[method]?.fromImages) return
  const message = `no copy of ${title} (${method}) is started by programs of an image`
  throw new InvalidRequest([{ path: 'container', message }])
}

/** With what it needs: that is unpacked, too. */
async function expectSize(
  catalog: Catalog,
  { id, toolBytes: own }: BackupRecord,
  parents: readonly NeededBackup[],
  maxBytes: number,
): Promise<void> {
  const needed = await Promise.all(parents.map(({ backupId }) => findBackup(catalog, backupId)))
  const toolBytes = needed.reduce((sum, parent) => sum + (parent?.toolBytes ?? 0), own)
  if (toolBytes <= maxBytes) return
  throw new HoldfastError(
    'drill.too-large',
    `Backup ${id} has ${toolBytes} bytes unpacked; the drill may restore ${maxBytes}.`,
  )
}

/** The name that the copy would get if it ever got one: its temporary name is made of it, and of a random token. */
function scratchName(backup: BackupRecord, target: StoredConnection, directory: string | undefined): string {
  const engine = engineOf(backup.engine)
  const method = engine.methods[backup.method]
  const mark = `${new Date().toISOString().replace(/[-:]/g, '').replace('T', '_').slice(0, 15)}_${randomInt(1000, 9999)}`
  const beside = method?.nameBeside?.(backup.manifest, mark)
  const isPath = beside !== undefined || backup.engine === 'sqlite'
  if (directory !== undefined && !isPath) {
    throw new InvalidRequest([
      {
        path: 'directory',
        message: 'a logical backup is restored into a database of a server, not into a directory',
      },
    ])
  }
  if (directory !== undefined) return join(directory, `drill_${mark}`)
  return beside ?? engine.nameBeside(engine.databaseOf(target.settings), mark)
}

/** Sees to it that what closed drills have left is removed; `now`: without waiting for a next try. Answers of which. */
export async function removeLeftovers({ catalog, temporal }: ApiContext, now: boolean): Promise<string[]> {
  const left = await unfinishedDrills(catalog, 'copy')
  for (const id of left) {
    const { input } = await readOperation(catalog, id)
    if (isDrill(input)) await temporal.tearDown(input, now)
  }
  return left
}

/** What a workflow that was ended from outside, or died with its Temporal, has not done. */
export async function finishDrills(context: ApiContext): Promise<void> {
  await removeLeftovers(context, false)
  for (const id of await unfinishedDrills(context.catalog, 'report')) {
    // Of one that goes on being torn down it is written when that is over, or when somebody asks for it.
    if ((await findDrill(context.catalog, id))?.tornDownAt == null) continue
    await writeDrillReport(context.catalog, id).catch(error => {
      if (!hasCode(error, 'backup.not-found')) throw error
    })
  }
}
