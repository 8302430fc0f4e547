/**
 * Our side of the storage cases: a process that is there already, as a worker is, and that seals and sends a file, or fetches
 * and proves an object, when it is told to. Speaks by messages of `fork`.
 */
import { createReadStream, createWriteStream } from 'node:fs'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { letGo } from '../model/let-go.ts'
import type { DestinationRecord } from '../model/records.ts'
import type { Destination } from '../storage/destination.ts'
import { openDestination } from '../storage/index.ts'
import { openArtifact } from '../storage/reader.ts'
import { type Stored, store } from '../test/storage/helpers.ts'

export interface Transfer {
  record: DestinationRecord
  secrets: Record<string, string>
  /** `get` fetches what the last `put` of this process made there, `clear` removes it. */
  act: 'put' | 'get' | 'clear'
  /** What is sent, or where it goes; none: nowhere, it is only proven. */
  file: string | null
  /** One part, one piece at a time. */
  single: boolean
}

export type Outcome = { storedBytes: number } | { failed: string }

const made = new Map<string, Stored>()

const transfer = async ({ record, secrets, act, file, single }: Transfer): Promise<number> => {
  const destination = await openDestination(record, secrets)
  try {
    if (act === 'clear') return await clear(destination)
    return act === 'put' ? await put(destination, file ?? '', single) : await get(destination, file, single)
  } finally {
    await destination.close()
  }
}

async function put(destination: Destination, file: string, single: boolean): Promise<number> {
  const stored = await store(destination, 'bench', createReadStream(file, { highWaterMark: 1 << 20 }), {
    compression: { method: 'none' },
    ...(single ? { parallelParts: 1 } : {}),
  })
  made.set(destination.uri, stored)
  return stored.entry.storedBytes
}

async function clear(destination: Destination): Promise<number> {
  const stored = made.get(destination.uri)
  if (stored) await destination.remove(stored.key)
  return 0
}

async function get(destination: Destination, file: string | null, single: boolean): Promise<number> {
  const stored = made.get(destination.uri)
  if (!stored) throw new Error(`nothing was put into ${destination.uri}`)
  const { key, entry, secrets } = stored
  const capabilities = { ...destination.capabilities, ...(single ? { readsAtOnce: 1 } : {}) }
  const reading = { destination: { ...destination, capabilities }, key, entry }
  await pipeline(openArtifact({ ...reading, dataKey: secrets?.dataKey ?? null }), sink(file))
  return entry.storedBytes
}

/** As what feeds a tool does, it gives memory back as soon as it was written. */
function sink(file: string | null): Writable {
  const out = file === null ? undefined : createWriteStream(file)
  const written = (chunk: Buffer, done: (error?: Error | null) => void) => (error?: Error | null) => {
    letGo(chunk)
    done(error)
  }
  return new Writable({
    highWaterMark: 1 << 20,
    write(chunk: Buffer, _encoding, done) {
      if (out === undefined) written(chunk, done)()
      else out.write(chunk, written(chunk, done))
    },
    final: done => (out === undefined ? done() : void out.end(done)),
    destroy: (error, done) => {
      out?.destroy()
      done(error)
    },
  })
}

process.on('message', (asked: Transfer) => {
  transfer(asked).then(
    storedBytes => process.send?.({ storedBytes } satisfies Outcome),
    error =>
      process.send?.({
        failed: error instanceof Error ? (error.stack ?? '') : String(error),
      } satisfies Outcome),
  )
})
