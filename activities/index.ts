/**
 * The activities by the names workflows call them. One file per step; this one only joins them to the boundary.
 */
import { resolveSecrets } from '../catalog/secret-references.ts'
import { type ErrorFacts, HoldfastError, hasCode } from '../model/errors.ts'
import type { ArchiveLogsInput } from '../model/log-stream.ts'
import type {
  BackupInput,
  CopyInput,
  DrillInput,
  EnablePitrInput,
  HostQuestion,
  Lost,
  PitrInput,
  RestoreInput,
  RotateInput,
  ScrubInput,
  ScrubItem,
  SweepInput,
  TieringInput,
  VerifyInput,
} from '../model/records.ts'
import type { DueAnswer, ScheduledInput } from '../model/schedules.ts'
import type { Json, OperationState, Phase, PhaseRecord } from '../model/types.ts'
import type { Made } from './attempt.ts'
import { pacing } from './bandwidth.ts'
import type { Turn } from './boundary.ts'
import { writeCanary } from './canary.ts'
import { abandonBackup, cleanHost, cleanupBackup, clearClosedOperations } from './cleanup.ts'
import { commitBackup, recordBackup, verifyArtifacts } from './commit.ts'
import type { WorkerContext } from './context.ts'
import type { Copies } from './copies.ts'
import {
  cleanupCopied,
  commitCopied,
  copyArtifacts,
  giveUpCopied,
  precheckCopy,
  recordCopied,
} from './copy.ts'
import { examineCopy, tearDownDrill } from './drill.ts'
import {
  expectInEffect,
  findArchived,
  planEnabling,
  proveArchiving,
  setArchiving,
  takeBackArchiving,
} from './enable-pitr.ts'
import { type HookOutcome, runHook } from './hooks.ts'
import { hostChecks } from './host-checks.ts'
import { logOf } from './log.ts'
import { endStream, streamLog } from './log-stream.ts'
import { makeWay } from './make-way.ts'
import { type Notification, notify } from './notify.ts'
import { releaseSource } from './park.ts'
import { pausable } from './pausing.ts'
import { planBackup } from './plan.ts'
import { precheckBackup, precheckRestore } from './precheck.ts'
import { archivingFrom, makeRestorePoint, probeFrom, removeForgottenProbes } from './probe.ts'
import { replay } from './replay.ts'
import { planRestoreFrom, proveRestore, runRestoreSteps } from './restore.ts'
import { placedTrouble } from './room.ts'
import { rotateAt } from './rotate.ts'
import { scrubOne } from './scrub.ts'
import { serveCopy } from './serve.ts'
import { runTool } from './stage.ts'
import { streamArtifacts } from './stream.ts'
import { dropKept, keptFor, recordKept, swapStep, undoRestore, useApproval } from './swap.ts'
import { sweepDestination } from './sweep.ts'
import { sweepHost } from './sweep-host.ts'
import { thawBackup } from './thaw.ts'
import { moveTiers } from './tiering.ts'
import { uploadArtifacts } from './upload.ts'
import { verifyBackup } from './verify.ts'

/** How an operation ended, for its row in the catalog. */
export interface Outcome {
  state: Extract<OperationState, 'succeeded' | 'partial' | 'failed' | 'cancelled'>
  error: ErrorFacts | null
  warnings: string[]
  phases: PhaseRecord[]
}

/** What the catalog is told of an operation under way. */
export interface Report {
  state?: Extract<OperationState, 'running' | 'queued' | 'parked' | 'paused'>
  phases?: PhaseRecord[]
  error?: ErrorFacts | null
  pauseWanted?: boolean
}

/** Runs the body of a step as its turn. */
type Turns = <T>(phase: Phase, work: (turn: Turn) => Promise<T>) => Promise<T>

