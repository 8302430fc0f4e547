/**
 * What every kind of destination must do, run against the real thing. A new kind is done when this passes.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import { HoldfastError } from '../../model/errors.ts'
import type { Destination, ObjectStat } from '../../storage/destination.ts'
import { compareKeys } from '../../storage/object-key.ts'
import { uploadConformance } from './conformance-uploads.ts'

export interface Subject {
  destination: Destination
  /** Another object for the same place, as another process would open it. */
  again(): Promise<Destination>
  /** Everything that is kept there in the store's own eyes: files of objects and of unfinished uploads. */
  kept(): Promise<string[]>
  close(): Promise<void>
}

export function conformance(name: string, open: () => Promise<Subject>): void {
  describe(`${name}: destination conformance`, () => {
    let subject: Subject
    let destination: Destination
    before(async () => {
      subject = await open()
      destination = subject.destination
    })
    after(async () => {
      await subject?.close()
    })

    test('check passes and leaves nothing', async () => {
      const before = await subject.kept()
      await destination.check()
      assert.deepEqual(await subject.kept(), before)
      assert.equal(destination.capabilities.conditionalPut, true)
    })

    test('puts, reads, stats and replaces', async () => {
      const key = 'objects/one.json'
      const made = await destination.put(key, Buffer.from('first'))
      assert.equal(made.key, key)
      assert.equal(made.bytes, 5)
      assert.equal(text(await destination.read(key)), 'first')
      await destination.put(key, Buffer.from('the second'))
      assert.equal(text(await destination.read(key)), 'the second')
      const stat = await destination.stat(key)
      assert.equal(stat?.bytes, 10)
      assert.ok(Math.abs((stat?.modifiedAt.getTime() ?? 0) - Date.now()) < 3_600_000)
    })

    test('keeps an object of zero bytes and one of 16 MiB', async () => {
      await destination.put('objects/empty', Buffer.alloc(0))
      assert.equal((await destination.read('objects/empty'))?.length, 0)
      assert.equal((await destination.stat('objects/empty'))?.bytes, 0)
      assert.equal((await collect(await destination.get('objects/empty'))).length, 0)
      const large = randomBytes(16 * 1024 * 1024)
      await destination.put('objects/large', large)
      const back = await destination.read('objects/large')
      assert.ok(back && large.equals(back))
      await refuses(destination.put('objects/too-large', Buffer.alloc(large.length + 1)), 'request.invalid')
      await destination.remove('objects/large')
    })

    test('says what is not there', async () => {
      assert.equal(await destination.read('nothing/here'), undefined)
      assert.equal(await destination.stat('nothing/here'), undefined)
      assert.equal(await destination.stat('nothing'), undefined)
      await refuses(destination.get('nothing/here'), 'destination.object-missing')
      await refuses(destination.get('nothing/here', { length: 0 }), 'destination.object-missing')
      assert.deepEqual(await keys(destination.list('nothing/')), [])
      await destination.remove('nothing/here')
    })

    test('put if absent: of 20 at once exactly one wins, and it is whole', async () => {
      const bodies = Array.from({ length: 20 }, (_, index) => Buffer.alloc(50_000, index + 1))
      const other = await subject.again()
      const outcomes = await Promise.allSettled(
        bodies.map((body, index) =>
          (index % 2 ? other : destination).put('race/epoch.json', body, { ifAbsent: true }),
        ),
      )
      const winners = outcomes.flatMap((outcome, index) => (outcome.status === 'fulfilled' ? [index] : []))
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') assert.equal(codeOf(outcome.reason), 'destination.exists')
      }
      assert.equal(winners.length, 1)
      const stored = await destination.read('race/epoch.json')
      assert.ok(stored && bodies[winners[0] ?? -1]?.equals(stored))
      await other.close()
    })

    test('ranges', async () => {
      const body = randomBytes(3 * 1024 * 1024 + 17)
      await destination.put('objects/ranges', body)
      const range = async (options: { offset?: number; length?: number }) =>
        collect(await destination.get('objects/ranges', options))
      assert.ok(body.equals(await range({})))
      assert.ok(body.subarray(5).equals(await range({ offset: 5 })))
      assert.ok(body.subarray(0, 1).equals(await range({ length: 1 })))
      assert.ok(body.subarray(1_000_000, 1_000_003).equals(await range({ offset: 1_000_000, length: 3 })))
      assert.ok(body.subarray(-10).equals(await range({ offset: body.length - 10, length: 5000 })))
      assert.equal((await range({ offset: body.length })).length, 0)
      assert.equal((await range({ offset: body.length + 5 })).length, 0)
      assert.equal((await range({ offset: 5, length: 0 })).length, 0)
      // A reader that stops early leaves nothing behind that would hold the process or the connection.
      for await (const _chunk of await destination.get('objects/ranges')) break
    })

    test('ranges side by side', async () => {
      const body = randomBytes(8 * 1024 * 1024 + 321)
      await destination.put('objects/side-by-side', body)
      const wanted = Array.from({ length: 17 }, (_, index) => ({ offset: index * 500_000, length: 500_000 }))
      await inParallel(wanted, 6, async ({ offset, length }) => {
        const range = await collect(await destination.get('objects/side-by-side', { offset, length }))
        assert.ok(body.subarray(offset, offset + length).equals(range))
      })
      await destination.remove('objects/side-by-side')
    })

    test('odd keys', async () => {
      const odd = [
        'odd/with space',
        'odd/ leading and trailing ',
        'odd/\'single\' and "double"',
        'odd/-leading-dash',
        'odd/--option=value',
        'odd/größe/данные/資料',
        'odd/😀',
        'odd/a+b&c=d%20e?f#g',
        'odd/;$(touch x)`y`|*',
        'odd/...',
        `odd/${'x'.repeat(255)}`,
        '-dash/at the root',
      ]
      for (const key of odd) await destination.put(key, Buffer.from(key))
      for (const key of odd) assert.equal(text(await destination.read(key)), key)
      assert.deepEqual(await keys(destination.list('odd/')), odd.slice(0, -1).sort(compareKeys))
      for (const key of odd) await destination.remove(key)
      assert.deepEqual(await keys(destination.list('odd/')), [])
    })

    test('refuses keys that lead elsewhere, before anything is done', async () => {
      const bad = [
        '',
        '/a',
        'a/',
        'a//b',
        '..',
        'a/../b',
        './a',
        'a/.',
        'a\0b',
        'a\nb',
        'a\\b',
        'x'.repeat(256),
        '\ud800',
      ]
      for (const key of [...bad, '.holdfast-uploads/x', 'y/'.repeat(600)]) {
        await refuses(destination.put(key, Buffer.from('x')), 'request.invalid')
        await refuses(destination.read(key), 'request.invalid')
        await refuses(destination.get(key), 'request.invalid')
        await refuses(destination.stat(key), 'request.invalid')
        await refuses(destination.remove(key), 'request.invalid')
        await refuses(destination.openUpload(key), 'request.invalid')
      }
      await refuses(keys(destination.list('../')), 'request.invalid')
      await refuses(keys(destination.list('a/../b')), 'request.invalid')
    })

    test('lists in key order, by any prefix', async () => {
      const some = ['o/a/b', 'o/a.txt', 'o/a b', 'o/a', 'o/ab', 'o/b', 'o/\u{10000}', 'o/\uff5e'].filter(
        // 'o/a' beside 'o/a/b' is not to be had in a file system.
        key => key !== 'o/a',
      )
      for (const key of some) await destination.put(key, Buffer.from('x'))
      assert.deepEqual(await keys(destination.list('o/')), some.toSorted(compareKeys))
      assert.deepEqual(await keys(destination.list('o/a')), ['o/a b', 'o/a.txt', 'o/a/b', 'o/ab'])
      assert.deepEqual(await keys(destination.list('o/a/')), ['o/a/b'])
      const all = await keys(destination.list(''))
      assert.ok(some.every(key => all.includes(key)))
      assert.deepEqual(all, all.toSorted(compareKeys))
    })

    test('lists over 1,000 objects', async () => {
      const many = Array.from({ length: 1_050 }, (_, index) => `many/${String(index).padStart(5, '0')}`)
      await inParallel(many, 16, async key => void (await destination.put(key, Buffer.from(key))))
      assert.deepEqual(await keys(destination.list('many/')), many)
      await inParallel(many, 16, key => destination.remove(key))
      assert.deepEqual(await keys(destination.list('many/')), [])
    })

    test('putting and removing side by side', async () => {
      const names = Array.from({ length: 40 }, (_, index) => `busy/folder/${index % 4}/${index}`)
      await inParallel(names, 8, async key => {
        await destination.put(key, Buffer.from(key))
        assert.equal(text(await destination.read(key)), key)
        await destination.remove(key)
        await destination.remove(key)
      })
      assert.deepEqual(await keys(destination.list('busy/')), [])
    })

    test('an aborted signal stops each call with its reason', async () => {
      const reason = new Error('the operation was cancelled')
      const signal = AbortSignal.abort(reason)
      const body = Buffer.from('x')
      const same = (error: unknown) => error === reason
      await assert.rejects(destination.put('cancelled', body, { signal }), same)
      await assert.rejects(destination.read('objects/empty', { signal }), same)
      await assert.rejects(destination.get('objects/empty', { signal }), same)
      await assert.rejects(keys(destination.list('', { signal })), same)
      assert.equal(await destination.stat('cancelled'), undefined)
    })

    test('a read that is aborted in its middle ends in an error', async () => {
      await destination.put('objects/long', randomBytes(12 * 1024 * 1024))
      const controller = new AbortController()
      const stream = await destination.get('objects/long', { signal: controller.signal })
      await assert.rejects(async () => {
        for await (const _chunk of stream) controller.abort(new Error('enough'))
      })
    })

    uploadConformance(() => subject)
  })
}

export const codeOf = (error: unknown): string =>
  error instanceof HoldfastError ? error.code : `not ours: ${String(error)}`

export async function refuses(promise: Promise<unknown>, code: string): Promise<void> {
  await assert.rejects(promise, error => {
    assert.equal(codeOf(error), code)
    return true
  })
}

export async function keys(list: AsyncIterable<ObjectStat>): Promise<string[]> {
  const found: string[] = []
  for await (const { key } of list) found.push(key)
  return found
}

export async function collect(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

const text = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString()

export async function inParallel<T>(items: readonly T[], width: number, act: (item: T) => Promise<void>) {
  const queue = items.values()
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (const item of queue) await act(item)
    }),
  )
}
