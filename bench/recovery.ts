/** `npm run bench recovery`: a whole PostgreSQL server and its log, against pgBackRest. */
import { randomBytes } from 'node:crypto'
import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { postgresBinaries, type TestPostgres } from '../test/servers/postgres.ts'
import { postgresRelinked } from '../test/servers/postgres-relinked.ts'
import { makeShop } from '../test/support/shop.ts'
import { startStack } from '../test/system/stack.ts'
import { wanted } from './contest.ts'
import { pgBackRest } from './pgbackrest.ts'
import { fullBackups, incrementalBackups, physicalCases, restores, type Server } from './physical.ts'
import { database, libpq, make } from './postgresql.ts'
import { startProduct } from './product.ts'
import type { Row } from './rows.ts'
import { startShell } from './shell.ts'
import { wal, walCases } from './wal.ts'

export const recoveryCases: readonly string[] = [...physicalCases, ...walCases]

export interface RecoveryOptions {
  directory: string
  closers: (() => Promise<unknown>)[]
  sizeGb: number
  runs: number
  only: readonly string[]
  say(line: string): void
}

/** By name, what is to be measured one after the other. */
export function recoveries(options: RecoveryOptions): [string, () => Promise<Row[]>][] {
  const told = { ...options, say: (line: string) => options.say(`  ${line}`) }
  const asked = (name: string) => wanted(options, name)
  const works: [string, () => Promise<Row[]>][] = []
  if (walCases.some(asked)) works.push(['log', () => ofLog(told)])
  if (physicalCases.some(name => name !== incremental && asked(name))) {
    works.push(['server', () => ofInstalled(told)])
  }
  if (asked(incremental)) works.push(['server of version 17', () => ofNewer(told)])
  return works
}

const incremental = 'incremental-pgbackrest'
const keepingLog = ['archive_mode = on', 'archive_command = true', 'wal_keep_size = 1GB']

async function ofLog(options: RecoveryOptions): Promise<Row[]> {
  // PostgreSQL's own user comes here.
  await chmod(options.directory, 0o755)
  return await wal(options)
}

async function ofInstalled(options: RecoveryOptions): Promise<Row[]> {
  const { bin } = await postgresBinaries()
  const postgres = await database(options.closers, { config: keepingLog })
  const server = await served(options, { postgres, bin, tool: 'pgbackrest', connection: 'installed' })
  return [...(await fullBackups(server.around, server)), ...(await restores(server.around, server))]
}

async function ofNewer(options: RecoveryOptions): Promise<Row[]> {
  const binaries = await postgresRelinked(17, ['pgbackrest'])
  options.closers.push(binaries.remove)
  const postgres = await database(options.closers, {
    config: [...keepingLog, 'summarize_wal = on'],
    binaries,
  })
  const tool = join(binaries.bin, 'pgbackrest')
  const server = await served(options, { postgres, bin: binaries.bin, tool, connection: 'newer' })
  return await incrementalBackups(server.around, server)
}

interface Programs {
  postgres: TestPostgres
  bin: string
  /** pgBackRest. */
  tool: string
  connection: string
}

async function served(options: RecoveryOptions, { postgres, bin, tool, connection }: Programs) {
  const { closers, say, runs, only } = options
  const directory = join(options.directory, connection)
  await mkdir(directory)
  // PostgreSQL's own user comes here.
  for (const path of [options.directory, directory]) await chmod(path, 0o755)
  const small = join(directory, 'small.sqlite')
  makeShop(small, { rows: 19_000 })
  const stack = await startStack({ worker: false, env: { PATH: `${bin}:${process.env.PATH}` } })
  closers.push(() => stack.stop())
  const product = await startProduct(stack, small)
  const { bytes } = await make(postgres, 'shop', options.sizeGb, say)
  await stack.expectOk('POST', '/v1/connections', {
    name: connection,
    url: postgres.url('shop'),
    method: 'physical',
  })
  const shell = startShell({
    ...libpq(postgres),
    BENCH_KEY: randomBytes(32).toString('hex'),
    BENCH_IV: randomBytes(16).toString('hex'),
  })
  closers.push(() => shell.stop())
  const repository = { directory, dataDir: postgres.dataDir, port: postgres.port, program: tool }
  const server: Server = { postgres, bin, connection, directory, pgBackRest: await pgBackRest(repository) }
  const around = {
    product,
    ours: product,
    shell,
    servers: [postgres.pid],
    databaseBytes: bytes,
    runs,
    only,
    say,
  }
  return { ...server, around }
}
