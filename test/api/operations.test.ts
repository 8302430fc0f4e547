/** Operations on a real Temporal, without a worker: what is accepted, who holds the lock, what a dead process leaves. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { takeRequest } from '../../catalog/idempotency.ts'
import { openCatalog } from '../../catalog/open.ts'
import { insertOperation } from '../../catalog/operations.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import type { BackupInput } from '../../model/records.ts'
import type { OperationView, Problem } from '../../model/views.ts'
import { operation } from '../catalog/support.ts'
import { startTemporal, type TestTemporal } from '../servers/temporal.ts'
import { eventually, startTestApi, type TestApi } from './support.ts'

interface Accepted {
  operation: OperationView
}

describe('operations', () => {
  let temporal: TestTemporal
  let client: Client
  let connection: Connection
  let t: TestApi
  let count = 0

  before(async () => {
    temporal = await startTemporal()
    connection = await Connection.connect({ address: temporal.address })
    client = new Client({ connection })
    t = await startTestApi({ temporal: temporal.address })
    await t.addDestination('vault')
    await t.addSqlite('early')
    // Encrypting is the rule: without a key it must be asked for that a backup is not.
    assert.equal((await t.refused('POST', '/v1/backups', { connection: 'early' })).code, 'key.missing')
    await t.call('POST', '/v1/keys', { name: 'default' })
  })
  after(async () => {
    await t?.stop()
    await connection?.close()
    await temporal?.stop()
  })

  /** A server of its own per test, so that tests do not meet each other's locks. */
  const database = async () => {
    count += 1
    await t.addSqlite(`db-${count}`)
    return `db-${count}`
  }
  const begin = async (name: string, headers: Record<string, string> = {}) =>
    await t.call<Accepted & Problem>('POST', '/v1/backups', { connection: name, encryptTo: [] }, headers)
  const show = async (id: string) => (await t.call<OperationView>('GET', `/v1/operations/${id}`)).body
  /** Runs that carry this operation, however they ended. */
  const runsOf = async (workflowId: string, id: string) => {
    const runs = []
    for await (const run of client.workflow.list({ query: `WorkflowId = '${workflowId}'` })) {
      if (run.memo?.operationId === id) runs.push(run)
    }
    return runs
  }
  const closed = (id: string) =>
    eventually(`operation ${id} closes`, async () => {
      const view = await show(id)
      return ['failed', 'cancelled', 'succeeded'].includes(view.state) ? view : undefined
    })
  const catalogOf = async () =>
    await openCatalog({
      url: t.settings.catalogUrl,
      secretKey: (await ensureSecretKey(t.settings)).key,
    })

  test('a backup is accepted, its workflow says what it is, and the second one is told who holds the server', async () => {
    const name = await database()
    const first = await begin(name)
    assert.equal(first.status, 202)
    const { operation: view } = first.body
    assert.match(view.id, /^op-[A-Za-z0-9]{14}$/)
    assert.match(view.backup, /^\d{8}T\d{6}Z-full-[a-z0-9]{8}$/)

    const run = await client.workflow.getHandle(view.workflowId).describe()
    assert.equal(run.type, 'backup')
    assert.equal(run.taskQueue, 'holdfast')
    assert.equal(run.runId, view.runId)
    assert.deepEqual(run.memo, { operationId: view.id })
    assert.equal(await run.staticSummary(), `backup ${name} (sqlite, full) → vault`)
    assert.deepEqual(run.searchAttributes.HoldfastOperation, [view.id])
    assert.deepEqual(run.searchAttributes.HoldfastConnection, [name])

    const second = await begin(name)
    assert.equal(second.status, 409)
    assert.equal(second.body.code, 'operation.conflict')
    assert.deepEqual(second.body.holder, { operation: view.id, kind: 'backup', startedAt: view.createdAt })
    const list = await t.call<{ items: OperationView[] }>('GET', `/v1/operations?connection=${name}`)
    assert.deepEqual(
      list.body.items.map(item => item.id),
      [view.id],
    )
    assert.equal((await t.refused('DELETE', `/v1/connections/${name}`)).code, 'request.in-use')
    assert.equal((await t.refused('DELETE', '/v1/destinations/vault')).code, 'request.in-use')
  })

  test('the same Idempotency-Key twenty times at once is one backup', async () => {
    const name = await database()
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => begin(name, { 'idempotency-key': `key-${name}` })),
    )
    const ids = new Set(answers.map(answer => answer.body.operation?.id))
    assert.equal(ids.size, 1)
    assert.ok(answers.every(answer => answer.status === 202))
    assert.equal(answers.filter(answer => answer.headers.get('idempotency-replayed') === 'true').length, 19)
    const mismatch = await t.call<Problem>(
      'POST',
      '/v1/backups',
      { connection: name, labels: { a: 'b' } },
      { 'idempotency-key': `key-${name}` },
    )
    assert.deepEqual([mismatch.status, mismatch.body.code], [409, 'request.idempotency-mismatch'])
    // The answer is kept across a restart; a refused request leaves its key free.
    await t.restart()
    const again = await begin(name, { 'idempotency-key': `key-${name}` })
    assert.equal(again.body.operation.id, [...ids][0])
    assert.equal((await begin(name, { 'idempotency-key': 'refused' })).status, 409)
    const other = await database()
    assert.equal((await begin(other, { 'idempotency-key': 'refused' })).status, 202)
  })

  test('an operation whose API died between row and start is started once', async () => {
    const name = await database()
    const { body } = await t.call<{ serverIdentity: string }>('GET', `/v1/connections/${name}`)
    const id = `op-dead${name.replace('-', '')}`
    const workflowId = `op/${body.serverIdentity}`
    const key = `dead-${name}`
    const request = { connection: name, encryptTo: [] }
    await t.restart(async () => {
      const catalog = await catalogOf()
      const row = operation(id, { connection: name, workflowId })
      const input: BackupInput = { ...(row.input as BackupInput), operationId: id, connection: name }
      const taken = await takeRequest(catalog, {
        key: `token:home ${key}`,
        hash: catalog.box.fingerprint(JSON.stringify(['POST', '/v1/backups', JSON.stringify(request)])),
        process: 'one that died',
      })
      await insertOperation(catalog, { ...row, input }, 'requestKey' in taken ? taken.requestKey : null)
      await catalog.close()
    })
    // The client asks again while the reconciler is at it: both mean the same operation.
    const asked = await begin(name, { 'idempotency-key': key })
    assert.equal(asked.status, 202, JSON.stringify(asked.body))
    assert.equal(asked.body.operation.id, id)
    await eventually('the workflow is there', async () =>
      (await show(id)).runId === null ? undefined : true,
    )
    await t.restart()
    await t.restart()
    const view = await show(id)
    await eventually('it is listed', async () =>
      (await runsOf(workflowId, id)).length > 0 ? true : undefined,
    )
    assert.deepEqual(
      (await runsOf(workflowId, id)).map(run => run.runId),
      [view.runId],
    )
  })

  test('an API that died after the start adopts the run', async () => {
    const name = await database()
    const { operation: view } = (await begin(name)).body
    await t.restart(async () => {
      const catalog = await catalogOf()
      await catalog.db.updateTable('operations').set({ run_id: null }).where('id', '=', view.id).execute()
      await catalog.close()
    })
    await eventually('adopted', async () => ((await show(view.id)).runId === view.runId ? true : undefined))
  })

  test('a workflow that was terminated, failed or cancelled from outside closes its operation', async () => {
    const name = await database()
    const first = (await begin(name)).body.operation
    await client.workflow.getHandle(first.workflowId).terminate('by hand')
    // The lock is free at once; the row follows.
    const second = (await begin(name)).body.operation
    const ended = await closed(first.id)
    assert.equal(ended.state, 'failed')
    assert.equal(ended.error?.code, 'operation.terminated')
    assert.match(ended.error?.detail ?? '', /terminated/)
    assert.ok(ended.endedAt)
    // The one that took the lock since is not touched.
    assert.equal((await show(second.id)).state, 'queued')
    assert.equal((await client.workflow.getHandle(second.workflowId).describe()).status.name, 'RUNNING')
  })

  test('cancel: the wish is kept, sent to this run only, and sent again', async () => {
    const name = await database()
    const { operation: view } = (await begin(name)).body
    const asked = await t.call<OperationView>('POST', `/v1/operations/${view.id}/cancel`)
    assert.deepEqual([asked.status, asked.body.state], [202, 'cancelling'])
    const requested = async () => {
      const { events } = await client.workflow.getHandle(view.workflowId, view.runId ?? '').fetchHistory()
      return (events ?? []).filter(event => event.workflowExecutionCancelRequestedEventAttributes).length
    }
    assert.equal(await requested(), 1)
    assert.equal((await t.call('POST', `/v1/operations/${view.id}/cancel`)).status, 202)
    await client.workflow.getHandle(view.workflowId).terminate()
    await closed(view.id)
    const after = await t.call<OperationView>('POST', `/v1/operations/${view.id}/cancel`)
    assert.deepEqual([after.status, after.body.state], [202, 'failed'])
    assert.equal((await t.refused('POST', '/v1/operations/op-none00000000/cancel')).status, 404)
  })

  test('a wish to cancel that was written but not sent is sent by the next process', async () => {
    const name = await database()
    const { operation: view } = (await begin(name)).body
    await t.restart(async () => {
      const catalog = await catalogOf()
      await catalog.db
        .updateTable('operations')
        .set({ state: 'cancelling' })
        .where('id', '=', view.id)
        .execute()
      await catalog.close()
    })
    await eventually('asked to stop', async () => {
      const { events } = await client.workflow.getHandle(view.workflowId, view.runId ?? '').fetchHistory()
      return (events ?? []).some(event => event.workflowExecutionCancelRequestedEventAttributes) || undefined
    })
  })

  test('the newest run that carries the operation is the operation, as after a reset', async () => {
    const name = await database()
    const { operation: view } = (await begin(name)).body
    await client.workflow.getHandle(view.workflowId).terminate('as a reset does')
    const next = await client.workflow.start('backup', {
      workflowId: view.workflowId,
      taskQueue: 'holdfast',
      args: [],
      memo: { operationId: view.id },
    })
    await eventually('followed', async () =>
      (await show(view.id)).runId === next.firstExecutionRunId ? true : undefined,
    )
    assert.equal((await show(view.id)).state, 'queued')
    const asked = await t.call<OperationView>('POST', `/v1/operations/${view.id}/cancel`)
    assert.equal(asked.body.state, 'cancelling')
  })

  test('pages and filters', async () => {
    const all: string[] = []
    let cursor = ''
    do {
      const { body } = await t.call<{ items: OperationView[]; nextCursor: string | null }>(
        'GET',
        `/v1/operations?limit=2${cursor && `&cursor=${cursor}`}`,
      )
      assert.ok(body.items.length <= 2)
      all.push(...body.items.map(item => item.id))
      cursor = body.nextCursor ?? ''
    } while (cursor !== '')
    assert.equal(new Set(all).size, all.length)
    const everything = await t.call<{ items: OperationView[] }>('GET', '/v1/operations?limit=200')
    assert.deepEqual(
      everything.body.items.map(item => item.id),
      all,
    )
    const failed = await t.call<{ items: OperationView[] }>('GET', '/v1/operations?state=failed&kind=backup')
    assert.ok(failed.body.items.length > 0)
    assert.ok(failed.body.items.every(item => item.state === 'failed'))
  })

  test('backups that do not exist are not restored or verified', async () => {
    const name = await database()
    const target = { connection: name, database: '/tmp/beside.db' }
    assert.equal(
      (await t.refused('POST', '/v1/restores', { backup: `${name}:latest`, target })).code,
      'backup.not-found',
    )
    const id = '20261121T031400Z-full-zzzz9999'
    assert.equal((await t.refused('POST', '/v1/restores', { backup: id, target })).code, 'backup.not-found')
    assert.equal((await t.refused('POST', `/v1/backups/${id}/verify`)).code, 'backup.not-found')
    const odd = await t.refused('POST', '/v1/restores', { backup: `${name}:oldest`, target })
    assert.deepEqual(
      odd.errors?.map(field => field.path),
      ['backup'],
    )
    for (const [body, path] of [
      [{ connection: name, format: 'custom' }, 'format'],
      [{ connection: name, encryptTo: ['nobody'] }, 'encryptTo.0'],
      [{ connection: name, destinations: ['nowhere'] }, 'destinations.0'],
    ] as const) {
      assert.equal((await t.refused('POST', '/v1/backups', body)).errors?.[0]?.path, path)
    }
  })
})
