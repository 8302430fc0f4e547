/** A proven copy as a server that only this machine's owner reaches, while a database of it is dumped. */
import { setTimeout as sleep } from 'node:timers/promises'
import { engineOf } from '../engines/index.ts'
import { HoldfastError } from '../model/errors.ts'
import type { PitrInput } from '../model/records.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { stepContext, storedPlan } from './plan.ts'
import { isDone } from './steps.ts'

/** It outlives its worker, and is ended with what it was made for. One that is there already is left as it is. */
export async function serveCopy(context: WorkerContext, turn: Turn, input: PitrInput): Promise<void> {
  const { operationId } = input
  const plan = await storedPlan(context, operationId, 'restore')
  const { serve: step } = plan
  if (!step) throw new HoldfastError('internal', `The plan of ${operationId} serves nothing.`)
  const { host } = context
  const steps = stepContext(context, turn, operationId, engineOf(input.targetEngine), plan.token)
  const job = { operation: operationId, step: step.id, token: plan.token }
  if ((await host.jobs.status(job)).state !== 'running') {
    turn.assertLease()
    // What has proven it may live on, and two servers cannot have one data directory.
    await host.stopOperation(operationId)
    await host.removeOperation(operationId)
    await host.files.ensureDirectory(host.stagingDir(operationId))
    await host.jobs.start(job, step.run, { secrets: {}, fence: turn.fence })
  }
  turn.progress({ note: step.title })
  while (!(await isDone(steps, step))) {
    const { state, result } = await host.jobs.status(job)
    if (state !== 'running') {
      const said = result?.stderrTail.trim().slice(-600) ?? ''
      throw new HoldfastError('tool.interrupted', `${step.title}: the server ended. ${said}`)
    }
    await sleep(300, undefined, { signal: turn.signal })
  }
}
