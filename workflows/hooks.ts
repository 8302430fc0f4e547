/** Hooks around the work: before it, and after it, however it ended. */
import type { HookOutcome, HookSummary } from '../activities/hooks.ts'
import { factsOf } from './facts.ts'
import { long, unheld } from './steps.ts'
import type { Story } from './story.ts'

export interface Hooks {
  /** One that fails ends the operation, unless it only warns. */
  before(): Promise<void>
  /** The work is done: all of them are run, and one that fails is a flaw of it that takes nothing back. */
  after(): Promise<void>
}

/** Those that run always are run after a failure, too, once `before` was called. */
export function hooksOf(story: Story, operationId: string, hooks: readonly HookSummary[]): Hooks {
  const run = async (some: readonly HookSummary[], each: (hook: HookSummary) => Promise<void>) => {
    if (some.length === 0) return
    await story.phase(
      'hooks',
      async () => {
        for (const hook of some) await each(hook)
      },
      () => some.map(hook => hook.name).join(', '),
    )
  }
  const warn = ({ warning }: { warning: string | null }) => {
    if (warning !== null) story.warnings.push(warning)
  }
  return {
    async before() {
      story.whenGivenUp = outcome =>
        run(
          hooks.filter(hook => hook.when === 'always'),
          async ({ name }) => {
            try {
              warn(await unheld.hook(operationId, name, outcome))
            } catch (error) {
              story.warnings.push(factsOf(error).detail)
            }
          },
        )
      await run(
        hooks.filter(hook => hook.at === 'before'),
        async ({ name }) => warn(await long.hook(operationId, name, null)),
      )
    },
    async after() {
      const outcome: HookOutcome = 'succeeded'
      await run(
        hooks.filter(hook => hook.at === 'after'),
        async ({ name }) => {
          try {
            warn(await long.hook(operationId, name, outcome))
          } catch (error) {
            const facts = factsOf(error)
            if (facts.code !== 'hook.failed') throw error
            story.flaw ??= facts
          }
        },
      )
    },
  }
}
