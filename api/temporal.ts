/**
 * The way to Temporal: start, find, ask, cancel. The connection is lazy and reconnects by itself; every call has a
 * deadline and throws `temporal.unreachable` when the service does not answer.
 */

import { readFile } from 'node:fs/promises'
import {
  Client,
  Connection,
  defaultPayloadConverter,
  isGrpcServiceError,
  WorkflowExecutionAlreadyStartedError,
  type WorkflowExecutionDescription,
  type WorkflowExecutionStatusName,
  WorkflowFailedError,
  WorkflowNotFoundError,
  type WorkflowOptions,
} from '@temporalio/client'
import { ApplicationFailure } from '@temporalio/common'
import type { Notification } from '../activities/notify.ts'
import { type ErrorFacts, HoldfastError, isErrorCode } from '../model/errors.ts'
import {
  logsWorkflowId,
  requestWorkflowId,
  retireWorkflowId,
  takeBackWorkflowId,
  taskQueue,
  tearDownWorkflowId,
} from '../model/ids.ts'
import type { ArchiveLogsInput } from '../model/log-stream.ts'
import type {
  DrillInput,
  HostQuestion,
  HostQuestionInput,
  HostWorker,
  OperationRecord,
  RestoreInput,
  RetireInput,
} from '../model/records.ts'
import type { Settings } from '../model/settings.ts'
import type { Json } from '../model/types.ts'
import * as attributes from '../workflows/attributes.ts'
import { createLog, type Log } from './log.ts'
import { openSchedules, type TemporalSchedules } from './temporal-schedules.ts'

/** One run of a workflow that carries an operation. */
export interface Run {
  runId: string
  status: WorkflowExecutionStatusName
  closedAt: Date | undefined
  description: WorkflowExecutionDescription
}

export interface TemporalAccess {
  /** Throws `temporal.unreachable`. */
  check(): Promise<void>
  /** Starts the operation's workflow; 'taken' when another run holds the workflow id. */
  start(operation: OperationRecord): Promise<{ runId: string } | 'taken'>
  /** The newest run that carries this operation; undefined when there is none. */
  find(workflowId: string, operationId: string): Promise<Run | undefined>
  /** Who runs under this workflow id now. */
  holder(
    workflowId: string,
  ): Promise<{ operationId: string | undefined; type: string; startedAt: Date } | undefined>
  /** Why a failed run failed, as it said itself. */
  failureOf(workflowId: string, runId: string): Promise<ErrorFacts | undefined>
  /** Who asked for work lately. */
  pollers(): Promise<Poller[]>
  /** Sends a signal; false when the run has ended. */
  signal(workflowId: string, runId: string, name: string, ...args: unknown[]): Promise<boolean>
  /** How many workers ask for the steps of this queue. */
  polling(queue: string): Promise<number>
  /** Throws what the worker of the host says; `host.no-worker` when nobody there answers. */
  askHost(worker: HostWorker, question: HostQuestion): Promise<Json>
  /** Starts what removes the kept copy of an operation; one that runs goes on. */
  retire(operationId: string, hostWorker: HostWorker | undefined): Promise<void>
  /** Starts what ends the swap of a restore that was ended from outside; one that runs goes on, one that succeeded was enough. */
  takeBack(input: RestoreInput): Promise<void>
  /** Starts what removes what a drill has left; one that runs goes on. `now`: it does not wait for its next try. */
  tearDown(input: DrillInput, now: boolean): Promise<void>
  /** Starts what keeps the log of a server streamed; one that runs goes on. `now`: it looks at once what is wanted of it. */
  archiveLogs(input: ArchiveLogsInput, now: boolean): Promise<void>
  /** Has somebody told, once for each id. */
  tellSomebody(id: string, notification: Notification): Promise<void>
  /** Asks the run to stop. It having ended already is fine. */
  cancel(workflowId: string, runId: string): Promise<void>
  /** Address of the run in Temporal's UI, where one is known. */
  uiLink(workflowId: string, runId: string | null): string | null
  schedules: TemporalSchedules
  close(): Promise<void>
}

/** How long new search attributes may take until the service takes them. */
const attributeSeconds = 20
const deadlineMs = 5000
const againMs = 200
/** A probe may take a minute there. */
const askHostMs = 110_000

const defaultAddress = '127.0.0.1:7233'

