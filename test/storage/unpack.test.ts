/** Unpacking without a zstd program: many frames, any chunking, the seek table, and damage. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { test } from 'node:test'
import { constants, gzipSync, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { wholeCompression } from '../../model/compression.ts'
import { HoldfastError } from '../../model/errors.ts'
import { ownFrames } from '../../storage/own-frames.ts'
import { unpackerOf } from '../../storage/unpack.ts'

const unpack = unpackerOf({ codec: 'zstd' })
const collect = async (chunks: Buffer[]) => await buffer(Readable.from(unpack(Readable.from(chunks))))

const cut = (bytes: Buffer, size: number): Buffer[] => {
  const chunks: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size))
  return chunks
}

async function packed(data: Buffer): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of ownFrames(Readable.from(cut(data, 65_536)), wholeCompression({})))
    chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

const some = Buffer.concat([Buffer.alloc(9_000_000, 'abc'), randomBytes(5_000_000), Buffer.alloc(700_001)])

test('every frame of an artifact, not only the first', async () => {
  const artifact = await packed(some)
  for (const size of [1 << 20, 65_536, 777])
    assert.ok((await collect(cut(artifact, size))).equals(some), `chunks of ${size}`)
})

test('what pzstd and zstd write', async () => {
  for (const [program, ...args] of [
    ['pzstd', '-q', '-3', '-p', '2', '-c'],
    ['zstd', '-q', '-3', '-c'],
    ['zstd', '-q', '-19', '--no-check', '-c'],
  ]) {
    const { stdout, status } = spawnSync(program ?? '', args, { input: some, maxBuffer: 1 << 26 })
    assert.equal(status, 0)
    assert.ok((await collect(cut(stdout, 65_536))).equals(some), program)
  }
})

test('small and empty frames, however they are cut', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }),
      fc.integer({ min: 1, max: 50 }),
      async (pieces, size) => {
        const frames = Buffer.concat(pieces.map(piece => zstdCompressSync(piece)))
        assert.ok((await collect(cut(frames, size))).equals(Buffer.concat(pieces)))
      },
    ),
    { numRuns: 60 },
  )
})

test('cut short and damaged', async () => {
  const artifact = await packed(some)
  const code =
    (...names: string[]) =>
    (error: unknown) =>
      error instanceof HoldfastError && names.includes(error.code)
  await assert.rejects(collect(cut(artifact.subarray(0, 5_000_000), 65_536)), code('artifact.truncated'))
  const flipped = Buffer.from(artifact)
  flipped[200] = (flipped[200] ?? 0) ^ 0x55
  await assert.rejects(collect(cut(flipped, 65_536)), code('artifact.corrupted', 'artifact.truncated'))
  await assert.rejects(collect([Buffer.from('this is no zstd frame at all')]), code('artifact.corrupted'))
})

/** Frames of 1 MB of what does not compress, as they lie one behind the other. */
const megabytes = (count: number) =>
  Array.from({ length: count }, () => zstdCompressSync(randomBytes(1_000_000), { params: withChecksum }))
const withChecksum = { [constants.ZSTD_c_checksumFlag]: 1 }
const placed = (code: string, place: Record<string, number>) => (error: unknown) => {
  assert.ok(error instanceof HoldfastError, String(error))
  assert.equal(error.code, code)
  assert.deepEqual(error.context, place)
  const { frame, packedOffset } = place
  if (frame !== undefined)
    assert.match(error.message, new RegExp(`frame ${frame}, .*byte ${packedOffset}\\b`))
  return true
}

test('the frame that is damaged is named, and where it begins', async () => {
  const frames = megabytes(5)
  const packedOffset = Buffer.concat(frames.slice(0, 3)).length
  const changed = (at: number, bits = 1) => {
    const bytes = Buffer.concat(frames)
    bytes[packedOffset + at] = (bytes[packedOffset + at] ?? 0) ^ bits
    return bytes
  }
  for (const size of [1 << 20, 65_536]) {
    // In its data; its magic; the length of its first block, which makes the frame end elsewhere.
    for (const at of [500_000, 0, 8]) {
      await assert.rejects(
        collect(cut(changed(at, 0x10), size)),
        placed('artifact.corrupted', { frame: 3, packedOffset }),
        `byte ${at}`,
      )
    }
    await assert.rejects(
      collect(cut(Buffer.concat(frames).subarray(0, packedOffset + 7000), size)),
      placed('artifact.truncated', { frame: 3, packedOffset }),
    )
  }
  // The reader of a plain artifact knows at its end only that a byte was changed.
  const hashed = async function* (bytes: Buffer) {
    yield* cut(bytes, 65_536)
    throw new HoldfastError('artifact.corrupted', 'its hash is another one')
  }
  const read = async (bytes: Buffer) => await buffer(Readable.from(unpack(hashed(bytes))))
  await assert.rejects(read(changed(500_000)), placed('artifact.corrupted', { frame: 3, packedOffset }))
  const last = frames.slice(0, 3)
  for (const count of [1, 2, 3]) {
    const begins = Buffer.concat(last.slice(0, count - 1)).length
    const torn = Buffer.concat(last.slice(0, count))
    torn[begins + 500_000] = (torn[begins + 500_000] ?? 0) ^ 1
    await assert.rejects(
      read(torn),
      placed('artifact.corrupted', { frame: count - 1, packedOffset: begins }),
      `the last of ${count}`,
    )
  }
  await assert.rejects(read(Buffer.concat(frames)), /its hash is another one/)
  const given: Buffer[] = []
  await assert.rejects(async () => {
    for await (const chunk of unpack(Readable.from(cut(changed(500_000), 65_536)))) given.push(chunk)
  })
  assert.equal(Buffer.concat(given).length, 3_000_000, 'what came before is given out')
})

test('one piece of any length: where it was noticed', async () => {
  const gunzip = unpackerOf({ codec: 'gzip' })
  const whole = gzipSync(some)
  const torn = Buffer.from(whole)
  torn[torn.length - 6] = (torn[torn.length - 6] ?? 0) ^ 1
  const read = async (bytes: Buffer) => await buffer(Readable.from(gunzip(Readable.from(cut(bytes, 65_536)))))
  // Of the chunk in which it was noticed only the beginning is known.
  const noticed = (error: unknown) => {
    assert.ok(error instanceof HoldfastError && error.code === 'artifact.corrupted', String(error))
    const after = Number(error.context.packedOffset)
    assert.ok(after <= whole.length && after > whole.length - 65_536, `${after} of ${whole.length}`)
    assert.match(error.message, new RegExp(`noticed after ${after} of`))
    return true
  }
  await assert.rejects(read(torn), noticed)
  await assert.rejects(read(Buffer.concat([whole, Buffer.from('and more')])), noticed)
  await assert.rejects(
    read(whole.subarray(0, 100_000)),
    placed('artifact.truncated', { packedOffset: 100_000 }),
  )
})
