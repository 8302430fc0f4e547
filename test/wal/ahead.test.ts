/** Working ahead of PostgreSQL, with a clock of its own: pushes and fetches end when the test says so. */
import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { pushAhead } from '../../cli/wal/ahead.ts'
import { prefetching } from '../../cli/wal/prefetch.ts'
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
    const push = pushAhead({ push: acts.act }, 3)
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
    const push = pushAhead({ push: acts.act }, 1)
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
    const push = pushAhead({ push: acts.act }, 1)
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
  it('never says from memory that a file is not there', async () => {
    const answers: (Buffer | undefined)[] = [segmentOf(first), undefined, segmentOf(second)]
    const asked: string[] = []
    const fetch = prefetching(
      {
        fetch: async name => {
          asked.push(name)
          return answers.shift()
        },
      },
      1,
    )
    assert.ok(await fetch(first))
    assert.deepEqual(asked, [first, second])
    assert.deepEqual(await fetch(second), segmentOf(second))
    assert.deepEqual(asked.slice(0, 3), [first, second, second])
  })

  it('asks for what it will be asked for, once', async () => {
    const asked: string[] = []
    const fetch = prefetching(
      {
        fetch: async name => {
          asked.push(name)
          return segmentOf(name)
        },
      },
      3,
    )
    for (const name of names.slice(0, 4)) assert.deepEqual(await fetch(name), segmentOf(name))
    assert.deepEqual(asked, names.slice(0, 7))
  })
})
