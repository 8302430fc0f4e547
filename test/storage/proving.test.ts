/** Bytes that are proven on their way through: by this thread, and by one of its own. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import { hasCode } from '../../model/errors.ts'
import type { Seal } from '../../storage/prover.ts'
import { proven } from '../../storage/proving.ts'
import { createSealer } from '../../storage/tink.ts'

const long = 64 * 1024 * 1024
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

for (const apart of [false, true]) {
  describe(apart ? 'by a thread of its own' : 'by this thread', () => {
    const through = (source: AsyncIterable<Buffer>, seal: Seal | null = null) => {
      const said: { sha256?: string } = {}
      const requireHash = (hash: string) => {
        said.sha256 = hash
      }
      return { said, chunks: proven(source, { seal, bytes: long, apart, requireHash }) }
    }
    const all = async (chunks: AsyncIterable<Buffer>) => {
      const came: Buffer[] = []
      for await (const chunk of chunks) came.push(Buffer.copyBytesFrom(chunk))
      return Buffer.concat(came)
    }

    test('gives the same bytes in the same order, and their hash', async () => {
      for (const count of [0, 1, 3, 4, 5, 40]) {
        const chunks = Array.from({ length: count }, (_, at) => randomBytes(1 + 1000 * at))
        const whole = Buffer.concat(chunks)
        const { chunks: out, said } = through(copies(chunks))
        assert.deepEqual(await all(out), whole)
        assert.equal(said.sha256, sha256(whole))
      }
    })

    test('opens what was sealed, and hashes it as it was stored', async () => {
      for (const bytes of [0, 1, 1_048_520, 5_000_000]) {
        const { plain, stored, seal } = sealed(bytes)
        const { chunks, said } = through(cut(stored, 300_000), seal)
        assert.deepEqual(await all(chunks), plain)
        assert.equal(said.sha256, sha256(stored))
      }
    })

    test('gives nothing of a segment that was changed, nor the last one before the hash was compared', async () => {
      const { plain, stored, seal } = sealed(5_000_000)
      const flipped = Buffer.from(stored)
      flipped[2_500_000]! ^= 1
      let came = 0
      const changed = async () => {
        for await (const chunk of through(cut(flipped, 300_000), seal).chunks) came += chunk.length
      }
      await assert.rejects(
        changed,
        error => hasCode(error, 'artifact.corrupted') && error.context.segment === 2,
      )
      assert.ok(came <= 2 * 1024 * 1024)
      const short = async () => all(through(cut(stored.subarray(0, -1), 300_000), seal).chunks)
      await assert.rejects(short, error => hasCode(error, 'artifact.truncated', 'artifact.corrupted'))

      came = 0
      const requireHash = () => {
        throw new Error('another hash')
      }
      const other = async () => {
        const options = { seal, bytes: long, apart, requireHash }
        for await (const chunk of proven(cut(stored, 300_000), options)) came += chunk.length
      }
      await assert.rejects(other, /another hash/)
      assert.ok(came < plain.length)
    })

    test('pieces of larger memory leave the rest of it alone', async () => {
      const memory = randomBytes(10_000)
      const before = Buffer.from(memory)
      const { chunks, said } = through(copies([memory.subarray(10, 5000)], chunk => chunk))
      await all(chunks)
      assert.equal(said.sha256, sha256(before.subarray(10, 5000)))
      assert.deepEqual(memory, before)
    })

    test("the source's error is the error", async () => {
      const failing = async function* () {
        yield randomBytes(100)
        throw new Error('the source')
      }
      const { chunks } = through(failing())
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
      const { chunks } = through(endless())
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

function sealed(bytes: number): { plain: Buffer; stored: Buffer; seal: Seal } {
  const dataKey = randomBytes(32)
  const associatedData = 'proving'
  const sealer = createSealer({ dataKey, salt: randomBytes(32), noncePrefix: randomBytes(7), associatedData })
  const plain = randomBytes(bytes)
  const stored = Buffer.concat([sealer.header, ...sealer.update(plain), ...sealer.final()])
  return { plain, stored, seal: { dataKey, associatedData, what: 'artifact test' } }
}

async function* cut(whole: Buffer, bytes: number) {
  for (let at = 0; at < whole.length; at += bytes)
    yield Buffer.copyBytesFrom(whole, at, Math.min(bytes, whole.length - at))
}
