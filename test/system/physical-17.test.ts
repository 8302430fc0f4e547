/** Incremental backups of PostgreSQL 17 through the whole product: a chain made, verified, put together, and recovered alone. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { ScheduleView } from '../../model/schedule-schemas.ts'
import type { BackupView, OperationView, Problem } from '../../model/views.ts'
import { holdfast } from '../cli/run.ts'
import { type Azurite, startAzurite } from '../servers/azurite.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { postgresRelinked, type RelinkedPostgres } from '../servers/postgres-relinked.ts'
import { digestPostgres } from '../support/digest.ts'
import { makePostgresSample } from '../support/postgres-sample.ts'
import { expectCleanHost, processesWith } from './inspect.ts'
import { azureInput, directory, eventually, type Stack, startStack } from './stack.ts'

const run = promisify(execFile)

describe('incremental backups of PostgreSQL 17', () => {
  let tools: RelinkedPostgres
  let server: TestPostgres
  let stack: Stack
  let blobs: Azurite
  let disk = ''
  let ground = ''
  let PATH = ''
  const made: string[] = []

  before(async () => {
    tools = await postgresRelinked(17)
    PATH = `${tools.bin}:${process.env.PATH}`
    process.env.PATH = PATH
    blobs = await startAzurite()
    stack = await startStack({ env: { PATH } })
    ground = await mkdtemp(join(tmpdir(), 'holdfast-physical-17-'))
    if (process.getuid?.() === 0) await run('chown', ['postgres:', ground])
    server = await startPostgres({ binaries: tools })
    await server.sql('ALTER SYSTEM SET summarize_wal = on')
    await server.sql('SELECT pg_reload_conf()')
    await server.sql('CREATE DATABASE shop')
    await makePostgresSample(server.url('shop'), { rows: 1000 })
    disk = await directory(stack, 'disk')
    await stack.expectOk('POST', '/v1/destinations', { name: 'disk', uri: disk })
    const url = server.url('shop')
    await stack.expectOk('POST', '/v1/connections', { name: 'main', url, method: 'physical' })
    const slow = `${url}?maxrate=8M`
    await stack.expectOk('POST', '/v1/connections', { name: 'slow', url: slow, method: 'physical' })
  })
  after(async () => {
    await stack?.stop()
    await server?.stop()
    await blobs?.stop()
    await tools?.remove()
    if (ground !== '') await rm(ground, { recursive: true, force: true })
  })

  const succeeded = async (operation: { id: string }): Promise<OperationView> => {
    const view = await stack.ended(operation.id, 240)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    expectCleanHost(stack.home, view.id)
    return view
  }
  const expectSame = async (name: string) => {
    const logFile = join(stack.directory, `${name}.log`)
    const copy = await startPostgres({ binaries: tools, dataDir: join(ground, name), logFile })
    try {
      assert.deepEqual(await digestPostgres(copy.url('shop')), await digestPostgres(server.url('shop')))
    } finally {
      await copy.stop()
    }
  }

  test('refused before there is a full one', async () => {
    const { status, body } = await stack.call('POST', '/v1/backups', {
      connection: 'main',
      type: 'incremental',
    })
    assert.equal(status, 409, JSON.stringify(body))
    assert.match(JSON.stringify(body), /"backup\.parent"/)
  })

  test('a chain: made, read to the last byte, restored as one', async () => {
    made.push((await succeeded(await stack.backup({ connection: 'main' }))).backup)
    for (const round of [1, 2]) {
      await server.sql(`CREATE TABLE round_${round} AS SELECT generate_series(1, 1000) i`, 'shop')
      made.push((await succeeded(await stack.backup({ connection: 'main', type: 'incremental' }))).backup)
    }
    const last = made.at(-1) ?? ''
    assert.match(last, /-incremental-/)
    const path = `/v1/backups/${last}/verify`
    await succeeded(
      (await stack.expectOk<{ operation: OperationView }>('POST', path, { level: 'deep' })).operation,
    )
    const { verified } = await stack.expectOk<BackupView>('GET', `/v1/backups/${last}`)
    assert.match(verified?.detail ?? '', new RegExp(`made against ${made[1]}, which was not looked at`))
    const target = { connection: 'main', database: join(ground, 'chain') }
    await succeeded(await stack.restore({ backup: last, target }))
    await expectSame('chain')
  })

  test('copied only to where what it needs is', async () => {
    const [full = '', , last = ''] = made
    await stack.expectOk('POST', '/v1/destinations', azureInput(blobs, 'away', 'chain'))
    const copy = (id: string) =>
      stack.call<Problem & { operation: OperationView }>('POST', `/v1/backups/${id}/copy`, { to: 'away' })
    const refused = await copy(last)
    assert.equal(refused.body.code, 'backup.parent', JSON.stringify(refused.body))
    // In the order in which they can be copied.
    assert.match(
      refused.body.hint ?? '',
      new RegExp(`copy ${full} --to away; holdfast backups copy ${made[1]} --to away$`),
    )
    for (const id of made) {
      const { status, body } = await copy(id)
      assert.equal(status, 202, JSON.stringify(body))
      await succeeded(body.operation)
    }
  })

  test('of one of the chain the first copy is gone: the other is brought back from its archive, and read', async () => {
    const [full = '', , last = ''] = made
    const artifacts = async () => {
      const found: { name: string; backup: string; tier: string | undefined }[] = []
      for await (const { name, properties } of blobs.containerClient.listBlobsFlat({ prefix: 'chain/' })) {
        const backup = made.find(id => name.includes(`/${id}/`))
        if (backup && name.endsWith('.tink')) found.push({ name, backup, tier: properties.accessTier })
      }
      return found
    }
    for (const { name } of await artifacts()) {
      await blobs.containerClient.getBlockBlobClient(name).setAccessTier('Archive')
    }
    const whole = join(disk, 'main/backups', full)
    const folder = (await readdir(whole, { withFileTypes: true })).find(entry => entry.isDirectory())
    const [there, aside] = [join(whole, folder?.name ?? ''), join(stack.directory, 'aside')]
    // Its manifest stays: it is known what there should be.
    await rename(there, aside)
    const target = { connection: 'main', database: join(ground, 'thawed') }
    const view = await succeeded(await stack.restore({ backup: last, target }))
    await rename(aside, there)
    const { summary = '' } = view.phases.find(({ phase }) => phase === 'thaw') ?? {}
    assert.match(summary ?? '', /^\d objects, .* brought back$/)
    await expectSame('thawed')
    const away = (await artifacts()).filter(({ tier }) => tier === 'Archive').map(({ backup }) => backup)
    assert.deepEqual([...new Set(away)].sort(), made.slice(1))
  })

  test('full ones and incremental ones by a schedule each', async () => {
    for (const [type, weekdays] of [
      ['full', [0]],
      ['incremental', [1, 2, 3, 4, 5, 6]],
    ] as const) {
      const { options } = await stack.expectOk<ScheduleView>('POST', '/v1/schedules', {
        ...{ name: type, connection: 'main', destinations: ['disk'], options: { type } },
        spec: { at: ['02:30'], weekdays, timeZone: 'UTC' },
      })
      assert.deepEqual(options, { type })
    }
  })

  test('recovered with no Holdfast', async () => {
    const from = ['recover', disk, '--key', join(stack.home, 'keys/default.json'), '--backup', 'main:latest']
    const recovered = await holdfast([...from, '--directory', join(ground, 'recovered')], { env: { PATH } })
    assert.equal(recovered.code, 0, recovered.stderr)
    await expectSame('recovered')
  })

  test('the worker is killed while the tool runs', async () => {
    await succeeded(await stack.backup({ connection: 'slow', destinations: ['disk'] }))
    await server.sql(
      'CREATE TABLE large AS SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 20000) i',
      'shop',
    )
    const operation = await stack.backup({
      ...{ connection: 'slow', destinations: ['disk'] },
      type: 'incremental',
    })
    await eventually('the tool', async () =>
      processesWith('--incremental=').some(line => line.includes('holdfast slow')) ? true : undefined,
    )
    await stack.worker?.kill9()
    stack.startWorker()
    const view = await succeeded(operation)
    await succeeded(
      await stack.restore({
        backup: view.backup,
        target: { connection: 'slow', database: join(ground, 'slow') },
      }),
    )
    await expectSame('slow')
  })
})
