import { CancellationScope } from '@temporalio/workflow'
import type { CopyInput } from '../model/records.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { long, patient, quick } from './steps.ts'
import { tell } from './story.ts'
import { bytes } from './words.ts'

/** A committed backup to another destination, as it is: neither its tool nor its keys are needed. Takes no server's lock. */
export async function copy(input: CopyInput): Promise<Told> {
  const story = tell(input, `copy ${input.backupId} → ${input.destination}`)
  return await toItsEnd(
    input.operationId,
    story,
    async () => {
      await story.phase('precheck', () => quick.precheckCopy(input))
      const copied = await story.phase(
        'copy',
        () => long.copyArtifacts(input),
        ({ from, sentBytes }) => `from ${from}, ${bytes(sentBytes)}`,
      )
      // From here on the copy may exist: what was asked to stop too late is finished.
      await CancellationScope.nonCancellable(async () => {
        await story.phase('commit', () => quick.commitCopy(input, copied.from))
        await story.phase('record', () => patient.recordCopy(input, copied.from))
        await story.phase('cleanup', () => patient.cleanupCopy(input))
      })
      return copied.warnings
    },
    () => patient.giveUpCopy(input),
  )
}
