/** PostgreSQL 17 to a moment: over a full base backup, and over an incremental one that is put together first. */
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { LogStreamView } from '../../model/log-stream.ts'
import type { RecoveryWindowsView } from '../../model/recovery-views.ts'
import type { OperationView } from '../../model/views.ts'
import { parseLsn } from '../../model/wal.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { postgresRelinked, type RelinkedPostgres } from '../servers/postgres-relinked.ts'
import { type Scratch, scratch } from '../support/temporary.ts'
import { archived, type Site, site } from '../wal/site.ts'
import { type Commit, makeGround, makeLedger, recoveries, withLauncher, write } from './recovering.ts'
import { eventually, type Stack, startStack } from './stack.ts'

const streamPath = '/v1/connections/shop/log-stream'

describe('recovery of PostgreSQL 17', () => {
  let tools: RelinkedPostgres
  let place: Scratch
  let on: Site
  let stack: Stack
  let server: TestPostgres
  let agent: Awaited<ReturnType<Site['startAgent']>>
  let copies: ReturnType<typeof recoveries>
  const commits: Commit[] = []
  const bases: string[] = []
  const between: Commit[] = []

  const stream = () => stack.expectOk<LogStreamView>('GET', streamPath)
  const numbers = (last: number) => commits.slice(0, last).map(({ number }) => number)
  const backup = async (type: 'full' | 'incremental') => {
    const { id } = await stack.backup({ connection: 'shop', destinations: ['vault'], type })
    const made = await stack.ended(id, 240)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
    bases.push(made.backup)
  }
  /** The last of them is what a target names: another one follows it. */
  const some = async () => {
    for (let count = 0; count < 6; count += 1) commits.push(await write(server.sql))
    between.push(commits.at(-2) ?? assert.fail('no commit'))
    await server.sql('SELECT pg_switch_wal()')
  }

  before(async () => {
    tools = await postgresRelinked(17)
    const PATH = `${tools.bin}:${withLauncher.PATH}`
    process.env.PATH = PATH
    place = await scratch()
    on = await site(place.path)
    stack = await startStack({ env: { PATH } })
    copies = recoveries(stack, await makeGround(), on.configOf('a'), { binaries: tools })
    server = await startPostgres({
      binaries: tools,
      config: `summarize_wal = on\narchive_mode = on\narchive_command = '${on.pushCommand('a')}'`,
    })
    await on.configured('a', server.dataDir)
    agent = await on.startAgent('a')
    await makeLedger(server.sql)
    await archived(server.sql)
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: on.store })
    const url = server.url('postgres')
    await stack.expectOk('POST', '/v1/connections', { name: 'shop', url, method: 'physical' })
    await mkdir(join(place.path, 'streamed'))
    const uri = join(place.path, 'streamed')
    await stack.expectOk('POST', '/v1/destinations', { name: 'streamed', uri })
    await stack.expectOk('POST', streamPath, { destinations: ['streamed'] })
    await eventually('it is streamed as well', async () =>
      (await stream()).state?.receiving ? true : undefined,
    )
    await some()
    for (const type of ['full', 'incremental'] as const) {
      await backup(type)
      await some()
    }
    await archived(server.sql)
  })
  after(async () => {
    await stack?.stop()
    agent?.child.kill('SIGTERM')
    await agent?.ended
    await server?.stop()
    await copies?.remove()
    await tools?.remove()
    await place?.[Symbol.asyncDispose]()
  })

  test('the windows begin with both', async () => {
    const { archives } = await stack.expectOk<RecoveryWindowsView>('GET', '/v1/connections/shop/windows')
    const found = archives.flatMap(archive => archive.windows).flatMap(window => window.bases)
    assert.deepEqual(new Set(found.map(base => base.backup)), new Set(bases))
  })

  for (const [index, type] of (['full', 'incremental'] as const).entries()) {
    test(`from the ${type} one, beside`, async () => {
      const target = between[index + 1] ?? assert.fail('no target')
      const begun = await copies.recover({ kind: 'time', time: target.at }, type)
      const view: OperationView = await copies.succeeded(begun)
      assert.match(JSON.stringify(view), new RegExp(bases[index] ?? 'none'))
      await copies.expectNumbers(type, numbers(commits.indexOf(target) + 1))
    })
  }

  test('what is streamed are the same files as those that the server pushes', async () => {
    const end = parseLsn(await server.sql('SELECT pg_current_wal_flush_lsn()')) ?? 0n
    await server.sql("SELECT pg_logical_emit_message(false, 'test', 'one more')")
    await archived(server.sql)
    await eventually('it is archived', async () => {
      const { state } = await stream()
      if (state && (parseLsn(state.archivedLsn ?? '0/0') ?? 0n) > end) return true
      throw new Error(JSON.stringify(state))
    })
    const { archives } = await stack.expectOk<RecoveryWindowsView>('GET', '/v1/connections/shop/windows')
    const [pushed, streamed] = ['vault', 'streamed'].map(name =>
      archives.find(({ destination }) => destination === name),
    )
    assert.deepEqual(
      streamed?.windows.flatMap(({ gaps }) => gaps),
      [],
    )
    assert.equal(streamed?.newest?.name, pushed?.newest?.name)
    await stack.expectOk('POST', `${streamPath}/stop`, { slot: 'drop' })
    await eventually('it is forgotten', async () =>
      (await stack.call('GET', streamPath)).status === 404 ? true : undefined,
    )
    assert.equal(await server.sql('SELECT count(*) FROM pg_replication_slots'), '0')
  })

  test('to the end of the log, as a drill', async () => {
    const { operation } = await stack.expectOk<{ operation: OperationView }>('POST', '/v1/drills', {
      moment: { connection: 'shop', to: { kind: 'latest' }, walConfig: on.configOf('a') },
      directory: copies.ground,
      queries: [{ name: 'all of it', sql: 'SELECT count(*) FROM ledger', expect: String(commits.length) }],
    })
    await copies.succeeded(operation)
  })
})
