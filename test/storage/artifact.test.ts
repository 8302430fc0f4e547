/** Artifacts written and read back: bytes, frames, seek table, sizes around every boundary, both compressors. */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { describe, it } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
import { wholeCompression } from '../../model/compression.ts'
import { partSizeAt } from '../../storage/parts.ts'
import { createOpener, createSealer, sealedBytes } from '../../storage/tink.ts'
import { writeArtifact } from '../../storage/writer.ts'
import { run } from '../servers/python.ts'
import {
  chunked,
  failing,
  inDestination,
  mebibyte,
  open,
  pzstd,
  secretsFor,
  sha256,
  store,
  toolBytes,
} from './helpers.ts'

/** Frames as the seek table tells them. */
function seekTable(object: Buffer): { at: number; stored: number; holds: number }[] {
  const footer = object.length - 9
  assert.equal(object.readUInt32LE(footer + 5), 0x8f92eab1)
  assert.equal(object[footer + 4], 0)
  const frames = object.readUInt32LE(footer)
  const start = footer - frames * 8
  assert.equal(object.readUInt32LE(start - 8), 0x184d2a5e)
  assert.equal(object.readUInt32LE(start - 4), frames * 8 + 9)
  let at = 0
  const table = Array.from({ length: frames }, (_, index) => {
    const stored = object.readUInt32LE(start + index * 8)
    const frame = { at, stored, holds: object.readUInt32LE(start + index * 8 + 4) }
    at += stored
    return frame
  })
  assert.equal(at, start - 8, 'frames end where the table begins')
  return table
}

const frame = 4 * mebibyte
const pzstdFrame = 2 * mebibyte // at level 1
const sizes = [0, 1, 65, frame - 1, frame, frame + 1, 2 * frame + 17]
const pzstdSizes = [0, 1, pzstdFrame - 1, pzstdFrame, pzstdFrame + 1, 2 * pzstdFrame, 5 * pzstdFrame + 4711]

for (const [framing, cases] of [
  ['raw', sizes],
  ['pzstd', pzstdSizes],
] as const) {
  describe(`an artifact compressed by ${framing === 'raw' ? 'Node' : 'pzstd'}`, () => {
    for (const bytes of cases) {
      it(`of ${bytes} bytes is the tool's bytes again, sealed and plain, and every frame can be read alone`, async () => {
        await inDestination(async destination => {
          const tool = toolBytes(bytes)
          for (const plain of [false, true]) {
            const source = framing === 'raw' ? chunked(tool) : pzstd(tool, 1)
            const stored = await store(destination, 'a', source, {
              framing,
              plain,
              level: 1,
              partBytes: mebibyte,
            })
            const { written } = stored
            assert.equal(written.toolBytes, bytes)
            assert.ok(written.head.equals(tool.subarray(0, 64)))
            assert.ok(written.tail.equals(tool.subarray(Math.max(0, bytes - 65_536))))
            const object = await open(destination, stored)
            assert.equal(object.length, written.compressedBytes)
            const storedBytes = plain ? object.length : sealedBytes(object.length)
            assert.equal(written.storedBytes, storedBytes)
            assert.equal((await destination.stat(stored.key))?.bytes, storedBytes)
            assert.equal(sha256(await run('zstd', ['-d', '-q', '-c'], object)), sha256(tool))
            const table = seekTable(object)
            assert.equal(table.length, written.frames)
            let offset = 0
            for (const { at, stored: length, holds } of table) {
              const alone = zstdDecompressSync(object.subarray(at, at + length))
              assert.equal(alone.length, holds)
              assert.ok(alone.equals(tool.subarray(offset, offset + holds)))
              offset += holds
            }
            assert.equal(offset, bytes)
            if (table.length > 1) assert.equal(table[0]?.holds, written.frameBytes)
          }
        })
      })
    }
  })
}

