/** The log archive of one server, at all its destinations: what the agent does, and a client where no agent runs. */
import { open, readFile, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HoldfastError, hasCode } from '../../model/errors.ts'
import type { Json } from '../../model/types.ts'
import {
  historyName,
  logFileOf,
  logFileTrouble,
  maxSegmentBytes,
  systemIdentifierIn,
} from '../../model/wal.ts'
import type { Jwk } from '../../storage/keys.ts'
import { askToBeVouchedFor, vouchedFor } from '../../storage/wal/archivers.ts'
import { expectLogFile, logArchiving } from '../../storage/wal/archiving.ts'
import { type LogReader, newSealingKey } from '../../storage/wal/envelope.ts'
import { expectEnd, fetchLogFile } from '../../storage/wal/fetch.ts'
import { signerOf } from '../../storage/wal/header.ts'
import { logMemory } from '../../storage/wal/memory.ts'
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

export async function openArchive(configPath: string): Promise<Archive> {
  const config = await openConfig(configPath)
  const { stream, archiver, recipients, patienceSeconds } = config
  const trusted = { ...config.trusted }
  // Somebody else's file, as of the server that this one took over from: asked for when it is met.
  const proven = async <T>(act: () => Promise<T>): Promise<T> => {
    try {
      return await act()
    } catch (error) {
      if (!hasCode(error, 'wal.forged') || !(await trustMore(config, trusted))) throw error
      return await act()
    }
  }
  const archiving = logArchiving({
    stream,
    signer: signerOf(archiver),
    trusted,
    patienceSeconds,
    newKey: recipients && (() => newSealingKey(recipients)),
  })
  const memory = logMemory()
  const reader: LogReader = { trusted, dataKey: openedOnce(config) }

  const pushOne = async (path: string) => {
    const name = basename(path)
    const { identity, bytes } = await lookAt(path)
    if (bytes > maxSegmentBytes) throw unreadable(path, `it has ${bytes} bytes, which no log file has`)
    await memory.lend(bytes, async piece => {
      const content = await readInto(piece, path).catch(cause => {
        throw unreadable(path, `it cannot be read (${codeOf(cause)})`, cause)
      })
      if ((await identityOf(path)) !== identity) throw unreadable(path, 'it was changed while it was read')
      await expectOurs(stream.systemIdentifier, dirname(dirname(path)))
      expectLogFile(path, { name, content }, stream.systemIdentifier)
      await proven(() => archiving.put(config.destinations, { name, content }))
    })
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
        const content = await proven(() =>
          fetchLogFile(destination, { ...stream, name }, reader, { patienceSeconds }),
        )
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
      await archiving.begin(config.destinations)
      for (const destination of config.destinations) await askToBeVouchedFor(destination, stream, archiver)
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

/** Whether an installation vouches for archivers that nobody has named here. */
async function trustMore(
  { destinations, stream, installations }: OpenedConfig,
  trusted: Record<string, Jwk>,
): Promise<boolean> {
  let more = false
  for (const destination of destinations) {
    const found = await vouchedFor(destination, stream, installations).catch(error => {
      // The file itself is asked for at the next one.
      if (error instanceof HoldfastError) return {}
      throw error
    })
    for (const [archiver, publicKey] of Object.entries(found)) {
      if (Object.hasOwn(trusted, archiver)) continue
      trusted[archiver] = publicKey
      more = true
    }
  }
  return more
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

/** As much of the file as there is room for. */
async function readInto(piece: Buffer, path: string): Promise<Buffer> {
  const file = await open(path)
  try {
    let length = 0
    while (length < piece.length) {
      const { bytesRead } = await file.read(piece, length, piece.length - length, length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    return piece.subarray(0, length)
  } finally {
    await file.close()
  }
}

/** What tells a file from another one, or from itself after a change, as `stat` prints it in bin/holdfast. Throws `wal.unreadable`. */
export const identityOf = async (path: string): Promise<string> => (await lookAt(path)).identity

async function lookAt(path: string): Promise<{ identity: string; bytes: number }> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true }).catch(cause => {
    throw unreadable(path, `it cannot be looked at (${codeOf(cause)})`, cause)
  })
  return { identity: [dev, ino, size, seconds(mtimeNs), seconds(ctimeNs)].join(':'), bytes: Number(size) }
}

const seconds = (nanoseconds: bigint): string =>
  `${nanoseconds / 1_000_000_000n}.${String(nanoseconds % 1_000_000_000n).padStart(9, '0')}`

const codeOf = (cause: unknown): string =>
  cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'

const unreadable = (path: string, why: string, cause?: unknown): HoldfastError =>
  new HoldfastError('wal.unreadable', `Archiving ${path}: ${why}.`, { cause })

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
