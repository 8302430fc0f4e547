/** What a client may ask for, and how it is answered: one line of JSON each way. */
import { access } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { errorTable, HoldfastError } from '../../model/errors.ts'
import { pushAhead } from './ahead.ts'
import { expectOurs, openArchive } from './archive.ts'
import { prefetching } from './prefetch.ts'
import { openShelf } from './shelf.ts'

const absolute = z.string().startsWith('/').max(4096)
const request = z.discriminatedUnion('act', [
  z.strictObject({ act: z.literal('push'), path: absolute }),
  z.strictObject({ act: z.literal('fetch'), name: z.string().max(64), path: absolute }),
])

export type Answer =
  | { state: 'done' }
  /** The file, whole and proven; the client is to give it its name. */
  | { state: 'fetched'; draft: string }
  /** Only of a fetch: the archive is there and does not have it. */
  | { state: 'absent' }
  | { state: 'failed'; code: string; detail: string; hint: string }

export interface Acts {
  socket: string
  /** Never throws. */
  answer(line: string): Promise<Answer>
  close(): Promise<void>
}

/** `resident`: it works ahead of what is asked for, as it will be asked for more. Throws as `openArchive`. */
export async function openActs(configPath: string, { resident }: { resident: boolean }): Promise<Acts> {
  const archive = await openArchive(configPath)
  const { stream, socket, lookAhead, prefetch } = archive.config
  // Where none can be had, clients ask the agent for each file.
  const shelved = resident ? await openShelf(configPath).catch(() => undefined) : undefined
  const push = pushAhead(archive, resident ? lookAhead : 0, shelved)
  const fetch = prefetching(archive, prefetch, shelved)

  const act = async (line: string): Promise<Answer> => {
    const parsed = request.safeParse(JSON.parse(line))
    if (!parsed.success) throw new HoldfastError('request.invalid', 'The agent does not know this request.')
    const wanted = parsed.data
    if (wanted.act === 'push') {
      await push(wanted.path)
      return { state: 'done' }
    }
    const folder = dirname(wanted.path)
    const dataDirectory = dirname(folder)
    await expectOurs(stream.systemIdentifier, dataDirectory)
    const draft = await fetch(wanted.name, folder, { mayCome: await isStandby(dataDirectory) })
    return draft === undefined ? { state: 'absent' } : { state: 'fetched', draft }
  }
  return {
    socket,
    answer: line => act(line).catch(failed),
    async close() {
      await shelved?.shelf.close()
      await archive.close()
    },
  }
}

/** It has its primary and its own pg_wal to ask as well, and asks again and again: an absent file ends nothing. */
const isStandby = (dataDirectory: string): Promise<boolean> =>
  access(join(dataDirectory, 'standby.signal')).then(
    () => true,
    () => false,
  )

export function failed(error: unknown): Extract<Answer, { state: 'failed' }> {
  if (error instanceof HoldfastError) {
    return { state: 'failed', code: error.code, detail: error.message, hint: error.hint }
  }
  const detail = error instanceof Error ? error.message : String(error)
  return { state: 'failed', code: 'internal', detail, hint: errorTable.internal.hint }
}
