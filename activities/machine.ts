/** What a worker does as part of its machine, beside the steps of operations. */
import { randomBytes } from 'node:crypto'
import { link, rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { catalogClient } from '../catalog/client.ts'
import type { Host } from '../hosts/host.ts'
import { HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import { clearClosedOperations } from './cleanup.ts'

const idPattern = /^[1-9A-Za-z]{16}$/

/** Random, kept in the staging directory: workers that share it are one machine, whatever they and it are called. */
export async function machineIdOf({
  files,
  stagingRoot,
}: Pick<Host, 'files' | 'stagingRoot'>): Promise<string> {
  const path = `${stagingRoot}/machine.id`
  const read = async () => (await files.readSmall(path))?.trim()
  const known = await read()
  if (known === undefined) {
    const beside = `${path}.${readable(randomBytes(8))}`
    await files.write(beside, `${readable(randomBytes(16))}\n`)
    // Of two workers that start at once one wins: link() does not replace.
    await link(beside, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
    await rm(beside)
  }
  const id = known ?? (await read()) ?? ''
  if (idPattern.test(id)) return id
  throw new HoldfastError('settings.invalid', `${path} does not hold the id of a machine.`, {
    hint: 'Remove it; a new one is made.',
  })
}

const everySeconds = 60

/**
 * Until the signal: what operations left here that ended while nobody worked on this machine is ended and removed.
 */
export async function keepClear(
  host: Host,
  server: { url: string; workerToken: string },
  signal: AbortSignal,
): Promise<void> {
  const catalog = catalogClient({ url: server.url, token: server.workerToken, signal })
  while (!signal.aborted) {
    try {
      await clearClosedOperations({ host, catalog })
    } catch {
      // The API is away, or something of it cannot be removed: tried again the next time.
    }
    await sleep(everySeconds * 1000, undefined, { signal }).catch(() => undefined)
  }
}
