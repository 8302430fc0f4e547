import type { VerifyInput } from '../model/records.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { long } from './steps.ts'
import { tell } from './story.ts'
import { onceThawed } from './thaw.ts'

/** Looks at a committed backup. Takes no lock. */
export async function verify(input: VerifyInput): Promise<Told> {
  const story = tell(input, `verify ${input.backupId} (${input.level})`)
  const look = () => long.verifyBackup(input)
  return await toItsEnd(
    input.operationId,
    story,
    async () => {
      const { warnings } = await story.phase(
        'verify',
        () => (input.thaw ? onceThawed(story, input, look) : look()),
        ({ detail }) => detail,
      )
      return warnings
    },
    async () => false,
  )
}
