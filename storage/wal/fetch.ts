/** Gets a log file out of the archive, proven; "not there" is an answer only where the archive itself is there. */
import { hasCode } from '../../model/errors.ts'
import type { Destination } from '../destination.ts'
import { borne } from '../retry.ts'
import { contentOf, type LogReader } from './envelope.ts'
import { type LogStream, logFileKey } from './layout.ts'
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
      return Buffer.concat(chunks)
    })
    return await contentOf(object, file, reader)
  } catch (error) {
    if (!hasCode(error, 'destination.object-missing')) throw error
    await expectStream(destination, file, options)
    return undefined
  }
}
