/** Throw-away PostgreSQL servers for tests, demo and bench: 127.0.0.1, a free port, a data directory of their own. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, chown, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { freePort } from '../../cli/free-port.ts'

const run = promisify(execFile)

export interface TestPostgres {
  readonly port: number
  readonly version: string
  readonly dataDir: string
  readonly logFile: string
  /** Process id of the postmaster. */
  readonly pid: number
  /** `postgres://postgres[:password]@127.0.0.1:port/database`. */
  url(database?: string): string
  /** Runs SQL with psql as the superuser; standard output, unaligned. Throws with psql's words. */
  sql(sql: string, database?: string): Promise<string>
  /** Ends it in order and removes the data directory if it made it. */
  stop(): Promise<void>
  /** `kill -9` of the postmaster and its children; resolves when they are gone. */
  kill9(): Promise<void>
  /** Starts it again on the same port and data (ends it first if it runs). */
  restart(): Promise<void>
}

export interface PostgresOptions {
  /** Major version; absent: the newest that is installed. */
  version?: number
  /** Programs to use instead of the installed ones; see postgres-relinked.ts. */
  binaries?: { bin: string; version: string }
  port?: number
  /** An empty directory, or one with the data of a server; absent: a temporary one. */
  dataDir?: string
  /** `scram` needs a password. */
  auth?: 'trust' | 'scram'
  password?: string
  logFile?: string
  /** ICU's locale of every database, e.g. `en-US`; absent: C.UTF-8, which sorts by code points. */
  icuLocale?: string
  /** Of its processes, besides ours. */
  env?: Record<string, string>
  /** Writes to disk as a real server does. Off: faster, and all a test needs that kills processes, not machines. */
  durable?: boolean
  /** More lines for postgresql.conf, e.g. `max_locks_per_transaction = 10`. */
  config?: string
}

/** Where initdb and postgres are; installs them with apt-get when we are root and they are missing. */
export async function postgresBinaries(version?: number): Promise<{ bin: string; version: string }> {
  const found = await installed(version)
  if (found) return found
  if (process.getuid?.() === 0) {
    process.stderr.write('postgres: installing PostgreSQL with apt-get\n')
    const wanted = version === undefined ? 'postgresql' : `postgresql-${version}`
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    await run('apt-get', ['install', '-y', '--no-install-recommends', wanted], { env }).catch(() => undefined)
    const now = await installed(version)
    if (now) return now
  }
  throw new Error(
    `PostgreSQL${version === undefined ? '' : ` ${version}`} is not installed: install its server package (Debian, Ubuntu: apt install postgresql) and start again.`,
  )
}

async function installed(version?: number): Promise<{ bin: string; version: string } | undefined> {
  const root = '/usr/lib/postgresql'
  const majors = (await readdir(root).catch(() => [])).filter(name => /^\d+$/.test(name))
  majors.sort((a, b) => Number(b) - Number(a))
  const candidates = majors.map(major => join(root, major, 'bin'))
  for (const directory of (process.env.PATH ?? '').split(':')) if (directory) candidates.push(directory)
  for (const bin of candidates) {
    const said = await run(join(bin, 'postgres'), ['--version']).catch(() => undefined)
    const number = /(\d+)(\.\d+)?/.exec(said?.stdout ?? '')?.[0]
    if (number !== undefined && (version === undefined || Number.parseInt(number, 10) === version)) {
      return { bin, version: number }
    }
  }
  return undefined
}

export async function startPostgres(options: PostgresOptions = {}): Promise<TestPostgres> {
  const { bin, version } = options.binaries ?? (await postgresBinaries(options.version))
  const user = await serverUser()
  const made = options.dataDir === undefined
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'holdfast-pg-')))
  if (user) await chown(dataDir, user.uid, user.gid)
  await chmod(dataDir, 0o700)
  const logFile = options.logFile ?? join(dataDir, 'server.log')
  const password = options.auth === 'scram' ? (options.password ?? 'postgres') : undefined
  if (!existsSync(join(dataDir, 'PG_VERSION'))) await initialize(bin, dataDir, user, password, options)

  let port = options.port ?? (await freePort())
  let server = await launch(bin, dataDir, user, port, logFile, options.env)
  for (let tries = 0; server === undefined; tries++) {
    if (options.port !== undefined || tries === 5) throw await failure(logFile)
    port = await freePort()
    server = await launch(bin, dataDir, user, port, logFile, options.env)
  }
  let child = server
  const lastResort = () => child.kill('SIGKILL')
  process.once('exit', lastResort)

  const url = (database = 'postgres') =>
    `postgres://postgres${password === undefined ? '' : `:${encodeURIComponent(password)}`}@127.0.0.1:${port}/${encodeURIComponent(database)}`
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const children = signal === 'SIGKILL' ? await childrenOf(child.pid ?? -1) : []
    const ended = new Promise(resolve => child.once('exit', resolve))
    child.kill(signal)
    await ended
    // They keep the shared memory in use: a restart would be refused until they noticed by themselves.
    for (const pid of children) killQuietly(pid)
    while ((await Promise.all(children.map(alive))).includes(true)) await sleep(20)
  }
  return {
    port,
    version,
    dataDir,
    logFile,
    get pid() {
      return child.pid ?? -1
    },
    url,
    sql: (text, database) => psql(url(database), text),
    async stop() {
      await end('SIGINT')
      process.removeListener('exit', lastResort)
      if (made) await rm(dataDir, { recursive: true, force: true })
    },
    kill9: () => end('SIGKILL'),
    async restart() {
      await end('SIGINT')
      const started = await launch(bin, dataDir, user, port, logFile, options.env)
      if (!started) throw await failure(logFile)
      child = started
    },
  }
}