/** Not connected until it is used; whoever asks for it closes it. */
export async function temporalConnection(settings: Pick<Settings, 'temporal'>): Promise<Connection> {
  const { address = defaultAddress, tls, apiKey } = settings.temporal
  return Connection.lazy({
    address,
    // We try again ourselves: the SDK's own timers outlive a closed connection.
    interceptors: [],
    channelArgs: { 'grpc.initial_reconnect_backoff_ms': 200, 'grpc.max_reconnect_backoff_ms': 2000 },
    ...(apiKey === undefined ? {} : { apiKey }),
    ...(tls ? { tls: await tlsOptions(tls) } : apiKey === undefined ? {} : { tls: true }),
  })
}

/** Who asked for work within the last minutes; `queue`: that of every worker, or of one machine. */
export async function pollersOf(
  connection: Connection,
  namespace: string,
  queue = taskQueue,
): Promise<Poller[]> {
  const { pollers } = await connection.workflowService.describeTaskQueue({
    namespace,
    taskQueue: { name: queue },
    // 2: TASK_QUEUE_TYPE_ACTIVITY of the service's own enumeration.
    taskQueueType: 2,
  })
  return (pollers ?? []).map(({ identity, lastAccessTime }) => ({
    identity: identity ?? '',
    lastSeenAt: new Date(Number(lastAccessTime?.seconds ?? 0) * 1000),
  }))
}

export interface Poller {
  identity: string
  lastSeenAt: Date
}

/** A poll lasts a minute at most; who did not ask again since is gone. */
export const isPolling = ({ lastSeenAt }: Poller): boolean => Date.now() - lastSeenAt.getTime() < 75_000

