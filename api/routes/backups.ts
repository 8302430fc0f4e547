import { randomBytes } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import { findBackup, listBackups, readBackup } from '../../catalog/backups.ts'
import { readConnection } from '../../catalog/connections.ts'
import {
  findDestination,
  listDestinations,
  listPlaces,
  type StoredDestination,
} from '../../catalog/destinations.ts'
import type { Method } from '../../engines/engine.ts'
import { engineOf } from '../../engines/index.ts'
import { wholeCompression } from '../../model/compression.ts'
import { HoldfastError } from '../../model/errors.ts'
import {
  backupIdFor,
  backupIdPattern,
  dryRunWorkflowId,
  serverLock,
  slugPattern,
  verifyWorkflowId,
} from '../../model/ids.ts'
import { type BackupRequestInput, backupInput, copyInput, verifyInput } from '../../model/inputs.ts'
import type {
  BackupInput,
  BackupRecord,
  ConnectionRecord,
  NeededBackup,
  OperationRecord,
  VerifyInput,
} from '../../model/records.ts'
import type { DestinationKind } from '../../model/types.ts'
import { accepted, backupListedView, backupShownView, page } from '../../model/views.ts'
import type { ApiContext, ApiEnv } from '../context.ts'
import { askedCopy, copiesToRead } from '../copying.ts'
import { InvalidRequest } from '../problem.ts'
import { assertWithin, limitOf } from '../reach.ts'
import { recipientsOf } from '../recipients.ts'
import { requires } from '../roles.ts'
import { servedAt } from '../served.ts'
import { lookAtEach, lookAtStored } from '../stored.ts'
import { newOperation, newOperationId, patienceOf, submit, submittedBefore } from '../submit.ts'
import { backupViewOf, operationViewOf } from '../views.ts'
import { body, cursorOf, cursorQuery, json, limitQuery, problems } from './answers.ts'

const tags = ['backups']
const idParam = z.object({ id: z.string().regex(backupIdPattern, 'not a backup id') })

const start = createRoute({
  method: 'post',
  path: '/v1/backups',
  tags,
  ...requires('operator', 'checked'),
  summary: 'Start a backup',
  request: { body: body(backupInput) },
  responses: { 202: json(accepted, 'Accepted: it goes on whatever happens to this process'), ...problems },
})
const list = createRoute({
  method: 'get',
  path: '/v1/backups',
  tags,
  ...requires('viewer', 'checked'),
  summary: 'Backups, newest first',
  request: {
    query: z.strictObject({
      connection: z.string().regex(slugPattern, 'not a connection name').optional(),
      cursor: cursorQuery,
      limit: limitQuery,
      stored: z.literal('true').optional(),
    }),
  },
  responses: { 200: json(page(backupListedView), 'A page'), ...problems },
})
const show = createRoute({
  method: 'get',
  path: '/v1/backups/{id}',
  tags,
  ...requires('viewer', 'backup'),
  summary: 'One backup',
  request: { params: idParam },
  responses: { 200: json(backupShownView, 'The backup'), ...problems },
})
const verify = createRoute({
  method: 'post',
  path: '/v1/backups/{id}/verify',
  tags,
  ...requires('operator', 'backup'),
  summary: 'Prove that a backup is whole',
  request: { params: idParam, body: body(verifyInput) },
  responses: { 202: json(accepted, 'Accepted'), ...problems },
})

const copy = createRoute({
  method: 'post',
  path: '/v1/backups/{id}/copy',
  tags,
  ...requires('operator', 'backup'),
  summary:
    'Copy a backup to another destination as it is: its tool is not run again, nothing is encrypted anew',
  request: { params: idParam, body: body(copyInput) },
  responses: { 202: json(accepted, 'Accepted: it goes on whatever happens to this process'), ...problems },
})

