/** The case of a small database: what remains when there is almost nothing to move. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Around } from './contest.ts'
import { measured, median } from './measure.ts'
import { peakBytes } from './processes.ts'
import { smallConnection } from './product.ts'
import type { Row } from './rows.ts'
import { word } from './shell.ts'

const limitSeconds = 1
const fewestRuns = 5

/** From the API's call to the committed manifest; the limit is absolute. The same by programs is said beside it. */
export async function smallBackup(
  around: Around,
  source: { file: string; directory: string },
): Promise<Row[]> {
  const { product, shell, say } = around
  const runs: { ours: number; baseline: number }[] = []
  const cpu: number[] = []
  const baselineCpu: number[] = []
  let rssBytes = 0
  let baselineRssBytes = 0
  const copy = join(source.directory, 'small.copy')
  const sealed = join(source.directory, 'small.zst.enc')
  const script = `sqlite3 ${word(source.file)} ".backup ${copy}"
zstd -q -3 -c ${word(copy)} | openssl enc -aes-256-ctr -K "$BENCH_KEY" -iv "$BENCH_IV" >${word(sealed)}
sync ${word(sealed)}`
  for (let run = 0; run <= Math.max(fewestRuns, around.runs); run++) {
    const ours = await measured({ roots: product.roots(), servers: [] }, () =>
      product.secondsToCommit(smallConnection),
    )
    await rm(copy, { force: true })
    const theirs = await measured({ roots: [shell.pid], servers: [] }, () => shell.run(script))
    if (run === 0) continue
    runs.push({ ours: ours.result, baseline: theirs.cost.wallSeconds })
    cpu.push(ours.cost.cpuSeconds)
    baselineCpu.push(theirs.cost.cpuSeconds)
    rssBytes = Math.max(rssBytes, ours.cost.peakRssBytes)
    baselineRssBytes = Math.max(baselineRssBytes, theirs.cost.peakRssBytes)
    say(`run ${run}: ours ${ours.result.toFixed(3)} s, ${theirs.cost.wallSeconds.toFixed(3)} s`)
  }
  const ours = median(runs.map(run => run.ours))
  const programs = median(runs.map(run => run.baseline)).toFixed(3)
  return [
    {
      case: 'sqlite-small',
      what: `encrypted backup of a 1-MB SQLite file, API call to commit / ${limitSeconds} s (sqlite3 .backup, zstd, openssl: ${programs} s)`,
      unit: 's',
      ours,
      baseline: limitSeconds,
      ratio: ours / limitSeconds,
      target: 1,
      better: 'lower',
      rssBytes,
      workerRssBytes: peakBytes(product.worker()),
      baselineRssBytes,
      cpuSeconds: median(cpu),
      baselineCpuSeconds: median(baselineCpu),
      serverCpuSeconds: null,
      baselineServerCpuSeconds: null,
      storedBytes: null,
      baselineStoredBytes: null,
      databaseBytes: null,
      runs,
    },
  ]
}
