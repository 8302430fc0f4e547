/** Memory of log files that is used again: never while somebody still reads what is in it. */
import assert from 'node:assert/strict'
import { mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { openArchive } from '../../cli/wal/archive.ts'
import { logMemory } from '../../storage/wal/memory.ts'
import { eventually } from '../cli/run.ts'
import { failing } from '../storage/helpers.ts'
import { scratch } from '../support/temporary.ts'
import { walHost } from './host.ts'
import { mebibyte, segmentOf } from './segments.ts'

describe('memory for log files', () => {
  it('is of one act at a time, and used again once that has ended, well or not', async () => {
    const memory = logMemory()
    const ends: (() => void)[] = []
    const lent: Buffer[] = []
    const lend = () =>
      memory.lend(mebibyte, async piece => {
        lent.push(piece)
        await new Promise<void>((end, fail) =>
          ends.push(lent.length % 2 ? end : () => fail(new Error('away'))),
        )
      })
    const first = lend()
    const second = assert.rejects(lend(), /away/)
    assert.notEqual(lent[0], lent[1])
    ends[1]?.()
    await second
    const third = lend()
    assert.equal(lent[2], lent[1])
    for (const end of ends) end()
    await Promise.all([first, third])
  })

  it('goes back to the machine when it is of no use', async () => {
    const memory = logMemory(1)
    const lent = await memory.lend(mebibyte, async piece => piece)
    await eventually('it to be given back', () => (lent.length === 0 ? true : undefined))
    const kept = logMemory()
    const other = await kept.lend(mebibyte, async piece => piece)
    await kept.lend(2 * mebibyte, async () => {})
    assert.equal(other.length, 0)
  })
})

it('many files at once, twice each and again, with some that fail between them, are archived as they are', async () => {
  await using place = await scratch()
  const store = join(place.path, 'store')
  await mkdir(store)
  const host = await walHost(place.path, { uri: store })
  const names = Array.from({ length: 12 }, (_, number) =>
    `00000001000000000000000${number.toString(16)}`.toUpperCase(),
  )
  const contents = names.map(name => segmentOf(name, { random: true }))
  for (const [index, name] of names.entries()) await writeFile(host.at(name), contents[index] ?? '')
  const cut = '000000010000000000000020'
  await writeFile(host.at(cut), segmentOf(cut))
  await truncate(host.at(cut), mebibyte - 1)
  const archive = await openArchive(host.config)
  try {
    for (let round = 0; round < 2; round += 1) {
      await Promise.all(
        names.flatMap(name => [
          archive.push(host.at(name)),
          archive.push(host.at(name)),
          failing('wal.unreadable', archive.push(host.at(cut))),
        ]),
      )
    }
    for (const [index, name] of names.entries()) assert.deepEqual(await archive.fetch(name), contents[index])
  } finally {
    await archive.close()
  }
})
