/** What the worker's memory does when the database grows: nothing, if all is well. */
import type { Around } from './contest.ts'
import { measured } from './measure.ts'
import { forgetPeak, peakBytes } from './processes.ts'
import { localDestination } from './product.ts'
import type { Row } from './rows.ts'

const limitBytes = 350e6
const growthLimitBytes = 20e6

export interface Database {
  name: string
  bytes: number
  /** Drops what a restore made. */
  drop(restored: string): Promise<void>
}

interface Peaks {
  /** Since the worker began, its own start included. */
  wholeLifeBytes: number
  /** While it backed up and restored. */
  workBytes: number
  treeBytes: number
  cpuSeconds: number
}

/** A worker that has just begun backs up, and restores, each database in turn; another worker for each. */
export async function memory(around: Around, databases: readonly Database[]): Promise<Row[]> {
  const rows: Row[] = []
  let first: Peaks | undefined
  for (const database of databases) {
    const peaks = await peaksWith(around, database)
    const gigabytes = (database.bytes / 1e9).toFixed(1)
    around.say(
      `${gigabytes} GB: worker ${mega(peaks.wholeLifeBytes)}, of it at work ${mega(peaks.workBytes)}`,
    )
    rows.push(
      row(
        first ? 'memory-large' : 'memory',
        `highest resident memory of the worker, backing up and restoring ${gigabytes} GB / ${mega(limitBytes)}`,
        peaks.wholeLifeBytes,
        limitBytes,
        peaks,
        database,
      ),
    )
    if (first) {
      rows.push(
        row(
          'memory-growth',
          `growth of the worker's highest resident memory at work with ${(database.bytes / (databases[0]?.bytes ?? 1)).toFixed(1)} times the database / ${mega(growthLimitBytes)}`,
          Math.max(0, peaks.workBytes - first.workBytes),
          growthLimitBytes,
          peaks,
          database,
        ),
      )
    }
    first ??= peaks
  }
  return rows
}

async function peaksWith({ product, servers }: Around, database: Database): Promise<Peaks> {
  await product.freshWorker()
  const starting = peakBytes(product.worker())
  await forgetPeak(product.worker())
  const { cost } = await measured({ roots: product.roots(), servers }, async () => {
    const { backup } = await product.backup({ connection: database.name, destination: localDestination })
    await product.restore({ backup, connection: database.name, database: 'restored_by_us' })
  })
  const workBytes = peakBytes(product.worker())
  await database.drop('restored_by_us')
  return {
    wholeLifeBytes: Math.max(starting, workBytes),
    workBytes,
    treeBytes: cost.peakRssBytes,
    cpuSeconds: cost.cpuSeconds,
  }
}

const mega = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`

const row = (
  name: string,
  what: string,
  ours: number,
  baseline: number,
  peaks: Peaks,
  database: Database,
): Row => ({
  case: name,
  what,
  unit: 'bytes',
  ours,
  baseline,
  ratio: ours / baseline,
  target: 1,
  better: 'lower',
  rssBytes: peaks.treeBytes,
  workerRssBytes: peaks.workBytes,
  baselineRssBytes: null,
  cpuSeconds: peaks.cpuSeconds,
  baselineCpuSeconds: null,
  serverCpuSeconds: null,
  baselineServerCpuSeconds: null,
  storedBytes: null,
  baselineStoredBytes: null,
  databaseBytes: database.bytes,
  runs: [{ ours, baseline }],
})
