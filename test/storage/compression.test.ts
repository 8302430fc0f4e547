/** Every way to compress: written, read with and without the program of the host, cut short, damaged, and what is said of it. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { PassThrough, type Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { describe, it, test } from 'node:test'
import { type CompressionRequest, compressionAdvice, compressionWords } from '../../model/compression.ts'
import { HoldfastError } from '../../model/errors.ts'
import { type Packing, unpackerOf, unpackingProgram } from '../../storage/unpack.ts'
import { run } from '../servers/python.ts'
import {
  chunked,
  failing,
  inDestination,
  mebibyte,
  open,
  type Stored,
  sha256,
  store,
  toolBytes,
} from './helpers.ts'

const frame = 4 * mebibyte

const ways: Record<string, CompressionRequest> = {
  'zstd, level 1, one thread': { method: 'zstd', level: 1, threads: 1 },
  'zstd, level 6, four threads': { method: 'zstd', level: 6, threads: 4 },
  'zstd in long mode': { method: 'zstd', level: 1, longWindow: 28 },
  lz4: { method: 'lz4', threads: 3 },
  'gzip, level 1': { method: 'gzip', level: 1 },
  gzip: { method: 'gzip' },
  none: { method: 'none' },
  auto: { method: 'auto' },
}

/** As the upload does it: the long mode's program in the pipe, all else in Node. */
function written(
  destination: Parameters<typeof store>[0],
  tool: Buffer,
  compression: CompressionRequest,
  plain: boolean,
): Promise<Stored> {
  const long = compression.longWindow !== undefined
  const source = long ? zstdLong(tool, compression) : chunked(Buffer.from(tool))
  const framing = long ? 'zstd' : 'raw'
  return store(destination, 'a', source, { framing, compression, plain, partBytes: mebibyte })
}

function zstdLong(tool: Buffer, { level, longWindow }: CompressionRequest): Readable {
  const child = spawn('zstd', ['-q', `-${level ?? 3}`, `--long=${longWindow}`, '-T2', '-c'])
  child.stdin.on('error', () => {})
  child.stdin.end(tool)
  return child.stdout.pipe(new PassThrough())
}

async function unpacked(packing: Packing, object: Buffer, chunkBytes = 65_521): Promise<Buffer> {
  return await buffer(unpackerOf(packing)(chunked(Buffer.from(object), chunkBytes)))
}

for (const [name, compression] of Object.entries(ways)) {
  describe(name, () => {
    for (const bytes of [0, 1, frame - 1, frame, 2 * frame + 17]) {
      it(`gives ${bytes} bytes back, by Node and by the program, and tells their number, head and tail`, async () => {
        await inDestination(async destination => {
          const tool = toolBytes(bytes)
          const stored = await written(destination, tool, compression, bytes % 2 === 0)
          assert.equal(stored.written.toolBytes, bytes)
          assert.ok(stored.written.head.equals(tool.subarray(0, 64)))
          assert.ok(stored.written.tail.equals(tool.subarray(Math.max(0, bytes - 65_536))))
          const object = await open(destination, stored)
          assert.equal(object.length, stored.written.compressedBytes)
          const packing = stored.entry.compression
          for (const chunkBytes of [65_521, 777_777]) {
            assert.equal(sha256(await unpacked(packing, object, chunkBytes)), sha256(tool))
          }
          const [program, ...args] = unpackingProgram(packing) ?? ['cat']
          assert.equal(sha256(await run(program, args, object)), sha256(tool))
        })
      })
    }

    it('makes the same bytes again, as an upload that goes on needs them', async () => {
      await inDestination(async destination => {
        const tool = Buffer.concat([toolBytes(frame), randomBytes(frame), toolBytes(1000)])
        const one = await open(destination, await written(destination, tool, compression, true))
        const fewer = { ...compression, threads: 1 }
        const other = await open(destination, await written(destination, tool, fewer, false))
        assert.equal(sha256(one), sha256(other))
      })
    })

    if (compression.method === 'none') return
    it('says of what is cut short that it is, and of what is damaged, wherever that is', async () => {
      await inDestination(async destination => {
        const tool = toolBytes(frame + 4711)
        const stored = await written(destination, tool, compression, true)
        const packing = stored.entry.compression
        const object = await open(destination, stored)
        const cuts = [1, 100, object.length >> 1, lastByteOfFrames(stored, object) - 3]
        for (const end of cuts) {
          await failing('artifact.truncated', unpacked(packing, object.subarray(0, end)))
        }
        for (const at of [5000, object.length >> 1]) {
          const damaged = Buffer.from(object)
          damaged[at] = (damaged[at] ?? 0) ^ 0x10
          const error = await unpacked(packing, damaged).then(
            () => undefined,
            thrown => thrown,
          )
          assert.ok(
            error instanceof HoldfastError && /^artifact\.(corrupted|truncated)$/.test(error.code),
            String(error),
          )
        }
        const followed = Buffer.concat([object, Buffer.from('and something else that is not ours')])
        await failing('artifact.corrupted', unpacked(packing, followed))
        await failing('artifact.corrupted', unpacked(packing, Buffer.from('nothing of the kind, all of it')))
      })
    })
  })
}

