/**
 * Clocks that are an hour apart: that of the database's machine, which writes the times into its log and into its archive; that of
 * the store; and ours. A time is the server's, and recovers what it had then.
 */
import assert from 'node:assert/strict'
import { readdir, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { OperationView } from '../../model/views.ts'
import { otherTime } from '../servers/faketime.ts'
import { startPostgres } from '../servers/postgres.ts'
import { scratch } from '../support/temporary.ts'
import { archived, site } from '../wal/site.ts'
import { type Commit, makeGround, makeLedger, recoveries, withLauncher, write } from './recovering.ts'
import { type Stack, startStack } from './stack.ts'

const hour = 3600

export function recoveryWithClocks(what: 'behind' | 'ahead'): void {
  const [offset, store] = what === 'behind' ? (['-1h', +hour] as const) : (['+1h', -hour] as const)
  let stack: Stack
  before(async () => {
    stack = await startStack({ env: withLauncher })
  })
  after(() => stack?.stop())

  test(`the server is an hour ${what}, and the store as much the other way`, async () => {
    await using place = await scratch()
    const on = await site(place.path)
    const copies = recoveries(stack, await makeGround(), on.configOf('a'))
    // Without an agent: what archives is started by the server, and has its clock.
    const server = await startPostgres({
      version: 15,
      env: await otherTime(offset),
      config: `wal_level = replica\narchive_mode = on\narchive_command = '${on.pushCommand('a')}'\nwal_keep_size = 1GB`,
    })
    try {
      await on.configured('a', server.dataDir)
      await makeLedger(server.sql)
      const apart =
        Number(await server.sql('SELECT extract(epoch FROM clock_timestamp())')) - Date.now() / 1000
      assert.ok(Math.abs(Math.abs(apart) - hour) < 60, `${apart}`)
      const url = server.url('postgres')
      await stack.expectOk('POST', '/v1/destinations', { name: what, uri: on.store })
      await stack.expectOk('POST', '/v1/connections', { name: 'shop', url, method: 'physical' })
      const commits: Commit[] = []
      const writeSome = async (count: number) => {
        for (let i = 0; i < count; i += 1) commits.push(await write(server.sql))
      }
      await writeSome(3)
      const { id } = await stack.backup({ connection: 'shop', destinations: [what] })
      const made = await stack.ended(id)
      assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
      // How long the server takes to say its time, of which nobody knows whether it is the clock's.
      await sleep(5000)
      await writeSome(3)
      await server.sql('SELECT pg_switch_wal()')
      await sleep(700)
      await writeSome(3)
      await archived(server.sql)
      for (const name of await readdir(on.store, { recursive: true })) {
        const at = Date.now() / 1000 + store
        await utimes(join(on.store, name), at, at)
      }
      const at = (number: number) => commits[number - 1]?.at ?? assert.fail(`${number}`)
      const idle = new Date((Date.parse(at(6)) + Date.parse(at(7))) / 2).toISOString()
      const targets = [
        ['early', at(4), 4],
        ['idle', idle, 6],
      ] as const
      const begun: OperationView[] = []
      for (const [name, time] of targets) begun.push(await copies.recover({ kind: 'time', time }, name))
      await Promise.all(begun.map(copies.succeeded))
      for (const [name, , last] of targets) {
        await copies.expectNumbers(
          name,
          commits.map(({ number }) => number).filter(number => number <= last),
        )
      }
      const later = new Date(Date.parse(at(9)) + 60_000).toISOString()
      for (const [time, said] of [
        [at(2), /No base backup/],
        [later, /which was archived at/],
      ] as const) {
        const { body } = await stack.refused(
          'POST',
          '/v1/pitr',
          copies.asked({ kind: 'time', time }, 'refused'),
        )
        assert.equal(body.code, 'pitr.unreachable', JSON.stringify(body))
        assert.match(body.detail, said)
      }
    } finally {
      await stack.call('DELETE', '/v1/connections/shop')
      await server.stop()
      await copies.remove()
    }
  })
}
