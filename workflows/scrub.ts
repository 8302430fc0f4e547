import type { Scrubbed } from '../activities/scrub.ts'
import type { ErrorFacts } from '../model/errors.ts'
import type { ScrubInput, ScrubPlan } from '../model/records.ts'
import { failureOf } from './facts.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { attempted, long, quick } from './steps.ts'
import { tell } from './story.ts'

/** Of a list in a message. */
const named = 10

/** Verifies the backups that were least recently found whole, one after another. Takes no lock. */
export async function scrub(input: ScrubInput): Promise<Told> {
  const title = `scrub ${input.destination ?? 'every destination'} (${input.level})`
  const story = tell(input, title)
  return await toItsEnd(
    input.operationId,
    story,
    async () => {
      const plan = await story.phase('plan', () => quick.planScrub(input), planned)
      const damaged: Extract<Scrubbed, { state: 'damaged' }>[] = []
      let passed = 0
      await story.phase(
        'verify',
        async () => {
          let bytes = 0
          for (const item of plan.items) {
            const answer = await long.scrubOne(input, item, { bytes, totalBytes: plan.bytes })
            bytes += item.bytes
            if (answer.state === 'damaged') {
              damaged.push(answer)
              story.warnings.push(`${item.backupId} of ${item.connection}: ${answer.code}: ${answer.detail}`)
            } else if (answer.state === 'not looked at') {
              passed += 1
              story.warnings.push(`${item.backupId} of ${item.connection} was not verified: ${answer.detail}`)
            }
          }
        },
        () =>
          `${plan.items.length - damaged.length - passed} of ${plan.items.length} whole${passed === 0 ? '' : `, ${passed} not verified`}`,
      )
      if (damaged.length === 0) return []
      const error = found(damaged)
      await attempted
        .notify({ event: 'backup.damaged', operation: input.operationId, title, error })
        .catch(() => {
          // Said in the operation's log; the operation itself fails with it.
        })
      throw failureOf(error)
    },
    async () => false,
  )
}

const planned = ({ items, bytes, backups, knownDamaged }: ScrubPlan): string =>
  `${items.length} of ${backups} backups, ${bytes} bytes${knownDamaged === 0 ? '' : `; ${knownDamaged} known as damaged left out`}`

const found = (damaged: readonly { backupId: string; connection: string }[]): ErrorFacts => {
  const list = damaged.slice(0, named).map(one => `${one.backupId} of ${one.connection}`)
  const more = damaged.length > named ? ` and ${damaged.length - named} more` : ''
  return {
    code: 'scrub.damaged',
    detail: `${damaged.length === 1 ? 'One backup is' : `${damaged.length} backups are`} damaged: ${list.join(', ')}${more}.`,
    hint: 'The warnings say where each is damaged. Make new backups of these databases now; restores use older ones until then.',
    context: { damaged: damaged.length },
  }
}
