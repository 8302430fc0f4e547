/** What a "yes" is worth, with steps that really run: whatever is not one leaves the target as it was. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { Client, Connection } from '@temporalio/client'
import { ensureTemporal } from '../../cli/temporal-binary.ts'
import type { AuditView } from '../../model/access.ts'
import type { OperationView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { digestPostgres, digestSqlite } from '../support/digest.ts'
import { addPerson, approve, askFor, awaiting, type Person, planOf } from '../support/people.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { eventually } from './support.ts'
import { startWorkedApi, type WorkedApi } from './worked.ts'

describe('consent', () => {
  let stack: WorkedApi
  let postgres: TestPostgres
  let connection: Connection
  let client: Client
  let anna: Person
  let path = ''

  before(async () => {
    stack = await startWorkedApi()
    connection = await Connection.connect({ address: stack.temporal.address })
    client = new Client({ connection })
    postgres = await startPostgres()
    anna = await addPerson(stack, 'anna', 'approver')
    const vault = join(stack.directory, 'vault')
    mkdirSync(vault)
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: vault })
    path = join(stack.directory, 'live.db')
    sql("CREATE TABLE t (x TEXT); INSERT INTO t VALUES ('backed up')")
    await createDatabase(postgres.url(), 'shop')
    await postgres.sql("CREATE TABLE t (x text); INSERT INTO t VALUES ('backed up')", 'shop')
    await stack.expectOk('POST', '/v1/connections', { name: 'file', url: `sqlite:${path}` })
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    for (const name of ['file', 'pg']) {
      const { id } = await stack.backup({ connection: name, destinations: ['vault'] })
      assert.equal((await stack.ended(id)).state, 'succeeded')
    }
    sql("UPDATE t SET x = 'later'")
    await postgres.sql("UPDATE t SET x = 'later'", 'shop')
  })
  after(async () => {
    await connection?.close()
    await stack?.stop()
    await postgres?.stop()
  })
  const sql = (statement: string) => {
    const database = new DatabaseSync(path)
    database.exec(statement)
    database.close()
  }
  const target = (name: 'file' | 'pg') => ({ connection: name, database: name === 'pg' ? 'shop' : path })
  const digest = async (name: 'file' | 'pg') =>
    name === 'pg' ? (await digestPostgres(postgres.url('shop'))).digest : digestSqlite(path).digest
  const request = async (name: 'file' | 'pg', more: Record<string, unknown> = {}) => {
    const { body } = await askFor(anna, { backup: `${name}:latest`, target: target(name), ...more })
    const view = await awaiting(stack, body.operation.id)
    assert.equal(view.state, 'awaiting-approval', JSON.stringify(view.error))
    return view
  }
  const refusals = async (object: string) =>
    (
      await stack.expectOk<{ items: AuditView[] }>('GET', `/v1/audit?object=${object}&outcome=refused`)
    ).items.map(item => item.detail.code)

  test("a raw signal by Temporal's own command line changes nothing, and is in the audit", async () => {
    const before = await digest('pg')
    const { id, workflowId } = await request('pg')
    const temporal = await ensureTemporal({ onProgress: () => {} })
    for (const [signal, input] of [
      ['approve', '"apr-made-up"'],
      ['approve', '{"approved": true}'],
      ['approve', 'null'],
      ['reject', '"anything"'],
    ] as const) {
      await promisify(execFile)(temporal, [
        'workflow',
        'signal',
        '--address',
        stack.temporal.address,
        '--workflow-id',
        workflowId,
        '--name',
        signal,
        '--input',
        input,
      ])
    }
    await eventually('all four are entered', async () =>
      (await refusals(id)).length === 4 ? true : undefined,
    )
    assert.deepEqual(new Set(await refusals(id)), new Set(['approval.unknown']))
    assert.equal((await stack.operation(id)).state, 'awaiting-approval')
    // A real "no" still counts.
    const no = await anna.call<OperationView>('POST', `/v1/operations/${id}/reject`, {
      reason: 'not this one',
    })
    assert.equal(no.status, 202)
    const ended = await stack.ended(id)
    assert.deepEqual([ended.state, ended.error?.code], ['failed', 'approval.rejected'])
    assert.match(ended.error?.detail ?? '', /anna: not this one/)
    assert.equal(await digest('pg'), before)
  })

  test('the target was dropped and made again under the same name: approved, and refused all the same', async () => {
    const { id } = await request('pg')
    await postgres.sql('ALTER DATABASE shop RENAME TO shop_aside')
    await postgres.sql('CREATE DATABASE shop')
    await postgres.sql('CREATE TABLE precious (x int)', 'shop')
    const precious = await digest('pg')
    assert.equal((await approve(stack, anna, id)).status, 202)
    const ended = await stack.ended(id)
    assert.deepEqual([ended.state, ended.error?.code], ['failed', 'restore.target-changed'])
    assert.equal(await digest('pg'), precious)
    await postgres.sql('DROP DATABASE shop')
    await postgres.sql('ALTER DATABASE shop_aside RENAME TO shop')

    const file = await request('file')
    renameSync(path, `${path}.aside`)
    sql('CREATE TABLE precious (x); INSERT INTO precious VALUES (1)')
    const other = await digest('file')
    assert.equal((await approve(stack, anna, file.id)).status, 202)
    const refused = await stack.ended(file.id)
    assert.deepEqual([refused.state, refused.error?.code], ['failed', 'restore.target-changed'])
    assert.equal(await digest('file'), other)
    renameSync(`${path}.aside`, path)
  })

  test('cancelled while it waits: withdrawn, and no approval counts any more', async () => {
    const { id } = await request('pg')
    const plan = await planOf(stack, id)
    await stack.expectOk('POST', `/v1/operations/${id}/cancel`, {})
    const ended = await stack.ended(id)
    assert.equal(ended.state, 'cancelled')
    assert.equal(ended.approval?.state, 'withdrawn')
    const late = await anna.call<{ code: string }>('POST', `/v1/operations/${id}/approve`, {
      password: anna.password,
      targetName: 'shop',
      reason: 'late',
      planDigest: plan.digest,
    })
    assert.equal(late.body.code, 'approval.not-wanted')
  })

  test('a safety backup that fails stops everything before anything is replaced', async () => {
    const before = await digest('pg')
    const full = join(stack.directory, 'gone')
    mkdirSync(full)
    await stack.expectOk('POST', '/v1/destinations', { name: 'gone', uri: full })
    const { id } = await request('pg', { safetyBackup: { destination: 'gone' } })
    renameSync(full, `${full}.unmounted`)
    assert.equal((await approve(stack, anna, id)).status, 202)
    // It stands still where an operator is needed, and nothing has been touched.
    const parked = await eventually('it is parked', async () => {
      const view = await stack.operation(id)
      return view.state === 'parked' ? view : undefined
    })
    assert.match(parked.error?.code ?? '', /^destination\./)
    assert.equal(await digest('pg'), before)
    await stack.expectOk('POST', `/v1/operations/${id}/cancel`, {})
    assert.equal((await stack.ended(id)).state, 'cancelled')
    assert.equal(await digest('pg'), before)
    const names = (await postgres.sql('SELECT datname FROM pg_database')).split('\n')
    assert.deepEqual(
      names.filter(name => name.startsWith('holdfast')),
      [],
    )
    const { items } = await stack.expectOk<{ items: OperationView[] }>(
      'GET',
      '/v1/operations?kind=backup&connection=pg',
    )
    assert.equal(items[0]?.state, 'cancelled')
  })

  for (const name of ['pg', 'file'] as const) {
    test(`${name}: reset by Temporal's own tools after it ended: refused, nothing runs again`, async () => {
      const { id } = await request(name)
      await approve(stack, anna, id)
      const ended = await stack.ended(id)
      assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
      assert.match(ended.workflowId, /^op\//)
      // Clients work on; nothing of theirs may be lost.
      if (name === 'pg') await postgres.sql("INSERT INTO t VALUES ('since then')", 'shop')
      else sql("INSERT INTO t VALUES ('since then')")
      const since = await digest(name)
      for (const workflowId of [ended.workflowId, `request/${id}`]) {
        const handle = client.workflow.getHandle(workflowId)
        const { runId } = await handle.describe()
        const { events } = await handle.fetchHistory()
        const first = (events ?? []).find(event => event.workflowTaskCompletedEventAttributes)
        const reset = await connection.workflowService.resetWorkflowExecution({
          namespace: 'default',
          workflowExecution: { workflowId, runId },
          reason: 'test',
          requestId: crypto.randomUUID(),
          workflowTaskFinishEventId: first?.eventId ?? null,
        })
        const again = client.workflow.getHandle(workflowId, reset.runId ?? undefined)
        // The restore finds itself finished. The request finds another target, or hears the approval once more and waits on.
        if (workflowId === ended.workflowId) await again.result().catch(() => {})
        else {
          await eventually('it ends, or the approval is refused', async () => {
            if ((await again.describe()).status.name !== 'RUNNING') return true
            return (await refusals(id)).length > 1 ? true : undefined
          })
          await again.terminate().catch(() => {})
        }
        assert.equal(await digest(name), since, workflowId)
      }
      assert.ok((await refusals(id)).includes('approval.used'))
      assert.equal((await stack.operation(id)).state, 'succeeded')
      if (name === 'pg') await postgres.sql("UPDATE t SET x = 'later'", 'shop')
    })
  }

  test('another operation holds the server: the approved restore waits for it, and goes on', async () => {
    const { id } = await request('file')
    const holder = new DatabaseSync(path)
    holder.exec('BEGIN EXCLUSIVE')
    const backup = await stack.backup({ connection: 'file', destinations: ['vault'] })
    await approve(stack, anna, id)
    await eventually('it queues', async () =>
      (await stack.operation(id)).phases.some(phase => phase.phase === 'queue') ? true : undefined,
    )
    assert.equal((await stack.operation(backup.id)).endedAt, null)
    holder.exec('COMMIT')
    holder.close()
    await stack.ended(backup.id)
    assert.equal((await stack.ended(id)).state, 'succeeded')
  })
})

describe('a request that nobody answers', () => {
  test('expires by itself, and is in the audit', async () => {
    const stack = await startWorkedApi({ HOLDFAST_APPROVAL_SECONDS: '8' })
    try {
      const anna = await addPerson(stack, 'anna', 'approver')
      const path = await stack.api.addSqlite('late')
      const vault = join(stack.directory, 'vault')
      mkdirSync(vault)
      await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: vault })
      const { id: backup } = await stack.backup({ connection: 'late', destinations: ['vault'] })
      await stack.ended(backup)
      const before = digestSqlite(path).digest
      const { body } = await askFor(anna, {
        backup: 'late:latest',
        target: { connection: 'late', database: path },
      })
      const ended = await stack.ended(body.operation.id)
      assert.deepEqual([ended.state, ended.error?.code], ['failed', 'approval.expired'])
      assert.equal(ended.approval?.state, 'expired')
      assert.equal((await approve(stack, anna, ended.id)).body.code, 'approval.expired')
      assert.equal(digestSqlite(path).digest, before)
    } finally {
      await stack.stop()
    }
  })
})
