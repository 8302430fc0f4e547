/**
 * `npm run bench`: Holdfast against the same work by shell tools, side by side in one run. See docs/performance.md.
 * Exits 0 when everything was measured, whatever the figures; 1 when a case could not run; 2 for wrong arguments.
 */
import { randomBytes } from 'node:crypto'
import { accessSync, constants } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { parseArgs } from 'node:util'
import { startVersitygw } from '../test/servers/versitygw.ts'
import { makeShop } from '../test/support/shop.ts'
import { startStack } from '../test/system/stack.ts'
import { type Around, wanted } from './contest.ts'
import { memory } from './memory.ts'
import { database, libpq, make } from './postgresql.ts'
import { startProduct } from './product.ts'
import { recoveries, recoveryCases } from './recovery.ts'
import { type Row, table } from './rows.ts'
import { startShell } from './shell.ts'
import { smallBackup } from './small.ts'
import { sshCases, sshStreams } from './ssh.ts'
import { storageCases, storageKind, storageKinds } from './storage.ts'
import { backupLocal, backupS3, backupStaged, restoreLocal, type Source, transferCases } from './transfers.ts'

const productCases: readonly string[] = [...transferCases, 'sqlite-small', 'memory']
const casesOf: Record<string, readonly string[]> = {
  product: productCases,
  storage: storageCases,
  ssh: sshCases,
  recovery: recoveryCases,
}
const usage = `npm run bench -- [storage | ssh | recovery] [--size GB] [--runs N] [--only CASE …] [--memory] [--json] [--keep]
  storage      the way of the bytes alone, by kind of destination, instead of whole operations
  ssh          a stream over SSH alone, from a host and to it
  recovery     a whole PostgreSQL server and its log: backed up, restored, archived, replayed
  --size GB    of the PostgreSQL database that is made, or of the file that is sent; default 1
  --runs N     of each side; default 3
  --only CASE  this case; may be given more than once: ${productCases.join(', ')};
               with storage: ${storageCases.join(', ')};
               with ssh: ${sshCases.join(', ')};
               with recovery: ${recoveryCases.join(', ')}
  --memory     the worker's memory also with three times the size
  --json       one object a row
  --keep       leave the directory of the baselines behind`

const options = readArguments()
const say = (line: string) => void process.stderr.write(`${line}\n`)
const closers: (() => Promise<unknown>)[] = []
const close = async () => {
  for (const closer of closers.splice(0).reverse()) {
    await closer().catch(error => say(`cleaning up: ${String(error)}`))
  }
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void close().finally(() => process.exit(130)))
}

