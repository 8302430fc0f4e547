/**
 * `npm run bench storage`: our byte path alone, by kind of destination: a file is sealed and sent, fetched and proven, one
 * part at a time and several. Against rclone with its own encryption, and against `cat` of the same bytes on the same disk.
 */
import { execFile, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { DestinationRecord } from '../model/records.ts'
import { localRecord } from '../test/destinations/subjects.ts'
import { startAzurite } from '../test/servers/azurite.ts'
import { startGcs } from '../test/servers/gcs.ts'
import { startVersitygw } from '../test/servers/versitygw.ts'
import { type Baseline, contest, type Field, wanted } from './contest.ts'
import type { Row } from './rows.ts'
import { startShell, word } from './shell.ts'
import type { Outcome, Transfer } from './storage-child.ts'

export const storageKinds = ['local', 's3', 'azure', 'gcs'] as const
export type StorageKind = (typeof storageKinds)[number]
const acts = ['put', 'put-single', 'get', 'get-single'] as const
export const storageCases = storageKinds.flatMap(kind => acts.map(act => `${kind}-${act}`))

/** As long as rclone: 0.95 of its throughput. */
const target = 1 / 0.95

interface Store {
  record: DestinationRecord
  secrets: Record<string, string>
  /** rclone's settings for the same store, and where in it. */
  rclone: Record<string, string>
  place: string
  pid: number | undefined
  /** rclone's flags for one part at a time. */
  single: string
  stop(): Promise<void>
}

export interface StorageOptions {
  directory: string
  sizeGb: number
  runs: number
  only: readonly string[]
  say(line: string): void
}

export async function storageKind(kind: StorageKind, options: StorageOptions): Promise<Row[]> {
  const { directory, only } = options
  if (!storageCases.some(name => name.startsWith(`${kind}-`) && wanted({ only }, name))) return []
  const file = join(directory, 'bytes')
  // The emulator keeps its objects in memory.
  const bytes = Math.round(options.sizeGb * 1e9 * (kind === 'gcs' ? 0.25 : 1))
  await fill(file, bytes)
  const store = await stores[kind](directory)
  const child = fork(new URL('storage-child.ts', import.meta.url), {
    // As bin/holdfast starts workers.
    execArgv: ['--max-semi-space-size=2'],
    env: { ...process.env, MALLOC_ARENA_MAX: '2' },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const shell = startShell({ ...store.rclone, ...(await crypt(store.place)) })
  const tell = async (asked: Pick<Transfer, 'act' | 'file' | 'single'>) => {
    const begun = process.hrtime.bigint()
    child.send({ record: store.record, secrets: store.secrets, ...asked } satisfies Transfer)
    const outcome = await new Promise<Outcome>((resolve, reject) => {
      child.once('message', resolve)
      child.once('exit', code => reject(new Error(`our side ended with ${code}`)))
    })
    child.removeAllListeners('exit')
    if ('failed' in outcome) throw new Error(outcome.failed)
    return { seconds: Number(process.hrtime.bigint() - begun) / 1e9, storedBytes: outcome.storedBytes }
  }
  const pid = child.pid ?? 0
  const field: Field = {
    ours: { roots: () => [pid], worker: () => pid },
    shell,
    servers: store.pid === undefined ? [] : [store.pid],
    databaseBytes: bytes,
    runs: options.runs,
    only,
    say: options.say,
  }
  const copy = join(directory, 'copy')
  const remote = 'crypt:bench'
  const against = (name: string, what: string, script: string): Baseline[] => [
    { case: `${kind}-${name}`, what: `${what} / rclone crypt`, target, script },
    { case: `${kind}-${name}-cat`, what: `${what} / cat to the same disk`, target: null, script: bare },
  ]
  const synced = kind === 'local' ? `\nsync ${word(join(directory, 'rclone'))}/*` : ''
  const bare = `cat ${word(file)} >${word(copy)}`
  const sent = `${(bytes / 1e9).toFixed(2)} GB sealed and sent to ${kind}`
  const fetched = `${(bytes / 1e9).toFixed(2)} GB fetched from ${kind} and proven`
  const putting = {
    warmUp: true,
    before: async () => void (await tell({ act: 'clear', file: null, single: false })),
  }
  const getting = { warmUp: true, before: () => rm(copy, { force: true }) }
  const flags = '--retries 1 --no-traverse --ignore-times'
  try {
    // What is fetched was put there by the cases before, if they were asked for.
    if (!['put', 'put-single'].some(act => wanted({ only }, `${kind}-${act}`))) {
      await tell({ act: 'put', file, single: false })
      await shell.run(`rclone copyto ${flags} ${word(file)} ${remote}`)
    }
    return [
      ...(await contest(field, {
        ...putting,
        ours: () => tell({ act: 'put', file, single: true }),
        baselines: against(
          'put-single',
          `${sent}, one part at a time`,
          `rclone copyto ${flags} ${store.single} ${word(file)} ${remote}${synced}`,
        ),
      })),
      ...(await contest(field, {
        ...putting,
        ours: () => tell({ act: 'put', file, single: false }),
        baselines: against('put', sent, `rclone copyto ${flags} ${word(file)} ${remote}${synced}`),
      })),
      ...(await contest(field, {
        ...getting,
        ours: () => tell({ act: 'get', file: null, single: true }),
        baselines: against(
          'get-single',
          `${fetched}, one piece at a time`,
          `rclone cat ${remote} >/dev/null`,
        ),
      })),
      ...(await contest(field, {
        ...getting,
        ours: () => tell({ act: 'get', file: copy, single: false }),
        baselines: against(
          'get',
          `${fetched}, into a file`,
          `rclone copyto ${flags} ${remote} ${word(copy)}`,
        ),
      })),
    ]
  } finally {
    child.kill()
    await shell.stop()
    await store.stop()
  }
}

/** Bytes that nobody makes smaller. */
export async function fill(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'w')
  try {
    for (let left = bytes; left > 0; left -= 1 << 24) await file.write(randomBytes(Math.min(left, 1 << 24)))
  } finally {
    await file.close()
  }
}

async function crypt(place: string): Promise<Record<string, string>> {
  const { stdout } = await promisify(execFile)('rclone', ['obscure', randomBytes(18).toString('hex')])
  return {
    // No configuration but this.
    RCLONE_CONFIG: '',
    RCLONE_CONFIG_CRYPT_TYPE: 'crypt',
    RCLONE_CONFIG_CRYPT_REMOTE: place,
    RCLONE_CONFIG_CRYPT_FILENAME_ENCRYPTION: 'off',
    RCLONE_CONFIG_CRYPT_PASSWORD: stdout.trim(),
    // The S3 server does not say 100-continue, for which rclone waits a second with each part.
    RCLONE_EXPECT_CONTINUE_TIMEOUT: '0s',
  }
}

const stores: Record<StorageKind, (directory: string) => Promise<Store>> = {
  async local(directory) {
    const ours = join(directory, 'ours')
    await mkdir(ours, { recursive: true })
    await mkdir(join(directory, 'rclone'), { recursive: true })
    return {
      record: localRecord(ours),
      secrets: {},
      rclone: {},
      place: join(directory, 'rclone'),
      pid: undefined,
      single: '',
      stop: async () => {},
    }
  },
  async s3() {
    const server = await startVersitygw()
    return {
      record: server.destinationRecord('ours'),
      secrets: server.secrets,
      rclone: {
        RCLONE_CONFIG_BENCH_TYPE: 's3',
        RCLONE_CONFIG_BENCH_PROVIDER: 'Other',
        RCLONE_CONFIG_BENCH_ENDPOINT: server.endpoint,
        RCLONE_CONFIG_BENCH_REGION: server.region,
        RCLONE_CONFIG_BENCH_ACCESS_KEY_ID: server.accessKeyId,
        RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY: server.secretAccessKey,
        RCLONE_CONFIG_BENCH_NO_CHECK_BUCKET: 'true',
        RCLONE_CONFIG_BENCH_CHUNK_SIZE: '8Mi',
        RCLONE_CONFIG_BENCH_UPLOAD_CONCURRENCY: '4',
      },
      place: `bench:${server.bucket}/rclone`,
      pid: server.pid,
      single: '--s3-upload-concurrency 1',
      stop: () => server.stop(),
    }
  },
  async azure() {
    const server = await startAzurite()
    return {
      record: server.destinationRecord('ours'),
      secrets: server.secrets,
      rclone: {
        RCLONE_CONFIG_BENCH_TYPE: 'azureblob',
        // Its other settings know no address but one of Microsoft's.
        RCLONE_CONFIG_BENCH_SAS_URL: await server.signedUrl(),
        RCLONE_CONFIG_BENCH_CHUNK_SIZE: '8Mi',
        RCLONE_CONFIG_BENCH_UPLOAD_CONCURRENCY: '4',
      },
      place: `bench:${server.container}/rclone`,
      pid: server.pid,
      single: '--azureblob-upload-concurrency 1',
      stop: () => server.stop(),
    }
  },
  async gcs() {
    const server = await startGcs()
    return {
      record: server.destinationRecord('ours'),
      secrets: server.secrets,
      rclone: {
        RCLONE_CONFIG_BENCH_TYPE: 'google cloud storage',
        RCLONE_CONFIG_BENCH_ANONYMOUS: 'true',
        RCLONE_CONFIG_BENCH_ENDPOINT: `${server.endpoint}/storage/v1/`,
        RCLONE_CONFIG_BENCH_NO_CHECK_BUCKET: 'true',
        RCLONE_CONFIG_BENCH_BUCKET_POLICY_ONLY: 'true',
      },
      place: `bench:${server.bucket}/rclone`,
      pid: undefined,
      single: '',
      stop: () => server.stop(),
    }
  },
}
