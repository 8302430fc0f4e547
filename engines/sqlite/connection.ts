/** Which file a SQLite connection means. One connection is one database file. */
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'

/** What an absolute path of a database file may look like; undefined when it is fine. */
export function pathProblem(path: string): string | undefined {
  if (!path.startsWith('/')) return 'must be an absolute path'
  if (/\p{Cc}/u.test(path)) return 'must not hold control characters'
  if (path.endsWith('/')) return 'must name a file, not a directory'
  if (path.split('/').some(part => part === '.' || part === '..')) return 'must not hold "." or ".." segments'
  if (Buffer.byteLength(path) > 4000) return 'must be shorter than 4,000 bytes'
  if (Buffer.byteLength(basename(path)) > 255) return 'has a file name longer than 255 bytes'
  return undefined
}

export const sqliteConnection = z.strictObject({
  /** Absolute path of the database file on the host. */
  path: z.string().superRefine((path, context) => {
    const problem = pathProblem(path)
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
  }),
})
export type SqliteConnection = z.infer<typeof sqliteConnection>

/**
 * `/abs/file.db`, `sqlite:/abs/file.db`, `sqlite:///abs/file.db`, `file:///abs/file.db`. URLs are percent-decoded, bare
 * paths and `sqlite:/path` are taken as they are. Options (`?mode=…`) are refused: they would change how the file opens.
 */
export function parseSqliteUrl(url: string): { settings: SqliteConnection; secrets: Record<string, string> } {
  const path = pathOf(url)
  const problem = pathProblem(path)
  if (problem !== undefined) throw invalid(`url: the path "${path}" ${problem}.`)
  return { settings: { path }, secrets: {} }
}

function pathOf(url: string): string {
  const match = /^(sqlite3?|file):(.*)$/is.exec(url)
  if (!match) {
    if (/^[a-z][a-z0-9+.-]*:\/\//i.test(url))
      throw invalid(`url: "${url.split(':')[0]}" is not a SQLite URL.`)
    return url
  }
  const rest = match[2] ?? ''
  if (!rest.startsWith('//')) {
    if (match[1]?.toLowerCase() === 'file') refuseOptions(rest)
    else if (/\?(mode|cache|vfs|immutable|nolock|psow|modeof)=/i.test(rest)) refuseOptions(rest)
    return rest
  }
  refuseOptions(rest)
  if (!rest.startsWith('///'))
    throw invalid('url: a SQLite URL names no host; write sqlite:///absolute/path.')
  try {
    return decodeURIComponent(rest.slice(2))
  } catch {
    throw invalid('url: a percent sign is not followed by two hexadecimal digits.')
  }
}

function refuseOptions(rest: string): void {
  if (/[?#]/.test(rest)) {
    throw invalid(
      'url: options such as ?mode= are not accepted; write "?" and "#" of a file name as %3F and %23.',
    )
  }
}

const invalid = (detail: string): HoldfastError =>
  new HoldfastError('request.invalid', detail, { hint: 'Use an absolute path or sqlite:/absolute/path.' })

/** The temporary copy beside the target; its name carries the restore's token. */
export function temporaryPath(target: string, token: string): string {
  // With "-journal" it must stay a file name of at most 255 bytes.
  const room = 255 - Buffer.byteLength(`..holdfast-${token}-journal`)
  let name = basename(target)
  while (Buffer.byteLength(name) > room) name = Array.from(name).slice(0, -1).join('')
  return join(dirname(target), `.${name}.holdfast-${token}`)
}

/** Files SQLite keeps beside a database. */
export const sidecars = (path: string): string[] => [`${path}-journal`, `${path}-wal`, `${path}-shm`]

/** Those that, unless empty, SQLite would replay into whatever database appears under the name. */
export const replayed = (path: string): string[] => [`${path}-journal`, `${path}-wal`]

/** A `file:` URI for a copy that nobody else touches: no locks, no sidecar files. */
export function immutableUri(path: string): string {
  return `file:${path.split('/').map(encodeURIComponent).join('/')}?mode=ro&immutable=1`
}