const rows: Row[] = []
let failed = 0
try {
  await bench()
} catch (error) {
  failed += 1
  say(`The bench cannot run: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
} finally {
  await close()
}
if (!options.json && rows.length > 0) console.log(table(rows))
process.exitCode = failed > 0 ? 1 : 0

async function bench(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-bench-'))
  if (options.keep) say(`baselines write into ${directory}`)
  else closers.push(() => rm(directory, { recursive: true, force: true }))
  if (options.bench === 'storage') await benchStorage(directory)
  else if (options.bench === 'ssh') await benchSsh()
  else if (options.bench === 'recovery') await benchRecovery(directory)
  else await benchProduct(directory)
}

async function benchStorage(directory: string): Promise<void> {
  needPrograms(['rclone'])
  say(machineWords())
  const { size: sizeGb, runs, only } = options
  for (const kind of storageKinds) {
    await attempt(kind, () =>
      storageKind(kind, { directory, sizeGb, runs, only, say: line => say(`  ${line}`) }),
    )
  }
}

async function benchSsh(): Promise<void> {
  needPrograms(['ssh'])
  say(machineWords())
  const { size: sizeGb, runs, only } = options
  await attempt('ssh', () => sshStreams({ sizeGb, runs, only, say: line => say(`  ${line}`) }))
}

async function benchRecovery(directory: string): Promise<void> {
  needPrograms(['zstd', 'openssl', 'pgbackrest'])
  say(machineWords())
  for (const [name, work] of recoveries({ ...options, sizeGb: options.size, directory, closers, say }))
    await attempt(name, work)
}

function machineWords(): string {
  return `${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown processor'}, Node ${process.version}`
}

function needPrograms(programs: readonly string[]): void {
  const missing = programs.filter(name => !onPath(name))
  if (missing.length === 0) return
  throw new Error(
    `not installed: ${missing.join(', ')} (Debian, Ubuntu: apt install postgresql-client sqlite3 zstd openssl rclone pgbackrest)`,
  )
}

async function benchProduct(directory: string): Promise<void> {
  const needsDatabase = [...transferCases, 'memory'].some(name => chosen(name))
  const programs = ['zstd', 'openssl', 'sha256sum', ...(needsDatabase ? ['pg_dump', 'pg_restore'] : [])]
  if (chosen('sqlite-small')) programs.push('sqlite3')
  if (chosen('backup-s3') || chosen('backup-s3-streamed')) programs.push('rclone')
  needPrograms(programs)

  const small = join(directory, 'small.sqlite')
  makeShop(small, { rows: 19_000 })
  say(`SQLite: ${((await stat(small)).size / 1e6).toFixed(2)} MB; starting Holdfast`)
  const stack = await startStack({ worker: false })
  closers.push(() => stack.stop())
  const product = await startProduct(stack, small)
  const postgres = needsDatabase ? await database(closers) : undefined
  const store = chosen('backup-s3') || chosen('backup-s3-streamed') ? await startVersitygw({}) : undefined
  if (store) closers.push(() => store.stop())
  const shell = startShell({
    ...(postgres ? libpq(postgres) : {}),
    BENCH_KEY: randomBytes(32).toString('hex'),
    BENCH_IV: randomBytes(16).toString('hex'),
    ...(store ? rclone(store) : {}),
  })
  closers.push(() => shell.stop())
  const around: Around = {
    product,
    ours: product,
    shell,
    servers: [...(postgres ? [postgres.pid] : []), ...(store ? [store.pid] : [])],
    databaseBytes: 0,
    runs: options.runs,
    only: options.only,
    say: line => say(`  ${line}`),
  }
  say(`${machineWords()}${postgres ? `, PostgreSQL ${postgres.version}` : ''}`)

  if (chosen('sqlite-small'))
    await attempt('sqlite-small', () => smallBackup(around, { file: small, directory }))
  if (!postgres) return
  const shop = await make(postgres, 'shop', options.size, say)
  around.databaseBytes = shop.bytes
  await product.stack.expectOk('POST', '/v1/connections', { name: shop.name, url: postgres.url(shop.name) })
  const source: Source = { postgres, database: shop.name, directory }
  if (chosen('backup-local') || chosen('backup-local-gzip')) {
    await attempt('backup-local', () => backupLocal(around, source))
  }
  if (store) await attempt('backup-s3', () => backupS3(around, source, store))
  if (chosen('backup-staged')) await attempt('backup-staged', () => backupStaged(around, source))
  if (chosen('restore') || chosen('restore-jobs')) {
    await attempt('restore', () => restoreLocal(around, source))
  }
  if (!chosen('memory')) return
  const databases = [shop]
  if (options.memory) {
    const large = await make(postgres, 'large', options.size * 3, say)
    await product.stack.expectOk('POST', '/v1/connections', {
      name: large.name,
      url: postgres.url(large.name),
    })
    databases.push(large)
  }
  await attempt('memory', () => memory(around, databases))
}

async function attempt(name: string, work: () => Promise<Row[]>): Promise<void> {
  say(name)
  try {
    const made = await work()
    rows.push(...made)
    if (options.json) for (const row of made) console.log(JSON.stringify(row))
  } catch (error) {
    failed += 1
    say(`  could not run: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function rclone(store: { endpoint: string; region: string; accessKeyId: string; secretAccessKey: string }) {
  return {
    // No configuration but this.
    RCLONE_CONFIG: '',
    RCLONE_CONFIG_BENCH_TYPE: 's3',
    RCLONE_CONFIG_BENCH_PROVIDER: 'Other',
    RCLONE_CONFIG_BENCH_ENDPOINT: store.endpoint,
    RCLONE_CONFIG_BENCH_REGION: store.region,
    RCLONE_CONFIG_BENCH_ACCESS_KEY_ID: store.accessKeyId,
    RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY: store.secretAccessKey,
    RCLONE_CONFIG_BENCH_NO_CHECK_BUCKET: 'true',
    RCLONE_CONFIG_BENCH_CHUNK_SIZE: '8Mi',
    RCLONE_CONFIG_BENCH_UPLOAD_CONCURRENCY: '4',
    // The store does not say 100-continue, for which rclone waits a second with each part.
    RCLONE_EXPECT_CONTINUE_TIMEOUT: '0s',
  }
}

function chosen(name: string): boolean {
  return wanted(options, name)
}

function onPath(name: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some(directory => {
    try {
      accessSync(join(directory, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

function readArguments() {
  const wrong = (problem: string): never => {
    console.error(`${problem}\n${usage}`)
    process.exit(2)
  }
  const read = () =>
    parseArgs({
      allowPositionals: true,
      options: {
        size: { type: 'string', default: '1' },
        runs: { type: 'string', default: '3' },
        only: { type: 'string', multiple: true, default: [] },
        memory: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
  let values: ReturnType<typeof read>['values']
  let positionals: string[]
  try {
    ;({ values, positionals } = read())
  } catch (error) {
    return wrong(error instanceof Error ? error.message : String(error))
  }
  if (values.help) {
    console.log(usage)
    process.exit(0)
  }
  const size = Number(values.size)
  const runs = Number(values.runs)
  const names = values.only.flatMap(names => names.split(','))
  const [bench = 'product', ...others] = positionals
  const cases = casesOf[bench]
  if (cases === undefined || others.length > 0) return wrong(`no such bench: ${positionals.join(' ')}`)
  const unknown = names.filter(name => !cases.includes(name))
  if (bench !== 'product' && values.memory) return wrong(`--memory is not for ${bench}`)
  if (!(size > 0 && size <= 1000)) return wrong('--size is in GB, above 0')
  if (!(Number.isInteger(runs) && runs > 0)) return wrong('--runs is a number above 0')
  if (unknown.length > 0) return wrong(`no such case: ${unknown.join(', ')}`)
  const only = values.memory && names.length > 0 && !names.includes('memory') ? [...names, 'memory'] : names
  return { ...values, bench, size, runs, only }
}
