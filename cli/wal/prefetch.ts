/**
 * Fetches the segments that recovery will ask for next, before it does, and lays them where the launcher takes them. That one is not
 * there is never answered from here: a server that follows may ask again when it has come.
 */
import { letGoWhole } from '../../model/let-go.ts'
import { logFileOf, nextSegment } from '../../model/wal.ts'
import type { Archive } from './archive.ts'
import { writeDraft } from './place.ts'
import type { Shelved } from './shelf.ts'

const maxAheadBytes = 256 << 20
/** So long a recovery asks for nothing before it is taken to be over. */
const idleMs = 600_000

/** Of one pg_wal. */
interface Following {
  segmentBytes: number
  /** Resolves when what there is of it was laid. */
  ahead: Map<string, Promise<void>>
  idle: NodeJS.Timeout
}

/** Fetches into a folder; the path of a draft, undefined as `Archive.fetch`. */
export type Fetch = (
  name: string,
  folder: string,
  options: { mayCome: boolean },
) => Promise<string | undefined>

export function prefetching(
  archive: Pick<Archive, 'fetch'>,
  prefetch: number,
  shelved: Shelved | undefined,
): Fetch {
  const followed = new Map<string, Following>()

  const forget = (folder: string, { ahead }: Following, segment: string) => {
    const laid = ahead.get(segment)
    ahead.delete(segment)
    void laid?.then(() => shelved?.shelf.remove(folder, segment)).catch(() => {})
  }
  const end = (folder: string) => {
    const following = followed.get(folder)
    followed.delete(folder)
    for (const segment of following?.ahead.keys() ?? []) forget(folder, following as Following, segment)
  }
  const goOn = (folder: string, name: string, segmentBytes: number): void => {
    if (shelved === undefined) return
    clearTimeout(followed.get(folder)?.idle)
    const idle = setTimeout(end, idleMs, folder).unref()
    const ahead = followed.get(folder)?.ahead ?? new Map<string, Promise<void>>()
    const following: Following = { segmentBytes, ahead, idle }
    followed.set(folder, following)
    const wanted: string[] = []
    const window = Math.min(prefetch, Math.floor(maxAheadBytes / segmentBytes))
    for (let next = nextSegment(name, segmentBytes); next && wanted.length < window; ) {
      wanted.push(next)
      next = nextSegment(next, segmentBytes)
    }
    for (const one of ahead.keys()) if (!wanted.includes(one)) forget(folder, following, one)
    for (const one of wanted) {
      if (!ahead.has(one))
        ahead.set(
          one,
          lay(folder, one, shelved).catch(() => {}),
        )
    }
  }
  const lay = async (folder: string, segment: string, { shelf }: Shelved) => {
    await shelf.expect(folder, segment)
    try {
      const content = await archive.fetch(segment, { mayCome: true })
      if (content === undefined) await shelf.remove(folder, segment)
      else {
        await shelf.lay(folder, segment, content)
        letGoWhole(content)
      }
    } catch (error) {
      await shelf.remove(folder, segment)
      throw error
    }
  }
  shelved?.onTaken((folder, name) => {
    const following = followed.get(folder)
    if (!following?.ahead.delete(name)) return
    goOn(folder, name, following.segmentBytes)
  })
  shelved?.onGone(end)

  return async (name, folder, options) => {
    const following = followed.get(folder)
    await following?.ahead.get(name)
    const laid = following && (await shelved?.shelf.take(folder, name))
    if (following && laid !== undefined) {
      following.ahead.delete(name)
      goOn(folder, name, following.segmentBytes)
      return laid
    }
    const content = await archive.fetch(name, options)
    if (content === undefined) return undefined
    if (logFileOf(name)?.kind === 'segment') goOn(folder, name, content.length)
    const draft = await writeDraft(folder, content)
    letGoWhole(content)
    return draft
  }
}
