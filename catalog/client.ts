/** The catalog as a worker sees it: each method is one call to the API's internal routes. */
import { setTimeout as sleep } from 'node:timers/promises'
import { HoldfastError, hasCode, isErrorCode } from '../model/errors.ts'
import type { WorkerCatalog } from './worker.ts'

/** A restarting API is waited for this long (pauses between tries, in ms); what lasts longer is the caller's to retry. */
const pausesMs = [100, 300, 700, 1500, 3000]
const answerSeconds = 30

/**
 * Every method is idempotent, so a call whose answer was lost is simply asked again. Throws what the API answered, with
 * its code; `api.unreachable` when there is no answer.
 */
export function catalogClient(options: {
  url: string
  token: string
  /** Calls end with it, with its reason. */
  signal?: AbortSignal
}): WorkerCatalog {
  const base = `${options.url.replace(/\/+$/, '')}/internal/v1/`
  const call = async (method: keyof WorkerCatalog, args: readonly unknown[]): Promise<unknown> => {
    for (let attempt = 0; ; attempt++) {
      try {
        return await ask(base, options, method, args)
      } catch (error) {
        options.signal?.throwIfAborted()
        const pause = pausesMs[attempt]
        const passing = hasCode(error, 'api.unreachable')
        if (!passing || pause === undefined) throw error
        await sleep(pause, undefined, options.signal ? { signal: options.signal } : {}).catch(() => {})
      }
    }
  }
  const method =
    <M extends keyof WorkerCatalog>(name: M) =>
    (...args: Parameters<WorkerCatalog[M]>) =>
      call(name, args) as ReturnType<WorkerCatalog[M]>
  return {
    connection: method('connection'),
    connectionSecrets: method('connectionSecrets'),
    destination: method('destination'),
    ownWorker: method('ownWorker'),
    probeSecrets: method('probeSecrets'),
    hostOf: method('hostOf'),
    host: method('host'),
    storePlan: method('storePlan'),
    plan: method('plan'),
    recordAttempt: method('recordAttempt'),
    attempts: method('attempts'),
    writer: method('writer'),
    rememberedEpoch: method('rememberedEpoch'),
    rememberEpoch: method('rememberEpoch'),
    wrapDataKey: method('wrapDataKey'),
    unwrapDataKey: method('unwrapDataKey'),
    planScrub: method('planScrub'),
    recordPassedOver: method('recordPassedOver'),
    dueMoves: method('dueMoves'),
    mayMove: method('mayMove'),
    recordTier: method('recordTier'),
    planSweep: method('planSweep'),
    standings: method('standings'),
    claimLeftovers: method('claimLeftovers'),
    unclaim: method('unclaim'),
    recentlyEnded: method('recentlyEnded'),
    statesOf: method('statesOf'),
    noteSwept: method('noteSwept'),
    noteUnswept: method('noteUnswept'),
    beginRotation: method('beginRotation'),
    rewrapDataKeys: method('rewrapDataKeys'),
    leftByRotation: method('leftByRotation'),
    openedAt: method('openedAt'),
    recordOpeners: method('recordOpeners'),
    markDeleted: method('markDeleted'),
    signManifest: method('signManifest'),
    trustedInstallations: method('trustedInstallations'),
    recordBackup: method('recordBackup'),
    foreign: method('foreign'),
    recordForeignReading: method('recordForeignReading'),
    recordVerification: method('recordVerification'),
    wantApproval: method('wantApproval'),
    weighApproval: method('weighApproval'),
    expireApproval: method('expireApproval'),
    withdrawApproval: method('withdrawApproval'),
    useApproval: method('useApproval'),
    beginDestructive: method('beginDestructive'),
    finishDestructive: method('finishDestructive'),
    destructiveSteps: method('destructiveSteps'),
    beginRollBack: method('beginRollBack'),
    recordKept: method('recordKept'),
    kept: method('kept'),
    endKept: method('endKept'),
    openPart: method('openPart'),
    restoreDump: method('restoreDump'),
    noteExamined: method('noteExamined'),
    noteReplayed: method('noteReplayed'),
    noteTornDown: method('noteTornDown'),
    writeDrillReport: method('writeDrillReport'),
    updateOperation: method('updateOperation'),
    pauseWanted: method('pauseWanted'),
    claimStaging: method('claimStaging'),
    releaseStaging: method('releaseStaging'),
    bandwidthShare: method('bandwidthShare'),
    hooks: method('hooks'),
    hookRun: method('hookRun'),
    recordHookRun: method('recordHookRun'),
    appendLog: method('appendLog'),
    closedOperations: method('closedOperations'),
    makeWay: method('makeWay'),
    logStream: method('logStream'),
    noteLogStream: method('noteLogStream'),
    endLogStream: method('endLogStream'),
    signLogHeader: method('signLogHeader'),
    startDue: method('startDue'),
  }
}

async function ask(
  base: string,
  { token, signal }: { token: string; signal?: AbortSignal },
  method: string,
  args: readonly unknown[],
): Promise<unknown> {
  signal?.throwIfAborted()
  const late = AbortSignal.timeout(answerSeconds * 1000)
  const response = await fetch(`${base}${method}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ args }),
    signal: signal ? AbortSignal.any([signal, late]) : late,
  }).catch(cause => {
    throw unreachable(base, method, cause)
  })
  const text = await response.text().catch(cause => {
    throw unreachable(base, method, cause)
  })
  const answer = parse(text)
  // `value` is absent when the method answers undefined.
  if (response.ok && answer) return answer.value
  if (answer?.code === 'request.unauthenticated') {
    throw new HoldfastError(
      'request.unauthenticated',
      `The API at ${base} does not take this worker's token.`,
      {
        hint: 'Give it one that counts (HOLDFAST_WORKER_TOKEN_FILE; for the worker of a host: `holdfast host token HOST`) and start it again. Then: `holdfast operation resume`.',
      },
    )
  }
  if (answer && isErrorCode(answer.code)) {
    throw new HoldfastError(answer.code, String(answer.detail), {
      ...(typeof answer.hint === 'string' ? { hint: answer.hint } : {}),
      context: contextOf(answer.context),
    })
  }
  throw new HoldfastError('api.unreachable', `Asking ${base} for ${method}: it answered ${response.status}.`)
}

function unreachable(base: string, method: string, cause: unknown): HoldfastError {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : ''
  const why = inner || (cause instanceof Error ? cause.message : String(cause))
  return new HoldfastError('api.unreachable', `Asking ${base} for ${method}: ${why}.`, { cause })
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return value !== null && typeof value === 'object' ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function contextOf(value: unknown): Record<string, string | number | boolean> {
  if (value === null || typeof value !== 'object') return {}
  const context: Record<string, string | number | boolean> = {}
  for (const [key, item] of Object.entries(value)) {
    if (typeof item === 'string' || typeof item === 'number' || typeof item === 'boolean') context[key] = item
  }
  return context
}
