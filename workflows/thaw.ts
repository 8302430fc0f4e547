/** Waits until the store has brought back what lies in an archive: hours, by a timer of Temporal's. */
import { sleep } from '@temporalio/workflow'
import type { Copies } from '../activities/copies.ts'
import { factsOf } from './facts.ts'
import { quick } from './steps.ts'
import type { Story } from './story.ts'
import { bytes, counted } from './words.ts'

const longestPauseSeconds = 300

/** Takes no lock. Whatever dies meanwhile, the store knows what was asked for. */
export async function thaw(
  story: Story,
  { operationId, backupId, sourceConnection, copies }: Copies,
): Promise<void> {
  await story.phase(
    'thaw',
    async () => {
      let most = { objects: 0, bytes: 0 }
      for (let pause = 1; ; pause = Math.min(pause * 2, longestPauseSeconds)) {
        const frozen = await quick.thaw({ operationId, backupId, sourceConnection, copies })
        if (frozen === null) return most
        if (frozen.objects > most.objects) most = frozen
        story.says(`thawing ${counted(frozen.objects, 'object')}, usually ${frozen.hours} hours`)
        await sleep(pause * 1000)
      }
    },
    thawed => `${counted(thawed.objects, 'object')}, ${bytes(thawed.bytes)} brought back`,
  )
}

/** What is found in an archive is brought back, and read then. */
export async function onceThawed<T>(story: Story, from: Copies, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    if (factsOf(error).code !== 'destination.archived') throw error
    await thaw(story, from)
    return await read()
  }
}
