/** The log over a restored base backup: PostgreSQL's own recovery, as a detached job that outlives its worker. */
import { engineOf } from '../engines/index.ts'
import { isDrill } from '../model/drill-report.ts'
import { HoldfastError } from '../model/errors.ts'
import type { RestoreInput } from '../model/records.ts'
import type { Replayed } from '../model/replayed.ts'
import type { MethodName } from '../model/types.ts'
import { parseLsn } from '../model/wal.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { methodOf, stepContext, storedPlan } from './plan.ts'
import { isDone, runStep } from './steps.ts'

/**
 * Follows the job that an earlier run has started. One that has vanished or failed is begun again in the same directory: the
 * server goes on from its last restart point. One that ended well is known by what it left in the copy, not by its job: after a
 * copy was made anew it is made anew, too.
 */
export async function replay(context: WorkerContext, turn: Turn, input: RestoreInput): Promise<Replayed> {
  const { operationId } = input
  const plan = await storedPlan(context, operationId, 'restore')
  const engine = engineOf(input.targetEngine)
  const { recovery } = methodOf(engine, plan.manifest.method as MethodName)
  const order = plan.target.recovery
  const step = plan.replay
  if (!recovery || !order || !step) {
    throw new HoldfastError('internal', `The plan of ${operationId} recovers nothing.`)
  }
  const { files } = context.host
  const steps = {
    ...stepContext(context, turn, operationId, engine, plan.token),
    engine: {
      title: engine.title,
      explain: (...[result, of]: Parameters<typeof engine.explain>) =>
        recovery.explain(result, order) ?? engine.explain(result, of),
    },
  }
  const job = { operation: operationId, step: step.id, token: plan.token }
  if ((await context.host.jobs.status(job)).state !== 'running' && !(await isDone(steps, step))) {
    turn.assertLease()
    await context.host.stopOperation(operationId)
    await context.host.removeOperation(operationId)
    await files.ensureDirectory(context.host.stagingDir(operationId))
  }
  const paths = recovery.files(plan.target)
  const totalBytes = Number((parseLsn(order.end) ?? 0n) - (parseLsn(order.start) ?? 0n))
  turn.progress({ note: step.title })
  await runStep(
    steps,
    step,
    async () => {
      throw new HoldfastError('internal', 'A replay reads no artifact.')
    },
    async () => {
      const far = recovery.soFar(order, (await files.readSmall(paths.progress)) ?? '')
      if (far) turn.progress({ ...far, totalBytes: Math.max(totalBytes, far.bytes) })
    },
  )
  const replayed = recovery.read(order, (await files.readSmall(paths.result)) ?? '')
  if (isDrill(input)) await context.catalog.noteReplayed(operationId, replayed)
  return replayed
}
