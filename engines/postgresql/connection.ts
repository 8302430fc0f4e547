/** Which PostgreSQL database a connection means. */
import { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'

const hostProblem = (host: string): string | undefined => {
  if (host.startsWith('/')) {
    // libpq reads commas as a list of hosts.
    return /[,\p{Cc}]/u.test(host) ? 'must be one directory, without commas' : undefined
  }
  return /^[A-Za-z0-9._:-]{1,253}$/.test(host) && !host.startsWith('-')
    ? undefined
    : 'must be one host name, one address or one absolute socket directory'
}

export const databaseProblem = (name: string): string | undefined => {
  if (name === '') return 'must not be empty'
  if (/\p{Cc}/u.test(name)) return 'must not hold control characters'
  // PostgreSQL would cut it silently.
  if (Buffer.byteLength(name) > 63) return 'must not be longer than 63 bytes'
  return undefined
}

const checked = (problem: (text: string) => string | undefined) =>
  z.string().superRefine((text, context) => {
    const message = problem(text)
    if (message !== undefined) context.addIssue({ code: 'custom', message })
  })

const filePath = checked(path =>
  path.startsWith('/') && !/\p{Cc}/u.test(path) ? undefined : 'must be an absolute path',
)
const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const

export const postgresqlConnection = z.strictObject({
  /** A name, an address, or the absolute directory of a Unix socket. */
  host: checked(hostProblem),
  port: z.int().min(1).max(65535),
  user: checked(databaseProblem),
  database: checked(databaseProblem),
  /** Where restores are created from: a database that is always there. */
  maintenanceDatabase: checked(databaseProblem),
  sslmode: z.enum(sslModes).optional(),
  /** Files on the host that runs the tools. */
  sslrootcert: filePath.optional(),
  sslcert: filePath.optional(),
  sslkey: filePath.optional(),
  /** Of physical backups: whether the checkpoint that they begin with is done at once or spread out as others are. */
  checkpoint: z.enum(['fast', 'spread']).optional(),
  /** Of physical backups: `pg_basebackup -r`: kB/s, or with the suffix k or M. */
  maxrate: z
    .string()
    .regex(/^[1-9]\d{0,6}[kM]?$/, 'must be a number of kB/s, or one with the suffix k or M')
    .optional(),
  /** Of physical backups of a standby: how many seconds it may be behind. */
  maxlag: z.int().min(0).max(864_000).optional(),
  /** Of physical restores in place: who starts and stops the server. A unit, pg_ctl, or a program that is told `stop` and `start`. */
  supervisor: z
    .string()
    .regex(
      /^(pg_ctl|systemd:(?!-)[A-Za-z0-9:_.@\\-]{1,200}|\/[^\p{Cc}]{1,500})$/u,
      'must be pg_ctl, systemd:UNIT, or the absolute path of a program',
    )
    .optional(),
})
export type PostgresqlConnection = z.infer<typeof postgresqlConnection>

const parameters = [
  ...(['host', 'port', 'sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'maintenance'] as const),
  ...(['checkpoint', 'maxrate', 'maxlag', 'supervisor'] as const),
] as const

/** `postgres://user[:password]@host[:port]/database[?sslmode=…]`; a socket directory as `?host=/run/postgresql`. */
export function parsePostgresqlUrl(url: string): {
  settings: PostgresqlConnection
  secrets: Record<string, string>
} {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^/?#@]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/i.exec(url)
  if (!match) throw invalid('it must be postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE')
  const [, userInfo = '', authority = '', database = '', query = ''] = match
  const colon = userInfo.indexOf(':')
  const user = decode('user', colon === -1 ? userInfo : userInfo.slice(0, colon))
  const password = colon === -1 ? '' : decode('password', userInfo.slice(colon + 1))
  const options = queryOf(query)
  const address = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*))(?::(\d{1,5}))?$/.exec(authority)
  if (!address) throw invalid('host and port must be HOST[:PORT], one host only')
  const named = address[1] ?? decode('host', address[2] ?? '')
  if (named !== '' && options.host !== undefined) throw invalid('the host is given twice')
  if (address[3] !== undefined && options.port !== undefined) throw invalid('the port is given twice')
  const { host: optionHost, port: optionPort, maintenance, maxlag, ...others } = options
  const parsed = postgresqlConnection.safeParse({
    host: named || optionHost || 'localhost',
    port: Number(address[3] ?? optionPort ?? 5432),
    user,
    database: decode('database', database),
    maintenanceDatabase: maintenance ?? 'postgres',
    ...others,
    ...(maxlag === undefined ? {} : { maxlag: /^\d+$/.test(maxlag) ? Number(maxlag) : Number.NaN }),
  })
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw invalid(`${issue?.path.join('.')} ${issue?.message}`)
  }
  return { settings: parsed.data, secrets: password === '' ? {} : { password } }
}

/** Only parameters that say where the server is; libpq's others could redirect or weaken what we run. */
function queryOf(query: string): Partial<Record<(typeof parameters)[number], string>> {
  const options: Partial<Record<(typeof parameters)[number], string>> = {}
  for (const pair of query === '' ? [] : query.split('&')) {
    const equals = pair.indexOf('=')
    const written = equals === -1 ? pair : pair.slice(0, equals)
    const name = parameters.find(one => one === written)
    if (name === undefined) {
      const shown = /^[A-Za-z_]{1,40}$/.test(written) ? `"${written}"` : 'one of them'
      throw invalid(`of the parameters ${shown} is not accepted; there are ${parameters.join(', ')}`)
    }
    if (options[name] !== undefined) throw invalid(`the parameter "${name}" is given twice`)
    options[name] = decode(name, equals === -1 ? '' : pair.slice(equals + 1))
  }
  return options
}

function decode(field: string, text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw invalid(`${field}: a percent sign is not followed by two hexadecimal digits`)
  }
}

/** Never repeats the URL: it may hold a password. */
const invalid = (problem: string): HoldfastError =>
  new HoldfastError('request.invalid', `url: ${problem}.`, {
    hint: 'Example: postgres://backup@db.example:5432/shop?sslmode=verify-full (special characters as %XX).',
  })

/** The address without secrets. */
export function describe(settings: PostgresqlConnection): string {
  const socket = settings.host.startsWith('/')
  const host = socket ? '' : settings.host.includes(':') ? `[${settings.host}]` : settings.host
  const database = encodeURIComponent(settings.database)
  const query = socket ? `?host=${settings.host.split('/').map(encodeURIComponent).join('/')}` : ''
  return `postgres://${encodeURIComponent(settings.user)}@${host}:${settings.port}/${database}${query}`
}

/** PostgreSQL would cut a longer name silently, in the middle of a letter if need be. */
export function nameBeside(database: string, mark: string): string {
  let base = database
  while (Buffer.byteLength(`${base}_${mark}`) > 63) base = Array.from(base).slice(0, -1).join('')
  return `${base}_${mark}`
}

/** On the connection's host. */
export const isHere = ({ host }: PostgresqlConnection): boolean =>
  host.startsWith('/') || /^(localhost|127(\.\d+){3}|::1)$/i.test(host)
