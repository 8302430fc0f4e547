/** Whether a local destination takes, gives back, lists and removes; names what it does not. */
import { HoldfastError } from '../../model/errors.ts'
import { checkDestination } from '../check.ts'
import type { CallOptions, Destination } from '../destination.ts'
import { explained, rootTrouble } from './errors.ts'
import { ensureDirectory, scratchDirectory, sweepScratch } from './files.ts'

export async function checkLocal(
  root: string,
  destination: Destination,
  options: CallOptions,
): Promise<string[]> {
  const trouble = await explained(root, 'Looking at the directory', () => rootTrouble(root))
  if (trouble) {
    throw new HoldfastError('destination.missing', `${root} cannot be used: ${trouble}.`, {
      hint: `Make it: mkdir -p -m 700 ${JSON.stringify(root)}`,
    })
  }
  await explained(root, 'Making directories', async () => {
    await ensureDirectory(root, scratchDirectory(root))
    await sweepScratch(root)
  })
  await checkDestination(destination, options)
  return []
}