export function backupRoutes(app: OpenAPIHono<ApiEnv>, context: ApiContext): void {
  const { catalog, temporal } = context
  app.openapi(start, async c => {
    const requestKey = c.get('requestKey')
    const input = c.req.valid('json')
    assertWithin(c.get('actor'), input.connection)
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submit(context, await newBackup(context, input), requestKey))
    return c.json({ operation: operationViewOf(operation, temporal) }, 202)
  })
  app.openapi(list, async c => {
    const { connection, cursor, limit = 50, stored } = c.req.valid('query')
    const found = await listBackups(
      catalog,
      { ...(connection === undefined ? {} : { connection }), ...limitOf(c.get('actor')) },
      cursor && { startedAt: cursor.time, id: cursor.id },
      limit + 1,
    )
    const shown = found.slice(0, limit)
    const last = found.length > limit ? shown.at(-1) : undefined
    const uris = await urisOf(context)
    const looked = stored && (await lookAtEach(context, shown))
    return c.json(
      {
        items: shown.map((backup, index) => ({
          ...backupViewOf(backup, uris),
          ...(looked === undefined ? {} : { stored: looked[index] ?? [] }),
        })),
        nextCursor: last ? cursorOf(last.startedAt, last.id) : null,
      },
      200,
    )
  })
  app.openapi(show, async c => {
    const backup = await readBackup(catalog, c.req.valid('param').id)
    const stored = await lookAtStored(context, backup)
    return c.json({ ...backupViewOf(backup, await urisOf(context)), stored }, 200)
  })
  app.openapi(copy, async c => {
    const requestKey = c.get('requestKey')
    const backup = await readCommitted(context, c.req.valid('param').id)
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submit(context, await askedCopy(context, backup, c.req.valid('json')), requestKey))
    return c.json({ operation: operationViewOf(operation, temporal) }, 202)
  })
  app.openapi(verify, async c => {
    const requestKey = c.get('requestKey')
    const look = c.req.valid('json')
    const operation =
      (await submittedBefore(context, requestKey)) ??
      (await submit(
        context,
        newVerify(context, await readCommitted(context, c.req.valid('param').id), look),
        requestKey,
      ))
    return c.json({ operation: operationViewOf(operation, temporal) }, 202)
  })
}

/** Addresses of destinations by name. */
async function urisOf({ catalog }: ApiContext): Promise<Map<string, string>> {
  return new Map((await listPlaces(catalog)).map(({ name, uri }) => [name, uri]))
}

/** Throws `backup.not-found`, `backup.deleted`. */
export async function readCommitted({ catalog }: ApiContext, id: string): Promise<BackupRecord> {
  const backup = await readBackup(catalog, id)
  if (backup.state === 'deleted') {
    throw new HoldfastError(
      'backup.deleted',
      backup.foreign
        ? `Foreign backup ${id} (${backup.foreign.key}) was gone, or another file, when somebody last looked.`
        : `Backup ${id} was deleted.`,
    )
  }
  return backup
}

