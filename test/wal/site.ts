/** Real PostgreSQL servers that archive into one directory, and copies of them that are recovered from it. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, chown, cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { openArchive } from '../../cli/wal/archive.ts'
import { initWal } from '../../cli/wal/init.ts'
import type { ArchiverFile, WalConfig } from '../../model/wal-format.ts'
import { createKey } from '../../storage/keys.ts'
import { eventually, launcher, start } from '../cli/run.ts'
import { postgresBinaries, psql, type TestPostgres } from '../servers/postgres.ts'

const run = promisify(execFile)

/** An archive that is in no directory. Credentials as references. */
export interface Elsewhere {
  uri: string
  settings: NonNullable<WalConfig['destinations'][number]['settings']>
  credentials: Record<string, string>
}

export interface Site {
  store: string
  /** Of a server that is not there yet; say `configured` when it is. */
  configOf(host: string): string
  pushCommand(host: string): string
  fetchCommand(host: string): string
  /** Makes its configuration, which trusts those that were made before, and begins the archive. */
  configured(host: string, dataDir: string): Promise<void>
  /** Runs as PostgreSQL does. */
  startAgent(host: string): Promise<ReturnType<typeof start>>
  /** Without the log that it needs. */
  baseBackup(server: TestPostgres, into: string): Promise<void>
  /** A copy of a base backup with these settings and this signal file; not started. */
  copyOf(base: string, name: string, signal: 'recovery' | 'standby', settings: string[]): Promise<string>
  /** Throws when it does not come up. */
  start(dataDir: string, port: number): Promise<Copy>
}

export interface Copy {
  sql(text: string): Promise<string>
  stop(): Promise<void>
}

export async function site(path: string, elsewhere?: Elsewhere): Promise<Site> {
  await chmod(path, 0o755)
  const user = await serverUser()
  const { bin } = await postgresBinaries(15)
  const asServer = async (program: string, args: string[]) => await run(program, args, { ...user, cwd: path })
  const store = join(path, 'store')
  const keys = join(path, 'keys')
  for (const directory of [store, keys]) await mkdir(directory)
  await createKey(keys, 'mine', {})
  await given(path, user)
  const configOf = (host: string) => join(path, `etc-${host}`, 'wal.json')
  const archivers: ArchiverFile[] = []
  return {
    store,
    configOf,
    pushCommand: host => `${launcher} wal push --config ${configOf(host)} %p`,
    fetchCommand: host => `${launcher} wal fetch --config ${configOf(host)} %f %p`,
    async configured(host, dataDirectory) {
      const config = configOf(host)
      const key = join(keys, 'mine.json')
      const about = {
        connection: 'shop',
        to: [elsewhere?.uri ?? store],
        settings: elsewhere?.settings ?? {},
      }
      await initWal({ ...about, config, dataDirectory, encryptTo: [key] })
      const written = JSON.parse(await readFile(config, 'utf8')) as WalConfig
      const trust = Object.fromEntries(archivers.map(one => [one.archiver, one.publicKey]))
      const destinations = written.destinations.map(one =>
        elsewhere ? { ...one, credentials: elsewhere.credentials } : one,
      )
      const changed: WalConfig = { ...written, destinations, trust, openWith: [key], patienceSeconds: 1 }
      await writeFile(config, JSON.stringify(changed))
      archivers.push(JSON.parse(await readFile(join(dirname(config), 'archiver.json'), 'utf8')))
      const archive = await openArchive(config)
      await archive.begin().finally(() => archive.close())
      await given(dirname(config), user)
      await given(store, user)
    },
    async startAgent(host) {
      const args = ['wal', 'agent', '--config', configOf(host)]
      // runuser keeps the rest of the surroundings.
      const agent = user
        ? start(['-u', 'postgres', '--', launcher, ...args], { program: 'runuser' })
        : start(args)
      let said = ''
      agent.child.stdout?.on('data', (text: string) => {
        said += text
      })
      await eventually('the agent', () => (said.includes('Listening') ? true : undefined))
      return agent
    },
    async baseBackup({ port }, into) {
      await mkdir(into, { mode: 0o700 })
      await given(into, user)
      await asServer(join(bin, 'pg_basebackup'), [
        ...['-h', '127.0.0.1', '-p', String(port), '-U', 'postgres'],
        ...['-D', into, '-X', 'none', '-c', 'fast', '--no-sync'],
      ])
    },
    async copyOf(base, name, signal, settings) {
      const dataDir = join(path, name)
      await cp(base, dataDir, { recursive: true, preserveTimestamps: true })
      const socket = `unix_socket_directories = '${dataDir}'`
      await writeFile(join(dataDir, 'postgresql.auto.conf'), `${[...settings, socket].join('\n')}\n`)
      await writeFile(join(dataDir, `${signal}.signal`), '')
      await chmod(dataDir, 0o700)
      await given(dataDir, user)
      return dataDir
    },
    async start(dataDir, port) {
      const log = join(dataDir, 'server.log')
      const control = (...args: string[]) => asServer(join(bin, 'pg_ctl'), ['-D', dataDir, '-w', ...args])
      await control('-o', `-p ${port}`, '-l', log, '-t', '120', 'start')
      return {
        sql: text => psql(`postgres://postgres@127.0.0.1:${port}/postgres`, text),
        stop: async () => {
          await control('-m', 'immediate', 'stop')
        },
      }
    },
  }
}

/** Everything below belongs to whoever runs PostgreSQL. */
async function given(path: string, user: { uid: number; gid: number } | undefined): Promise<void> {
  if (!user) return
  await chown(path, user.uid, user.gid)
  for (const entry of await readdir(path, { recursive: true }))
    await chown(join(path, entry), user.uid, user.gid)
}

async function serverUser(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const id = async (flag: string) => Number((await run('id', [flag, 'postgres'])).stdout)
  return { uid: await id('-u'), gid: await id('-g') }
}

/** One transaction after the other until it is told to stop or the server is gone. */
export function writer(sql: (text: string) => Promise<string>): { stop(): Promise<void> } {
  let stopped = false
  const writing = (async () => {
    while (!stopped) await sql(insert)
  })()
  writing.catch(() => {})
  return {
    async stop() {
      stopped = true
      await writing.catch(() => {})
    },
  }
}

export const insert =
  'insert into line (filler) select repeat(md5(random()::text), 60) from generate_series(1, 100)'
export const sumOfAll = "select count(*) || ' ' || md5(string_agg(filler, '' order by id)) from line"

/** Ends the segment that is written, and waits until the archive has it. */
export async function archived(sql: (text: string) => Promise<string>): Promise<void> {
  // Of the place before: with nothing to end it is the beginning of a segment, which PostgreSQL 17 takes for one that is to come.
  const last = await sql('select pg_walfile_name(pg_switch_wal() - 1)')
  await eventually(`the archive to have ${last}`, async () => {
    const newest = await sql("select coalesce(last_archived_wal, '') from pg_stat_archiver")
    return newest.slice(0, 24) >= last ? true : undefined
  })
}

export const inRecovery = async (sql: (text: string) => Promise<string>): Promise<boolean> =>
  (await sql('select pg_is_in_recovery()')) === 't'

/** Its log, where it says why it did not come up. */
export async function refused(starting: Promise<Copy>, dataDir: string): Promise<string> {
  await assert.rejects(starting)
  return await readFile(join(dataDir, 'server.log'), 'utf8')
}
