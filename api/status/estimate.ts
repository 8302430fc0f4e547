/** How long a restore will take, from what past ones took. Says what it is based on; nothing is made up. */

import type { Phase, PhaseRecord } from '../../model/types.ts'
import type { DatabaseStatus } from '../../model/views.ts'

/** A restore that succeeded. */
export interface Measured {
  /** The connection whose backup it was. */
  connection: string
  engine: string
  method: string
  /** The tool's bytes that were loaded. */
  bytes: number
  /** Loading the data. */
  loadSeconds: number
  /** Everything else until the database has its name. */
  otherSeconds: number
}

export interface Wanted {
  connection: string
  engine: string
  engineTitle: string
  method: string
  bytes: number
  /** What making the backup took; undefined when its clock tells nothing. */
  backupSeconds: number | undefined
}

type Estimate = Pick<NonNullable<DatabaseStatus['restore']>, 'seconds' | 'basis' | 'detail'>

/** Of the restore itself: waiting for approval or for an operator is not part of it. */
const work: readonly Phase[] = ['plan', 'precheck', 'fetch', 'restore', 'prove', 'finish']

/** Seconds of a restore's phases; undefined when one of them did not end. */
export function secondsOf(
  phases: readonly PhaseRecord[],
): Pick<Measured, 'loadSeconds' | 'otherSeconds'> | undefined {
  let loadSeconds = 0
  let otherSeconds = 0
  for (const { phase, startedAt, endedAt, state, heldMs = 0 } of phases) {
    if (!work.includes(phase) || state === 'skipped') continue
    if (endedAt === undefined) return undefined
    const seconds = Math.max(0, Date.parse(endedAt) - Date.parse(startedAt) - heldMs) / 1000
    if (phase === 'restore' || phase === 'fetch') loadSeconds += seconds
    else otherSeconds += seconds
  }
  return loadSeconds === 0 ? undefined : { loadSeconds, otherSeconds }
}

/** Restores of other sizes say less: the nearest few count. */
const nearestCount = 5

export function estimate(wanted: Wanted, measured: readonly Measured[]): Estimate {
  const alike = measured.filter(
    one => one.engine === wanted.engine && one.method === wanted.method && one.bytes > 0,
  )
  const own = alike.filter(one => one.connection === wanted.connection)
  const basis = own.length > 0 ? 'restores-of-this' : 'restores-of-engine'
  const away = (one: Measured) => Math.abs(Math.log(one.bytes / Math.max(1, wanted.bytes)))
  const nearest = (own.length > 0 ? own : alike).toSorted((a, b) => away(a) - away(b)).slice(0, nearestCount)
  if (nearest.length > 0) {
    const seconds =
      median(nearest.map(one => one.otherSeconds)) +
      wanted.bytes * median(nearest.map(one => one.loadSeconds / one.bytes))
    const whose =
      basis === 'restores-of-this' ? 'of this database' : `of other ${wanted.engineTitle} databases`
    const largest = Math.max(...nearest.map(one => one.bytes))
    const far =
      wanted.bytes > 10 * largest ? `, the largest ${Math.round(wanted.bytes / largest)} times smaller` : ''
    const count = nearest.length === 1 ? 'one restore' : `${nearest.length} restores`
    return { seconds, basis, detail: `measured: ${count} ${whose}${far}` }
  }
  if (wanted.backupSeconds !== undefined) {
    return {
      seconds: wanted.backupSeconds,
      basis: 'backup',
      detail: 'no restore was measured yet: as long as the backup took, or longer (indexes are built anew)',
    }
  }
  return {
    seconds: null,
    basis: 'unknown',
    detail: 'not known yet: restore it once beside, and it is measured',
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const [low = 0, high = 0] = [sorted[middle - (sorted.length % 2 === 0 ? 1 : 0)], sorted[middle]]
  return (low + high) / 2
}
