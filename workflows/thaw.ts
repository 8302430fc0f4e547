/** Waits until the store has brought back what lies in an archive: hours, by a timer of Temporal's. */
import { sleep } from '@temporalio/workflow'
import type { Copies } from '../activities/copies.ts'
import type { Frozen } from '../activities/thaw.ts'
import type { NeededBackup } from '../model/records.ts'
import { factsOf } from './facts.ts'
import { quick } from './steps.ts'
import type { Story } from './story.ts'
import { bytes, counted } from './words.ts'

const longestPauseSeconds = 300

/** Takes no lock. Whatever dies meanwhile, the store knows what was asked for. With what it is put together with, all at once. */
export async function thaw(
  story: Story,
  { operationId, backupId, sourceConnection, copies, parents = [] }: Copies & { parents?: NeededBackup[] },
): Promise<void> {
  const all = [{ backupId, sourceConnection, copies }, ...parents]
  await story.phase(
    'thaw',
    async () => {
      let most = { objects: 0, bytes: 0 }
      for (let pause = 1; ; pause = Math.min(pause * 2, longestPauseSeconds)) {
        const answers: Frozen[] = []
        for (const one of all) {
          const answer = await quick.thaw({ operationId, ...one })
          if (answer) answers.push(answer)
        }
        if (answers.length === 0) return most
        const frozen = together(answers)
        if (frozen.objects > most.objects) most = frozen
        story.says(`thawing ${counted(frozen.objects, 'object')}, usually ${frozen.hours} hours`)
        await sleep(pause * 1000)
      }
    },
    thawed => `${counted(thawed.objects, 'object')}, ${bytes(thawed.bytes)} brought back`,
  )
}

const together = (answers: readonly Frozen[]) => ({
  objects: answers.reduce((sum, { objects }) => sum + objects, 0),
  bytes: answers.reduce((sum, one) => sum + one.bytes, 0),
  hours: Math.max(...answers.map(({ hours }) => hours)),
})

/** What is found in an archive is brought back, and read then. */
export async function onceThawed<T>(
  story: Story,
  from: Copies & { parents?: NeededBackup[] },
  read: () => Promise<T>,
): Promise<T> {
  try {
    return await read()
  } catch (error) {
    if (factsOf(error).code !== 'destination.archived') throw error
    await thaw(story, from)
    return await read()
  }
}