export async function newBackup(
  context: ApiContext,
  request: BackupRequestInput,
  operationId = newOperationId(),
  /** In the place of the stored connection of that name. */
  through?: ConnectionRecord,
): Promise<OperationRecord & { input: BackupInput }> {
  const connection = through ?? (await readConnection(context.catalog, request.connection))
  const { engine, method, toolFormat } = toolFormatOf(connection, request.format)
  const destinations = await destinationsOf(context, request.destinations)
  const odd = destinations.findIndex(({ kind }) => !method.destinations.includes(kind))
  if (odd >= 0) {
    throw new InvalidRequest([
      {
        path: `destinations.${odd}`,
        message: `${engine.title} cannot be backed up to a ${destinations[odd]?.kind} destination`,
      },
    ])
  }
  const names = destinations.map(({ name }) => name)
  const recipients = await recipientsOf(context, request.encryptTo ?? encryptToOf(destinations))
  const at = new Date()
  const type = request.type ?? 'full'
  if (!method.backupTypes.includes(type)) {
    const there = `${engine.title}, ${method.name}, has: ${method.backupTypes.join(', ')}`
    throw new InvalidRequest([{ path: 'type', message: there }])
  }
  const parent = type === 'incremental' ? await parentFor(context, connection, method) : undefined
  const failover = await failoverOf(context, destinations, request.failover, method.destinations)
  const input: BackupInput = {
    version: 1,
    operationId,
    backupId: backupIdFor(at, type, randomBytes(8)),
    connection: connection.name,
    engine: connection.engine,
    method: connection.method,
    serverIdentity: connection.serverIdentity,
    destinations: names,
    failover,
    type,
    ...(parent ? { parent } : {}),
    toolFormat,
    jobs: request.jobs ?? defaultJobs(),
    compression: wholeCompression(request.compression ?? {}),
    ...(request.bandwidth === undefined ? {} : { bandwidth: request.bandwidth }),
    recipients,
    labels: request.labels ?? {},
    ...('canary' in connection && connection.canary ? { canary: true } : {}),
    ...(through === undefined ? {} : { through }),
    dryRun: request.dryRun ?? false,
    ...patienceOf(context, request),
    ...(await servedAt(context.catalog, connection.host, [
      ...names,
      ...Object.values(failover),
      ...(parent?.copies ?? []),
    ])),
  }
  return {
    ...newOperation(),
    id: input.operationId,
    kind: 'backup',
    connection: connection.name,
    engine: connection.engine,
    backupId: input.backupId,
    destination: names[0] ?? null,
    targetDatabase: null,
    workflowId: input.dryRun ? dryRunWorkflowId(input.operationId) : serverLock(connection.serverIdentity),
    input,
    warnings: [],
    createdAt: at.toISOString(),
  }
}

/** The newest backup of this very server that one can be made against. */
async function parentFor(
  context: ApiContext,
  connection: ConnectionRecord,
  method: Method,
): Promise<NeededBackup> {
  const filter = { connection: connection.name, committed: true }
  for (const backup of await listBackups(context.catalog, filter, undefined, 100)) {
    const fits =
      backup.method === method.name &&
      backup.foreign === null &&
      backup.serverIdentity === connection.serverIdentity &&
      method.mayBeParent?.(backup.manifest) === true &&
      backup.copies.some(copy => copy.state === 'committed' && copy.verified?.ok !== false)
    if (!fits) continue
    await neededBy(context, backup)
    return neededOf(backup)
  }
  throw new HoldfastError(
    'backup.parent',
    `There is no backup of ${connection.name} that an incremental one could be made against.`,
    {
      hint: 'Take a full backup in the format staged-tar (or with summarize_wal on); then incremental ones.',
    },
  )
}

const neededOf = (backup: BackupRecord): NeededBackup => ({
  backupId: backup.id,
  copies: copiesToRead(backup, undefined),
  sourceConnection: backup.connection,
})

/** What a backup needs, oldest first. Throws `backup.parent` where something of it is gone. */
export async function neededBy(context: ApiContext, backup: BackupRecord): Promise<NeededBackup[]> {
  const needed: NeededBackup[] = []
  for (let { parent } = backup.manifest; parent !== null; ) {
    const found = await findBackup(context.catalog, parent)
    if (found?.state !== 'committed') {
      throw new HoldfastError(
        'backup.parent',
        `Backup ${backup.id} needs ${parent}, which is not there any more.`,
      )
    }
    needed.unshift(neededOf(found))
    parent = found.manifest.parent
  }
  return needed
}

/** Parallel jobs where a tool has them: enough to keep a disk busy, not all the cores of a production machine. */
export const defaultJobs = (): number => Math.min(4, availableParallelism())

