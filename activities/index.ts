/**
 * The activities by the names workflows call them. One file per step; this one only joins them to the boundary.
 */
import type { ErrorFacts } from '../model/errors.ts'
import type { BackupInput, RestoreInput, VerifyInput } from '../model/records.ts'
import type { OperationState, PhaseRecord } from '../model/types.ts'
import type { Made } from './attempt.ts'
import { turn } from './boundary.ts'
import {
  abandonBackup,
  cleanupBackup,
  cleanupRestore,
  clearClosedOperations,
  undoRestore,
} from './cleanup.ts'
import { commitBackup, recordBackup, verifyArtifacts } from './commit.ts'
import type { WorkerContext } from './context.ts'
import { planBackup } from './plan.ts'
import { precheckBackup, precheckRestore } from './precheck.ts'
import { planRestoreFrom, proveRestore, runRestoreSteps } from './restore.ts'
import { runTool } from './stage.ts'
import { streamArtifacts } from './stream.ts'
import { uploadArtifacts } from './upload.ts'
import { verifyBackup } from './verify.ts'

/** How an operation ended, for its row in the catalog. */
export interface Outcome {
  state: Extract<OperationState, 'succeeded' | 'failed' | 'cancelled'>
  error: ErrorFacts | null
  warnings: string[]
  phases: PhaseRecord[]
}

export const createActivities = (context: WorkerContext) => ({
  plan: (input: BackupInput) =>
    turn('plan', async t => {
      await clearClosedOperations(context, t)
      return await planBackup(context, t, input)
    }),
  precheck: (input: BackupInput) => turn('precheck', t => precheckBackup(context, t, input)),
  stream: (input: BackupInput) => turn('upload', t => streamArtifacts(context, t, input)),
  runTool: (input: BackupInput) => turn('run tool', t => runTool(context, t, input)),
  upload: (input: BackupInput) => turn('upload', t => uploadArtifacts(context, t, input)),
  verify: (input: BackupInput, made: Made) => turn('verify', t => verifyArtifacts(context, t, input, made)),
  commit: (input: BackupInput, made: Made) => turn('commit', t => commitBackup(context, t, input, made)),
  record: (input: BackupInput) => turn('record', t => recordBackup(context, t, input)),
  cleanup: (input: BackupInput, attemptId: string) =>
    turn('cleanup', t => cleanupBackup(context, t, input, attemptId)),
  abandon: (input: BackupInput, reason: string) =>
    turn('cleanup', t => abandonBackup(context, t, input, reason)),

  planRestore: (input: RestoreInput) =>
    turn('plan', async t => {
      await clearClosedOperations(context, t)
      return await planRestoreFrom(context, t, input)
    }),
  precheckRestore: (input: RestoreInput) => turn('precheck', t => precheckRestore(context, t, input)),
  restoreSteps: (input: RestoreInput, ids: string[]) =>
    turn('restore', t => runRestoreSteps(context, t, input, ids)),
  prove: (input: RestoreInput) => turn('prove', t => proveRestore(context, t, input)),
  cleanupRestore: (input: RestoreInput) => turn('cleanup', t => cleanupRestore(context, t, input)),
  undoRestore: (input: RestoreInput) => turn('cleanup', t => undoRestore(context, t, input)),

  verifyBackup: (input: VerifyInput) => turn('verify', t => verifyBackup(context, t, input)),

  /** Tells the catalog how far the story is. A closed operation changes no more. */
  report: async (operationId: string, phases: PhaseRecord[]): Promise<void> => {
    await context.catalog.updateOperation(operationId, { state: 'running', phases })
  },
  /** Closes the operation's row. */
  close: (operationId: string, outcome: Outcome) =>
    turn('record', async () => {
      await context.catalog.updateOperation(operationId, { ...outcome, endedAt: new Date().toISOString() })
    }),
})

export type Activities = ReturnType<typeof createActivities>
