/**
 * A failover under a writer, in the middle of archiving, of a base backup and of a recovery: the standby goes on where the server
 * was, on a timeline of its own, and the old server comes back and goes on, too. Both can be recovered, each to its own commits.
 */
import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { freePort } from '../../cli/free-port.ts'
import type { RecoveryWindowsView } from '../../model/recovery-views.ts'
import { parseLsn } from '../../model/wal.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { type Scratch, scratch } from '../support/temporary.ts'
import { archived, type Copy, inRecovery, type Site, site } from '../wal/site.ts'
import {
  type Commit,
  makeGround,
  makeLedger,
  numbersIn,
  random,
  recoveries,
  withLauncher,
  write,
} from './recovering.ts'
import { eventually, type Stack, startStack } from './stack.ts'

describe('recovery along timelines', () => {
  let stack: Stack
  let place: Scratch
  let on: Site
  let agent: Awaited<ReturnType<Site['startAgent']>>
  let server: TestPostgres
  let standby: Copy | undefined
  let copies: ReturnType<typeof recoveries>
  let first = ''
  let second = ''
  /** What each timeline holds, in the order of its log. */
  let one: Commit[] = []
  let two: Commit[] = []

  /** What was written when the writer was cut off is there, too, without an answer; it ends before where the server is now. */
  const known = async (sql: Copy['sql'], written: readonly Commit[]): Promise<Commit[]> => {
    const lsn = await sql('SELECT pg_current_wal_insert_lsn()')
    const numbers = await numbersIn(sql)
    return numbers.map(
      number => written.find(commit => commit.number === number) ?? { number, lsn, at: '', xid: '' },
    )
  }
  const upTo = (commits: readonly Commit[], count: number) =>
    commits.slice(0, count).map(({ number }) => number)
  const windows = async () => {
    const { archives } = await stack.expectOk<RecoveryWindowsView>('GET', '/v1/connections/shop/windows')
    return archives[0]?.windows ?? []
  }

  before(async () => {
    place = await scratch()
    on = await site(place.path)
    stack = await startStack({ env: withLauncher })
    copies = recoveries(stack, await makeGround(), on.configOf('b'))
    server = await startPostgres({
      version: 15,
      config: `wal_level = replica\narchive_mode = on\narchive_command = '${on.pushCommand('a')}'\nwal_keep_size = 1GB`,
    })
    await on.configured('a', server.dataDir)
    agent = await on.startAgent('a')
    await makeLedger(server.sql)
    const base = join(place.path, 'base')
    await on.baseBackup(server, base)
    // It trusts what the other one has archived; and what it archives itself is trusted by itself.
    await on.configured('b', base)
    const standbyDir = await on.copyOf(base, 'standby', 'standby', [
      `primary_conninfo = 'host=127.0.0.1 port=${server.port} user=postgres'`,
      `restore_command = '${on.fetchCommand('b')}'`,
      `archive_command = '${on.pushCommand('b')}'`,
    ])
    standby = await on.start(standbyDir, await freePort())
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: on.store })
    for (const [name, more] of [
      ['shop', ''],
      ['slow', '?maxrate=2M'],
    ] as const) {
      const url = `${server.url('postgres')}${more}`
      await stack.expectOk('POST', '/v1/connections', { name, url, method: 'physical' })
    }
    const backedUp = async () => {
      const { id } = await stack.backup({ connection: 'shop', destinations: ['vault'] })
      const view = await stack.ended(id)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      return view.backup
    }
    const written: Commit[] = []
    for (let count = 0; count < 5; count += 1) written.push(await write(server.sql))
    first = await backedUp()
    for (let count = 0; count < 10; count += 1) written.push(await write(server.sql))
    await stack.expectOk('POST', '/v1/connections/shop/restore-points', { name: 'before-failover' })
    await archived(server.sql)

    // The failover, while everybody is busy.
    const during = await copies.recover({ kind: 'lsn', lsn: written.at(-1)?.lsn, inclusive: false }, 'during')
    const cut = await stack.backup({ connection: 'slow', destinations: ['vault'] })
    await eventually('the backup runs', async () =>
      (await server.sql('SELECT count(*) FROM pg_stat_progress_basebackup')) === '1' ? true : undefined,
    )
    let stopped = false
    const writing = (async () => {
      while (!stopped) {
        written.push(await write(server.sql))
        if (written.length % 10 === 0) await server.sql('SELECT pg_switch_wal()')
      }
    })().catch(() => {})
    await eventually('some are written', async () => (written.length > 40 ? true : undefined))
    await server.kill9()
    stopped = true
    await writing
    await standby.sql('SELECT pg_promote()')
    assert.equal(await inRecovery(standby.sql), false)
    const shared = await known(standby.sql, written)
    assert.ok(shared.length > 15)
    const survived = shared.filter(({ at }) => at !== '')
    assert.deepEqual(survived, written.slice(0, survived.length), 'the standby has a prefix')
    await archived(standby.sql)
    await standby.stop()
    standby = undefined

    // The old one comes back elsewhere and goes on where it was; the new one takes its place.
    await rm(server.logFile)
    const old = await on.start(server.dataDir, await freePort())
    one = await known(old.sql, written)
    assert.ok(one.length >= shared.length)
    for (let count = 0; count < 10; count += 1) one.push(await write(old.sql))
    await archived(old.sql)
    await old.stop()
    standby = await on.start(standbyDir, server.port)
    two = shared
    const { sql } = standby
    for (let count = 0; count < 10; count += 1) two.push(await write(sql))
    await archived(sql)
    // Cut off with its server, it waits for somebody; then it is no backup, or one of the server that came after.
    await stack.parked(cut.id)
    await stack.resume(cut.id)
    const view = await stack.ended(cut.id, 240)
    if (view.state === 'succeeded') {
      const [made] = await stack.backups('slow')
      assert.equal(made?.id, view.backup)
    } else {
      assert.deepEqual(await stack.backups('slow'), [], JSON.stringify(view.error))
    }
    second = await backedUp()
    for (let count = 0; count < 10; count += 1) two.push(await write(sql))
    await archived(sql)

    await copies.succeeded(during)
    await copies.expectNumbers('during', upTo(written, 15))
  })
  after(async () => {
    await standby?.stop().catch(() => {})
    await stack?.stop()
    agent?.child.kill('SIGTERM')
    await agent?.ended
    await server?.stop()
    await copies?.remove()
    await place?.[Symbol.asyncDispose]()
  })

  test('the windows say where the timelines part, and that both are whole', async () => {
    const [old, young] = await windows()
    assert.deepEqual([old?.timeline, old?.gaps, young?.timeline, young?.gaps], [1, [], 2, []])
    assert.equal(young?.parent?.timeline, 1)
    assert.deepEqual(
      [old, young].map(window => window?.bases.map(({ backup }) => backup)),
      [[first], [first, second]],
    )
  })

  test('each timeline is recovered to its own commits, from base backups before and after', async () => {
    const leftAt = parseLsn((await windows())[1]?.parent?.leftAt ?? '') ?? 0n
    const after = (commits: readonly Commit[]) =>
      commits.findIndex(({ at, lsn }) => at !== '' && (parseLsn(lsn) ?? 0n) > leftAt)
    const oneLater = random(Math.max(after(one), 0) + 1, one.length - 1)
    const twoLater = random(after(two) + 1, two.length - 11)
    const twoLast = random(two.length - 8, two.length - 1)
    const at = (commits: readonly Commit[], count: number) => commits[count - 1] ?? assert.fail(`${count}`)
    const lsn = (commit: Commit) => ({ kind: 'lsn', lsn: commit.lsn, inclusive: false })
    const targets: [string, unknown, number[], string, Record<string, unknown>?][] = [
      ['old', lsn(at(one, oneLater)), upTo(one, oneLater), first, { timeline: 1 }],
      ['current', { kind: 'latest' }, upTo(one, one.length), first, { timeline: 'current', base: first }],
      ['across', lsn(at(two, twoLater)), upTo(two, twoLater), first],
      ['young', { kind: 'time', time: at(two, twoLast).at }, upTo(two, twoLast), second],
      ['point', { kind: 'name', name: 'before-failover' }, upTo(one, 15), first],
    ]
    const begun = []
    for (const [name, to, , base, more] of targets) {
      const operation = await copies.recover(to, name, more)
      assert.equal(operation.backup, base, name)
      begun.push(operation)
    }
    await Promise.all(begun.map(copies.succeeded))
    for (const [name, , numbers] of targets) await copies.expectNumbers(name, numbers)
  })

  test('what is on no way to that timeline is refused', async () => {
    const [old] = await windows()
    const beyond = one.at(-1)?.lsn ?? ''
    const cases: [unknown, RegExp, Record<string, unknown>][] = [
      // The new one may have come by the same places.
      [{ kind: 'lsn', lsn: old?.intervals[0]?.to }, /on timeline 1 cannot be recovered/, { timeline: 1 }],
      [{ kind: 'lsn', lsn: beyond }, /does not lie on the way to timeline 1/, { timeline: 1, base: second }],
      [{ kind: 'latest' }, /nothing of timeline 3/, { timeline: 3 }],
    ]
    for (const [to, said, more] of cases) {
      const { body } = await stack.refused('POST', '/v1/pitr', copies.asked(to, 'refused', more))
      assert.equal(body.code, 'pitr.unreachable', JSON.stringify(body))
      assert.match(body.detail, said)
      assert.ok(body.detail.includes(`timeline 1 from ${old?.intervals[0]?.from}`), body.detail)
    }
  })
})
