/** A row of ours in the source, written before its backup: by it a drill tells how fresh a copy is. */
import { engineOf } from '../engines/index.ts'
import type { Canary } from '../model/canary.ts'
import { readable } from '../model/ids.ts'
import type { BackupInput } from '../model/records.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { stepContext } from './plan.ts'
import { expectSuccess, runCommand } from './steps.ts'

/** Asked again it is written again; what the last run has written is what counts. */
export async function writeCanary(context: WorkerContext, turn: Turn, input: BackupInput): Promise<Canary> {
  const engine = engineOf(input.engine)
  const { settings } = await context.catalog.connection(input.connection)
  const token = readable(crypto.getRandomValues(new Uint8Array(8)))
  const steps = stepContext(context, turn, input.operationId, engine, token)
  const canary = { backup: input.backupId, writtenAt: new Date().toISOString() }
  turn.assertLease()
  const command = engine.writeCanary(input.connection, settings, canary)
  const result = await runCommand(steps, 'canary', command)
  expectSuccess(steps, { title: 'Writing the canary' }, command, result)
  return { ...canary, lsn: result.stdout.trim() || null }
}
