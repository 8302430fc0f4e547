/** Which database a catalog URL means, as the client library wants to be told. */
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import { parsePostgresqlUrl } from '../../engines/postgresql/connection.ts'
import { HoldfastError } from '../../model/errors.ts'

export interface Address {
  host: string
  port: number
  user: string
  database: string
  /** undefined: none, or from PGPASSFILE. */
  password: string | undefined
  ssl: false | ConnectionOptions
  /** For messages: without the password. */
  words: string
}

export const isPostgresqlUrl = (url: string): boolean => /^postgres(ql)?:/i.test(url)

/** Throws `settings.invalid`; never repeats the URL, which may hold a password. */
export function readAddress(url: string): Address {
  const { settings, secrets } = parsed(url)
  const { host, port, user, database, sslmode, sslrootcert, sslcert, sslkey } = settings
  const shown = host.includes(':') ? `[${host}]` : host
  return {
    host,
    port,
    user,
    database,
    password: secrets.password,
    ssl: sslOf(sslmode, sslrootcert, sslcert, sslkey),
    words: `database "${database}" on ${shown}:${port}`,
  }
}

function parsed(url: string) {
  try {
    return parsePostgresqlUrl(url)
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    throw invalid(error.message.replace(/^url: /, ''))
  }
}

const invalid = (problem: string): HoldfastError =>
  new HoldfastError('settings.invalid', `HOLDFAST_CATALOG_URL: ${problem}`, {
    hint: 'Example: postgres://holdfast:PASSWORD@db.example:5432/holdfast?sslmode=verify-full (special characters as %XX).',
  })

/** libpq's words, of those the ones that say clearly what is wanted. */
function sslOf(
  mode: string | undefined,
  ca: string | undefined,
  cert: string | undefined,
  key: string | undefined,
): Address['ssl'] {
  if (mode === undefined || mode === 'disable') return false
  if (mode === 'allow' || mode === 'prefer') {
    throw invalid(`sslmode=${mode} does not say whether TLS is wanted; use disable, require or verify-full.`)
  }
  const file = (path: string) => {
    try {
      return readFileSync(path, 'utf8')
    } catch (error) {
      throw invalid(`${path} cannot be read: ${error instanceof Error ? error.message : String(error)}.`)
    }
  }
  return {
    rejectUnauthorized: mode !== 'require',
    ...(ca === undefined ? {} : { ca: file(ca) }),
    ...(cert === undefined ? {} : { cert: file(cert) }),
    ...(key === undefined ? {} : { key: file(key) }),
    ...(mode === 'verify-ca' ? { checkServerIdentity: () => undefined } : {}),
  }
}
