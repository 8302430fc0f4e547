/** The cases of PostgreSQL's log: a file at a time into the archive as archive_command asks, and back as restore_command does. */
import { execFile } from 'node:child_process'
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { freePort } from '../cli/free-port.ts'
import { holdfast } from '../test/cli/run.ts'
import { postgresBinaries, startPostgres } from '../test/servers/postgres.ts'
import { type Site, site } from '../test/wal/site.ts'
import { contest, type Done, type Field, wanted } from './contest.ts'
import { median } from './measure.ts'
import { type PgBackRest, pgBackRest } from './pgbackrest.ts'
import { generatingSql } from './postgresql.ts'
import type { Row } from './rows.ts'
import { startShell, word } from './shell.ts'

export const walCases = ['wal-push', 'wal-push-p50', 'wal-push-p99', 'wal-replay'] as const

export interface WalOptions {
  directory: string
  sizeGb: number
  runs: number
  only: readonly string[]
  say(line: string): void
}

const pushing: readonly string[] = walCases.filter(name => name.startsWith('wal-push'))
const host = 'bench'

export async function wal(options: WalOptions): Promise<Row[]> {
  if (!walCases.some(name => wanted(options, name))) return []
  const path = join(options.directory, 'wal')
  await mkdir(path)
  const place = await site(path)
  const dataDir = join(path, 'data')
  await mkdir(dataDir)
  const log = await written(place, dataDir, options)
  await place.configured(host, dataDir)
  const shell = startShell({})
  const oursShell = startShell({})
  try {
    const rows: Row[] = []
    if (pushing.some(name => wanted(options, name))) {
      rows.push(...(await push({ ...options, place, shell, oursShell, log })))
    }
    if (wanted(options, 'wal-replay')) {
      rows.push(...(await replay({ ...options, place, shell, oursShell, log })))
    }
    return rows
  } finally {
    await shell.stop()
    await oursShell.stop()
  }
}

interface Log {
  dataDir: string
  base: string
  /** All that came after the base backup, oldest first. */
  segments: string[]
}

interface Turns extends WalOptions {
  place: Site
  shell: ReturnType<typeof startShell>
  oursShell: ReturnType<typeof startShell>
  log: Log
}

/** A base backup, and what a server has written since; the server does not run any more. */
async function written(place: Site, dataDir: string, options: WalOptions): Promise<Log> {
  const server = await startPostgres({
    dataDir,
    version: 15,
    durable: true,
    config: [
      'shared_buffers = 256MB',
      'autovacuum = off',
      'wal_keep_size = 100GB',
      'max_wal_size = 1GB',
    ].join('\n'),
  })
  const base = join(options.directory, 'wal', 'base')
  await place.baseBackup(server, base)
  await server.sql(generatingSql(options.sizeGb / 2))
  await server.sql('SELECT pg_switch_wal()')
  await server.stop()
  const folder = join(dataDir, 'pg_wal')
  const start = /[0-9A-F]{24}/.exec(await readFile(join(base, 'backup_label'), 'utf8'))?.[0] ?? ''
  const all = (await readdir(folder)).filter(name => /^[0-9A-F]{24}$/.test(name) && name >= start).sort()
  // The one that it wrote to when it ended may not be full, and those after it are empty.
  const last = /REDO WAL file:\s+([0-9A-F]{24})/.exec(await controlOf(dataDir))?.[1] ?? ''
  const segments = all.filter(name => name < last)
  options.say(`${segments.length} segments of 16 MiB after the base backup`)
  return { dataDir, base, segments }
}

async function controlOf(dataDir: string): Promise<string> {
  const { bin } = await postgresBinaries(15)
  return (await promisify(execFile)(join(bin, 'pg_controldata'), [dataDir])).stdout
}

async function push({ place, shell, oursShell, log, ...options }: Turns): Promise<Row[]> {
  const theirs: PgBackRest = await pgBackRest({
    directory: join(options.directory, 'wal'),
    dataDir: log.dataDir,
  })
  const times = {
    ours: join(options.directory, 'ours.times'),
    theirs: join(options.directory, 'theirs.times'),
  }
  const status = join(log.dataDir, 'pg_wal', 'archive_status')
  const waiting = async () => {
    for (const name of await readdir(status)) await rm(join(status, name))
    for (const name of log.segments) await writeFile(join(status, `${name}.ready`), '')
  }
  const one = (command: string, into: string) => `cd ${word(log.dataDir)}
for name in ${log.segments.join(' ')}; do
  begun=$EPOCHREALTIME
  ${command}
  echo "$begun $EPOCHREALTIME" >>${word(into)}
  mv pg_wal/archive_status/$name.ready pg_wal/archive_status/$name.done
done`
  const ourCommand = place.pushCommand(host).replace('%p', 'pg_wal/$name')
  let agent = await place.startAgent(host)
  const field = fieldOf(
    { shell, oursShell, log, runs: options.runs, say: options.say },
    () => agent.child.pid ?? 0,
  )
  try {
    const rows = await contest(field, {
      warmUp: false,
      before: async () => {
        agent.child.kill()
        await agent.ended
        await rm(place.store, { recursive: true })
        await mkdir(place.store, { mode: 0o777 })
        const begun = await holdfast(['wal', 'begin', '--config', place.configOf(host)])
        if (begun.code !== 0) throw new Error(begun.stderr)
        await promisify(execFile)('chown', ['-R', 'postgres:', place.store])
        await waiting()
        agent = await place.startAgent(host)
      },
      ours: () => timed(oursShell, one(ourCommand, times.ours)),
      baselines: [
        {
          case: 'wal-push',
          what: `${log.segments.length} segments archived one after the other, an agent running / pgbackrest archive-push, asynchronous`,
          target: 1,
          script: one(`${theirs.command} archive-push pg_wal/$name`, times.theirs),
          before: async () => {
            await theirs.clear(script => shell.run(script))
            await waiting()
          },
        },
      ],
    })
    const took = { ours: await latencies(times.ours), theirs: await latencies(times.theirs) }
    return rows.flatMap(row => [
      row,
      ...([50, 99] as const).map(percent => {
        const [ours, baseline] = [percentile(took.ours, percent), percentile(took.theirs, percent)]
        return {
          ...row,
          case: `wal-push-p${percent}`,
          what: `one segment, the ${percent}th percentile / the same`,
          ours,
          baseline,
          ratio: ours / baseline,
          target: null,
          runs: [{ ours, baseline }],
        }
      }),
    ])
  } finally {
    agent.child.kill()
    await agent.ended
  }
}

