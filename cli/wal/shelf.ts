/**
 * What the agent has done ahead, laid out beside the log for the launcher (bin/holdfast), which takes it without starting Node:
 * segments that recovery will ask for, and notes about files that are archived. `wal.ahead` beside the configuration says which
 * agent it is: what one that is gone has left is not looked at, and removed by the next.
 */
import { randomBytes } from 'node:crypto'
import { type FSWatcher, watch } from 'node:fs'
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { errnoOf } from '../../model/errno.ts'
import { readable } from '../../model/ids.ts'
import { draftIn } from './place.ts'

export interface Shelf {
  /** Says that this segment or note is being made: who asks waits for it a while. Until it was laid, noted or removed. */
  expect(folder: string, name: string): Promise<void>
  lay(folder: string, segment: string, content: Uint8Array): Promise<void>
  /** Gives it the name of a draft. undefined: it is not there any more. */
  take(folder: string, segment: string): Promise<string | undefined>
  /** Notes that this file of the folder is archived, as long as it is this one. */
  note(folder: string, file: string, identity: string): Promise<void>
  /** The segment, the note, and what is expected of it. */
  remove(folder: string, name: string): Promise<void>
  close(): Promise<void>
}

export interface Shelved {
  shelf: Shelf
  /** Called with each segment or note that was taken or removed. */
  onTaken(told: (folder: string, name: string) => void): void
  /** Called when all of a folder was moved away or removed: nobody will ask for it. */
  onGone(told: (folder: string) => void): void
}

const prefix = '.holdfast-ahead-'
const isGone = (error: unknown): boolean => errnoOf(error) === 'ENOENT'
const noteSuffix = '.archived'
const comingSuffix = '.coming'

/** Throws where the place of the configuration cannot be written to. */
export async function openShelf(configPath: string): Promise<Shelved> {
  const own = prefix + readable(randomBytes(10))
  const sign = join(dirname(configPath), 'wal.ahead')
  await writeFile(`${sign}.new`, `${process.pid} ${own}\n`)
  await rename(`${sign}.new`, sign)
  const folders = new Map<string, Promise<FSWatcher>>()
  const listeners: ((folder: string, name: string) => void)[] = []
  const goneListeners: ((folder: string) => void)[] = []
  let closed = false

  const told = async (folder: string, file: string): Promise<void> => {
    if (file.startsWith('.') || file.endsWith(comingSuffix)) return
    if ((await readdir(join(folder, own))).includes(file)) return
    for (const listener of listeners) listener(folder, file.replace(noteSuffix, ''))
  }
  const begin = async (folder: string): Promise<FSWatcher> => {
    for (const name of await readdir(folder)) {
      if (name.startsWith(prefix)) await rm(join(folder, name), { recursive: true, force: true })
    }
    await mkdir(join(folder, own), { mode: 0o700 })
    const watcher = watch(join(folder, own), { persistent: false }, (event, file) => {
      // What is not seen here is found out when the next file is asked for.
      if (file === null) return
      if (file !== own) told(folder, file).catch(() => {})
      else if (event === 'rename') for (const listener of goneListeners) listener(folder)
    })
    watcher.on('error', () => {})
    return watcher
  }
  const forget = async (folder: string, opening: Promise<FSWatcher>): Promise<void> => {
    if (folders.get(folder) === opening) folders.delete(folder)
    await opening.then(watcher => watcher.close()).catch(() => {})
  }
  /** Throws where there is none. */
  const into = async (folder: string, write: (place: string) => Promise<void>): Promise<void> => {
    if (closed) throw new Error('The shelf is closed.')
    const opening = folders.get(folder) ?? begin(folder)
    folders.set(folder, opening)
    try {
      await opening
      await write(join(folder, own))
    } catch (error) {
      if (isGone(error)) await forget(folder, opening)
      throw error
    }
  }
  /** Whole or not at all. Not synced: PostgreSQL does that with what it keeps, and asks again for the rest. */
  const put = (folder: string, name: string, content: Uint8Array | string) =>
    into(folder, async place => {
      const draft = join(place, `.${name}`)
      try {
        await writeFile(draft, content, { mode: 0o600 })
        await rename(draft, join(place, name))
      } catch (error) {
        await rm(draft, { force: true })
        throw error
      }
      await rm(join(place, name.replace(noteSuffix, '') + comingSuffix), { force: true })
    })
  return {
    shelf: {
      async expect(folder, name) {
        const write = (place: string) => writeFile(join(place, name + comingSuffix), '', { mode: 0o600 })
        await into(folder, write).catch(async error => {
          // Another data directory has its name by now, or this one is used once more.
          if (!isGone(error)) throw error
          await into(folder, write)
        })
      },
      lay: put,
      async take(folder, segment) {
        const draft = draftIn(folder)
        return await rename(join(folder, own, segment), draft).then(
          () => draft,
          () => undefined,
        )
      },
      note: (folder, file, identity) => put(folder, file + noteSuffix, `${identity}\n`),
      async remove(folder, name) {
        for (const suffix of ['', noteSuffix, comingSuffix])
          await rm(join(folder, own, name + suffix), { force: true })
      },
      async close() {
        closed = true
        await rm(sign, { force: true })
        for (const [folder, opening] of folders) {
          await opening.then(watcher => watcher.close()).catch(() => {})
          // What is being written now is finished first.
          await rm(join(folder, own), { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
        }
      },
    },
    onTaken: listener => void listeners.push(listener),
    onGone: listener => void goneListeners.push(listener),
  }
}
