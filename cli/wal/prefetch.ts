/**
 * Fetches the segments that recovery will ask for next, before it does, and holds them in memory. That one is not there is never
 * answered from here: a server that follows may ask again when it has come.
 */
import { logFileOf, nextSegment } from '../../model/wal.ts'
import type { Archive } from './archive.ts'

const maxHeldBytes = 256 << 20

export function prefetching(archive: Pick<Archive, 'fetch'>, prefetch: number): Archive['fetch'] {
  const held = new Map<string, Promise<Buffer | undefined>>()

  const ahead = (name: string, segmentBytes: number): void => {
    const wanted: string[] = []
    const window = Math.min(prefetch, Math.floor(maxHeldBytes / segmentBytes))
    for (let next = nextSegment(name, segmentBytes); next && wanted.length < window; ) {
      wanted.push(next)
      next = nextSegment(next, segmentBytes)
    }
    for (const one of held.keys()) if (!wanted.includes(one)) held.delete(one)
    for (const one of wanted) {
      if (!held.has(one))
        held.set(
          one,
          archive.fetch(one, { mayCome: true }).catch(() => undefined),
        )
    }
  }

  return async (name, options) => {
    const before = await held.get(name)
    held.delete(name)
    const content = before ?? (await archive.fetch(name, options))
    if (content !== undefined && logFileOf(name)?.kind === 'segment') ahead(name, content.length)
    return content
  }
}
