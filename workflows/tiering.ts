import type { Moved } from '../activities/tiering.ts'
import type { TieringInput } from '../model/records.ts'
import { type Told, toItsEnd } from './outcome.ts'
import { long } from './steps.ts'
import { tell } from './story.ts'

/** What has grown old enough moves into colder classes of its store. Takes no server's lock. */
export async function tiering(input: TieringInput): Promise<Told> {
  const { operationId, destination } = input
  const story = tell(input, `tiering of ${destination}`)
  return await toItsEnd(
    operationId,
    story,
    async () => {
      const { left, leftCount } = await story.phase('move', () => long.moveTiers(input), inWords)
      if (leftCount > 0) {
        story.flaw = {
          code: 'tiering.incomplete',
          detail: `${leftCount} backups at ${destination} could not be moved.`,
          hint: `Mend what the warnings say, then: holdfast destination tiers ${destination}`,
        }
      }
      return left.map(one => `${one.backup}: ${one.code}: ${one.detail}`)
    },
    // What was moved stays where it is: it is whole there.
    async () => false,
  )
}

const inWords = ({ moved, passed, leftCount }: Moved): string =>
  [
    `${moved} backups moved`,
    ...(passed === 0 ? [] : [`${passed} in use or just brought back`]),
    ...(leftCount === 0 ? [] : [`${leftCount} could not be`]),
  ].join(', ')