/** Our side is an agent, and the shell that asks as PostgreSQL does. */
function fieldOf(
  { shell, oursShell, log, runs, say }: Pick<Turns, 'shell' | 'oursShell' | 'log' | 'runs' | 'say'>,
  agent: () => number,
): Field {
  return {
    ours: { roots: () => [agent(), oursShell.pid], worker: agent },
    shell,
    servers: [],
    databaseBytes: log.segments.length << 24,
    runs,
    only: [],
    say,
  }
}

async function timed(shell: Turns['oursShell'], script: string): Promise<Done> {
  const begun = process.hrtime.bigint()
  await shell.run(script)
  return { seconds: Number(process.hrtime.bigint() - begun) / 1e9, storedBytes: null }
}

async function latencies(path: string): Promise<number[]> {
  const lines = (await readFile(path, 'utf8')).trim().split('\n')
  return lines.map(line => {
    const [begun, ended] = line.split(' ').map(Number)
    return (ended ?? Number.NaN) - (begun ?? Number.NaN)
  })
}

function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  if (percent === 50) return median(sorted)
  return sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * percent) / 100) - 1)] ?? Number.NaN
}

async function replay({ place, shell, oursShell, log, ...options }: Turns): Promise<Row[]> {
  const plain = join(options.directory, 'plain')
  await mkdir(plain)
  for (const name of log.segments) await copyFile(join(log.dataDir, 'pg_wal', name), join(plain, name))
  await promisify(execFile)('chmod', ['-R', 'a+rX', plain])
  const filled = await holdfast(['wal', 'repair', '--config', place.configOf(host), '--pgdata', log.dataDir])
  if (filled.code !== 0) throw new Error(filled.stderr)
  await promisify(execFile)('chown', ['-R', 'postgres:', place.store])
  const agent = await place.startAgent(host)
  const { bin } = await postgresBinaries(15)
  const port = await freePort()
  const commands = { ours: place.fetchCommand(host), theirs: `cp ${plain}/%f %p` }
  const copied = async (side: keyof typeof commands) => {
    await rm(join(options.directory, 'wal', `copy-${side}`), { recursive: true, force: true })
    await place.copyOf(log.base, `copy-${side}`, 'recovery', [
      ...['hot_standby = off', 'archive_mode = off', 'shared_buffers = 256MB', 'max_wal_size = 1GB'],
      `restore_command = '${commands[side]}'`,
    ])
  }
  const control = `${process.getuid?.() === 0 ? 'runuser -u postgres -- ' : ''}${word(join(bin, 'pg_ctl'))} -w -t 3600 -s`
  // It answers when all of the log was replayed and a timeline of its own begun.
  const recovered = (side: keyof typeof commands) => {
    const copy = join(options.directory, 'wal', `copy-${side}`)
    const at = `-D ${word(copy)}`
    return `${control} ${at} -l ${word(join(copy, 'server.log'))} -o ${word(`-p ${port}`)} start
until ${word(join(bin, 'pg_isready'))} -q -h ${word(copy)} -p ${port}; do sleep 0.02; done
${control} ${at} -m immediate stop`
  }
  const field = fieldOf(
    { shell, oursShell, log, runs: options.runs, say: options.say },
    () => agent.child.pid ?? 0,
  )
  try {
    return await contest(field, {
      warmUp: true,
      before: () => copied('ours'),
      ours: () => timed(oursShell, recovered('ours')),
      baselines: [
        {
          case: 'wal-replay',
          what: `${log.segments.length} segments replayed by a server, fetched and proven by us / cp from a directory`,
          target: 1 / 0.95,
          script: recovered('theirs'),
          before: () => copied('theirs'),
        },
      ],
    })
  } finally {
    agent.child.kill()
    await agent.ended
  }
}