export const createActivities = (worker: WorkerContext, turn: Turns) => {
  type Work<T> = (context: WorkerContext, t: Turn) => Promise<T>
  const guarded = <T>(phase: Phase, work: (t: Turn) => Promise<T>): Promise<T> =>
    turn(phase, async t => {
      try {
        return await work(t)
      } catch (error) {
        // Credentials may be mended while the operation waits: the next run fetches them afresh.
        if (hasCode(error, 'destination.denied')) worker.forgetDestinations()
        throw error
      }
    })
  /** One run of a step: whatever it asks of others ends when it is to end. */
  const step = <T>(phase: Phase, work: Work<T>): Promise<T> =>
    guarded(phase, t => work(worker.within(t.signal), t))
  /** One that works on the host of the operation's connection. */
  const onHost = <T>(phase: Phase, operationId: string, work: Work<T>): Promise<T> =>
    guarded(phase, async t => {
      const context = await worker.onHostOf(operationId, t.signal)
      try {
        return await work(context, t)
      } catch (error) {
        throw t.signal.aborted ? error : await placedTrouble(context.host, error)
      }
    })

  /** Where the host has a worker of its own, that one cleans it, and anybody does the rest. */
  const onHostUnless = <T>(served: boolean, phase: Phase, operationId: string, work: Work<T>): Promise<T> =>
    served ? step(phase, work) : onHost(phase, operationId, work)

  return {
    plan: (input: BackupInput) =>
      onHost('plan', input.operationId, async (context, t) => {
        if (!input.dryRun) await clearClosedOperations(context)
        return await planBackup(context, t, input)
      }),
    writeCanary: (input: BackupInput) =>
      onHost('canary', input.operationId, (context, t) => writeCanary(context, t, input)),
    precheck: (input: BackupInput) =>
      onHost('precheck', input.operationId, (context, t) => precheckBackup(context, t, input)),
    stream: (input: BackupInput, to: string[]) =>
      onHost('upload', input.operationId, (context, t) =>
        streamArtifacts(pacing(context, t, input.operationId), t, input, to),
      ),
    runTool: (input: BackupInput) =>
      onHost('run tool', input.operationId, (context, t) => runTool(context, t, input)),
    upload: (input: BackupInput, to: string[]) =>
      onHost('upload', input.operationId, (context, t) =>
        pausable(context, t, input.operationId, pt =>
          uploadArtifacts(pacing(context, t, input.operationId), pt, input, to),
        ),
      ),
    verify: (input: BackupInput, made: Made) =>
      step('verify', (context, t) => verifyArtifacts(context, t, input, made)),
    commit: (input: BackupInput, made: Made) =>
      step('commit', (context, t) => commitBackup(context, t, input, made)),
    record: (input: BackupInput, lost: Lost[]) =>
      step('record', (context, t) => recordBackup(context, t, input, lost)),
    cleanup: (input: BackupInput, attemptId: string) =>
      onHostUnless(input.hostWorker !== undefined, 'cleanup', input.operationId, (context, t) =>
        cleanupBackup(context, t, input, attemptId),
      ),
    abandon: (input: BackupInput, reason: string) =>
      onHostUnless(input.hostWorker !== undefined, 'cleanup', input.operationId, (context, t) =>
        abandonBackup(context, t, input, reason),
      ),

    planRestore: (input: RestoreInput) =>
      onHost('plan', input.operationId, async (context, t) => {
        if (!input.dryRun) await clearClosedOperations(context)
        return await planRestoreFrom(context, t, input)
      }),
    /** Asks for what of the backup lies in an archive; answers what is still away. */
    thaw: (from: Copies) => step('thaw', (context, t) => thawBackup(context, t, from)),
    precheckRestore: (input: RestoreInput) =>
      onHost('precheck', input.operationId, (context, t) => precheckRestore(context, t, input)),
    restoreSteps: (input: RestoreInput, ids: string[]) =>
      onHost('restore', input.operationId, (context, t) =>
        runRestoreSteps(pacing(context, t, input.operationId), t, input, ids),
      ),
    replay: (input: RestoreInput) =>
      onHost('replay', input.operationId, (context, t) => replay(context, t, input)),
    /** Which machine carries this out. */
    machine: () => step('stage', async context => context.machine),
    /** Ends what still runs for the operation on this machine and removes its staging. */
    cleanHost: (operationId: string) =>
      onHost('cleanup', operationId, context => cleanHost(context, operationId)),
    prove: (input: RestoreInput, place: 'temporary' | 'swapped') =>
      onHost('prove', input.operationId, (context, t) => proveRestore(context, t, input, place)),
    /** From now on the plan may be approved; answers until when. */
    wantApproval: (input: RestoreInput, planDigest: string) =>
      step('approval', async context => {
        const targetName = input.targetDatabase
        return await context.catalog.wantApproval(input.operationId, { planDigest, targetName })
      }),
    weighApproval: (operationId: string, approvalId: string) =>
      step('approval', context => context.catalog.weighApproval(operationId, approvalId)),
    expireApproval: (operationId: string) =>
      step('approval', context => context.catalog.expireApproval(operationId)),
    withdrawRequest: (operationId: string, served = false) =>
      onHostUnless(served, 'cleanup', operationId, async context => {
        await context.catalog.withdrawApproval(operationId)
        if (!served) await cleanHost(context, operationId)
      }),
    /** Ends the backup that holds the server, and waits a while for it to be gone. Answers whether nobody holds it now. */
    makeWay: (operationId: string) => step('queue', (context, t) => makeWay(context, t, operationId)),
    /** The operation goes on in another workflow. */
    follow: (operationId: string, workflowId: string, runId: string) =>
      step('queue', async context => {
        await context.catalog.updateOperation(operationId, { workflowId, runId })
      }),
    useApproval: (input: RestoreInput) => step('approval', (context, t) => useApproval(context, t, input)),
    openPart: (wholeId: string) =>
      step('safety backup', (context, t) => context.catalog.openPart(wholeId, t.runId)),
    restoreDump: (recoveryId: string) => step('load', context => context.catalog.restoreDump(recoveryId)),
    serveCopy: (input: PitrInput) =>
      onHost('dump', input.operationId, (context, t) => serveCopy(context, t, input)),
    swapStep: (input: RestoreInput, which: 'exchange' | 'open') =>
      onHost('swap', input.operationId, (context, t) => swapStep(context, t, input, which)),
    recordKept: (input: RestoreInput) =>
      onHost('finish', input.operationId, (context, t) => recordKept(context, t, input)),
    keptFor: (operationId: string) => step('cleanup', (context, t) => keptFor(context, t, operationId)),
    dropKept: (operationId: string) =>
      onHost('cleanup', operationId, (context, t) => dropKept(context, t, operationId)),
    undoRestore: (input: RestoreInput) =>
      onHost('cleanup', input.operationId, (context, t) => undoRestore(context, t, input)),

    examine: (input: DrillInput) =>
      onHost('examine', input.operationId, (context, t) => examineCopy(context, t, input)),
    tearDown: (input: DrillInput) =>
      onHost('cleanup', input.operationId, (context, t) => tearDownDrill(context, t, input)),
    writeDrillReport: (operationId: string) =>
      step('record', context => context.catalog.writeDrillReport(operationId)),

    hook: (operationId: string, name: string, outcome: HookOutcome | null) =>
      onHost('hooks', operationId, (context, t) => runHook(context, t, operationId, name, outcome)),

    planEnabling: (input: EnablePitrInput) =>
      onHost('plan', input.operationId, (context, t) => planEnabling(context, t, input)),
    setArchiving: (input: EnablePitrInput) =>
      onHost('set', input.operationId, (context, t) => setArchiving(context, t, input)),
    expectInEffect: (input: EnablePitrInput) =>
      onHost('restart', input.operationId, (context, t) => expectInEffect(context, t, input)),
    proveArchiving: (input: EnablePitrInput) =>
      onHost('prove', input.operationId, (context, t) => proveArchiving(context, t, input)),
    findArchived: (input: EnablePitrInput, segment: string) =>
      step('prove', context => findArchived(context, input, segment)),
    takeBackArchiving: (input: EnablePitrInput) =>
      onHost('cleanup', input.operationId, (context, t) => takeBackArchiving(context, t, input)),

    verifyBackup: (input: VerifyInput) =>
      step('verify', (context, t) =>
        pausable(context, t, input.operationId, pt =>
          verifyBackup(pacing(context, t, input.operationId), pt, input),
        ),
      ),

    planScrub: (input: ScrubInput) => step('plan', context => context.catalog.planScrub(input.operationId)),
    scrubOne: (input: ScrubInput, item: ScrubItem, before: { bytes: number; totalBytes: number }) =>
      step('verify', (context, t) =>
        pausable(context, t, input.operationId, pt => scrubOne(context, pt, input, item, before)),
      ),

    moveTiers: (input: TieringInput) =>
      step('move', (context, t) =>
        pausable(context, t, input.operationId, pt => moveTiers(context, pt, input)),
      ),

    beginRotation: (input: RotateInput) =>
      step('plan', context => context.catalog.beginRotation(input.operationId)),
    rotateAt: (input: RotateInput, destination: string) =>
      step('rotate', (context, t) =>
        pausable(context, t, input.operationId, pt => rotateAt(context, pt, input, destination)),
      ),
    leftByRotation: (input: RotateInput) =>
      step('finish', async context => {
        const left = await context.catalog.leftByRotation(input.operationId)
        return left.slice(0, 1000)
      }),

    planSweep: (input: SweepInput) => step('plan', context => context.catalog.planSweep(input.operationId)),
    sweepDestination: (input: SweepInput, name: string) =>
      step('sweep', (context, t) =>
        pausable(context, t, input.operationId, pt => sweepDestination(context, pt, input, name)),
      ),
    /** `local`: this worker's machine. */
    sweepHost: (input: SweepInput, name: string, place: string) =>
      guarded('sweep', async t => {
        const context = await worker.onHost(name, t.signal)
        return await pausable(context, t, input.operationId, pt => sweepHost(context, pt, input, place))
      }),
    noteUnswept: (input: SweepInput, place: string, error: Pick<ErrorFacts, 'code' | 'detail'>) =>
      step('sweep', context => context.catalog.noteUnswept(input.operationId, place, error)),

    precheckCopy: (input: CopyInput) => step('precheck', (context, t) => precheckCopy(context, t, input)),
    copyArtifacts: (input: CopyInput) =>
      step('copy', (context, t) =>
        pausable(context, t, input.operationId, pt =>
          copyArtifacts(pacing(context, t, input.operationId), pt, input),
        ),
      ),
    commitCopy: (input: CopyInput, from: string) =>
      step('commit', (context, t) => commitCopied(context, t, input, from)),
    recordCopy: (input: CopyInput, from: string) =>
      step('record', (context, t) => recordCopied(context, t, input, from)),
    cleanupCopy: (input: CopyInput) => step('cleanup', context => cleanupCopied(context, input)),
    giveUpCopy: (input: CopyInput) => step('cleanup', (context, t) => giveUpCopied(context, t, input)),

    /** Asks for the operation of a due time. Whatever goes wrong is tried again: the API says when it is too late. */
    /** Keeps the log of a server streamed, for a while. */
    streamLog: (input: ArchiveLogsInput) =>
      guarded('upload', async t => await streamLog(await worker.onHost(input.host, t.signal), t, input)),
    endLog: (input: ArchiveLogsInput) =>
      guarded('cleanup', async t => await endStream(await worker.onHost(input.host, t.signal), t, input)),

    startDue: (input: ScheduledInput & { dueAt: string }): Promise<DueAnswer> =>
      worker.catalog.startDue({ scheduleId: input.scheduleId, dueAt: input.dueAt }),

    /** Of the worker of a host: what only it can answer. */
    answerHost: (question: HostQuestion): Promise<Json> =>
      step('probe', async context => {
        if (question.ask === 'checks') {
          const answered = 'Its worker answers'
          return (await hostChecks(async () => context.here, answered)) as unknown as Json
        }
        await removeForgottenProbes(context.here)
        const secrets = await resolveSecrets(await context.catalog.probeSecrets(question.id))
        if (question.ask === 'restore-point') {
          const { connection, serverName } = question
          return (await makeRestorePoint(context.here, connection, secrets, serverName)) as unknown as Json
        }
        if (question.ask === 'archiving') {
          return (await archivingFrom(context.here, question.connection, secrets)) as unknown as Json
        }
        return (await probeFrom(context.here, question.connection, secrets)) as unknown as Json
      }),

    /** Tells the catalog how far the story is. A closed operation changes no more. */
    report: async (operationId: string, report: Report): Promise<void> => {
      await worker.catalog.updateOperation(operationId, report)
    },
    /** Lets go of what would hurt the source while the operation stands still. */
    release: (operationId: string) =>
      onHost('cleanup', operationId, (context, t) => releaseSource(context, t, operationId)),
    notify: (notification: Notification) =>
      step('record', async (context, t) => {
        try {
          await notify(context.notifyCommand, notification, t.signal)
        } catch (error) {
          if (error instanceof HoldfastError && notification.operation !== '')
            await logOf(context, notification.operation, {})('notification', error.message)
          throw error
        }
      }),
    /** Closes the operation's row. */
    close: (operationId: string, outcome: Outcome) =>
      step('record', async context => {
        await context.catalog.updateOperation(operationId, { ...outcome, endedAt: new Date().toISOString() })
      }),
  }
}

export type Activities = ReturnType<typeof createActivities>
