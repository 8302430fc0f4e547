/**
 * Streamed backups: the tool's output goes through the compressor and the seal straight to the destination. A run that
 * dies is run again from the start under a new attempt.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import type { CommandResult } from '../engines/engine.ts'
import { engineOf } from '../engines/index.ts'
import type { RunningStream } from '../hosts/host.ts'
import { HoldfastError } from '../model/errors.ts'
import type { BackupInput } from '../model/records.ts'
import { committedAttempt, giveBack, type Made, openAttempt } from './attempt.ts'
import type { Turn } from './boundary.ts'
import type { WorkerContext } from './context.ts'
import { chooseEncoder } from './encoder.ts'
import { methodOf, stepContext, storedPlan } from './plan.ts'
import { expectSuccess, pipeOf, startStream, succeeded } from './steps.ts'
import { completeObjects, entryFor, expectWhole, sendParts } from './transfer.ts'

export async function streamArtifacts(
  context: WorkerContext,
  turn: Turn,
  input: BackupInput,
  to: readonly string[],
): Promise<Made> {
  const done = await committedAttempt(context, turn, input)
  if (done) return done
  const plan = await storedPlan(context, input.operationId, 'backup')
  const engine = engineOf(input.engine)
  const method = methodOf(engine, input.method)
  // An earlier run of this step may have left its tool behind (a suspended worker keeps its pipes open).
  turn.assertLease()
  await context.host.stopOperation(input.operationId)
  const encoder = await chooseEncoder(context, input.compression)
  const { attempt, destinations, lost } = await openAttempt(context, turn, input, to, plan.artifacts, encoder)
  const steps = stepContext(context, turn, input.operationId, engine, plan.token)
  const made: Made = {
    attemptId: attempt.attemptId,
    artifacts: [],
    endedAt: '',
    sentBytes: 0,
    destinations,
    lost: [...lost],
  }
  for (const [index, spec] of plan.artifacts.entries()) {
    const artifact = attempt.artifacts[index]
    const from = spec.from
    const step = 'step' in from ? plan.steps.find(one => one.id === from.step) : undefined
    if (!step || !artifact)
      throw new HoldfastError('internal', `Artifact "${spec.name}" has no step to come from.`)
    const running = await startStream(steps, step, encoder.stage)
    const command = pipeOf(step, encoder.stage)
    const places = made.destinations.map(name => ({ name }))
    try {
      const written = await sendParts(context, places, {
        source: running.stdout,
        encoder,
        artifact,
        turn,
        sizeBytes: plan.facts.sizeBytes,
      })
      const result = await running.result
      await succeeded(steps, step, command, result)
      made.facts = { ...made.facts, ...method.collect?.({ [step.id]: result.stderrTail }) }
      expectWhole(spec, written)
      const completed = await completeObjects(context, artifact, written, turn)
      made.destinations = completed.destinations
      made.lost.push(...written.lost, ...completed.lost)
      made.artifacts.push(entryFor(attempt, spec, artifact, written))
      made.sentBytes += written.sentBytes
    } catch (error) {
      const ended = await endedByItself(running)
      await running.stop()
      // An attempt that failed holds no space any longer.
      for (const [name, uploadId] of Object.entries(artifact.uploads)) {
        await giveBack(await context.destination(name), artifact.key, uploadId)
      }
      // A tool that failed closes its pipe: what it said is the cause, not the short stream it left. Where the destination
      // failed it is the other way round: the programs complain that nobody reads any more.
      const ours = error instanceof HoldfastError && error.code.startsWith('destination.')
      if (!ours && ended?.exits.some(code => code !== 0 && code !== sigpipe))
        expectSuccess(steps, step, command, ended)
      throw error
    }
  }
  made.endedAt = new Date().toISOString()
  return made
}

/** Exit of a program whose reader went away: an echo of our own failure. */
const sigpipe = 128 + 13

/** The result of a tool that has ended or is about to; undefined if it still runs. */
async function endedByItself(running: RunningStream): Promise<CommandResult | undefined> {
  return await Promise.race([running.result, sleep(500, undefined)])
}
