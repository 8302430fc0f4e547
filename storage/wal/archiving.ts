/** Archiving log files at all destinations of one archive: what the agent of a database host does, and a worker that streams. */
import { HoldfastError } from '../../model/errors.ts'
import { letGo } from '../../model/let-go.ts'
import { logFileTrouble } from '../../model/wal.ts'
import type { Destination } from '../destination.ts'
import type { Jwk } from '../keys.ts'
import { enveloped, type LogFileBytes, type SealingKey } from './envelope.ts'
import type { LogSigner } from './header.ts'
import type { LogStream } from './layout.ts'
import { beginStream, expectStream, pushLogFile } from './push.ts'

export interface LogArchive {
  stream: LogStream
  signer: LogSigner
  /** Ed25519 public keys by the archiver's id: whose word is taken for what is there already. */
  trusted: Record<string, Jwk>
  /** How long a destination in trouble is borne. */
  patienceSeconds: number
  /** null: what is archived is not encrypted. */
  newKey: (() => Promise<SealingKey>) | null
  signal?: AbortSignal
}

export interface LogArchiving {
  /** Once, before the first file: looks whether each destination takes objects, and says there whose archive it is. */
  begin(destinations: readonly Destination[]): Promise<void>
  /** On return the file is durable at every destination. Throws what the first that refused says. */
  put(destinations: readonly Destination[], file: { name: string; content: Buffer }): Promise<void>
}

export function logArchiving({ stream, signer, trusted, newKey, ...bearing }: LogArchive): LogArchiving {
  const sealing = newEachDay(newKey)
  const seen = new Set<Destination>()

  // Putting a file begins no archive: a place where there is none is not mounted, or not the right one. A disk may go at any time.
  const expectHere = async (destination: Destination) => {
    if (seen.has(destination) && !['local', 'server'].includes(destination.kind)) return
    await expectStream(destination, stream, bearing)
    seen.add(destination)
  }
  const putAt = async (destination: Destination, file: LogFileBytes, object: Buffer) => {
    await expectHere(destination)
    await pushLogFile(destination, file, object, { trusted, ...bearing })
  }
  return {
    async begin(destinations) {
      for (const destination of destinations) {
        await destination.check()
        await beginStream(destination, stream, signer, bearing)
      }
    },
    async put(destinations, { name, content }) {
      const file = { ...stream, name, content }
      const object = await enveloped(file, signer, await sealing())
      // Each is finished, whatever becomes of the others: what is there once need not be sent again.
      const ends = await Promise.allSettled(destinations.map(one => putAt(one, file, object)))
      const failed = ends.find(end => end.status === 'rejected')
      if (failed) throw failed.reason
      letGo(object)
    },
  }
}

/** Throws `wal.foreign`, `wal.unreadable`. */
export function expectLogFile(
  path: string,
  { name, content }: { name: string; content: Buffer },
  systemIdentifier: string,
): void {
  const trouble = logFileTrouble(name, content, systemIdentifier)
  if (trouble === undefined) return
  throw new HoldfastError(
    trouble.foreign ? 'wal.foreign' : 'wal.unreadable',
    `Archiving ${path}: ${trouble.why}.`,
  )
}

const keyLifeMs = 24 * 3600 * 1000

/** Made when the first file wants one. */
function newEachDay(newKey: LogArchive['newKey']): () => Promise<SealingKey | null> {
  let current: { key: Promise<SealingKey>; since: number } | undefined
  return async () => {
    if (newKey === null) return null
    if (current === undefined || performance.now() - current.since > keyLifeMs) {
      current = { key: newKey(), since: performance.now() }
    }
    try {
      return await current.key
    } catch (error) {
      current = undefined
      throw error
    }
  }
}
