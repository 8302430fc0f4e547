/** The bucket by a clock that is held; and a paced destination on a real one. */
import assert from 'node:assert/strict'
import { buffer } from 'node:stream/consumers'
import { describe, it, test } from 'node:test'
import { boundTo } from '../../storage/bound.ts'
import { type Clock, newBucket, paced } from '../../storage/pace.ts'
import { chunked, collect, inDestination, mebibyte, store, toolBytes } from './helpers.ts'

/** Time passes by sleeping only, or when the test says so. */
function heldClock() {
  let now = 0
  let longestNap = 0
  const clock: Clock = {
    now: () => now,
    async sleep(ms, signal) {
      signal?.throwIfAborted()
      longestNap = Math.max(longestNap, ms)
      now += ms
    },
  }
  return { clock, pass: (ms: number) => (now += ms), seconds: () => now / 1000, longestNap: () => longestNap }
}

describe('a bucket', () => {
  it('lets bytes go at its rate, whatever their pieces, and never earlier', async () => {
    for (const pieces of [10_000, 65_536, 8 * mebibyte, 100 * mebibyte]) {
      const held = heldClock()
      const { pace } = newBucket(() => 10e6, held.clock)
      let bytes = 0
      for (; bytes < 200e6; bytes += pieces) {
        await pace(pieces)
        assert.ok(bytes + pieces <= 10e6 * held.seconds() + 1)
      }
      const rate = bytes / held.seconds()
      assert.ok(rate > 9.9e6 && rate <= 10e6 + 1, `${rate} in pieces of ${pieces}`)
    }
  })

  it('gives time that a slow source needed to what it has then, and no more than a second otherwise', async () => {
    const held = heldClock()
    const { pace } = newBucket(() => 1e6, held.clock)
    for (let part = 0; part < 5; part += 1) {
      held.pass(8000)
      await pace(8e6)
    }
    assert.equal(held.seconds(), 40)
    held.pass(3600e3)
    const idle = held.seconds()
    for (let piece = 0; piece < 100; piece += 1) await pace(100_000)
    assert.ok(Math.abs(held.seconds() - idle - 8.9) < 0.01, String(held.seconds() - idle))
  })

  it('goes by a rate that changes while bytes wait, within half a second', async () => {
    const held = heldClock()
    const { pace } = newBucket(() => (held.seconds() < 10 ? 1000 : 1e6), held.clock)
    await pace(1e6)
    assert.ok(held.seconds() > 10 && held.seconds() < 11.6, String(held.seconds()))
    assert.ok(held.longestNap() <= 500)
    const free = newBucket(() => (held.seconds() < 20 ? 1000 : null), held.clock)
    await free.pace(1e9)
    assert.ok(held.seconds() <= 20.5)
    await free.pace(1e12)
    assert.ok(held.seconds() <= 20.5)
  })

  it('serves who came first, ends with the signal, and goes on for the others', async () => {
    const held = heldClock()
    const { pace, used } = newBucket(() => 1000, held.clock)
    const gone = new AbortController()
    const order: string[] = []
    const first = pace(1000).then(() => order.push('first'))
    const aborted = pace(1000, gone.signal)
    const last = pace(1000).then(() => order.push('last'))
    gone.abort(new Error('cancelled'))
    await assert.rejects(aborted, /cancelled/)
    await Promise.all([first, last])
    assert.deepEqual(order, ['first', 'last'])
    assert.deepEqual(used(), { bytes: 2000, waited: true })
    assert.deepEqual(used(), { bytes: 0, waited: false })
  })
})

test('a paced destination: every part and every read byte is asked for, small objects are not', async () => {
  await inDestination(async destination => {
    const asked: number[] = []
    const signal = new AbortController().signal
    const slower = paced(signal, boundTo(signal, destination), async bytes => void asked.push(bytes))
    const tool = toolBytes(3 * mebibyte)
    const sum = () => asked.splice(0).reduce((total, bytes) => total + bytes, 0)
    const stored = await store(slower, 'a', chunked(tool), {
      compression: { method: 'none' },
      plain: true,
      partBytes: mebibyte,
    })
    assert.equal(sum(), tool.length)
    assert.ok((await collect(await slower.get(stored.key))).equals(tool))
    assert.equal(sum(), tool.length)
    assert.equal((await buffer(await slower.get(stored.key, { offset: 10, length: 1000 }))).length, 1000)
    assert.equal(sum(), 1000)
    await slower.put('small', Buffer.from('small'))
    assert.equal(Buffer.from((await slower.read('small')) ?? []).toString(), 'small')
    assert.equal(sum(), 0)
    const unread = await slower.get(stored.key)
    unread.destroy()
    assert.deepEqual(slower.capabilities, destination.capabilities)
  })
})

test('a read that waits for its share ends with its signal', async () => {
  await inDestination(async destination => {
    const stored = await store(destination, 'a', chunked(toolBytes(mebibyte)), { plain: true })
    const stop = new AbortController()
    const { pace } = newBucket(() => 1)
    const slower = paced(stop.signal, boundTo(stop.signal, destination), pace)
    const reading = collect(await slower.get(stored.key))
    setImmediate(() => stop.abort(new Error('cancelled')))
    await assert.rejects(reading, /cancelled|aborted/)
  })
})