describe('pzstd output that is not whole', () => {
  it('is refused wherever it is cut or changed', async () => {
    await inDestination(async destination => {
      const good = Buffer.concat(await pzstd(toolBytes(5 * mebibyte), 1).toArray())
      const last = good.lastIndexOf(Buffer.from('502a4d18', 'hex'))
      const broken: Record<string, Buffer> = {
        'nothing at all': Buffer.alloc(0),
        'cut in the first announcement': good.subarray(0, 7),
        'cut in the first frame': good.subarray(0, 1000),
        'cut in a later announcement': good.subarray(0, last + 5),
        'cut after an announcement': good.subarray(0, last + 12),
        'cut in the last frame': good.subarray(0, good.length - 1),
        'plain zstd': Buffer.from('28b52ffd0458110000686966fa3826ea', 'hex'),
        'trailing bytes': Buffer.concat([good, Buffer.from('hello, this is not a frame')]),
        'a bit in the last frame': Buffer.concat([
          good.subarray(0, -20),
          Buffer.from([good.at(-20)! ^ 1]),
          good.subarray(-19),
        ]),
        'not zstd at all': randomBytes(100_000),
      }
      for (const [what, bytes] of Object.entries(broken)) {
        const error = await failing(
          'backup.incomplete',
          store(destination, 'a', chunked(bytes), { framing: 'pzstd' }),
        )
        assert.match(error.message, /compressor/, what)
      }
    })
  })
})

describe('segments', () => {
  it('open to what was sealed, of any size and in any chunks, and have the length that is promised', () => {
    const first = mebibyte - 40 - 16
    const rest = mebibyte - 16
    const size = fc.oneof(
      fc.nat(100),
      fc
        .tuple(fc.constantFrom(first, first + rest, first + 2 * rest), fc.integer({ min: -2, max: 2 }))
        .map(([a, b]) => a + b),
    )
    fc.assert(
      fc.property(
        size,
        fc.integer({ min: 500, max: 300_000 }),
        fc.integer({ min: 500, max: 300_000 }),
        (bytes, one, other) => {
          const plain = randomBytes(bytes)
          const secrets = secretsFor('holdfast/1\na\nb\nc')
          const pieces = (buffer: Buffer, of: number) =>
            Array.from({ length: Math.ceil(buffer.length / of) }, (_, i) =>
              buffer.subarray(i * of, (i + 1) * of),
            )
          const sealing = (of: number) => {
            const sealer = createSealer(secrets)
            const out = [sealer.header, ...pieces(plain, of).flatMap(piece => sealer.update(piece))]
            return Buffer.concat([...out, ...sealer.final()])
          }
          const sealed = sealing(one)
          assert.equal(sealed.length, sealedBytes(bytes))
          assert.ok(sealed.equals(sealing(other)), 'how it was cut does not matter')
          const opener = createOpener(secrets.dataKey, secrets.associatedData, 'test')
          const opened = Buffer.concat([
            ...pieces(sealed, other).flatMap(piece => opener.update(piece)),
            ...opener.final(),
          ])
          assert.ok(opened.equals(plain))
        },
      ),
      { numRuns: 25 },
    )
  })
})