/** Where the last frame ends: before the seek table, where there is one. */
function lastByteOfFrames({ entry }: Stored, object: Buffer): number {
  const { codec, longWindow, frames } = entry.compression
  return codec === 'gzip' || longWindow !== undefined ? object.length : object.length - 17 - 8 * frames
}

test('what other programs have made of several pieces is read as one', async () => {
  const pieces = [toolBytes(300_000), Buffer.alloc(0), randomBytes(200_000)]
  const whole = sha256(Buffer.concat(pieces))
  for (const [codec, program, ...args] of [
    ['lz4', 'lz4', '-q', '-c'],
    ['lz4', 'lz4', '-q', '-9', '-BX', '-B4', '--content-size', '-c'],
    ['gzip', 'gzip', '-9', '-c'],
    ['zstd', 'zstd', '-q', '-c'],
  ] as const) {
    const packed = pieces.map(input => spawnSync(program, args, { input, maxBuffer: 1 << 26 }).stdout)
    for (const size of [65_521, 100]) {
      assert.equal(
        sha256(await unpacked({ codec }, Buffer.concat(packed), size)),
        whole,
        `${program} ${args}`,
      )
    }
  }
})

test('zstd in long mode finds what lies far back; a window too small for it is refused', async () => {
  await inDestination(async destination => {
    const once = randomBytes(20 * mebibyte)
    const tool = Buffer.concat([once, once])
    const stored = await written(destination, tool, { method: 'zstd', level: 1, longWindow: 25 }, false)
    assert.ok(stored.written.compressedBytes < 1.1 * once.length)
    assert.deepEqual([stored.entry.compression.longWindow, stored.entry.compression.frames], [25, 1])
    const object = await open(destination, stored)
    assert.equal(sha256(await unpacked(stored.entry.compression, object)), sha256(tool))
    await failing('artifact.corrupted', unpacked({ codec: 'zstd', longWindow: 20 }, object))
  })
})

test('output of the long mode that is not whole is refused', async () => {
  await inDestination(async destination => {
    const { stdout } = spawnSync('zstd', ['-q', '--long=27', '-c'], {
      input: toolBytes(3 * mebibyte),
      maxBuffer: 1 << 26,
    })
    const flipped = Buffer.from(stdout)
    flipped[100_000] = (flipped[100_000] ?? 0) ^ 1
    for (const broken of [Buffer.alloc(0), stdout.subarray(0, 70_000), stdout.subarray(0, -1), flipped]) {
      const writing = store(destination, 'a', chunked(Buffer.from(broken)), {
        framing: 'zstd',
        compression: { longWindow: 27 },
      })
      assert.match((await failing('backup.incomplete', writing)).message, /compressor/)
    }
  })
})

describe('auto', () => {
  it('stores the frames that would not shrink, and only those; zstd reads all of it', async () => {
    await inDestination(async destination => {
      const tool = Buffer.concat([
        toolBytes(frame),
        randomBytes(2 * frame),
        toolBytes(frame),
        randomBytes(100),
      ])
      const stored = await written(destination, tool, { method: 'auto', level: 9 }, false)
      const { compression, compressedBytes } = stored.entry
      assert.equal(compression.codec, 'zstd')
      assert.deepEqual([compression.frames, compression.storedFrames], [5, 3])
      assert.ok(compressedBytes > 2 * frame && compressedBytes < 3.5 * frame, String(compressedBytes))
      assert.match(stored.entry.object, /\.zst\.tink$/)
      const object = await open(destination, stored)
      assert.equal(sha256(await run('zstd', ['-d', '-q', '-c'], object)), sha256(tool))
    })
  })
})

describe('advice', () => {
  const of = (changes: object, sizes = [100e6, 99e6]) =>
    compressionAdvice({
      name: 'shop.dump',
      toolBytes: sizes[0] ?? 0,
      compressedBytes: sizes[1] ?? 0,
      compression: { codec: 'zstd', level: 3, frames: 24, ...changes },
    })
  it('is given for data that did not shrink, and not for data that did or is next to nothing', () => {
    assert.match(of({}) ?? '', /^shop\.dump is already compressed: zstd saved 1 %.*auto/)
    assert.match(of({}, [100e6, 101e6]) ?? '', /saved 0 %/)
    assert.match(of({ codec: 'gzip' }) ?? '', /gzip saved 1 %/)
    assert.match(of({ codec: 'lz4' }) ?? '', /does not shrink by lz4, which saved 1 %/)
    assert.equal(of({}, [100e6, 94e6]), undefined)
    assert.equal(of({}, [1000, 1000]), undefined)
    assert.equal(of({ codec: 'none' }, [100e6, 100e6]), undefined)
  })
  it('tells what auto has found', () => {
    assert.match(of({ storedFrames: 23 }) ?? '', /already compressed: 96 % of it is stored as it came/)
    assert.equal(of({ storedFrames: 3 }), undefined)
  })
  it('has words for each way', () => {
    assert.equal(compressionWords({ codec: 'none', level: 0, frames: 0 }), 'not compressed')
    assert.equal(compressionWords({ codec: 'lz4', level: 0, frames: 1 }), 'lz4')
    assert.equal(
      compressionWords({ codec: 'zstd', level: 19, frames: 1, longWindow: 27 }),
      'zstd, level 19, window 2^27',
    )
  })
})
