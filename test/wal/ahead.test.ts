/** Working ahead of PostgreSQL, with a clock of its own: pushes and fetches end when the test says so. */
import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { pushAhead } from '../../cli/wal/ahead.ts'
import { prefetching } from '../../cli/wal/prefetch.ts'
import { openShelf } from '../../cli/wal/shelf.ts'
import { eventually } from '../cli/run.ts'
import { scratch } from '../support/temporary.ts'
import { dataDirectory, ready, segmentOf } from './segments.ts'

const names = Array.from({ length: 12 }, (_, index) =>
  `0000000100000000000000${(index + 16).toString(16)}`.toUpperCase(),
)
const [first = '', second = ''] = names

/** Acts that wait until they are let go or fail. */
function held<T>() {
  const begun: { what: string; end: (value: T) => void; fail: (error: Error) => void }[] = []
  return {
    begun,
    named: () => begun.map(({ what }) => what.split('/').at(-1)),
    act: (what: string) =>
      new Promise<T>((end, fail) => {
        begun.push({ what, end, fail })
      }),
  }
}

const count = (what: string, acts: { begun: unknown[] }, wanted: number) =>
  eventually(what, () => (acts.begun.length >= wanted ? true : undefined))

describe('pushing ahead', () => {
  it('has no more under way than it may, and asks for each file once', async () => {
    await using place = await scratch()
    const at = await dataDirectory(place.path)
    for (const name of names) await ready(at(name), segmentOf(name))
    const acts = held<void>()
    const push = pushAhead({ push: acts.act }, 3, undefined)
    const asked = push(at(first))
    const again = push(at(first))
    await count('the first four', acts, 4)
    assert.deepEqual(acts.named(), names.slice(0, 4))
    for (const { end } of acts.begun) end()
    await Promise.all([asked, again])
    await push(at(second))
    assert.equal(acts.named().filter(name => name === second).length, 1)
  })

  it('a file that failed ahead is pushed anew when it is asked for', async () => {
    await using place = await scratch()
    const at = await dataDirectory(place.path)
    for (const name of names.slice(0, 2)) await ready(at(name), segmentOf(name))
    const acts = held<void>()
    const push = pushAhead({ push: acts.act }, 1, undefined)
    const asked = push(at(first))
    await count('both', acts, 2)
    acts.begun[1]?.fail(new Error('away'))
    acts.begun[0]?.end()
    await asked
    const second2 = push(at(second))
    await count('the second once more', acts, 3)
    acts.begun[2]?.end()
    await second2
  })

  it('a file that became another one is pushed anew', async () => {
    await using place = await scratch()
    const at = await dataDirectory(place.path)
    for (const name of names.slice(0, 2)) await ready(at(name), segmentOf(name))
    const acts = held<void>()
    const push = pushAhead({ push: acts.act }, 1, undefined)
    const asked = push(at(first))
    await count('both', acts, 2)
    for (const { end } of acts.begun) end()
    await asked
    await rm(at(second))
    await writeFile(at(second), segmentOf(second, { seed: 'other' }))
    const again = push(at(second))
    await count('the other one', acts, 3)
    acts.begun[2]?.end()
    await again
  })
})

describe('fetching ahead', () => {
  const opened = async (path: string) => {
    const folder = join(path, 'pg_wal')
    await mkdir(folder)
    return { folder, shelved: await openShelf(join(path, 'wal.json')) }
  }
  const mayCome = { mayCome: true }

  it('never says from memory that a file is not there', async () => {
    await using place = await scratch()
    const { folder, shelved } = await opened(place.path)
    const answers: (Buffer | undefined)[] = [segmentOf(first), undefined, segmentOf(second)]
    const asked: string[] = []
    const archive = {
      fetch: async (name: string) => {
        asked.push(name)
        return answers.shift()
      },
    }
    const fetch = prefetching(archive, 1, shelved)
    assert.ok(await fetch(first, folder, mayCome))
    await eventually('the second', () => (asked.length === 2 ? true : undefined))
    const draft = await fetch(second, folder, mayCome)
    assert.deepEqual(await readFile(draft ?? ''), segmentOf(second))
    assert.deepEqual(asked.slice(0, 3), [first, second, second])
    await shelved.shelf.close()
  })

  it('asks for what it will be asked for, once, also where the launcher takes it', async () => {
    await using place = await scratch()
    const { folder, shelved } = await opened(place.path)
    const asked: string[] = []
    const archive = {
      fetch: async (name: string) => {
        asked.push(name)
        return segmentOf(name)
      },
    }
    const fetch = prefetching(archive, 3, shelved)
    for (const name of names.slice(0, 4)) {
      const draft = await fetch(name, folder, mayCome)
      assert.deepEqual(await readFile(draft ?? ''), segmentOf(name))
    }
    // Several are fetched side by side.
    const askedFor = async (count: number) => {
      await eventually(`${count} segments`, () => (asked.length >= count ? true : undefined))
      assert.deepEqual([...asked].sort(), names.slice(0, count))
    }
    await askedFor(7)
    for (const name of names.slice(4, 6)) {
      const taken = await eventually(name, () => shelved.shelf.take(folder, name))
      assert.deepEqual(await readFile(taken), segmentOf(name))
    }
    await askedFor(9)
    await shelved.shelf.close()
    assert.deepEqual(
      (await readdir(folder)).filter(name => name.startsWith('.holdfast-ahead-')),
      [],
    )
  })

  it('goes on where another data directory has the name of one that it knew', async () => {
    await using place = await scratch()
    const { folder, shelved } = await opened(place.path)
    const fetch = prefetching({ fetch: async name => segmentOf(name) }, 1, shelved)
    const laid = () => eventually(second, () => shelved.shelf.take(folder, second))
    await fetch(first, folder, mayCome)
    await laid()
    // What is laid meanwhile keeps it from going at once.
    const removed = () => rm(folder, { recursive: true, maxRetries: 20, retryDelay: 20 })
    for (const change of [removed, () => rename(folder, `${folder}.old`)]) {
      await change()
      await mkdir(folder)
      await fetch(first, folder, mayCome)
      assert.deepEqual(await readFile(await laid()), segmentOf(second))
    }
    await shelved.shelf.close()
  })
})
