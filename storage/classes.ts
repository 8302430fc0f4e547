/** What stores with classes have in common. */
import { HoldfastError } from '../model/errors.ts'

export const missingObject = (where: string): HoldfastError =>
  new HoldfastError('destination.object-missing', `${where} is not there.`)

export const archivedObject = (where: string): HoldfastError =>
  new HoldfastError(
    'destination.archived',
    `${where} lies in an archive; it cannot be read before it is brought back.`,
  )