/** `describe` and the like: the caller of `openTemporal` closes it. Nothing is connected until it is needed. */
export async function openTemporal(
  settings: Settings,
  log: Log = createLog(settings),
): Promise<TemporalAccess> {
  const { address = defaultAddress, namespace, uiUrl } = settings.temporal
  const connection = await temporalConnection(settings)
  const client = new Client({ connection, namespace })

  const closing = new AbortController()
  /** Tries again while the service is away, for as long as the caller has patience. */
  const call = async <T>(what: string, ask: () => Promise<T>, patienceMs = deadlineMs): Promise<T> => {
    const until = Date.now() + patienceMs
    for (;;) {
      try {
        return await connection.withAbortSignal(closing.signal, () => connection.withDeadline(until, ask))
      } catch (error) {
        const known = translated(error, what, address)
        const away = known instanceof HoldfastError && Date.now() + againMs < until
        if (!away || closing.signal.aborted) throw known
        await new Promise(resolve => setTimeout(resolve, againMs))
      }
    }
  }

  const register = async (): Promise<void> => {
    const known = await connection.operatorService.listSearchAttributes({ namespace })
    const missing = attributeNames.filter(name => !Object.hasOwn(known.customAttributes ?? {}, name))
    if (missing.length === 0) return
    // 2: INDEXED_VALUE_TYPE_KEYWORD of the service's own enumeration.
    await connection.operatorService.addSearchAttributes({
      namespace,
      searchAttributes: Object.fromEntries(missing.map(name => [name, 2])),
    })
  }
  let registered: Promise<boolean> | undefined
  /** False when the service refuses them: some hosted ones want them made by their own tool. */
  const attributesReady = (): Promise<boolean> => {
    registered ??= call('registering search attributes', register).then(
      () => true,
      error => {
        if (error instanceof HoldfastError) {
          registered = undefined
          throw error
        }
        log.warn('Temporal refuses to register search attributes; operations run without them', {
          attributes: attributeNames.join(' '),
          reason: String(error),
        })
        return false
      },
    )
    return registered
  }
  attributesReady().catch(() => {
    // Asked again when the first operation starts.
  })

  const startOnce = (operation: OperationRecord, withAttributes: boolean) =>
    client.workflow.start(workflowTypeOf(operation), {
      taskQueue,
      workflowId: operation.workflowId,
      args: [operation.input],
      workflowIdConflictPolicy: 'FAIL',
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      staticSummary: summaryOf(operation),
      memo: { operationId: operation.id },
      ...(withAttributes ? { typedSearchAttributes: attributesOf(operation) } : {}),
    })

  const describe = async (workflowId: string, runId?: string) => {
    try {
      return await client.workflow.getHandle(workflowId, runId).describe()
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return undefined
      throw error
    }
  }

  /** It looks again now. */
  const nudge = async (workflowId: string): Promise<void> => {
    await client.workflow
      .getHandle(workflowId)
      .signal('again')
      .catch(ended => {
        if (!(ended instanceof WorkflowNotFoundError)) throw ended
      })
  }

  /** Starts it under an id of its own; one that runs goes on, and `otherwise` is done then. */
  const unlessItRuns = (
    type: string,
    workflowId: string,
    options: Pick<WorkflowOptions, 'staticSummary' | 'workflowExecutionTimeout' | 'workflowIdReusePolicy'> & {
      args: unknown[]
    },
    otherwise: () => Promise<void> = async () => {},
  ): Promise<void> =>
    call(`starting ${workflowId}`, async () => {
      try {
        await client.workflow.start(type, {
          taskQueue,
          workflowId,
          workflowIdConflictPolicy: 'FAIL',
          workflowIdReusePolicy: 'ALLOW_DUPLICATE',
          ...options,
        })
      } catch (error) {
        if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error
        await otherwise()
      }
    })

  const polling = (queue: string): Promise<number> =>
    call(
      `asking for workers of ${queue}`,
      async () => (await pollersOf(connection, namespace, queue)).filter(isPolling).length,
      1500,
    )

  return {
    check: () =>
      call('asking how it is', async () => void (await connection.workflowService.getSystemInfo({})), 1500),

    async start(operation) {
      const until = Date.now() + attributeSeconds * 1000
      let withAttributes = await attributesReady()
      for (;;) {
        try {
          const started = await call(`starting ${operation.kind} ${operation.id}`, () =>
            startOnce(operation, withAttributes),
          )
          return { runId: started.firstExecutionRunId }
        } catch (error) {
          if (error instanceof WorkflowExecutionAlreadyStartedError) return 'taken'
          if (!withAttributes || !isAttributeTrouble(error)) throw error
          // Just registered and not known everywhere yet, or the service lost its database.
          if (Date.now() > until) {
            log.warn('Temporal does not take the search attributes; the operation runs without them', {
              operation: operation.id,
            })
            withAttributes = false
            continue
          }
          registered = undefined
          await new Promise(resolve => setTimeout(resolve, 300))
          withAttributes = await attributesReady()
        }
      }
    },

    find: (workflowId, operationId) =>
      call(`looking for operation ${operationId}`, async () => {
        const newest = await describe(workflowId)
        if (newest === undefined) return undefined
        if (newest.memo?.operationId === operationId) return runOf(newest)
        // Another operation ran under this lock since; ours may lie behind it.
        let looked = 0
        for await (const info of client.workflow.list({ query: `WorkflowId = '${workflowId}'` })) {
          if (info.memo?.operationId === operationId) {
            const found = await describe(workflowId, info.runId)
            return found && runOf(found)
          }
          looked += 1
          if (looked === 50) break
        }
        return undefined
      }),

    holder: workflowId =>
      call(`asking who holds ${workflowId}`, async () => {
        const found = await describe(workflowId)
        if (found?.status.name !== 'RUNNING') return undefined
        const id = found.memo?.operationId
        return {
          operationId: typeof id === 'string' ? id : undefined,
          type: found.type,
          startedAt: found.startTime,
        }
      }),

    failureOf: (workflowId, runId) =>
      call(`asking why ${workflowId} failed`, async () => {
        try {
          await client.workflow.getHandle(workflowId, runId).result()
          return undefined
        } catch (error) {
          if (!(error instanceof WorkflowFailedError)) throw error
          return factsOf(error.cause)
        }
      }),

    pollers: () => call('asking for workers', () => pollersOf(connection, namespace), 1500),
    signal: (workflowId, runId, name, ...args) =>
      call(`sending ${name} to ${workflowId}`, async () => {
        try {
          await client.workflow.getHandle(workflowId, runId).signal(name, ...args)
          return true
        } catch (error) {
          if (error instanceof WorkflowNotFoundError) return false
          throw error
        }
      }),

    polling,

    async askHost(worker, question) {
      const nobody = (cause?: unknown) =>
        new HoldfastError('host.no-worker', `No worker on host ${worker.host} answers.`, {
          hint: `On that machine: \`holdfast worker --host ${worker.host}\``,
          cause,
        })
      if ((await polling(worker.queue)) === 0) throw nobody()
      const workflowId = `ask/${crypto.randomUUID()}`
      const input: HostQuestionInput = { version: 1, worker, question }
      const handle = await call(`asking host ${worker.host}`, () =>
        client.workflow.start('askHost', {
          taskQueue,
          workflowId,
          args: [input],
          workflowExecutionTimeout: '2m',
          staticSummary: `ask host ${worker.host}`,
        }),
      )
      try {
        return await call(`asking host ${worker.host}`, () => handle.result(), askHostMs)
      } catch (error) {
        if (!(error instanceof WorkflowFailedError)) throw error
        const facts = factsOf(innermost(error))
        if (facts) throw new HoldfastError(facts.code, facts.detail, { hint: facts.hint })
        throw nobody(error)
      }
    },

    retire: (operationId, hostWorker) => {
      const input: RetireInput = { version: 1, operationId, ...(hostWorker ? { hostWorker } : {}) }
      return unlessItRuns('retire', retireWorkflowId(operationId), {
        args: [input],
        staticSummary: `remove what restore ${operationId} has kept, when its time is over`,
      })
    },

    takeBack: input =>
      unlessItRuns('takeBack', takeBackWorkflowId(input.operationId), {
        args: [input],
        workflowIdReusePolicy: 'ALLOW_DUPLICATE_FAILED_ONLY',
        staticSummary: `end the swap that restore ${input.operationId} has begun`,
      }),

    tearDown: (input, now) => {
      const workflowId = tearDownWorkflowId(input.operationId)
      const staticSummary = `remove what drill ${input.operationId} has left`
      return unlessItRuns('tearDown', workflowId, { args: [input], staticSummary }, async () => {
        if (now) await nudge(workflowId)
      })
    },

    archiveLogs: (input, now) =>
      call(`starting ${logsWorkflowId(input.connection)}`, async () => {
        const workflowId = logsWorkflowId(input.connection)
        const startIt = (withAttributes: boolean) =>
          client.workflow.start('archiveLogs', {
            taskQueue,
            workflowId,
            args: [input],
            workflowIdConflictPolicy: 'FAIL',
            workflowIdReusePolicy: 'ALLOW_DUPLICATE',
            staticSummary:
              `archive the log of ${input.connection} (${input.engine}) → ${input.destinations.join(', ')}`.slice(
                0,
                200,
              ),
            ...(withAttributes
              ? {
                  typedSearchAttributes: [
                    { key: attributes.connectionAttribute, value: input.connection },
                    { key: attributes.engineAttribute, value: input.engine },
                  ],
                }
              : {}),
          })
        try {
          const withAttributes = await attributesReady()
          await startIt(withAttributes).catch(async error => {
            if (!withAttributes || !isAttributeTrouble(error)) throw error
            // A Temporal that lost its database is told of them anew by the next one.
            registered = undefined
            await startIt(false)
          })
        } catch (error) {
          if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error
          if (now) await nudge(workflowId)
        }
      }),

    tellSomebody: (id, notification) =>
      unlessItRuns('tellSomebody', `tell/${id}`, {
        args: [notification],
        workflowIdReusePolicy: 'REJECT_DUPLICATE',
        workflowExecutionTimeout: '1 day',
        staticSummary: `${notification.event}: ${notification.title}`.slice(0, 200),
      }),

    cancel: (workflowId, runId) =>
      call(`cancelling ${workflowId}`, async () => {
        try {
          await client.workflow.getHandle(workflowId, runId).cancel()
        } catch (error) {
          if (!(error instanceof WorkflowNotFoundError)) throw error
        }
      }),

    uiLink(workflowId, runId) {
      if (uiUrl === undefined || runId === null) return null
      const place = [namespace, 'workflows', workflowId, runId].map(encodeURIComponent).join('/')
      return `${uiUrl.replace(/\/+$/, '')}/namespaces/${place}/history`
    },

    schedules: openSchedules(client, call, {
      ready: attributesReady,
      lost: error => {
        if (isAttributeTrouble(error)) registered = undefined
      },
    }),

    async close() {
      closing.abort()
      await connection.close()
    },
  }
}

