import { CancellationScope, isCancellation } from '@temporalio/workflow'
import type { LeftBehind, Rotated } from '../activities/rotate.ts'
import type { RotateInput } from '../model/records.ts'
import { factsOf } from './facts.ts'
import { held } from './holding.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { quick, unheld } from './steps.ts'
import { tell } from './story.ts'

/** Every backup that one key opens is made to open with another one, too. Takes no server's lock. */
export async function rotateKeys(input: RotateInput): Promise<Told> {
  const { from, to } = input
  const story = tell(input, `rotate key ${from.name} → ${to.name}`)
  return await toItsEnd(
    input.operationId,
    story,
    async () => {
      const { destinations, trustsMore } = await story.phase(
        'plan',
        () => quick.beginRotation(input),
        begun => `new backups are for ${to.name}; ${begun.destinations.length} destinations to go over`,
      )
      if (trustsMore) {
        story.warnings.push(
          `Key file ${to.name} trusts the installations that ${from.name} trusts now: replace its copies kept elsewhere.`,
        )
      }
      const left: LeftBehind[] = []
      let leftCount = 0
      for (const destination of destinations) {
        const rotated = await story.phase(
          'rotate',
          () => everyBackupAt(input, destination),
          done => inWords(destination, to.name, done),
        )
        left.push(...rotated.left)
        leftCount += rotated.leftCount
      }
      const meanwhile = await story.phase(
        'finish',
        () => quick.leftByRotation(input),
        found => (found.length === 0 && leftCount === 0 ? `nothing is left under ${from.name}` : undefined),
      )
      const named = new Set(left.map(one => `${one.destination} ${one.backup}`))
      const whole = new Set(left.filter(one => one.backup === null).map(one => one.destination))
      const more = meanwhile.filter(
        one => !named.has(`${one.destination} ${one.backup}`) && !whole.has(one.destination),
      )
      leftCount += more.length
      if (leftCount > 0) {
        story.flaw = {
          code: 'key.rotation-incomplete',
          detail: `${leftCount} of what key "${from.name}" opens does not open with "${to.name}" yet.`,
          hint: `Mend what the warnings say, then: holdfast keys rotate ${from.name} --to ${to.name}`,
        }
      }
      return [
        ...left.map(one => `${one.destination}: ${one.backup ?? 'all of it'}: ${one.code}: ${one.detail}`),
        ...more.slice(0, 50).map(one => `${one.destination}: ${one.backup}: made meanwhile; rotate again`),
      ]
    },
    // What was added stays: it takes nothing away.
    async () => false,
  )
}

/** A destination that does not answer, or takes nothing from us, does not keep the others. A locked key parks. */
const everyBackupAt = (input: RotateInput, destination: string): Promise<Rotated> =>
  held(async () => {
    try {
      return await unheld.rotateAt(input, destination)
    } catch (error) {
      const { code, detail } = factsOf(error)
      const stopped = isCancellation(error) || CancellationScope.current().consideredCancelled
      if (stopped || !code.startsWith('destination.')) throw error
      return { opened: 0, left: [{ destination, backup: null, code, detail }], leftCount: 1 }
    }
  })

function inWords(destination: string, to: string, { opened, left, leftCount }: Rotated): string {
  if (left[0]?.backup === null) return `${destination}: left as it is (${left[0].code})`
  return `${destination}: ${opened} of ${opened + leftCount} backups open with ${to}`
}
