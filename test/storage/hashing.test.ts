/** The SHA-256 of bytes on their way through: by this thread, and by one of its own. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import { hashing } from '../../storage/hashing.ts'

const long = 64 * 1024 * 1024

for (const apart of [false, true]) {
  describe(apart ? 'by a thread of its own' : 'by this thread', () => {
    const hashed = (source: AsyncIterable<Buffer>) => hashing(source, long, apart)

    test('gives the same bytes in the same order, and their hash', async () => {
      for (const count of [0, 1, 3, 4, 5, 40]) {
        const chunks = Array.from({ length: count }, (_, at) => randomBytes(1 + 1000 * at))
        const whole = Buffer.concat(chunks)
        const { chunks: out, digest } = hashed(copies(chunks))
        const came: Buffer[] = []
        for await (const chunk of out) came.push(chunk)
        assert.deepEqual(Buffer.concat(came), whole)
        assert.equal(digest(), createHash('sha256').update(whole).digest('hex'))
      }
    })

    test('pieces of larger memory leave the rest of it alone', async () => {
      const memory = randomBytes(10_000)
      const before = Buffer.from(memory)
      const { chunks, digest } = hashed(copies([memory.subarray(10, 5000)], chunk => chunk))
      for await (const _ of chunks);
      assert.equal(digest(), createHash('sha256').update(before.subarray(10, 5000)).digest('hex'))
      assert.deepEqual(memory, before)
    })

    test("the source's error is the error", async () => {
      const failing = async function* () {
        yield randomBytes(100)
        throw new Error('the source')
      }
      const { chunks } = hashed(failing())
      await assert.rejects(async () => {
        for await (const _ of chunks);
      }, /the source/)
    })

    test('who stops early ends the source', async () => {
      let ended = false
      const endless = async function* () {
        try {
          for (;;) yield randomBytes(100)
        } finally {
          ended = true
        }
      }
      const { chunks } = hashed(endless())
      for await (const chunk of chunks) {
        assert.equal(chunk.length, 100)
        break
      }
      assert.ok(ended)
    })
  })
}

async function* copies(chunks: Buffer[], copy = (chunk: Buffer): Buffer => Buffer.copyBytesFrom(chunk)) {
  for (const chunk of chunks) yield copy(chunk)
}
