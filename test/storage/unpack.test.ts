/** Unpacking without a zstd program: many frames, any chunking, the seek table, and damage. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
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
