/** A throw-away PostgreSQL server with the sample shop, and a digest of any PostgreSQL database. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { freePort } from '../cli/free-port.ts'
import { endChild, spawnLeashed } from '../cli/leash.ts'
import { names, orderStates, words } from './sample.ts'

const run = promisify(execFile)

export interface Address {
  host: string
  port: number
  user: string
  password: string | undefined
}

export interface ThrowAwayServer extends Address {
  password: string
  version: string
  stop(): Promise<void>
}

/** The folder with the newest server programs of this machine. */
export function serverPrograms(): string | undefined {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  const folders = [...versions.map(v => join(debian, v, 'bin')), ...(process.env.PATH ?? '').split(delimiter)]
  return folders.find(
    folder => folder !== '' && existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')),
  )
}

/** PostgreSQL refuses to run as root: there it runs as the user its package made, or as nobody. */
function serverUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  for (const name of ['postgres', 'nobody']) {
    try {
      const id = (flag: string) =>
        Number(execFileSync('id', [flag, name], { stdio: ['ignore', 'pipe', 'ignore'] }))
      return { uid: id('-u'), gid: id('-g') }
    } catch {
      // No such user.
    }
  }
  return undefined
}

/** On 127.0.0.1 and a free port, with a random password; its data lies in a temporary directory. */
export async function startThrowAwayServer(programs: string): Promise<ThrowAwayServer> {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-demo-postgres-'))
  const password = randomBytes(15).toString('base64url')
  const owner = serverUser()
  const as = owner ?? {}
  const user = 'shopkeeper'
  let child: ChildProcess | undefined
  const stop = async () => {
    if (child !== undefined) await endChild(child, 10)
    await rm(directory, { recursive: true, force: true })
  }
  try {
    const passwordFile = join(directory, 'password')
    await writeFile(passwordFile, password, { mode: 0o600 })
    await chmod(directory, 0o700)
    if (owner !== undefined) {
      await chown(directory, owner.uid, owner.gid)
      await chown(passwordFile, owner.uid, owner.gid)
    }
    const data = join(directory, 'data')
    await run(
      join(programs, 'initdb'),
      [
        '-D',
        data,
        '-U',
        user,
        '-A',
        'scram-sha-256',
        '--pwfile',
        passwordFile,
        '-E',
        'UTF8',
        '--locale=C',
        '-N',
      ],
      { ...as, cwd: directory },
    )
    await rm(passwordFile)
    const port = await freePort()
    const options = { listen_addresses: '127.0.0.1', port, unix_socket_directories: '', fsync: 'off' }
    child = spawnLeashed(
      join(programs, 'postgres'),
      ['-D', data, ...Object.entries(options).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      { output: 'ignore', cwd: directory, ...as },
    )
    const address = { host: '127.0.0.1', port, user, password }
    const version = await whenReady(child, address)
    return { ...address, version, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function whenReady(child: ChildProcess, address: Address): Promise<string> {
  for (const deadline = Date.now() + 30_000; ; ) {
    try {
      return (await sql(address, 'postgres', 'SHOW server_version')).trim().split(' ')[0] ?? ''
    } catch (error) {
      if (child.exitCode !== null || Date.now() > deadline) throw error
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}

const environment = (address: Address) => ({
  ...process.env,
  PGHOST: address.host,
  PGPORT: String(address.port),
  PGUSER: address.user,
  ...(address.password === undefined ? {} : { PGPASSWORD: address.password }),
  PGCONNECT_TIMEOUT: '5',
})

/** Runs statements from standard input and returns what they print, unaligned. */
export async function sql(address: Address, database: string, text: string): Promise<string> {
  const chunks: Buffer[] = []
  await psql(address, database, text, chunk => chunks.push(chunk))
  return Buffer.concat(chunks).toString('utf8')
}

function psql(
  address: Address,
  database: string,
  text: string,
  read: (chunk: Buffer) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const args = ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', database]
    const child = spawn('psql', args, { env: environment(address), stdio: ['pipe', 'pipe', 'pipe'] })
    let error = ''
    child.stdout.on('data', read)
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      error += chunk
    })
    child.once('error', reject)
    child.once('close', code => (code === 0 ? resolve() : reject(new Error(`psql: ${error.trim()}`))))
    child.stdin.on('error', () => {})
    child.stdin.end(text)
  })
}

const list = (values: readonly (string | null)[]) =>
  `(ARRAY[${values.map(v => (v === null ? 'NULL' : `'${v.replaceAll("'", "''")}'`)).join(', ')}]::text[])`
const pick = (values: readonly (string | null)[], index: string) =>
  `${list(values)}[1 + (${index}) % ${values.length}]`

/** The shop of the SQLite sample in PostgreSQL's own types. Returns the row count. */
export async function makePostgresShop(address: Address, database: string): Promise<number> {
  await sql(address, 'postgres', `CREATE DATABASE ${identifier(database)};`)
  await sql(
    address,
    database,
    `BEGIN;
     CREATE TYPE state AS ENUM ('open', 'paid', 'sent', 'returned');
     CREATE TABLE customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, city text, born date);
     CREATE TABLE product (sku text PRIMARY KEY, title text NOT NULL, price numeric(12, 4), picture bytea, tags jsonb);
     CREATE TABLE "order" (id bigserial PRIMARY KEY, customer bigint NOT NULL REFERENCES customer, state state, placed timestamptz);
     CREATE TABLE "order line" ("order" bigint NOT NULL REFERENCES "order", sku text NOT NULL REFERENCES product,
       pieces int NOT NULL CHECK (pieces > 0), note text, total numeric GENERATED ALWAYS AS (pieces * 9.99) STORED);
     CREATE TABLE "größe, leer" (id int, value text[]);
     INSERT INTO customer (name, city, born) SELECT ${pick(names, 'i')} || ' ' || i,
       CASE WHEN i % 7 > 0 THEN ${pick(words, 'i')} END, CASE WHEN i % 11 > 0 THEN date '1910-01-01' + i END FROM generate_series(1, 10000) i;
     INSERT INTO product SELECT 'SKU-' || i, ${pick(words, 'i')} || ' ' || ${pick(words, 'i * 7')}, i / 7.0,
       CASE WHEN i % 3 > 0 THEN (SELECT string_agg(sha256((i || '/' || n)::bytea), ''::bytea) FROM generate_series(1, 64) n) END,
       jsonb_build_object('size', i % 5) FROM generate_series(1, 1000) i;
     INSERT INTO "order" (customer, state, placed) SELECT 1 + (i * 31) % 10000, ${pick(orderStates, 'i')}::state,
       timestamptz '2026-01-01 00:00+00' + i * interval '7 minutes' FROM generate_series(1, 40000) i;
     INSERT INTO "order line" ("order", sku, pieces, note) SELECT i, 'SKU-' || 1 + (i * 13 + n) % 1000, 1 + i % 4,
       CASE WHEN (i + n) % 5 = 0 THEN ${pick(words, 'i')} || ' ☕' END FROM generate_series(1, 40000) i, generate_series(0, 1) n;
     CREATE INDEX ON "order" (customer, placed);
     CREATE VIEW busy AS SELECT customer, count(*) AS orders FROM "order" GROUP BY customer HAVING count(*) > 6;
     COMMIT; ANALYZE;`,
  )
  return 10_000 + 1_000 + 40_000 + 80_000
}

export const identifier = (name: string) => `"${name.replaceAll('"', '""')}"`

/** Schema as pg_dump tells it, every row of every table, every sequence. Read without Holdfast. */
export async function postgresDigest(address: Address, database: string): Promise<string> {
  const hash = createHash('sha256')
  const { stdout } = await run('pg_dump', ['--schema-only', '-d', database], {
    env: environment(address),
    maxBuffer: 256 * 1024 * 1024,
  })
  // Comments and the random key of \\restrict differ from run to run.
  hash.update(stdout.replace(/^(--|\\restrict|\\unrestrict).*\n/gm, ''))
  const relations = await sql(
    address,
    database,
    `SELECT (c.relkind::text || format('%I.%I', n.nspname, c.relname)) COLLATE "C" FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
     ORDER BY 1;`,
  )
  const asks = relations
    .split('\n')
    .filter(line => line !== '')
    .map(line => {
      const name = line.slice(1)
      const rows =
        line[0] === 'S'
          ? `SELECT last_value, is_called FROM ${name}`
          : `SELECT md5(t::text) COLLATE "C" FROM ${name} t ORDER BY 1`
      return `\\echo ${"'"}${name.replaceAll("'", "''")}${"'"}\nCOPY (${rows}) TO STDOUT;`
    })
  await psql(address, database, asks.join('\n'), chunk => hash.update(chunk))
  return hash.digest('hex')
}
