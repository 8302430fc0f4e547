/** What a sweep tells of a place while it goes over it, kept by the catalog: before it is removed, so that no kill makes it forgotten. */
import { HoldfastError } from '../model/errors.ts'
import type { SweptItem } from '../model/records.ts'
import type { WorkerContext } from './context.ts'

/** How much was told of a place, whoever told it. */
export interface SweptCount {
  removed: number
  skipped: number
}

export interface Notes {
  /** To be removed (in a dry run: would be). `told` makes it lasting. */
  removed(what: readonly string[]): Promise<void>
  skipped(what: string, error: HoldfastError): Promise<void>
  /** Of what the catalog does not know. */
  unknown(what: string, detail: string): Promise<void>
  /** Settles when the catalog has everything so far. */
  told(): Promise<void>
  count(): Promise<SweptCount>
}

/** Of one entry of the operation's log, which is bounded. */
const atOnce = 50
const detailCharacters = 600

export function notesOf({ catalog }: WorkerContext, operationId: string, place: string): Notes {
  let items: SweptItem[] = []
  const tell = async (): Promise<SweptCount> => {
    const sent = items
    items = []
    return await catalog.noteSwept(operationId, place, sent)
  }
  const add = async (item: SweptItem) => {
    items.push(item)
    if (items.length >= atOnce) await tell()
  }
  const skipped = (what: string, error: HoldfastError) =>
    add({ became: 'skipped', what, code: error.code, detail: error.message.slice(0, detailCharacters) })
  return {
    async removed(what) {
      for (const one of what) await add({ became: 'removed', what: one })
    },
    skipped,
    unknown: (what, detail) =>
      skipped(what, new HoldfastError('request.not-found', `This catalog knows nothing of it. ${detail}`)),
    async told() {
      if (items.length > 0) await tell()
    },
    count: tell,
  }
}