/** How it is backed up, in one of the method's formats. */
export function toolFormatOf({ engine: name, method: by }: ConnectionRecord, asked: string | undefined) {
  const engine = engineOf(name)
  const method = engine.methods[by]
  if (!method) {
    throw new HoldfastError('request.invalid', `connection: ${engine.title} has no ${by} method.`)
  }
  const toolFormat = asked ?? method.toolFormats[0]
  if (toolFormat === undefined || !method.toolFormats.includes(toolFormat)) {
    throw new InvalidRequest([
      { path: 'format', message: `${engine.title}, ${method.name}, has: ${method.toolFormats.join(', ')}` },
    ])
  }
  return { engine, method, toolFormat }
}

export async function destinationsOf(
  { catalog }: ApiContext,
  names: readonly string[] | undefined,
): Promise<StoredDestination[]> {
  const all = await listDestinations(catalog)
  if (names !== undefined) {
    const found = names.map(name => all.find(destination => destination.name === name))
    const problems = found.flatMap((one, index) =>
      one
        ? []
        : [{ path: `destinations.${index}`, message: `there is no destination named ${names[index]}` }],
    )
    if (problems.length > 0) throw new InvalidRequest(problems)
    return found.filter(one => one !== undefined)
  }
  const [only, ...others] = all
  if (only && others.length === 0) return [only]
  const there = all.map(destination => destination.name).join(', ')
  throw new InvalidRequest([
    { path: 'destinations', message: only ? `name one of: ${there}` : 'there is no destination yet' },
  ])
}

/** What all of them say, since what lies there is the same everywhere; absent: every key there is. */
export function encryptToOf(destinations: readonly StoredDestination[]): string[] | undefined {
  const said = destinations.map(({ encryptTo }) => encryptTo)
  if (said.some(names => names === null)) return undefined
  const names = [...new Set(said.flatMap(some => some ?? []))]
  if (names.length === 0 || said.every(some => some?.length)) return names
  throw new InvalidRequest([
    {
      path: 'encryptTo',
      message: 'say whom for: of these destinations some are for encrypted backups, some are not',
    },
  ])
}

/** As it is said or set now: what becomes of the settings later changes no backup that was accepted. */
async function failoverOf(
  { catalog }: ApiContext,
  destinations: readonly StoredDestination[],
  said: string | null | undefined,
  kinds: readonly DestinationKind[],
): Promise<Record<string, string>> {
  if (said === null) return {}
  if (said === undefined) {
    return Object.fromEntries(
      destinations.flatMap(({ name, failover }) => (failover === null ? [] : [[name, failover]])),
    )
  }
  const found = await findDestination(catalog, said)
  const message =
    found === undefined
      ? `there is no destination named ${said}`
      : destinations.some(({ name }) => name === said)
        ? 'is one of the destinations itself'
        : kinds.includes(found.kind)
          ? undefined
          : `it cannot be backed up to a ${found.kind} destination`
  if (message !== undefined) throw new InvalidRequest([{ path: 'failover', message }])
  return Object.fromEntries(destinations.map(({ name }) => [name, said]))
}

export function newVerify(
  context: ApiContext,
  backup: BackupRecord,
  { level = 'checksum', from, thaw }: z.infer<typeof verifyInput>,
  operationId = newOperationId(),
): OperationRecord {
  const copies = copiesToRead(backup, from)
  const input: VerifyInput = {
    version: 1,
    operationId,
    backupId: backup.id,
    copies,
    sourceConnection: backup.connection,
    level,
    ...(thaw ? { thaw } : {}),
    ...patienceOf(context, {}),
  }
  return {
    ...newOperation(),
    id: input.operationId,
    kind: 'verify',
    // Of a foreign one there may be neither.
    connection: backup.connection || null,
    engine: backup.engine || null,
    backupId: backup.id,
    destination: copies[0],
    targetDatabase: null,
    workflowId: verifyWorkflowId(input.operationId),
    input,
    warnings: [],
    createdAt: new Date().toISOString(),
  }
}
