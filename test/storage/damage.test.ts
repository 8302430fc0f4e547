/** Damaged, cut, exchanged and forged: a clear error, never the end of a stream. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { describe, it } from 'node:test'
import { HoldfastError } from '../../model/errors.ts'
import type { Destination } from '../../storage/destination.ts'
import { hashArtifact, openArtifact } from '../../storage/reader.ts'
import { existsArtifact } from '../../storage/stored-bytes.ts'
import { chunked, collect, failing, inDestination, mebibyte, open, type Stored, store } from './helpers.ts'

/** An artifact of three segments and a bit, and a way to change its stored bytes. */
async function damaged(
  plain: boolean,
  change: (bytes: Buffer) => Buffer,
  act: (destination: Destination, stored: Stored) => Promise<void>,
): Promise<void> {
  await inDestination(async (destination, directory) => {
    const stored = await store(destination, 'a', chunked(randomBytes(3 * mebibyte + 5000)), { plain })
    const path = join(directory, stored.key)
    const bytes = await readFile(path)
    await writeFile(path, change(bytes))
    await act(destination, stored)
  })
}

/** The manifest's length and hash made to agree with the damage: what is left is what the encryption itself proves. */
async function withManifestOf(destination: Destination, stored: Stored): Promise<Stored> {
  const { createHash } = await import('node:crypto')
  const bytes = await collect(await destination.get(stored.key))
  const storedSha256 = createHash('sha256').update(bytes).digest('hex')
  return { ...stored, entry: { ...stored.entry, storedBytes: bytes.length, storedSha256 } }
}

const flip = (at: number) => (bytes: Buffer) => {
  const changed = Buffer.from(bytes)
  changed[at] = changed[at]! ^ 0x10
  return changed
}
const swapSegments = (bytes: Buffer) =>
  Buffer.concat([
    bytes.subarray(0, mebibyte),
    bytes.subarray(2 * mebibyte, 3 * mebibyte),
    bytes.subarray(mebibyte, 2 * mebibyte),
    bytes.subarray(3 * mebibyte),
  ])

const damages = {
  'cut in the middle of a segment': {
    change: (b: Buffer) => b.subarray(0, 2 * mebibyte + 77),
    code: 'artifact.truncated',
  },
  'cut between segments': { change: (b: Buffer) => b.subarray(0, 2 * mebibyte), code: 'artifact.truncated' },
  'cut by one byte': { change: (b: Buffer) => b.subarray(0, b.length - 1), code: 'artifact.truncated' },
  emptied: { change: (b: Buffer) => b.subarray(0, 0), code: 'artifact.truncated' },
  'with a bit flipped in the header': { change: flip(5), code: 'artifact.corrupted' },
  'with a bit flipped in the middle': { change: flip(mebibyte + 500), code: 'artifact.corrupted' },
  'with a bit flipped in the last byte': {
    change: (b: Buffer) => flip(b.length - 1)(b),
    code: 'artifact.corrupted',
  },
  'with segments reordered': { change: swapSegments, code: 'artifact.corrupted' },
  'with bytes appended': {
    change: (b: Buffer) => Buffer.concat([b, Buffer.alloc(10)]),
    code: 'artifact.corrupted',
  },
  'with a whole segment appended': {
    change: (b: Buffer) => Buffer.concat([b, b.subarray(mebibyte, 2 * mebibyte)]),
    code: 'artifact.corrupted',
  },
} as const

for (const plain of [false, true]) {
  describe(`${plain ? 'a plain' : 'an encrypted'} artifact`, () => {
    for (const [what, { change, code }] of Object.entries(damages)) {
      it(`${what} does not come to its end, and its checksum says so without a key`, async () => {
        await damaged(plain, change, async (destination, stored) => {
          await failing(code, open(destination, stored))
          await failing(code, hashArtifact({ destination, key: stored.key, entry: stored.entry }))
        })
      })
    }
  })
}

describe('the encryption alone, with a manifest made to fit the damage', () => {
  const expected: Record<keyof typeof damages, 'artifact.truncated' | 'artifact.corrupted'> = {
    'cut in the middle of a segment': 'artifact.corrupted', // looks like a changed last segment
    'cut between segments': 'artifact.truncated',
    'cut by one byte': 'artifact.corrupted',
    emptied: 'artifact.truncated',
    'with a bit flipped in the header': 'artifact.corrupted',
    'with a bit flipped in the middle': 'artifact.corrupted',
    'with a bit flipped in the last byte': 'artifact.corrupted',
    'with segments reordered': 'artifact.corrupted',
    'with bytes appended': 'artifact.corrupted',
    'with a whole segment appended': 'artifact.corrupted',
  }
  for (const [what, { change }] of Object.entries(damages)) {
    it(`refuses an artifact ${what}`, async () => {
      await damaged(false, change, async (destination, stored) => {
        const fitted = await withManifestOf(destination, stored)
        await failing(expected[what as keyof typeof damages], open(destination, fitted))
      })
    })
  }

  it('gives out nothing of a segment that is not authentic, and what came before it is right', async () => {
    await damaged(false, flip(2 * mebibyte + 9), async (destination, stored) => {
      const fitted = await withManifestOf(destination, stored)
      const stream = openArtifact({
        destination,
        key: stored.key,
        entry: fitted.entry,
        dataKey: stored.secrets!.dataKey,
      })
      let bytes = 0
      await assert.rejects(async () => {
        for await (const piece of stream) bytes += piece.length
      })
      assert.equal(bytes, 2 * (mebibyte - 16) - 40)
    })
  })
})

