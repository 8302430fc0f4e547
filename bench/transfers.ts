/** The cases that move a whole PostgreSQL database. */
import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestPostgres } from '../test/servers/postgres.ts'
import type { Versitygw } from '../test/servers/versitygw.ts'
import { type Around, type Contest, contest, type Done } from './contest.ts'
import { localDestination, type Product } from './product.ts'
import type { Row } from './rows.ts'
import { word } from './shell.ts'

export interface Source {
  postgres: TestPostgres
  /** Name of the database, and of the connection to it. */
  database: string
  /** Where baselines write. */
  directory: string
}

export const transferCases = [
  'backup-local',
  'backup-local-gzip',
  'backup-s3',
  'backup-s3-streamed',
  'backup-staged',
  'restore',
  'restore-jobs',
] as const

const s3Destination = 's3'

/**
 * What ours does, by programs: compressed with two threads, encrypted, hashed. A named pipe stands for `>(sha256sum)`: the
 * shell waits for the sum, and its processor time is counted.
 */
const equalWork = (database: string, directory: string, last: string) => {
  const sums = word(join(directory, 'sums'))
  return `rm -f ${sums}; mkfifo ${sums}
sha256sum <${sums} >${word(join(directory, 'sha256'))} &
pg_dump -Fc -Z0 ${database} | zstd -q -3 -T2 | openssl enc -aes-256-ctr -K "$BENCH_KEY" -iv "$BENCH_IV" | tee ${sums} ${last}
wait $!`
}

async function backedUp({ product }: Around, request: Parameters<Product['backup']>[0]): Promise<Done> {
  const { backup, seconds } = await product.backup(request)
  return { seconds, storedBytes: (await product.bytesOf(backup)).storedBytes }
}

export async function backupLocal(around: Around, source: Source): Promise<Row[]> {
  const { database, directory } = source
  const sealed = join(directory, 'equal.zst.enc')
  const gzipped = join(directory, 'gzip.dump')
  return await contest(around, {
    warmUp: true,
    // The baseline writes over its file of the turn before; new place on a disk costs memory that nobody has used yet.
    before: () => around.product.clear(database),
    ours: () => backedUp(around, { connection: database, destination: localDestination }),
    baselines: [
      {
        case: 'backup-local',
        what: 'encrypted backup to a directory / pg_dump -Z0 | zstd -3 -T2 | openssl | tee >(sha256sum) > file; sync file',
        target: 1,
        script: `${equalWork(database, directory, `>${word(sealed)}`)}\nsync ${word(sealed)}`,
        ...output(sealed),
      },
      {
        case: 'backup-local-gzip',
        what: 'encrypted backup to a directory / pg_dump -Fc > file',
        target: 0.3,
        script: `pg_dump -Fc -f ${word(gzipped)} ${database}`,
        ...output(gzipped),
      },
    ],
  })
}

export async function backupS3(around: Around, source: Source, store: Versitygw): Promise<Row[]> {
  const { database, directory } = source
  const sealed = join(directory, 'upload.zst.enc')
  await around.product.stack.expectOk('POST', '/v1/destinations', {
    name: s3Destination,
    uri: `s3://${store.bucket}/holdfast`,
    endpoint: store.endpoint,
    region: store.region,
    pathStyle: true,
    ...store.secrets,
  })
  const object = (name: string) => `bench:${store.bucket}/shell/${name}`
  const inStore = (name: string) => ({
    before: () => rm(sealed, { force: true }),
    storedBytes: async () => (await stat(join(store.root, 'buckets', store.bucket, 'shell', name))).size,
  })
  return await contest(around, {
    warmUp: true,
    ours: () => backedUp(around, { connection: database, destination: s3Destination }),
    baselines: [
      {
        case: 'backup-s3',
        what: 'encrypted backup to S3 / the same pipe to a file, then rclone copyto (4 parts of 8 MiB at a time)',
        target: 1.05,
        script: `${equalWork(database, directory, `>${word(sealed)}`)}\nrclone copyto ${word(sealed)} ${object('copied')}`,
        ...inStore('copied'),
      },
      {
        case: 'backup-s3-streamed',
        what: 'encrypted backup to S3 / the same pipe into rclone rcat, without a file between',
        target: null,
        script: equalWork(database, directory, `| rclone rcat ${object('streamed')}`),
        ...inStore('streamed'),
      },
    ],
  })
}

export async function backupStaged(around: Around, source: Source): Promise<Row[]> {
  const { database, directory } = source
  const staged = join(directory, 'staged')
  const sealed = join(directory, 'staged.tar.zst.enc')
  return await contest(around, {
    warmUp: true,
    ours: () =>
      backedUp(around, {
        connection: database,
        destination: localDestination,
        format: 'directory',
        jobs: 2,
      }),
    baselines: [
      {
        case: 'backup-staged',
        what: 'encrypted backup by way of staging, 2 jobs / pg_dump -Fd -Z0 -j2, then tar | zstd -3 -T2 | openssl; sync file',
        target: null,
        script: `pg_dump -Fd -Z0 -j2 -f ${word(staged)} ${database}
tar -cf - -C ${word(staged)} . | zstd -q -3 -T2 | openssl enc -aes-256-ctr -K "$BENCH_KEY" -iv "$BENCH_IV" >${word(sealed)}
sync ${word(sealed)}
rm -r ${word(staged)}`,
        ...output(sealed),
      },
    ],
  })
}

export async function restoreLocal(around: Around, source: Source): Promise<Row[]> {
  const { product, shell, say } = around
  const { postgres, database, directory } = source
  say('what is restored: one backup, and the same data as zstd and as plain custom format')
  const { backup } = await product.backup({ connection: database, destination: localDestination })
  const compressed = join(directory, 'restore.dump.zst')
  const seekable = join(directory, 'restore.dump')
  await shell.run(`pg_dump -Fc -Z0 -f ${word(seekable)} ${database}
zstd -q -3 -T2 -f ${word(seekable)} -o ${word(compressed)}`)
  const drop = async (name: string) => {
    await postgres.sql(`DROP DATABASE IF EXISTS ${name}`)
    await postgres.sql('CHECKPOINT')
  }
  const create = 'createdb restored_by_shell'
  const contestants: Contest = {
    warmUp: false,
    before: () => drop('restored_by_us'),
    ours: async () => ({
      ...(await product.restore({ backup, connection: database, database: 'restored_by_us' })),
      storedBytes: null,
    }),
    baselines: [
      {
        case: 'restore',
        what: 'restore, plan to proofs and rename / createdb; zstd -d < file | pg_restore',
        target: 1.05,
        script: `${create}\nzstd -q -d -c <${word(compressed)} | pg_restore -d restored_by_shell`,
        before: () => drop('restored_by_shell'),
      },
      {
        case: 'restore-jobs',
        what: 'the same restore / createdb; pg_restore -j2 from an uncompressed file',
        target: null,
        script: `${create}\npg_restore -j2 -d restored_by_shell ${word(seekable)}`,
        before: () => drop('restored_by_shell'),
      },
    ],
  }
  try {
    return await contest(around, contestants)
  } finally {
    await drop('restored_by_us')
    await drop('restored_by_shell')
    await rm(seekable, { force: true })
  }
}

const output = (file: string) => ({
  before: () => rm(file, { force: true }),
  storedBytes: async () => (await stat(file)).size,
})
