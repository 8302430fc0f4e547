import { CancellationScope, isCancellation } from '@temporalio/workflow'
import type { SweepInput, SweepPlan } from '../model/records.ts'
import { factsOf } from './facts.ts'
import { held } from './holding.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { patient, quick, unheld, unheldAt } from './steps.ts'
import { tell } from './story.ts'

/** Where it goes, and how it is called there. */
interface Place {
  name: string
  visit: () => Promise<{ removed: number; skipped: number }>
}

/** Removes what closed operations have left at every destination and machine. Takes no lock; what it removes it claims. */
export async function sweep(input: SweepInput): Promise<Told> {
  const dry = input.dryRun ? 'dry run: ' : ''
  const story = tell(input, `${dry}sweep ${input.destination ?? 'every destination and machine'}`)
  return await toItsEnd(
    input.operationId,
    story,
    async () => {
      const plan = await story.phase('plan', () => quick.planSweep(input), planned)
      const unswept: string[] = []
      for (const place of placesOf(input, plan)) {
        await story.phase(
          'sweep',
          () => visited(input, place, reason => unswept.push(`${place.name} was not swept: ${reason}`)),
          words => `${place.name}: ${words}`,
        )
      }
      if (unswept.length > 0) {
        story.flaw = {
          code: 'sweep.incomplete',
          detail: `${unswept.length} of ${placesOf(input, plan).length} places could not be swept.`,
          hint: 'Mend what the warnings say, then: holdfast sweep',
        }
      }
      return unswept
    },
    // What was removed is gone, and what it claimed is free once it is closed.
    async () => false,
  )
}

const planned = ({ destinations, machines, hosts }: SweepPlan): string =>
  [
    `${destinations.length} destinations`,
    ...(machines.length > 0 ? [`${machines.length} machines`] : []),
    ...(hosts.length > 0 ? [`${hosts.length} hosts`] : []),
  ].join(', ')

function placesOf(input: SweepInput, { destinations, machines, hosts }: SweepPlan): Place[] {
  return [
    ...destinations.map(name => ({ name, visit: () => unheld.sweepDestination(input, name) })),
    ...machines.map(queue => {
      const name = `machine ${queue.split('/').at(-1)}`
      return { name, visit: () => unheldAt(queue).sweepHost(input, 'local', name) }
    }),
    ...hosts.map(host => {
      const name = `host ${host}`
      return { name, visit: () => unheld.sweepHost(input, host, name) }
    }),
  ]
}

/** What does not answer keeps no other place. Answers in words. */
const visited = (input: SweepInput, place: Place, leave: (reason: string) => void): Promise<string> =>
  held(async () => {
    try {
      const { removed, skipped } = await place.visit()
      return `${removed} ${input.dryRun ? 'to remove' : 'removed'}${skipped === 0 ? '' : `, ${skipped} left`}`
    } catch (error) {
      const { code, detail } = factsOf(error)
      const stopped = isCancellation(error) || CancellationScope.current().consideredCancelled
      if (stopped || !passedOver.test(code)) throw error
      await patient.noteUnswept(input, place.name, { code, detail })
      leave(`${code}: ${detail}`)
      return `left as it is (${code})`
    }
  })

/** Of the place, or it was removed from the catalog meanwhile. */
const passedOver = /^(destination|host|secret)\.|^request\.not-found$/
