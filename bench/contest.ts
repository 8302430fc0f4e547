/** Runs several sides in turn, A B C A B C, and makes the rows. */
import { type Cost, measured, median } from './measure.ts'
import { forgetPeak, peakBytes } from './processes.ts'
import type { Product } from './product.ts'
import type { Row } from './rows.ts'
import type { Shell } from './shell.ts'

export interface Field {
  /** Our processes: all that do the work, and the one that carries the bytes. */
  ours: { roots(): number[]; worker(): number }
  shell: Shell
  /** Process ids of the servers that both sides use. */
  servers: number[]
  databaseBytes: number | null
  runs: number
  only: readonly string[]
  /** Said to the person who waits. */
  say(line: string): void
}

export interface Around extends Field {
  product: Product
  databaseBytes: number
}

/** One turn of ours. */
export interface Done {
  seconds: number
  /** null: that is not what it is about. */
  storedBytes: number | null
}

export interface Baseline {
  case: string
  what: string
  target: number | null
  script: string
  /** Not measured: makes place before a run. */
  before?(): Promise<void>
  /** Bytes of what it made. */
  storedBytes?(): Promise<number>
}

export interface Contest {
  ours(): Promise<Done>
  before?(): Promise<void>
  baselines: Baseline[]
  /** One turn of everybody that is not measured. */
  warmUp: boolean
}

interface Turn {
  cost: Cost
  storedBytes: number | null
  workerRssBytes: number
}

export const wanted = (around: Pick<Field, 'only'>, name: string): boolean =>
  around.only.length === 0 || around.only.includes(name)

export async function contest(around: Field, { ours, before, baselines, warmUp }: Contest): Promise<Row[]> {
  const { shell, servers, say } = around
  const chosen = baselines.filter(one => wanted(around, one.case))
  if (chosen.length === 0) return []
  const rounds: { ours: Turn; others: Turn[] }[] = []

  const turnOfOurs = async (): Promise<Turn> => {
    await before?.()
    await forgetPeak(around.ours.worker())
    const { result, cost } = await measured({ roots: around.ours.roots(), servers }, ours)
    return {
      cost: { ...cost, wallSeconds: result.seconds },
      storedBytes: result.storedBytes,
      workerRssBytes: peakBytes(around.ours.worker()),
    }
  }
  const turnOf = async (one: Baseline): Promise<Turn> => {
    await one.before?.()
    const { cost } = await measured({ roots: [shell.pid], servers }, () => shell.run(one.script))
    return { cost, storedBytes: (await one.storedBytes?.()) ?? null, workerRssBytes: 0 }
  }
  for (let round = warmUp ? 0 : 1; round <= around.runs; round++) {
    const turn = await turnOfOurs()
    const others: Turn[] = []
    for (const one of chosen) others.push(await turnOf(one))
    if (round > 0) rounds.push({ ours: turn, others })
    const times = [turn, ...others].map(({ cost }) => cost.wallSeconds.toFixed(2))
    say(`${round === 0 ? 'warm-up' : `run ${round}`}: ours ${times[0]} s, ${times.slice(1).join(' s, ')} s`)
  }

  const of = (turns: Turn[], read: (turn: Turn) => number) => median(turns.map(read))
  const highest = (turns: Turn[], read: (turn: Turn) => number) => Math.max(...turns.map(read))
  const wall = (turn: Turn) => turn.cost.wallSeconds
  const our = rounds.map(round => round.ours)
  return chosen.map((one, index) => {
    const theirs = rounds.map(round => round.others[index] as Turn)
    const runs = our.map((turn, at) => ({ ours: wall(turn), baseline: wall(theirs[at] as Turn) }))
    return {
      case: one.case,
      what: one.what,
      unit: 's',
      ours: of(our, wall),
      baseline: of(theirs, wall),
      ratio: median(runs.map(run => run.ours / run.baseline)),
      target: one.target,
      better: 'lower',
      rssBytes: highest(our, turn => turn.cost.peakRssBytes),
      workerRssBytes: highest(our, turn => turn.workerRssBytes),
      baselineRssBytes: highest(theirs, turn => turn.cost.peakRssBytes),
      cpuSeconds: of(our, turn => turn.cost.cpuSeconds),
      baselineCpuSeconds: of(theirs, turn => turn.cost.cpuSeconds),
      serverCpuSeconds: of(our, turn => turn.cost.serverCpuSeconds),
      baselineServerCpuSeconds: of(theirs, turn => turn.cost.serverCpuSeconds),
      storedBytes: our.at(-1)?.storedBytes ?? null,
      baselineStoredBytes: theirs.at(-1)?.storedBytes ?? null,
      databaseBytes: around.databaseBytes,
      runs,
    }
  })
}
