/** The log archive of one server, at all its destinations: what the agent does, and a client where no agent runs. */
import { readFile, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import type { Json } from '../../model/types.ts'
import { historyName, logFileOf, logFileTrouble, systemIdentifierIn } from '../../model/wal.ts'
import type { Destination } from '../../storage/destination.ts'
import { enveloped, type LogReader, newSealingKey, type SealingKey } from '../../storage/wal/envelope.ts'
import { expectEnd, fetchLogFile } from '../../storage/wal/fetch.ts'
import { beginStream, expectStream, pushLogFile } from '../../storage/wal/push.ts'
import { unwrapDataKey } from '../../storage/wrap.ts'
import { type OpenedConfig, openConfig } from './config.ts'

export interface Archive {
  readonly config: OpenedConfig
  /** Once, before the first file: looks whether each destination takes objects, and says there whose archive it is. */
  begin(): Promise<void>
  /** On return the file is durable at every destination. Throws what the first that refused says. */
  push(path: string): Promise<void>
  /**
   * undefined: every destination says that it does not have it. Throws `wal.gap` where the log goes on behind it, unless it `mayCome` yet.
   */
  fetch(name: string, options?: { mayCome: boolean }): Promise<Buffer | undefined>
  close(): Promise<void>
}

const keyLifeMs = 24 * 3600 * 1000

export async function openArchive(configPath: string): Promise<Archive> {
  const config = await openConfig(configPath)
  const { stream, archiver, trusted, patienceSeconds } = config
  const sealing = sealingKeys(config)
  const seen = new Set<Destination>()
  const reader: LogReader = { trusted, dataKey: openedOnce(config) }

  // A push begins no archive: a place where there is none is not mounted, or not the right one. A disk may go at any time.
  const expectHere = async (destination: Destination) => {
    if (seen.has(destination) && !['local', 'server'].includes(destination.kind)) return
    await expectStream(destination, stream, { patienceSeconds })
    seen.add(destination)
  }
  const pushTo = async (destination: Destination, name: string, content: Buffer, object: Buffer) => {
    await expectHere(destination)
    await pushLogFile(destination, { ...stream, name, content }, object, { trusted, patienceSeconds })
  }
  const pushOne = async (path: string) => {
    const name = basename(path)
    const identity = await identityOf(path)
    const content = await readFile(path).catch(cause => {
      throw unreadable(path, `it cannot be read (${codeOf(cause)})`, cause)
    })
    if ((await identityOf(path)) !== identity) throw unreadable(path, 'it was changed while it was read')
    await expectOurs(stream.systemIdentifier, dirname(dirname(path)))
    const trouble = logFileTrouble(name, content, stream.systemIdentifier)
    if (trouble?.foreign) throw new HoldfastError('wal.foreign', `Archiving ${path}: ${trouble.why}.`)
    if (trouble) throw unreadable(path, trouble.why)
    const object = await enveloped({ ...stream, name, content }, archiver, await sealing())
    // Each is finished, whatever becomes of the others: what is there once need not be sent again.
    const ends = await Promise.allSettled(
      config.destinations.map(destination => pushTo(destination, name, content, object)),
    )
    const failed = ends.find(end => end.status === 'rejected')
    if (failed) throw failed.reason
  }
  // PostgreSQL asks for it once, when the timeline begins: an archive that was begun later would never have it.
  const withHistory = new Set<number>()
  const historyOf = async (timeline: number, folder: string) => {
    if (withHistory.has(timeline)) return
    const path = join(folder, historyName(timeline))
    const there = await stat(path).then(
      () => true,
      () => false,
    )
    if (there) await pushOne(path)
    withHistory.add(timeline)
  }
  const fetchOnce = async (name: string): Promise<Buffer | undefined> => {
    const troubles: unknown[] = []
    for (const destination of config.destinations) {
      try {
        const content = await fetchLogFile(destination, { ...stream, name }, reader, { patienceSeconds })
        if (content === undefined) continue
        const trouble = logFileTrouble(name, content, stream.systemIdentifier)
        if (trouble === undefined) return content
        throw new HoldfastError('wal.damaged', `Fetching ${name} from ${destination.uri}: ${trouble.why}.`)
      } catch (error) {
        if (!(error instanceof HoldfastError)) throw error
        troubles.push(error)
      }
    }
    // One that does not have it says nothing for one that could not be asked.
    if (troubles.length > 0) throw troubles[0]
    return undefined
  }
  return {
    config,
    async begin() {
      for (const destination of config.destinations) {
        await destination.check()
        await beginStream(destination, stream, archiver, { patienceSeconds })
      }
    },
    async push(path) {
      const file = logFileOf(basename(path))
      if (file === undefined) throw unreadable(path, 'PostgreSQL has no log file of this name')
      if (file.kind !== 'history' && file.timeline > 1) await historyOf(file.timeline, dirname(path))
      await pushOne(path)
    },
    async fetch(name, { mayCome } = { mayCome: false }) {
      const until = performance.now() + patienceSeconds * 1000
      for (;;) {
        const content = await fetchOnce(name)
        if (content !== undefined || mayCome) return content
        try {
          for (const destination of config.destinations) {
            await expectEnd(destination, { ...stream, name }, { patienceSeconds })
          }
          return undefined
        } catch (error) {
          // Files are archived side by side: one may come a moment after its successor.
          if (!hasCode(error, 'wal.gap') || performance.now() > until) throw error
        }
        await sleep(500)
      }
    },
    async close() {
      for (const destination of config.destinations) await destination.close()
    },
  }
}

/** The data directory is that of the configured server, where it can be told. Throws `wal.foreign`. */
export async function expectOurs(systemIdentifier: string, dataDirectory: string): Promise<void> {
  const control = await readFile(join(dataDirectory, 'global', 'pg_control')).catch(() => undefined)
  const found = control && systemIdentifierIn(control)
  if (found === undefined || found === systemIdentifier) return
  throw new HoldfastError(
    'wal.foreign',
    `${dataDirectory} is of server ${found}, the configuration is for ${systemIdentifier}.`,
  )
}

/** What tells a file from another one, or from itself after a change. Throws `wal.unreadable`. */
export async function identityOf(path: string): Promise<string> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true }).catch(cause => {
    throw unreadable(path, `it cannot be looked at (${codeOf(cause)})`, cause)
  })
  return [dev, ino, size, mtimeNs, ctimeNs].join(':')
}

