/** What the file system's answers mean. */
import { stat } from 'node:fs/promises'
import { errnoOf } from '../../model/errno.ts'
import { type ErrorCode, HoldfastError } from '../../model/errors.ts'

/** Errors that say "it is not there", which most callers answer by themselves. */
export const isAbsent = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')

/** By errno. */
export const meanings: Record<string, [ErrorCode, string]> = {
  ENOSPC: ['destination.full', 'no space is left on the file system'],
  EDQUOT: ['destination.full', 'the disk quota is used up'],
  EFBIG: ['destination.full', 'the file system does not take files of this size'],
  EACCES: ['destination.denied', 'permission denied'],
  EPERM: ['destination.denied', 'the operation is not permitted'],
  EROFS: ['destination.denied', 'the file system is read-only'],
  ELOOP: ['destination.misconfigured', 'there is a loop of symbolic links'],
  EXDEV: ['destination.misconfigured', 'the directory spans more than one file system'],
  EMLINK: ['destination.misconfigured', 'the file system has no more hard links for it'],
  ENOTSUP: ['destination.misconfigured', 'the file system cannot do this'],
  ENOSYS: ['destination.misconfigured', 'the file system cannot do this'],
  EISDIR: ['destination.exists', 'other objects lie below this key'],
  ENOTDIR: ['destination.exists', 'a part of the key is an object itself'],
  ENAMETOOLONG: ['request.invalid', 'the name is too long for the file system'],
  EIO: ['destination.unreachable', 'the device reports an input/output error'],
  ENODEV: ['destination.unreachable', 'the device is gone'],
  ENXIO: ['destination.unreachable', 'the device is gone'],
  ENOTCONN: ['destination.unreachable', 'the network file system is disconnected'],
  ESTALE: ['destination.unreachable', 'the network file system lost the file'],
  EHOSTDOWN: ['destination.unreachable', "the network file system's server is down"],
  ETIMEDOUT: ['destination.unreachable', 'the network file system does not answer'],
  EMFILE: ['destination.throttled', 'this process has too many open files'],
  ENFILE: ['destination.throttled', 'this machine has too many open files'],
}

/**
 * Runs one act on the destination and says in our words what went wrong: `doing` is e.g. `Writing "a/b"`.
 * Unknown errors are rethrown as they are.
 */
export async function explained<T>(root: string, doing: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act()
  } catch (error) {
    throw await explain(root, doing, error)
  }
}

async function explain(root: string, doing: string, error: unknown): Promise<unknown> {
  const errno = errnoOf(error)
  if (error instanceof HoldfastError || errno === undefined) return error
  if (isAbsent(error)) {
    const gone = await rootTrouble(root)
    if (gone) return new HoldfastError('destination.missing', `${doing} in ${root} failed: ${gone}.`)
  }
  const meaning = meanings[errno]
  if (!meaning) return error
  const [code, words] = meaning
  return new HoldfastError(code, `${doing} in ${root} failed: ${words} (${errno}).`, {
    context: { errno },
  })
}

/** Why the root is no usable directory; undefined when it is one. */
export async function rootTrouble(root: string): Promise<string | undefined> {
  try {
    return (await stat(root)).isDirectory() ? undefined : 'it is not a directory'
  } catch (error) {
    if (isAbsent(error)) return 'the directory does not exist (a disk that is not mounted?)'
    throw error
  }
}