/** A restore that may replace something begins by asking. */
const workflowTypeOf = (operation: OperationRecord): string =>
  operation.workflowId === requestWorkflowId(operation.id) ? 'request' : operation.kind

const attributeNames = Object.values(attributes).map(key => key.name)

const attributesOf = (operation: OperationRecord) =>
  [
    { key: attributes.connectionAttribute, value: operation.connection },
    { key: attributes.engineAttribute, value: operation.engine },
    { key: attributes.operationAttribute, value: operation.id },
    { key: attributes.backupAttribute, value: operation.backupId },
    { key: attributes.stateAttribute, value: 'running' },
  ].flatMap(({ key, value }) => (value === null ? [] : [{ key, value }]))

function summaryOf(operation: OperationRecord): string {
  const { kind, input, connection, engine, backupId, destination, targetDatabase } = operation
  const dry = 'dryRun' in input && input.dryRun ? 'dry run: ' : ''
  if (kind === 'backup') {
    const type = 'type' in input ? input.type : 'full'
    const to = 'destinations' in input ? input.destinations.join(', ') : destination
    return `${dry}backup ${connection} (${engine}, ${type}) → ${to}`.slice(0, 200)
  }
  if (kind === 'restore') {
    return `${dry}restore ${backupId} → ${connection}: ${targetDatabase ?? ''}`.slice(0, 200)
  }
  if (kind === 'drill') return `drill ${backupId} on ${connection}`
  if (kind === 'pitr')
    return `${dry}recover ${backupId} → ${connection}: ${targetDatabase ?? ''}`.slice(0, 200)
  if ('from' in input) return `rotate key ${input.from.name} → ${input.to.name}`
  if (kind === 'sweep') return `${dry}sweep ${destination ?? 'every destination and machine'}`
  if (kind === 'enablePitr') return `${dry}enable log archiving of ${connection} (${engine})`
  if (kind === 'tiering') return `tiering of ${destination}`
  if (kind === 'scrub') return `scrub ${destination ?? 'every destination'}`
  return kind === 'copy' ? `copy ${backupId} → ${destination}` : `verify ${backupId} at ${destination}`
}

