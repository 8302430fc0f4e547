/** Fifty random targets under a writer that does not stop for base backups, nor for anything else. */
import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { startPostgres } from '../servers/postgres.ts'
import { scratch } from '../support/temporary.ts'
import { archived, site } from '../wal/site.ts'
import { type Commit, makeGround, makeLedger, random, recoveries, withLauncher, write } from './recovering.ts'
import { eventually, startStack } from './stack.ts'

const targets = 50
const atOnce = 3

test('fifty random targets: each copy is the prefix of the commits that its target names', async t => {
  await using place = await scratch()
  const on = await site(place.path)
  const stack = await startStack({ env: withLauncher })
  const ground = await makeGround()
  const copies = recoveries(stack, ground, on.configOf('a'))
  const server = await startPostgres({
    version: 15,
    config: `wal_level = replica\narchive_mode = on\narchive_command = '${on.pushCommand('a')}'\nwal_keep_size = 1GB`,
  })
  let agent: Awaited<ReturnType<typeof on.startAgent>> | undefined
  const commits: Commit[] = []
  let stopped = false
  try {
    await on.configured('a', server.dataDir)
    agent = await on.startAgent('a')
    await makeLedger(server.sql)
    await archived(server.sql)
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: on.store })
    const url = server.url('postgres')
    await stack.expectOk('POST', '/v1/connections', { name: 'shop', url, method: 'physical' })
    const writing = (async () => {
      while (!stopped) {
        commits.push(await write(server.sql))
        if (commits.length % 40 === 0) await server.sql('SELECT pg_switch_wal()')
      }
    })()
    const bases: { id: string; commits: number }[] = []
    for (let round = 1; round <= 3; round += 1) {
      const { id } = await stack.backup({ connection: 'shop', destinations: ['vault'] })
      const made = await stack.ended(id)
      assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
      bases.push({ id: made.backup, commits: commits.length })
      const wanted = commits.length + 200
      await eventually('more is written', async () => (commits.length > wanted ? true : undefined))
    }
    stopped = true
    await writing
    await archived(server.sql)

    const [first] = bases
    assert.ok(first)
    const targetOf = (count: number): [unknown, Record<string, unknown>] => {
      const { lsn, at, xid } = commits[count - 1] ?? assert.fail(`commit ${count}`)
      switch (random(1, 3)) {
        case 1:
          return [{ kind: 'time', time: at }, {}]
        case 2:
          return [{ kind: 'xid', xid }, { base: first.id }]
        default:
          return [{ kind: 'lsn', lsn, inclusive: false }, {}]
      }
    }
    for (let done = 0; done < targets; done += atOnce) {
      const some = Array.from({ length: Math.min(atOnce, targets - done) }, (_, index) => ({
        name: `copy-${done + index}`,
        // The last one has no successor that a time could stop before.
        count: random(first.commits + 1, commits.length - 1),
      }))
      const begun = []
      for (const { name, count } of some) {
        const [to, more] = targetOf(count)
        t.diagnostic(`${name}: ${JSON.stringify(to)}, ${count} of ${commits.length} commits`)
        begun.push(await copies.recover(to, name, more))
      }
      await Promise.all(begun.map(copies.succeeded))
      for (const { name, count } of some) {
        await copies.expectNumbers(
          name,
          commits.slice(0, count).map(({ number }) => number),
        )
        await rm(join(ground, name), { recursive: true, force: true })
      }
    }
  } finally {
    stopped = true
    await stack.stop()
    agent?.child.kill('SIGTERM')
    await agent?.ended
    await server.stop()
    await copies.remove()
  }
})
