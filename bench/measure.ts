/** Runs one side of a comparison and says what it cost. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { watchTree } from './processes.ts'

export interface Cost {
  wallSeconds: number
  /** Processor time of the measured process tree. */
  cpuSeconds: number
  /** Processor time of the servers that both sides use: PostgreSQL, the object store. */
  serverCpuSeconds: number
  /** Highest sum over the measured process tree, looked at twenty times a second. */
  peakRssBytes: number
}

const samplesPerSecond = 20

/**
 * `roots` are the processes, already running, that do the work together with everything they start. What waits to be
 * written goes to disk first, so that neither side pays for the other's pages.
 */
export async function measured<T>(
  trees: { roots: readonly number[]; servers: readonly number[] },
  work: () => Promise<T>,
): Promise<{ result: T; cost: Cost }> {
  await promisify(execFile)('sync')
  const servers = watchTree(trees.servers)
  const ours = watchTree(trees.roots)
  let peakRssBytes = 0
  const sample = () => {
    peakRssBytes = Math.max(peakRssBytes, ours.sample())
  }
  sample()
  const timer = setInterval(sample, 1000 / samplesPerSecond)
  try {
    const begun = process.hrtime.bigint()
    const result = await work()
    const wallSeconds = Number(process.hrtime.bigint() - begun) / 1e9
    sample()
    const cpuSeconds = ours.cpuSeconds()
    return { result, cost: { wallSeconds, cpuSeconds, serverCpuSeconds: servers.cpuSeconds(), peakRssBytes } }
  } finally {
    clearInterval(timer)
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}