const runOf = (description: WorkflowExecutionDescription): Run => ({
  runId: description.runId,
  status: description.status.name,
  closedAt: description.closeTime,
  description,
})

/** First heartbeat details of the activities that are under way, decoded; what they hold is for the caller to check. */
export function heartbeatsOf(run: Run): { details: unknown; attempt: number; failure: string | undefined }[] {
  return (run.description.raw.pendingActivities ?? []).map(activity => {
    const payload = activity.heartbeatDetails?.payloads?.[0]
    return {
      details: payload ? defaultPayloadConverter.fromPayload(payload) : undefined,
      attempt: activity.attempt ?? 1,
      failure: activity.lastFailure?.message ?? undefined,
    }
  })
}

const innermost = (error: unknown): unknown =>
  error instanceof Error && error.cause !== undefined ? innermost(error.cause) : error

function factsOf(cause: unknown): ErrorFacts | undefined {
  if (!(cause instanceof ApplicationFailure)) return undefined
  const [facts] = cause.details ?? []
  if (facts !== null && typeof facts === 'object' && 'code' in facts && isErrorCode(facts.code)) {
    return facts as ErrorFacts
  }
  return undefined
}

const isAttributeTrouble = (error: unknown): boolean =>
  /search attribute/i.test(error instanceof Error ? `${error.message} ${String(error.cause)}` : String(error))

/** gRPC: cancelled 1, deadline exceeded 4, resource exhausted 8, unavailable 14. */
const unreachableCodes = [1, 4, 8, 14]

function translated(error: unknown, what: string, address: string): unknown {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
  const grpc = isGrpcServiceError(error) ? error : isGrpcServiceError(cause) ? cause : undefined
  if (!grpc || !unreachableCodes.includes(grpc.code)) return error
  return new HoldfastError(
    'temporal.unreachable',
    `Temporal at ${address} does not answer while ${what}: ${grpc.details || grpc.message}.`,
    { cause: error },
  )
}

async function tlsOptions({ ca, cert, key, serverName }: NonNullable<Settings['temporal']['tls']>) {
  return {
    ...(ca ? { serverRootCACertificate: await readFile(ca) } : {}),
    ...(serverName ? { serverNameOverride: serverName } : {}),
    ...(cert && key ? { clientCertPair: { crt: await readFile(cert), key: await readFile(key) } } : {}),
  }
}
