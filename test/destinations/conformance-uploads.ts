/** The part of the conformance suite that is about uploads by parts. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import type { Destination, OpenUpload, PartInfo } from '../../storage/destination.ts'
import { partSender, partSizeAt } from '../../storage/parts.ts'
import { codeOf, collect, inParallel, keys, refuses, type Subject } from './conformance.ts'

const mib = 1024 * 1024

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Sends `body` as part `number` at `offset`, with its true hash. */
export const send = (
  destination: Destination,
  key: string,
  uploadId: string,
  number: number,
  offset: number,
  body: Uint8Array,
): Promise<PartInfo> => destination.putPart(key, uploadId, { number, offset, body, sha256: sha256(body) })

async function inOrder<T>(numbers: readonly number[], act: (number: number) => Promise<T>): Promise<T[]> {
  const done: T[] = []
  for (const number of numbers) done.push(await act(number))
  return done
}

export function uploadConformance(subjectOf: () => Subject): void {
  /** The smallest parts that the store takes. */
  const partBytes = () => Math.max(subjectOf().destination.capabilities.minPartBytes, 100_000)
  const bodyOf = (parts: number, lastBytes: number) => randomBytes((parts - 1) * partBytes() + lastBytes)
  const partOf = (body: Uint8Array, number: number) =>
    body.subarray((number - 1) * partBytes(), number * partBytes())
  const sendPart = (
    destination: Destination,
    key: string,
    uploadId: string,
    body: Uint8Array,
    number: number,
  ) => send(destination, key, uploadId, number, (number - 1) * partBytes(), partOf(body, number))

  test('parts out of order and in parallel, the last one short', async () => {
    const { destination } = subjectOf()
    const key = 'uploads/shuffled/artifact.zst'
    const body = bodyOf(4, 12_345)
    const uploadId = await destination.openUpload(key)
    const sent = destination.capabilities.sequentialParts
      ? await inOrder([1, 2, 3, 4], number => sendPart(destination, key, uploadId, body, number))
      : await Promise.all([3, 1, 4, 2].map(number => sendPart(destination, key, uploadId, body, number)))
    assert.equal(await destination.stat(key), undefined, 'nothing is visible before it is complete')
    assert.deepEqual(await keys(destination.list('uploads/')), [])
    const parts = sent.toSorted((a, b) => a.number - b.number)
    const made = await destination.completeUpload(key, uploadId, parts)
    assert.equal(made.bytes, body.length)
    assert.equal((await destination.stat(key))?.bytes, body.length)
    assert.ok(body.equals(await collect(await destination.get(key))))
    const middle = { offset: partBytes() - 5, length: partBytes() }
    assert.ok(
      body
        .subarray(middle.offset, middle.offset + middle.length)
        .equals(await collect(await destination.get(key, middle))),
    )
    await destination.remove(key)
  })

  test('a single part, also one of zero bytes', async () => {
    const { destination } = subjectOf()
    for (const bytes of [0, 1, 70_000]) {
      const key = `uploads/single/${bytes}`
      const body = randomBytes(bytes)
      const uploadId = await destination.openUpload(key)
      const part = await send(destination, key, uploadId, 1, 0, body)
      await destination.completeUpload(key, uploadId, [part])
      assert.ok(body.equals(await collect(await destination.get(key))))
      await destination.remove(key)
    }
  })

  test('streams of unknown length, with and without a rest after the last whole part', async () => {
    const { destination } = subjectOf()
    const whole = partSizeAt(1, mib, destination.capabilities)
    for (const bytes of [1, whole - 1, whole, whole + 1, 2 * whole]) {
      const key = `uploads/stream/${bytes}`
      const body = randomBytes(bytes)
      const uploadId = await destination.openUpload(key)
      const stop = new AbortController()
      const sender = partSender({ destination, key, uploadId, partBytes: mib, signal: stop.signal }, error =>
        stop.abort(error),
      )
      for (let at = 0; at < bytes; at += 700_001) await sender.write(body.subarray(at, at + 700_001))
      const { parts, storedBytes } = await sender.finish()
      assert.equal(storedBytes, bytes)
      assert.equal(parts.length, Math.ceil(bytes / whole))
      await destination.completeUpload(key, uploadId, parts)
      assert.ok(body.equals(await collect(await destination.get(key))))
      await destination.remove(key)
    }
  })

  test('lists more parts than fit on one page', async () => {
    const { destination } = subjectOf()
    const key = 'uploads/many-parts'
    const uploadId = await destination.openUpload(key)
    if (destination.capabilities.sequentialParts) {
      const whole = bodyOf(3, partBytes())
      for (const number of [1, 2, 3]) await sendPart(destination, key, uploadId, whole, number)
      assert.deepEqual(await destination.listParts(key, uploadId), [])
      return await destination.abortUpload(key, uploadId)
    }
    // Smaller than a store would join; listed they are all the same.
    const bodies = Array.from({ length: 1_050 }, (_, index) => Buffer.from(`part ${index + 1}`))
    let offset = 0
    const parts = bodies.map((body, index) => {
      offset += body.length
      return { number: index + 1, offset: offset - body.length, body, sha256: sha256(body) }
    })
    await inParallel(parts, 16, async part => void (await destination.putPart(key, uploadId, part)))
    const listed = await destination.listParts(key, uploadId)
    assert.deepEqual(
      listed?.map(({ number, bytes, sha256: hash }) => [number, bytes, hash]),
      parts.map(({ number, body, sha256: hash }) => [number, body.length, hash]),
    )
    await destination.abortUpload(key, uploadId)
  })

  test('a part that is repeated: the last one wins', async () => {
    const { destination } = subjectOf()
    const key = 'uploads/repeated'
    const [first, second] = [bodyOf(2, 1000), bodyOf(2, 777)]
    const uploadId = await destination.openUpload(key)
    const sent = await inOrder([1, 2], number => sendPart(destination, key, uploadId, first, number))
    if (destination.capabilities.sequentialParts) {
      const again = await inOrder([1, 2], number => sendPart(destination, key, uploadId, first, number))
      assert.deepEqual(
        again,
        sent.map(part => ({ ...part, thereBefore: part.bytes })),
      )
      await refuses(sendPart(destination, key, uploadId, second, 2), 'destination.upload-gone')
      await destination.completeUpload(key, uploadId, sent)
      assert.ok(first.equals(await collect(await destination.get(key))))
      return await destination.remove(key)
    }
    const parts = [
      await sendPart(destination, key, uploadId, second, 1),
      await sendPart(destination, key, uploadId, second, 2),
    ]
    const listed = await destination.listParts(key, uploadId)
    assert.deepEqual(
      listed?.map(part => [part.number, part.bytes, part.tag]),
      parts.map(part => [part.number, part.bytes, part.tag]),
    )
    await destination.completeUpload(key, uploadId, parts)
    assert.ok(second.equals(await collect(await destination.get(key))))
    await destination.remove(key)
  })

  test('is resumed by another process that lists the parts', async () => {
    const { destination, again } = subjectOf()
    const key = 'uploads/resumed'
    const body = bodyOf(3, 4321)
    const uploadId = await destination.openUpload(key)
    const { sequentialParts } = destination.capabilities
    const order = sequentialParts ? [1, 2] : [2, 1]
    await inOrder(order, number => sendPart(destination, key, uploadId, body, number))

    const other = await again()
    const listed = await other.listParts(key, uploadId)
    const there = sequentialParts
      ? await inOrder(order, number => sendPart(other, key, uploadId, body, number))
      : listed
    if (sequentialParts) assert.deepEqual(listed, [], 'all parts are sent again')
    assert.deepEqual(
      there?.map(({ number, bytes, sha256: hash }) => ({ number, bytes, hash })),
      [1, 2].map(number => ({ number, bytes: partBytes(), hash: sha256(partOf(body, number)) })),
    )
    const last = await sendPart(other, key, uploadId, body, 3)
    await other.completeUpload(key, uploadId, [...(there ?? []), last])
    assert.ok(body.equals(await collect(await destination.get(key))))
    await other.close()
    await destination.remove(key)
  })

  test('lists open uploads below a prefix', async () => {
    const { destination } = subjectOf()
    const named = ['open/b/2', 'open/a/1', 'open/a/3']
    const ids = new Map<string, string>()
    for (const key of named) ids.set(key, await destination.openUpload(key))
    const open = async (prefix: string) => {
      const found: OpenUpload[] = []
      for await (const upload of destination.listUploads(prefix)) found.push(upload)
      return found
    }
    const all = await open('open/')
    assert.deepEqual(all.map(upload => upload.key).sort(), named.toSorted())
    for (const upload of all) {
      assert.equal(upload.uploadId, ids.get(upload.key))
      assert.ok(Math.abs(upload.startedAt.getTime() - Date.now()) < 3_600_000)
    }
    assert.deepEqual((await open('open/a/')).map(upload => upload.key).sort(), ['open/a/1', 'open/a/3'])
    for (const [key, uploadId] of ids) await destination.abortUpload(key, uploadId)
    assert.deepEqual(await open('open/'), [])
  })

  test('abort leaves nothing, twice, and ends the upload for everybody', async () => {
    const { destination, kept, again } = subjectOf()
    const before = await kept()
    const key = 'aborted/deep/below/artifact'
    const body = bodyOf(2, 1000)
    const uploadId = await destination.openUpload(key)
    const part = await sendPart(destination, key, uploadId, body, 1)
    assert.notDeepEqual(await kept(), before)
    const other = await again()
    await other.abortUpload(key, uploadId)
    await destination.abortUpload(key, uploadId)
    assert.deepEqual(await kept(), before)
    await refuses(sendPart(destination, key, uploadId, body, 2), 'destination.upload-gone')
    await refuses(destination.completeUpload(key, uploadId, [part]), 'destination.upload-gone')
    assert.equal(await destination.listParts(key, uploadId), undefined)
    assert.deepEqual(await kept(), before)
    await other.close()
  })

  test('complete is answered again when its answer was lost', async () => {
    const { destination, again } = subjectOf()
    const key = 'uploads/twice'
    const body = bodyOf(2, 1000)
    const uploadId = await destination.openUpload(key)
    const parts = [
      await sendPart(destination, key, uploadId, body, 1),
      await sendPart(destination, key, uploadId, body, 2),
    ]
    await destination.completeUpload(key, uploadId, parts)
    const other = await again()
    assert.equal((await other.completeUpload(key, uploadId, parts)).bytes, body.length)
    await refuses(sendPart(other, key, uploadId, body, 2), 'destination.upload-gone')
    assert.equal(await other.listParts(key, uploadId), undefined)
    await destination.abortUpload(key, uploadId)
    assert.ok(
      body.equals(await collect(await destination.get(key))),
      'aborting what is complete takes nothing away',
    )
    await other.close()
    await destination.remove(key)
  })

  test('complete from two processes at once makes one whole object', async () => {
    const { destination, again } = subjectOf()
    const key = 'uploads/both'
    const body = bodyOf(2, 1000)
    const uploadId = await destination.openUpload(key)
    const parts = [
      await sendPart(destination, key, uploadId, body, 1),
      await sendPart(destination, key, uploadId, body, 2),
    ]
    const other = await again()
    const outcomes = await Promise.allSettled([
      destination.completeUpload(key, uploadId, parts),
      other.completeUpload(key, uploadId, parts),
    ])
    assert.ok(outcomes.some(outcome => outcome.status === 'fulfilled'))
    // Whoever lost the race may be told to try again; then it is answered.
    assert.equal((await other.completeUpload(key, uploadId, parts)).bytes, body.length)
    assert.ok(body.equals(await collect(await destination.get(key))))
    await other.close()
    await destination.remove(key)
  })

  test('never replaces what is there under its key', async () => {
    const { destination } = subjectOf()
    const key = 'uploads/taken'
    await destination.put(key, Buffer.from('here first'))
    const uploadId = await destination.openUpload(key)
    const part = await send(destination, key, uploadId, 1, 0, Buffer.from('too late!!'))
    await refuses(destination.completeUpload(key, uploadId, [part]), 'destination.exists')
    assert.equal(Buffer.from((await destination.read(key)) ?? []).toString(), 'here first')
    await destination.abortUpload(key, uploadId)
    await destination.remove(key)
  })

  test('a part that is named but was never sent fails the completion', async () => {
    const { destination } = subjectOf()
    const key = 'uploads/missing-part'
    const body = bodyOf(2, 1000)
    const uploadId = await destination.openUpload(key)
    const one = await sendPart(destination, key, uploadId, body, 1)
    await assert.rejects(
      destination.completeUpload(key, uploadId, [one, { ...one, number: 2, tag: `"${'0'.repeat(32)}"` }]),
      error => codeOf(error).startsWith('destination.'),
    )
    assert.equal(await destination.stat(key), undefined)
    await destination.abortUpload(key, uploadId)
  })

  test('a part that is cancelled in its middle leaves nothing visible', async () => {
    const { destination, kept } = subjectOf()
    const before = await kept()
    const key = 'uploads/cancelled'
    const body = randomBytes(Math.max(partBytes(), 16 * 1024 * 1024))
    const uploadId = await destination.openUpload(key)
    const controller = new AbortController()
    const part = { number: 1, offset: 0, body, sha256: sha256(body) }
    const sending = destination.putPart(key, uploadId, part, { signal: controller.signal })
    setImmediate(() => controller.abort(new Error('cancelled')))
    await assert.rejects(sending, /cancelled/)
    assert.deepEqual(await destination.listParts(key, uploadId), [])
    assert.equal(await destination.stat(key), undefined)
    await destination.abortUpload(key, uploadId)
    assert.deepEqual(await kept(), before)
  })

  test('a part whose hash is wrong is refused where the store verifies parts', async () => {
    const { destination } = subjectOf()
    if (!destination.capabilities.verifiesParts) {
      // Then a reader must be able to find out: the hash that was given is the one that is listed.
      const uploadId = await destination.openUpload('uploads/hash')
      const body = randomBytes(1000)
      const sent = await send(destination, 'uploads/hash', uploadId, 1, 0, body)
      if (destination.capabilities.sequentialParts) {
        // Or the store compares all that it has with what the last part says, when it makes the object.
        const forged = { ...sent, tag: sent.tag.replace(/[0-9a-f]{32}$/, 'f'.repeat(32)) }
        await assert.rejects(destination.completeUpload('uploads/hash', uploadId, [forged]), error => {
          // The second where the store's refusal was lost on its way: asked again, it knows of no such upload any more.
          assert.match(codeOf(error), /^destination\.(corrupted|upload-gone)$/)
          return true
        })
        assert.equal(await destination.stat('uploads/hash'), undefined)
        return await destination.abortUpload('uploads/hash', uploadId)
      }
      assert.equal((await destination.listParts('uploads/hash', uploadId))?.[0]?.sha256, sha256(body))
      await destination.abortUpload('uploads/hash', uploadId)
      return
    }
    const key = 'uploads/wrong-hash'
    const uploadId = await destination.openUpload(key)
    const body = randomBytes(100_000)
    const wrong = { number: 1, offset: 0, body, sha256: sha256(randomBytes(10)) }
    await refuses(destination.putPart(key, uploadId, wrong), 'destination.corrupted')
    assert.deepEqual(await destination.listParts(key, uploadId), [])
    await destination.abortUpload(key, uploadId)
  })
}
