/** How copies that were made beside are proven and get their name, restored or recovered. */
import type { RestoreInput } from '../model/records.ts'
import { quick } from './steps.ts'
import type { Story } from './story.ts'
import { counted } from './words.ts'

export const proven = ({ passed }: { passed: number }) => `${counted(passed, 'proof')} passed`

export const named = (story: Story, input: RestoreInput, plan: { finish: string[]; database: string }) =>
  story.phase(
    'finish',
    async () => {
      // Each is recorded by itself: what gave the name is not run again after what took its mark away.
      for (const step of plan.finish) await quick.restoreSteps(input, [step])
    },
    () => `named ${plan.database}`,
  )