/** Runs a script with psql; everything it prints, unaligned. Throws with psql's words at the first error. */
export async function psql(url: string, sql: string): Promise<string> {
  const parsed = new URL(url)
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    PGHOST: parsed.hostname,
    PGPORT: parsed.port,
    PGUSER: decodeURIComponent(parsed.username),
    PGPASSWORD: decodeURIComponent(parsed.password),
    // From here, libpq takes the name as it is, whatever it looks like.
    PGDATABASE: decodeURIComponent(parsed.pathname.slice(1)),
    PGCLIENTENCODING: 'UTF8',
  }
  const child = spawn('psql', ['-X', '-A', '-t', '-q', '-w', '-v', 'ON_ERROR_STOP=1'], { env })
  const out: Buffer[] = []
  const err: Buffer[] = []
  child.stdout.on('data', chunk => out.push(chunk))
  child.stderr.on('data', chunk => err.push(chunk))
  child.stdin.on('error', () => undefined)
  child.stdin.end(sql)
  const code = await new Promise((resolve, reject) => child.once('close', resolve).once('error', reject))
  if (code !== 0) throw new Error(`psql exited with ${code}: ${Buffer.concat(err).toString().trim()}`)
  return Buffer.concat(out).toString().replace(/\n$/, '')
}

/** PostgreSQL refuses to run as root: then its own system user runs it. */
async function serverUser(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const number = async (flag: string) => Number((await run('id', [flag, 'postgres'])).stdout)
  return { uid: await number('-u'), gid: await number('-g') }
}

async function initialize(
  bin: string,
  dataDir: string,
  user: { uid: number; gid: number } | undefined,
  password: string | undefined,
  options: PostgresOptions,
): Promise<void> {
  const passwordFile = `${dataDir}.password`
  const argv = [
    '-D',
    dataDir,
    '-U',
    'postgres',
    '--encoding=UTF8',
    '--locale=C.UTF-8',
    ...(options.icuLocale === undefined
      ? []
      : ['--locale-provider=icu', `--icu-locale=${options.icuLocale}`]),
    '--no-sync',
    '--no-instructions',
  ]
  if (password === undefined) argv.push('--auth=trust')
  else {
    await writeFile(passwordFile, password, { mode: 0o600 })
    if (user) await chown(passwordFile, user.uid, user.gid)
    argv.push('--auth=scram-sha-256', `--pwfile=${passwordFile}`)
  }
  try {
    await run(join(bin, 'initdb'), argv, { ...user, cwd: dataDir })
  } finally {
    await rm(passwordFile, { force: true })
  }
  const config = await open(join(dataDir, 'postgresql.conf'), 'a')
  await config.appendFile(
    [
      '',
      "listen_addresses = '127.0.0.1'",
      `unix_socket_directories = '${dataDir}'`,
      'shared_buffers = 32MB',
      'max_connections = 40',
      ...(options.durable === true ? [] : ['fsync = off', 'full_page_writes = off']),
      options.config ?? '',
      '',
    ].join('\n'),
  )
  await config.close()
}

/** undefined: it ended at once (a port that was taken). */
async function launch(
  bin: string,
  dataDir: string,
  user: { uid: number; gid: number } | undefined,
  port: number,
  logFile: string,
  env: Record<string, string> = {},
): Promise<ChildProcess | undefined> {
  const log = await open(logFile, 'a', 0o644)
  try {
    const argv = ['-D', dataDir, '-p', String(port)]
    const child = spawn(join(bin, 'postgres'), argv, {
      ...user,
      cwd: dataDir,
      env: { ...process.env, ...env },
      stdio: ['ignore', log.fd, log.fd],
    })
    const deadline = Date.now() + 60_000
    while (child.exitCode === null && child.signalCode === null) {
      const ready = await run(join(bin, 'pg_isready'), ['-q', '-h', '127.0.0.1', '-p', String(port)]).catch(
        () => null,
      )
      // pg_isready would also be answered by somebody else's server on this port.
      const ours = await readFile(join(dataDir, 'postmaster.pid'), 'utf8').catch(() => '')
      if (ready && ours.startsWith(`${child.pid}\n`)) return child
      if (Date.now() > deadline) {
        child.kill('SIGKILL')
        throw await failure(logFile)
      }
      await sleep(50)
    }
    return undefined
  } finally {
    await log.close()
  }
}

async function failure(logFile: string): Promise<Error> {
  const log = await readFile(logFile, 'utf8').catch(() => '')
  return new Error(`PostgreSQL did not start; its log ends: ${log.slice(-1000)}`)
}

async function childrenOf(pid: number): Promise<number[]> {
  const listed = await run('ps', ['-o', 'pid=', '--ppid', String(pid)]).catch(() => ({ stdout: '' }))
  return listed.stdout.split(/\s+/).filter(Boolean).map(Number)
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone already.
  }
}

async function alive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return stat !== '' && !/\) [ZX] /.test(stat)
}
