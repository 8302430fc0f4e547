/** The cases of a whole PostgreSQL server: backed up and restored as files. */
import { execFile } from 'node:child_process'
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { TestPostgres } from '../test/servers/postgres.ts'
import { type Around, contest, wanted } from './contest.ts'
import type { PgBackRest } from './pgbackrest.ts'
import { localDestination } from './product.ts'
import type { Row } from './rows.ts'
import { word } from './shell.ts'

export const physicalCases = [
  'full',
  'full-pgbackrest',
  'incremental-pgbackrest',
  'restore',
  'restore-pgbackrest',
] as const

export interface Server {
  postgres: TestPostgres
  /** Directory of its programs. */
  bin: string
  /** Name of the connection to it. */
  connection: string
  pgBackRest: PgBackRest
  /** Where baselines write, and where copies of the server come. */
  directory: string
}

/** One percent of the pages of the largest table, spread over all of it. */
const change = `UPDATE events SET kind = upper(kind) WHERE id % 1500 = 0; CHECKPOINT`

export async function fullBackups(around: Around, server: Server): Promise<Row[]> {
  const { sealed, byShell, full, clear } = waysOf(around, server)
  return await contest(around, {
    warmUp: true,
    before: () => around.product.clear(server.connection),
    ours: () => backedUp(around, full),
    baselines: [
      {
        case: 'full',
        what: 'encrypted full backup of a server / pg_basebackup -Ft -X fetch | zstd -3 -T2 | openssl > file; sync file',
        target: 1.05,
        script: byShell,
        before: () => rm(sealed, { force: true }),
        storedBytes: async () => (await stat(sealed)).size,
      },
      {
        case: 'full-pgbackrest',
        what: 'the same backup / pgbackrest --type=full, zst 3, cipher, 2 processes',
        target: 0.7,
        script: `${server.pgBackRest.command} --type=full backup`,
        before: clear,
        storedBytes: server.pgBackRest.storedBytes,
      },
    ],
  })
}

/** `server`: one that keeps what incremental backups ask for. */
export async function incrementalBackups(around: Around, server: Server): Promise<Row[]> {
  const { full, clear } = waysOf(around, server)
  await clear()
  await around.shell.run(`${server.pgBackRest.command} --type=full backup`)
  await around.product.backup(full)
  return await contest(around, {
    warmUp: true,
    before: async () => void (await server.postgres.sql(change, 'shop')),
    ours: () => backedUp(around, { ...full, type: 'incremental' }),
    baselines: [
      {
        case: 'incremental-pgbackrest',
        what: 'incremental backup after 1 % was changed / pgbackrest --type=incr',
        target: null,
        script: `${server.pgBackRest.command} --type=incr backup`,
      },
    ],
  })
}

export async function restores(around: Around, server: Server): Promise<Row[]> {
  if (!['restore', 'restore-pgbackrest'].some(name => wanted(around, name))) return []
  const { product, shell } = around
  const { connection, pgBackRest, directory } = server
  const { sealed, byShell, full, clear, key } = waysOf(around, server)
  await product.clear(connection)
  await clear()
  const { backup } = await product.backup(full)
  await shell.run(`${byShell}\n${pgBackRest.command} --type=full backup`)
  // Copies belong to PostgreSQL's own user, as does what they lie in.
  const copies = join(directory, 'copies')
  await mkdir(copies)
  await ownedByServer(copies)
  const [ours, theirs, unpacked] = [
    join(copies, 'ours'),
    join(directory, 'theirs'),
    join(directory, 'unpacked'),
  ]
  const emptied = (path: string) => async () => {
    await rm(path, { recursive: true, force: true })
    await mkdir(path, { mode: 0o700 })
  }
  return await contest(around, {
    warmUp: false,
    before: () => rm(ours, { recursive: true, force: true }),
    ours: async () => ({
      ...(await product.restore({ backup, connection, database: ours })),
      storedBytes: null,
    }),
    baselines: [
      {
        case: 'restore-pgbackrest',
        what: 'restore beside, every file verified and the server started once / pgbackrest restore, 2 processes',
        target: 1,
        script: `${pgBackRest.command} --pg1-path=${word(theirs)} --type=none restore`,
        before: emptied(theirs),
      },
      {
        case: 'restore',
        what: 'the same restore / openssl -d | zstd -d | tar x; sync',
        target: null,
        script: `openssl enc -d -aes-256-ctr ${key} <${word(sealed)} | zstd -q -d -c | tar x -C ${word(unpacked)}\nsync`,
        before: emptied(unpacked),
      },
    ],
  })
}

function waysOf({ shell }: Around, { bin, connection, pgBackRest, directory }: Server) {
  const sealed = join(directory, 'base.tar.zst.enc')
  const key = '-K "$BENCH_KEY" -iv "$BENCH_IV"'
  const base = `${word(join(bin, 'pg_basebackup'))} -D - -Ft -X fetch -c fast`
  return {
    sealed,
    key,
    byShell: `${base} | zstd -q -3 -T2 | openssl enc -aes-256-ctr ${key} >${word(sealed)}\nsync ${word(sealed)}`,
    full: { connection, destination: localDestination, type: 'full' } as const,
    clear: () => pgBackRest.clear(script => shell.run(script)),
  }
}

async function backedUp(
  { product }: Around,
  request: { connection: string; destination: string; type: 'full' | 'incremental' },
) {
  const { backup, seconds } = await product.backup(request)
  return { seconds, storedBytes: (await product.bytesOf(backup)).storedBytes }
}

async function ownedByServer(path: string): Promise<void> {
  if (process.getuid?.() === 0) await promisify(execFile)('chown', ['postgres:', path])
}
