import type { ChecksSummary } from '../activities/precheck.ts'
import type { Story } from './story.ts'
import { counted } from './words.ts'

/** The phase of the prechecks, whose answers stay on the operation's page. */
export async function prechecked<Answer extends ChecksSummary>(
  story: Story,
  ask: () => Promise<Answer>,
): Promise<Answer> {
  return await story.phase(
    'precheck',
    async () => {
      const answer = await ask()
      story.checked(answer.checks)
      return answer
    },
    ({ passed, warnings }) =>
      `${counted(passed, 'check')} passed${warnings.length > 0 ? `, ${warnings.length} warned` : ''}`,
  )
}
