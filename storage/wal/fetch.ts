/** Gets a log file out of the archive, proven; "not there" is an answer only where the archive itself is there. */
import { HoldfastError, hasCode } from '../../model/errors.ts'
import { letGo } from '../../model/let-go.ts'
import { missedBy } from '../../model/recovery-window.ts'
import { logFileOf, segmentNumber } from '../../model/wal.ts'
import type { Destination } from '../destination.ts'
import { borne } from '../retry.ts'
import { contentOf, type LogReader } from './envelope.ts'
import { type LogStream, logFileKey } from './layout.ts'
import { listLog } from './listing.ts'
import { expectStream } from './push.ts'

export interface FetchOptions {
  patienceSeconds: number
  signal?: AbortSignal
}

/**
 * undefined: this archive does not have it. Throws `wal.no-archive` when it cannot be said, `wal.damaged`, `wal.forged`, `key.*`,
 * `destination.*`.
 */
export async function fetchLogFile(
  destination: Destination,
  file: LogStream & { name: string },
  reader: LogReader,
  options: FetchOptions,
): Promise<Buffer | undefined> {
  const { patienceSeconds, signal } = options
  const key = logFileKey(file, file.name)
  try {
    const object = await borne(patienceSeconds, signal, async () => {
      const chunks: Buffer[] = []
      for await (const chunk of await destination.get(key, signal && { signal })) chunks.push(chunk as Buffer)
      const whole = Buffer.concat(chunks)
      chunks.forEach(letGo)
      return whole
    })
    const content = await contentOf(object, file, reader)
    letGo(object)
    return content
  } catch (error) {
    if (!hasCode(error, 'destination.object-missing')) throw error
    await expectStream(destination, file, options)
    return undefined
  }
}

/**
 * Of a file that was not found: the log ends here, as far as this archive knows. Throws `wal.gap` where it goes on behind it: a recovery
 * that was told "not there" would end early, and be taken for whole.
 */
export async function expectEnd(
  destination: Destination,
  file: LogStream & { name: string },
  { patienceSeconds, signal }: FetchOptions,
): Promise<void> {
  const wanted = logFileOf(file.name)
  if (wanted?.kind !== 'segment' && wanted?.kind !== 'history') return
  const log = await borne(patienceSeconds, signal, () => listLog(destination, file, signal && { signal }))
  const number = wanted.kind === 'segment' ? segmentNumber(wanted.segment, log.segmentBytes) : undefined
  const why = missedBy(log, { timeline: wanted.timeline, number })
  if (why === undefined) return
  throw new HoldfastError(
    'wal.gap',
    `Fetching ${file.name}: ${destination.uri} does not have it, but ${why}.`,
  )
}