const codeOf = (cause: unknown): string =>
  cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'

const unreadable = (path: string, why: string, cause?: unknown): HoldfastError =>
  new HoldfastError('wal.unreadable', `Archiving ${path}: ${why}.`, { cause })

/** A new one each day; made when the first file wants one. */
function sealingKeys({ recipients }: OpenedConfig): () => Promise<SealingKey | null> {
  let current: { key: Promise<SealingKey>; since: number } | undefined
  return async () => {
    if (recipients === null) return null
    if (current === undefined || performance.now() - current.since > keyLifeMs) {
      current = { key: newSealingKey(recipients), since: performance.now() }
    }
    try {
      return await current.key
    } catch (error) {
      current = undefined
      throw error
    }
  }
}

/** A key that was opened opens all files of its day. */
function openedOnce({ keys }: OpenedConfig): LogReader['dataKey'] {
  const opened = new Map<string, Promise<Uint8Array>>()
  return async (keyId, jwe: Record<string, Json>) => {
    const known = opened.get(keyId)
    if (known) return await known
    const opening = unwrapDataKey(jwe, keys).catch(error => {
      opened.delete(keyId)
      if (!hasCode(error, 'key.missing')) throw error
      throw new HoldfastError('key.missing', error.message, {
        hint: 'Name its key file under openWith in wal.json; `holdfast wal fetch` needs it, `wal push` does not.',
      })
    })
    opened.set(keyId, opening)
    return await opening
  }
}