describe('parts', () => {
  const s3 = {
    equalParts: false,
    minPartBytes: 5 * mebibyte,
    maxPartBytes: 5 * 1024 * mebibyte,
    maxParts: 10_000,
  }

  /** Of the stores we know: S3 and R2, S3 with a tenth of the parts, Azure, a directory. */
  const stores = [
    s3,
    { ...s3, maxParts: 1000 },
    { equalParts: false, minPartBytes: 1, maxPartBytes: 4000 * mebibyte, maxParts: 50_000 },
    { equalParts: false, minPartBytes: 1, maxPartBytes: 1024 * mebibyte, maxParts: 100_000 },
  ]

  it('are whole MiB, grow, keep within the limits, and hold 5 TiB of unknown length where the store can', () => {
    const limits = fc.constantFrom(...stores)
    const partBytes = fc.integer({ min: 1, max: 512 }).map(count => count * mebibyte)
    fc.assert(
      fc.property(limits, partBytes, (store, bytes) => {
        let total = 0
        let before = 0
        for (let number = 1; number <= store.maxParts; number += 1) {
          const size = partSizeAt(number, bytes, store)
          assert.equal(size % mebibyte, 0)
          assert.ok(size >= Math.min(bytes, store.maxPartBytes) && size >= store.minPartBytes)
          assert.ok(size <= store.maxPartBytes && size >= before)
          before = size
          total += size
        }
        const fits = 0.75 * store.maxParts * store.maxPartBytes >= 5 * 1024 ** 4
        // A store of 1,000 parts of 5 GiB holds a little less, and most of that must be within reach.
        assert.ok(total >= (fits ? 5 * 1024 ** 4 : 0.75 * store.maxParts * store.maxPartBytes))
        // Memory: the largest part is at most a third over what equal parts for 5 TiB would need, or what was asked for.
        const equal = (5 * 1024 ** 4) / store.maxParts
        assert.ok(before <= Math.max(bytes, Math.min(store.maxPartBytes, (4 / 3) * equal + mebibyte)))
      }),
      { numRuns: 40 },
    )
  })

  it('stay small for objects that are: 2 GiB in parts of 8 MiB, 16 GiB below 64 MiB', () => {
    for (const [gibibytes, most] of [
      [2, 8],
      [16, 63],
    ] as const) {
      let total = 0
      let size = 0
      for (let number = 1; total < gibibytes * 1024 ** 3; number += 1) {
        size = partSizeAt(number, 8 * mebibyte, s3)
        total += size
      }
      assert.ok(size <= most * mebibyte, `${gibibytes} GiB end with parts of ${size / mebibyte} MiB`)
    }
  })

  it('keep one size where the store wants them equal, as large as the expected length needs', () => {
    const equal = { ...s3, equalParts: true }
    assert.equal(partSizeAt(9_999, 8 * mebibyte, equal), 8 * mebibyte)
    assert.equal(partSizeAt(1, mebibyte, equal), 5 * mebibyte)
    const terabyte = partSizeAt(1, 8 * mebibyte, equal, 1e12)
    assert.equal(partSizeAt(9_999, 8 * mebibyte, equal, 1e12), terabyte)
    assert.ok(terabyte * equal.maxParts >= 2e12 && terabyte % mebibyte === 0)
    assert.ok(partSizeAt(1, 8 * mebibyte, equal, 1e15) <= equal.maxPartBytes)
  })

  it('hold the object together at sizes around part boundaries, in any order of arrival', async () => {
    await inDestination(async destination => {
      let attempt = 0
      await fc.assert(
        fc.asyncProperty(
          fc.tuple(fc.constantFrom(1, 2, 5), fc.integer({ min: -40, max: 60 })),
          fc.boolean(),
          async ([parts, off], plain) => {
            // Random bytes do not compress: the object's size is near the tool's.
            const tool = randomBytes(Math.max(0, parts * mebibyte - 100 + off))
            attempt += 1
            const stored = await store(destination, 'a', chunked(tool), {
              attemptId: `attempt${attempt}`,
              plain,
              level: 1,
              partBytes: mebibyte,
            })
            const object = await open(destination, stored)
            assert.ok(zstdDecompressSync(object).equals(tool))
            assert.deepEqual(
              stored.written.parts.map(part => part.number),
              stored.written.parts.map((_, index) => index + 1),
            )
          },
        ),
        { numRuns: 15 },
      )
    })
  })

  it('in flight are bounded and hold the source back', async () => {
    await inDestination(async destination => {
      const waiting: (() => void)[] = []
      let inFlight = 0
      let most = 0
      let read = 0
      const slow = {
        ...destination,
        putPart: async (...args: Parameters<typeof destination.putPart>) => {
          inFlight += 1
          most = Math.max(most, inFlight)
          await new Promise<void>(resolve => waiting.push(resolve))
          inFlight -= 1
          return await destination.putPart(...args)
        },
      }
      const source = Readable.from(
        (function* () {
          for (let at = 0; at < 40; at += 1) {
            read += mebibyte
            yield randomBytes(mebibyte)
          }
        })(),
        { objectMode: false },
      )
      const uploadId = await destination.openUpload('k')
      const writing = writeArtifact({
        destination: slow,
        key: 'k',
        uploadId,
        source,
        framing: 'raw',
        compression: wholeCompression({ level: 1 }),
        seal: null,
        partBytes: mebibyte,
        parallelParts: 2,
      })
      while (waiting.length < 2) await new Promise(resolve => setImmediate(resolve))
      for (let turn = 0; turn < 200; turn += 1) await new Promise(resolve => setImmediate(resolve))
      assert.ok(read < 24 * mebibyte, `${read} bytes were read while nothing moved`)
      const feeding = setInterval(() => {
        for (const go of waiting.splice(0)) go()
      }, 1)
      const written = await writing
      clearInterval(feeding)
      assert.equal(most, 2)
      assert.equal(written.toolBytes, 40 * mebibyte)
    })
  })
})
