/** Puts into the archive what it should have and the server still has in pg_wal; says what is missing after that. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Gap, recoveryWindows } from '../../model/recovery-window.ts'
import {
  branchesIn,
  formatLsn,
  logFileOf,
  segmentName,
  segmentNumber,
  usualSegmentBytes,
} from '../../model/wal.ts'
import { type ListedLog, listLog } from '../../storage/wal/listing.ts'
import { openArchive } from './archive.ts'

export interface RepairAnswer {
  /** Files that are there now; those that were there before are counted. */
  pushed: string[]
  /** By destination: holes that are left. Each of these is lost unless another copy of the archive has it. */
  missing: { destination: string; first: string; last: string; from: string; to: string }[]
}

/** Throws as a push does, at the first file that is refused. */
export async function repairArchive(configPath: string, dataDirectory: string): Promise<RepairAnswer> {
  const archive = await openArchive(configPath)
  const { stream, destinations } = archive.config
  try {
    const folder = join(dataDirectory, 'pg_wal')
    const pushed: string[] = []
    const there = await Promise.all(destinations.map(one => listLog(one, stream)))
    for (const name of await finished(folder, there[0]?.segmentBytes ?? usualSegmentBytes)) {
      if (there.every(log => log.names.has(name))) continue
      await archive.push(join(folder, name))
      pushed.push(name)
    }
    const missing: RepairAnswer['missing'] = []
    for (const destination of destinations) {
      const log = await listLog(destination, stream)
      for (const gap of holesIn(log)) missing.push({ destination: destination.uri, ...named(gap, log) })
    }
    return { pushed, missing }
  } finally {
    await archive.close()
  }
}

/**
 * What PostgreSQL is done with writing: it says so beside, and only so can a segment be told from the one that it writes. A standby says
 * so also of the segment that a timeline was left in, which holds no more than was received; its whole is its primary's to archive.
 */
async function finished(folder: string, segmentBytes: number): Promise<string[]> {
  const marks = await readdir(join(folder, 'archive_status'))
  const names = marks.flatMap(mark => /^(.+)\.(?:done|ready)$/.exec(mark)?.[1] ?? [])
  const files = await readdir(folder)
  const left = new Map<number, bigint>()
  for (const name of files) {
    if (logFileOf(name)?.kind !== 'history') continue
    const branches = branchesIn(await readFile(join(folder, name), 'utf8')) ?? []
    for (const { parent, at } of branches) {
      const number = at / BigInt(segmentBytes)
      const known = left.get(parent)
      if (known === undefined || number < known) left.set(parent, number)
    }
  }
  const isWhole = (name: string): boolean => {
    const file = logFileOf(name)
    if (file?.kind !== 'segment') return file !== undefined
    const number = segmentNumber(file.segment, segmentBytes)
    const last = left.get(file.timeline)
    return number !== undefined && (last === undefined || number < last)
  }
  return names.filter(name => files.includes(name) && isWhole(name)).sort()
}

/** From the first segment of each timeline on, whether or not a base backup reaches it. */
function holesIn(log: ListedLog): Gap[] {
  const bytes = BigInt(log.segmentBytes)
  const firsts = new Map<number, bigint>()
  for (const { timeline, first } of log.runs) if (!firsts.has(timeline)) firsts.set(timeline, first * bytes)
  const begins = [...firsts].map(([timeline, at]) => ({ backupId: '', timeline, start: at, stop: at }))
  const seen = new Set<string>()
  return recoveryWindows(log, begins)
    .flatMap(({ gaps }) => gaps)
    .filter(({ timeline, first }) => !seen.has(`${timeline}/${first}`) && seen.add(`${timeline}/${first}`))
}

function named({ timeline, first, last }: Gap, { segmentBytes }: ListedLog) {
  const bytes = BigInt(segmentBytes)
  return {
    first: segmentName(timeline, first, segmentBytes),
    last: segmentName(timeline, last, segmentBytes),
    from: formatLsn(first * bytes),
    to: formatLsn((last + 1n) * bytes),
  }
}
