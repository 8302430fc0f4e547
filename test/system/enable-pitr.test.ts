/** A real PostgreSQL 15 that archives nothing is made to archive: set, restarted by somebody, proven; and taken back. */
import assert from 'node:assert/strict'
import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { OperationView, PlanView } from '../../model/views.ts'
import { holdfast, launcher } from '../cli/run.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { type Scratch, scratch } from '../support/temporary.ts'
import { type Site, site } from '../wal/site.ts'
import { type Process, type Stack, startStack } from './stack.ts'

const path = '/v1/connections/shop/archiving'

describe('holdfast pitr enable', () => {
  let place: Scratch
  let on: Site
  let stack: Stack
  let server: TestPostgres
  let worker: Process

  before(async () => {
    place = await scratch()
    on = await site(place.path)
    server = await startPostgres({
      version: 15,
      config: 'wal_level = minimal\nmax_wal_senders = 0\nmax_replication_slots = 0',
    })
    await on.configured('a', server.dataDir)
    stack = await startStack({ worker: false, env: { HOLDFAST_PARK_RETRY_SECONDS: '2' } })
    worker = stack.startWorker()
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: on.store })
    await stack.expectOk('POST', '/v1/connections', { name: 'shop', url: server.url() })
  })
  after(async () => {
    await stack?.stop()
    await server?.stop()
    await place?.[Symbol.asyncDispose]()
  })

  const asked = () => ({ program: launcher, config: on.configOf('a'), archiveTimeoutSeconds: 45 })
  const enable = async (body: object) =>
    (await stack.expectOk<{ operation: OperationView }>('POST', path, body)).operation.id
  const set = async () => await readFile(join(server.dataDir, 'postgresql.auto.conf'), 'utf8')
  const summaryOf = ({ phases }: OperationView, phase: string) =>
    phases.findLast(one => one.phase === phase)?.summary ?? ''

  test('a dry run says what it would set, and which of it needs a restart', async () => {
    const untouched = await set()
    const id = await enable({ ...asked(), dryRun: true })
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    const plan = await stack.expectOk<PlanView>('GET', `/v1/operations/${id}/plan`)
    assert.deepEqual(
      plan.steps.map(({ title }) => title.replace(/archive_command = .*? %p/, 'archive_command = …')),
      [
        'wal_level = replica (restart), archive_command = …, archive_timeout = 45, max_wal_senders = 10 (restart), max_replication_slots = 10 (restart), archive_mode = on (restart)',
      ],
    )
    assert.deepEqual(plan.destroys, [])
    assert.equal(await set(), untouched)
  })

  test('it waits parked for a restart, also while its worker is killed, and sees a segment arrive', async () => {
    let fetched = 0
    // The third time it needs the password it has set everything.
    const held = stack.workerApi.hold(
      'before',
      (_method, url) => url.endsWith('/connectionSecrets') && ++fetched === 3,
    )
    const id = await enable(asked())
    await held.reached
    await worker.kill9()
    held.cut()
    assert.match(await set(), /archive_mode = 'on'/)
    worker = stack.startWorker()
    const parked = await stack.parked(id)
    assert.equal(parked.error?.code, 'wal.needs-restart', JSON.stringify(parked.error))
    assert.match(parked.error?.detail ?? '', /archive_mode/)
    assert.equal(await server.sql('show archive_mode'), 'off')
    // One at a time: another would undo the other's settings.
    assert.equal((await stack.refused('POST', path, asked())).status, 409)
    await worker.kill9()
    await server.restart()
    worker = stack.startWorker()
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify([view.error, view.phases]))
    assert.match(summaryOf(view, 'prove'), /^[0-9A-F]{24} is in vault$/)
    assert.equal(await server.sql('show archive_timeout'), '45s')
    assert.equal(await server.sql('select failed_count from pg_stat_archiver'), '0')
    const cli = await holdfast(['pitr', 'status', 'shop'], {
      env: { ...stack.env, HOLDFAST_URL: stack.apiUrl },
    })
    assert.equal(cli.code, 0, cli.stdout + cli.stderr)
    assert.match(cli.stdout, /archived by +Holdfast/)
  })

  test('once more it has nothing to set, and proves it', async () => {
    const before = await set()
    const view = await stack.ended(await enable({ program: launcher, config: on.configOf('a') }))
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.equal(summaryOf(view, 'plan'), 'all is set already')
    assert.equal(await set(), before)
  })

  test('another archiver is left in charge; where it is replaced in vain, it is as it was', async () => {
    await server.sql('ALTER SYSTEM RESET archive_command')
    await appendFile(
      join(server.dataDir, 'postgresql.conf'),
      "\narchive_command = 'pgbackrest --stanza=main archive-push %p'\n",
    )
    await server.sql('select pg_reload_conf()')
    const before = await set()
    const left = await stack.ended(await enable(asked()))
    assert.equal(left.error?.code, 'wal.other-archiver', JSON.stringify(left.error))
    assert.match(left.error?.detail ?? '', /^pgBackRest archives/)
    assert.equal(await set(), before)

    const id = await enable({ ...asked(), config: `${on.configOf('a')}.none`, replace: true })
    const failing = await stack.parked(id)
    assert.equal(failing.error?.code, 'wal.failing', JSON.stringify(failing.error))
    await stack.expectOk('POST', `/v1/operations/${id}/cancel`, {})
    assert.equal((await stack.ended(id)).state, 'cancelled')
    assert.equal(await set(), before)
    assert.match(await server.sql('show archive_command'), /^pgbackrest/)
  })
})
