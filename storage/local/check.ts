/** Whether a local destination takes, gives back, lists and removes; names what it does not. */
import { randomBytes } from 'node:crypto'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions, Destination } from '../destination.ts'
import { precheckFolder } from '../object-key.ts'
import { explained, rootTrouble } from './errors.ts'
import { ensureDirectory, scratchDirectory, sweepScratch } from './files.ts'

export async function checkLocal(
  root: string,
  destination: Destination,
  options: CallOptions,
): Promise<void> {
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
  const key = `${precheckFolder}/${randomBytes(9).toString('hex')}`
  const body = randomBytes(4096)
  try {
    await destination.put(key, body, { ...options, ifAbsent: true })
    const back = await destination.read(key, options)
    if (!back || !body.equals(back)) {
      throw new HoldfastError(
        'destination.corrupted',
        `${root} gave back other bytes than were written to it.`,
      )
    }
    let listed = false
    for await (const found of destination.list(key, options)) listed ||= found.key === key
    if (!listed)
      throw new HoldfastError('destination.corrupted', `${root} does not list what was written to it.`)
  } finally {
    await destination.remove(key)
  }
}