describe('keys and places', () => {
  it("another artifact's key, or none, does not open", async () => {
    await inDestination(async destination => {
      const stored = await store(destination, 'a', chunked(randomBytes(1000)))
      const { key, entry } = stored
      await failing(
        'artifact.corrupted',
        collect(openArtifact({ destination, key, entry, dataKey: randomBytes(32) })),
      )
      await failing('key.missing', collect(openArtifact({ destination, key, entry, dataKey: null })))
    })
  })

  it('two artifacts of the same length, exchanged in the store, do not open even with a manifest made to fit', async () => {
    await inDestination(async (destination, directory) => {
      const a = await store(destination, 'a', chunked(randomBytes(50_000)))
      const b = await store(destination, 'b', chunked(randomBytes(50_000)))
      const [pathA, pathB] = [join(directory, a.key), join(directory, b.key)]
      const [bytesA, bytesB] = [await readFile(pathA), await readFile(pathB)]
      assert.equal(bytesA.length, bytesB.length)
      await writeFile(pathA, bytesB)
      await writeFile(pathB, bytesA)
      await failing('artifact.corrupted', open(destination, a))
      const fitted = await withManifestOf(destination, a)
      await failing('artifact.corrupted', open(destination, fitted))
      // Even with the other's data key: the name is in the associated data.
      await failing('artifact.corrupted', open(destination, { ...fitted, secrets: b.secrets }))
    })
  })

  it('an object that is not there is missing, one of another length is seen without reading it', async () => {
    await inDestination(async (destination, directory) => {
      const stored = await store(destination, 'a', chunked(randomBytes(1000)))
      const { key, entry } = stored
      await existsArtifact({ destination, key, entry })
      await truncate(join(directory, key), 10)
      await failing('artifact.truncated', existsArtifact({ destination, key, entry }))
      await truncate(join(directory, key), 10_000)
      await failing('artifact.corrupted', existsArtifact({ destination, key, entry }))
      await destination.remove(key)
      await failing('destination.object-missing', existsArtifact({ destination, key, entry }))
      await failing('destination.object-missing', open(destination, stored))
    })
  })

  it('an object cut while it is read is truncated', async () => {
    await inDestination(async (destination, directory) => {
      const stored = await store(destination, 'a', chunked(randomBytes(3 * mebibyte)), { plain: true })
      const cutting: Destination = {
        ...destination,
        get: async (key, options) => {
          await truncate(join(directory, key), 1000)
          return await destination.get(key, options)
        },
      }
      await failing('artifact.truncated', open(cutting, stored))
    })
  })
})

describe('a connection that breaks', () => {
  it('is taken up again at its offset, whether it says so or not', async () => {
    await inDestination(async destination => {
      const tool = randomBytes(3 * mebibyte)
      const stored = await store(destination, 'a', chunked(tool))
      const asked: number[] = []
      const breaking: Destination = {
        ...destination,
        get: async (key, options = {}) => {
          const { offset = 0 } = options
          asked.push(offset)
          if (asked.length === 2) throw new HoldfastError('destination.unreachable', 'connection refused')
          const inner = await destination.get(key, options)
          if (asked.length > 4) return inner
          const turn = asked.length
          return Readable.from(
            (async function* () {
              let left = 700_000
              for await (const chunk of inner) {
                yield chunk.subarray(0, left)
                left -= chunk.length
                if (left > 0) continue
                if (turn === 1) throw Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' })
                return // a short stream that looks whole
              }
            })(),
            { objectMode: false },
          )
        },
      }
      const object = await open(breaking, stored)
      assert.ok(object.equals(await open(destination, stored)))
      assert.deepEqual(asked, [0, 700_000, 700_000, 1_400_000, 2_100_000])
    })
  })

  it('is given up when the patience is used up, with an error that passes by itself', async () => {
    await inDestination(async destination => {
      const stored = await store(destination, 'a', chunked(randomBytes(1000)))
      const gone: Destination = {
        ...destination,
        get: async () => {
          throw new HoldfastError('destination.unreachable', 'connection refused')
        },
      }
      const { key, entry, secrets } = stored
      const stream = openArtifact({
        destination: gone,
        key,
        entry,
        dataKey: secrets!.dataKey,
        patienceSeconds: 0.5,
      })
      await failing('destination.unreachable', collect(stream))
    })
  })

  it('lets go of the store when the reader goes away or is cancelled', async () => {
    await inDestination(async destination => {
      const stored = await store(destination, 'a', chunked(randomBytes(20 * mebibyte)), { plain: true })
      const { key, entry } = stored
      const streams: Readable[] = []
      const watched: Destination = {
        ...destination,
        get: async (...args) => {
          const stream = await destination.get(...args)
          streams.push(stream)
          return stream
        },
      }
      const control = new AbortController()
      const reading = openArtifact({
        destination: watched,
        key,
        entry,
        dataKey: null,
        signal: control.signal,
      })
      await assert.rejects(async () => {
        for await (const _ of reading) control.abort(new Error('cancelled by the test'))
      }, /cancelled by the test/)
      const left = openArtifact({ destination: watched, key, entry, dataKey: null })
      for await (const _ of left) break
      while (!streams.every(stream => stream.destroyed)) await new Promise(resolve => setImmediate(resolve))
      assert.equal(streams.length, 2)
    })
  })

  it('or a cancel that comes before anybody reads waits for the reader', async () => {
    await inDestination(async destination => {
      const stored = await store(destination, 'a', chunked(randomBytes(1000)))
      const { key, entry, secrets } = stored
      const control = new AbortController()
      const early = openArtifact({
        destination,
        key,
        entry,
        dataKey: secrets!.dataKey,
        signal: control.signal,
      })
      control.abort(new HoldfastError('operation.cancelled', 'cancelled by the test'))
      await new Promise(resolve => setTimeout(resolve, 20))
      await failing('operation.cancelled', collect(early))
    })
  })
})
