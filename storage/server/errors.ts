/** What a machine's shell and its programs say, in our words. */
import { HoldfastError, hasCode } from '../../model/errors.ts'
import { meanings } from '../local/errors.ts'
import type { Store } from './ask.ts'
import { exits } from './shell.ts'

/** As glibc and musl say them. */
const said: readonly [RegExp, string][] = [
  [/no space left on device/i, 'ENOSPC'],
  [/quota exceeded/i, 'EDQUOT'],
  [/file too large/i, 'EFBIG'],
  [/permission denied/i, 'EACCES'],
  [/operation not permitted/i, 'EPERM'],
  [/read-only file system/i, 'EROFS'],
  [/too many levels of symbolic links|symbolic link loop/i, 'ELOOP'],
  [/cross-device link/i, 'EXDEV'],
  [/too many links/i, 'EMLINK'],
  [/(operation )?not supported/i, 'ENOTSUP'],
  [/function not implemented/i, 'ENOSYS'],
  [/is a directory/i, 'EISDIR'],
  [/not a directory/i, 'ENOTDIR'],
  [/file ?name too long/i, 'ENAMETOOLONG'],
  [/input\/output error|i\/o error/i, 'EIO'],
  [/no such device/i, 'ENODEV'],
  [/(endpoint|socket) (is )?not connected/i, 'ENOTCONN'],
  [/stale (nfs )?file handle/i, 'ESTALE'],
  [/host is down/i, 'EHOSTDOWN'],
  [/timed out/i, 'ETIMEDOUT'],
  [/too many open files in system/i, 'ENFILE'],
  [/too many open files|no file descriptors/i, 'EMFILE'],
]

/** Of what was said, that something is not there: it went away between two steps of the script. */
export const isAbsentSaid = (words: string): boolean =>
  /no such file|directory nonexistent|not a directory/i.test(words)

/** Why a script ended as it did. */
export function failed(store: Store, doing: string, exit: number, stderr: string): HoldfastError {
  const words = stderr.trim().slice(-500)
  const where = `${doing} in ${store.uri}`
  if (exit === exits.rootMissing) {
    return new HoldfastError(
      'destination.missing',
      `${where} failed: the directory does not exist (a disk that is not mounted?), or is none.`,
      { hint: `On ${store.shell.name}, as the user that the host is used as: mkdir -p -m 700 ${store.root}` },
    )
  }
  if (exit === exits.short) {
    return new HoldfastError('destination.unreachable', `${where} failed: not all bytes arrived there.`)
  }
  const [, errno = ''] = said.find(([pattern]) => pattern.test(words)) ?? []
  const meaning = meanings[errno]
  if (meaning) {
    return new HoldfastError(meaning[0], `${where} failed: ${meaning[1]} (${errno}).`, { context: { errno } })
  }
  const missing = /([\w-]+): (?:command )?not found/.exec(words)?.[1]
  if (missing !== undefined) {
    return new HoldfastError(
      'host.tool-missing',
      `${where} failed: "${missing}" was not found on host "${store.shell.name}".`,
    )
  }
  return new HoldfastError('internal', `${where} failed with ${exit}: ${words || 'nothing was said'}.`)
}

/** A link that broke is a store that does not answer; what else a host may say (another key, a login refused) stays. */
export function explained(store: Store, doing: string, error: unknown): unknown {
  if (!hasCode(error, 'host.unreachable')) return error
  return new HoldfastError('destination.unreachable', `${doing} in ${store.uri} failed: ${error.message}`, {
    cause: error,
  })
}
