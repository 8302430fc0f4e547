/** Disks that are full while log is archived, and while it is fetched: PostgreSQL keeps the file, a recovery stops; nothing is cut off. */
import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { holdfast } from '../cli/run.ts'
import { scratch } from '../support/temporary.ts'
import { killed, walHost } from './host.ts'
import { mebibyte, segmentOf } from './segments.ts'

const [first, second] = ['000000010000000000000003', '000000010000000000000004'] as const
/** Of a disk of four. */
const ballast = 2.5 * mebibyte

for (const resident of [false, true]) {
  describe(`a full disk, ${resident ? 'with' : 'without'} an agent`, () => {
    it('where the archive lies: not archived, and once there is room it is', async () => {
      await using place = await scratch()
      const store = await place.smallDisk('store', 4096)
      const host = await walHost(place.path, { uri: store })
      const agent = resident ? await host.startAgent() : undefined
      try {
        const objects = async () =>
          (await readdir(store, { recursive: true })).filter(file => /0000000[34]/.test(file))
        await writeFile(join(store, 'ballast'), Buffer.alloc(ballast))
        for (const one of [first, second]) await writeFile(host.at(one), segmentOf(one, { random: true }))
        assert.equal((await host.push(first)).code, 0)
        const full = await host.push(second)
        assert.equal(full.code, 1, full.stderr)
        assert.match(full.stderr, /^error destination\.full: /)
        assert.deepEqual(
          (await objects()).map(file => file.slice(-28)),
          [`${first}.wal`],
        )
        await rm(join(store, 'ballast'))
        assert.equal((await host.push(second)).code, 0)
      } finally {
        if (agent) await killed(agent)
      }
    })

    it('where it is fetched to: the recovery stops, and takes no half of a file', async () => {
      await using place = await scratch()
      const store = join(place.path, 'store')
      await mkdir(store)
      const host = await walHost(place.path, { uri: store })
      const agent = resident ? await host.startAgent() : undefined
      try {
        const bytes = segmentOf(first, { random: true })
        await writeFile(host.at(first), bytes)
        assert.equal((await host.push(first)).code, 0)
        const small = await place.smallDisk('small', 3072)
        const into = join(small, 'RECOVERYXLOG')
        const fetch = () => holdfast(['wal', 'fetch', '--config', host.config, first, into])
        await writeFile(join(small, 'ballast'), Buffer.alloc(ballast))
        const full = await fetch()
        assert.equal(full.code, 255, full.stderr)
        // But for the agent's own empty directory.
        const names = (await readdir(small)).filter(name => !name.startsWith('.holdfast-ahead-'))
        assert.deepEqual(names, ['ballast'])
        await rm(join(small, 'ballast'))
        assert.equal((await fetch()).code, 0)
        assert.deepEqual(await readFile(into), bytes)
      } finally {
        if (agent) await killed(agent)
      }
    })
  })
}
