import { CancellationScope, isCancellation } from '@temporalio/workflow'
import type { Outcome } from '../activities/index.ts'
import type { BackupInput } from '../model/records.ts'
import type { Phase } from '../model/types.ts'
import { giveUpBackup, makeBackup } from './backup.ts'
import { factsOf } from './facts.ts'
import { patient, quick } from './steps.ts'
import type { Story } from './story.ts'

/** A backup like any other, made on the way of another operation and under its lock. Without it that one does not go on. */
export async function partBackup(
  story: Story,
  phase: Phase,
  wholeId: string,
  backup: BackupInput,
): Promise<void> {
  // Of its own row only how it ended is told: its phases would be taken for those of the whole.
  const unseen: Story = {
    title: story.title,
    phases: [],
    warnings: [],
    flaw: null,
    whenGivenUp: async () => {},
    phase: (_phase, work) => work(),
    checked() {},
    says() {},
    state() {},
    queued() {},
    told: async () => {},
  }
  await story.phase(
    phase,
    async () => {
      await quick.openPart(wholeId)
      const close = (end: Pick<Outcome, 'state' | 'error' | 'warnings'>) =>
        patient.close(backup.operationId, { ...end, phases: [] })
      try {
        const warnings = await makeBackup(unseen, backup)
        const state = unseen.flaw ? 'partial' : 'succeeded'
        await close({ state, error: unseen.flaw, warnings: [...warnings, ...unseen.warnings] })
      } catch (error) {
        await CancellationScope.nonCancellable(async () => {
          const facts = factsOf(error)
          await unseen.whenGivenUp(isCancellation(error) ? 'cancelled' : 'failed')
          const exists = await giveUpBackup(backup, facts)
          const state = exists ? 'succeeded' : isCancellation(error) ? 'cancelled' : 'failed'
          await close({ state, error: state === 'failed' ? facts : null, warnings: [] })
        })
        throw error
      }
    },
    () => backup.backupId,
  )
}
