/** Approvals on a real Temporal, without a worker: what is refused, what is stored, what a workflow is told. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { backupFacts } from '../../activities/commit.ts'
import { decide } from '../../catalog/approvals.ts'
import { openCatalog } from '../../catalog/open.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import type { AuditView } from '../../model/access.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { ApprovalView, OperationView, Problem } from '../../model/views.ts'
import { startTemporal, type TestTemporal } from '../servers/temporal.ts'
import { attemptOf, commit, foundIn, opened, workerOf } from './backups.ts'
import { eventually, startTestApi, type TestApi } from './support.ts'

const digest = 'd'.repeat(64)
const code = (expected: string) => (error: unknown) => {
  assert.ok(error instanceof HoldfastError, String(error))
  assert.equal(error.code, expected)
  return true
}

describe('approvals', () => {
  let temporal: TestTemporal
  let connection: Connection
  let client: Client
  let t: TestApi
  let path = ''
  let backup = ''
  const tokens: Record<string, string> = {}
  const passwordOf = (name: string) => `canary-${name}-password`

  before(async () => {
    temporal = await startTemporal()
    connection = await Connection.connect({ address: temporal.address })
    client = new Client({ connection })
    t = await startTestApi({ temporal: temporal.address })
    await t.addDestination('vault')
    path = await t.addSqlite('shop')
    for (const [name, role] of [
      ['olga', 'operator'],
      ['anna', 'approver'],
      ['bert', 'approver'],
    ] as const) {
      await t.call('POST', '/v1/users', { name, role, password: passwordOf(name) })
      const made = await t.call<{ token: string }>('POST', '/v1/tokens', {
        name: `of-${name}`,
        user: name,
        role,
      })
      tokens[name] = made.body.token
    }
    backup = await committedBackup()
  })
  after(async () => {
    await t?.stop()
    await connection?.close()
    await temporal?.stop()
  })

  async function committedBackup(): Promise<string> {
    const { body } = await t.call<{ operation: OperationView }>('POST', '/v1/backups', {
      connection: 'shop',
      encryptTo: [],
    })
    const { id: operationId, backup: backupId } = body.operation
    const names = { operationId, backupId, connection: 'shop', destination: 'vault' }
    const to = await opened(t, 'vault')
    const manifest = await commit(t, to, names, await attemptOf(t, to, names))
    await workerOf(t).recordBackup(backupFacts(manifest, operationId), [await foundIn(to, manifest)])
    await to.close()
    return backupId
  }
  const as = <T>(name: string, method: string, route: string, body?: unknown) =>
    t.call<T & Problem>(method, route, body, { authorization: `Bearer ${tokens[name] ?? t.token}` })
  const ask = async (name: string, more: Record<string, unknown> = {}) =>
    await as<{ operation: OperationView }>(name, 'POST', '/v1/restores', {
      backup,
      target: { connection: 'shop', database: path },
      overwriteExisting: true,
      reason: 'a bad migration',
      ...more,
    })
  /** As far as a worker brings it: planned, and waiting. */
  const waiting = async (name: string) => {
    const { operation } = (await ask(name)).body
    await workerOf(t).storePlan({
      operationId: operation.id,
      digest,
      plan: { kind: 'restore', steps: [], finish: [] },
    })
    await workerOf(t).wantApproval(operation.id, { planDigest: digest, targetName: path })
    return operation
  }
  const approve = (name: string, id: string, more: Record<string, unknown> = {}) =>
    as<OperationView>(name, 'POST', `/v1/operations/${id}/approve`, {
      password: passwordOf(name),
      targetName: path,
      reason: 'it is right',
      planDigest: digest,
      ...more,
    })
  const state = async (id: string) =>
    (await t.call<OperationView>('GET', `/v1/operations/${id}`)).body.approval?.state
  const lastAudit = async (object: string) =>
    (await t.call<{ items: AuditView[] }>('GET', `/v1/audit?object=${encodeURIComponent(object)}`)).body
      .items[0]
  const catalogOf = async () =>
    await openCatalog({ url: t.settings.catalogUrl, secretKey: (await ensureSecretKey(t.settings)).key })
  const signals = async ({ workflowId }: OperationView) => {
    const { events } = await client.workflow.getHandle(workflowId).fetchHistory()
    return (events ?? []).flatMap(event => event.workflowExecutionSignaledEventAttributes ?? [])
  }

  test('asking: with a reason; what belongs to replacing is refused without it', async () => {
    const bare = await ask('olga', { reason: ' ' })
    assert.deepEqual([bare.status, bare.body.errors?.[0]?.path], [422, 'reason'])
    const beside = await ask('olga', { overwriteExisting: false, keepOldSeconds: 5 })
    assert.deepEqual([beside.status, beside.body.errors?.[0]?.path], [422, 'keepOldSeconds'])
    const unknown = await ask('olga', {
      safetyBackup: { destination: 'vault' },
      target: { connection: 'shop', database: '/elsewhere.db' },
    })
    assert.deepEqual([unknown.status, unknown.body.code], [422, 'restore.safety-backup'])
  })

  test('every refusal leaves the request waiting, and is in the audit', async () => {
    const planned = (await ask('olga')).body.operation
    assert.equal((await approve('anna', planned.id)).body.code, 'approval.not-wanted')
    const { id, workflowId } = await waiting('olga')
    assert.equal(workflowId, `request/${id}`)
    assert.equal((await t.call<OperationView>('GET', `/v1/operations/${id}`)).body.state, 'awaiting-approval')
    const list = await t.call<{ items: ApprovalView[] }>('GET', '/v1/approvals')
    assert.deepEqual(
      list.body.items.map(item => [item.operation, item.requestedBy, item.targetName]),
      [[id, 'olga', path]],
    )
    for (const [who, more, expected] of [
      ['olga', {}, 'request.forbidden'],
      ['root', { password: 'canary-anything' }, 'approval.password'],
      ['anna', { password: 'canary-wrong' }, 'approval.password'],
      ['anna', { password: passwordOf('bert') }, 'approval.password'],
      ['anna', { targetName: `${path} ` }, 'approval.name'],
      ['anna', { targetName: path.toUpperCase() }, 'approval.name'],
      ['anna', { planDigest: 'e'.repeat(64) }, 'approval.plan-changed'],
      ['anna', { reason: ' ' }, 'request.invalid'],
      ['anna', { password: '' }, 'request.invalid'],
    ] as const) {
      const refused = await approve(who, id, more)
      assert.equal(refused.body.code, expected, JSON.stringify(more))
      const row = await lastAudit(`/v1/operations/${id}/approve`)
      assert.deepEqual([row?.outcome, row?.detail.code], ['refused', expected])
      assert.equal(await state(id), 'waiting')
    }
    assert.deepEqual(await signals({ workflowId } as OperationView), [])
    const yes = await approve('anna', id)
    assert.equal(yes.status, 202, JSON.stringify(yes.body))
    assert.equal(await state(id), 'approved')
    assert.equal((await approve('anna', id)).body.code, 'approval.not-wanted')
    const rejected = await as('anna', 'POST', `/v1/operations/${id}/reject`, { reason: 'too late' })
    assert.equal(rejected.body.code, 'approval.not-wanted')
  })

  test('the workflow is told an id and nothing else; nobody is told a password', async () => {
    const operation = await waiting('olga')
    await approve('anna', operation.id)
    const [signal, ...more] = await signals(operation)
    assert.equal(more.length, 0)
    assert.equal(signal?.signalName, 'approve')
    const events = await client.workflow.getHandle(operation.workflowId).fetchHistory()
    const history = JSON.stringify(events, (key, value: unknown) =>
      key === 'data' && typeof value === 'string' ? Buffer.from(value, 'base64').toString() : value,
    )
    assert.match(history, /apr-[A-Za-z0-9]{10}/)
    assert.doesNotMatch(history, /canary/)
    assert.doesNotMatch(t.log(), /canary-anna|canary-wrong|canary-anything/)
    const audit = await t.call('GET', '/v1/audit?limit=200')
    assert.doesNotMatch(JSON.stringify(audit.body), /canary-/)
  })

  test('two people: not whoever asked, not for a token that is nobody’s; breaking the glass is loud', async () => {
    const policy = '/v1/connections/shop/policy'
    assert.equal((await as('anna', 'POST', policy, { twoPerson: true })).status, 403)
    assert.equal((await t.call('POST', policy, { twoPerson: true })).status, 200)
    try {
      const own = await waiting('anna')
      assert.equal((await approve('anna', own.id)).body.code, 'approval.second-person')
      assert.equal(
        (await approve('anna', own.id, { breakGlass: true, password: 'canary-wrong' })).body.code,
        'approval.password',
      )
      assert.equal((await approve('bert', own.id)).status, 202)
      const nobodys = await waiting('root')
      assert.equal((await approve('anna', nobodys.id)).body.code, 'approval.second-person')
      const night = await waiting('anna')
      assert.equal((await approve('anna', night.id, { breakGlass: true })).status, 202)
      const view = (await t.call<OperationView>('GET', `/v1/operations/${night.id}`)).body
      assert.deepEqual([view.approval?.breakGlass, view.approval?.decidedBy], [true, 'anna'])
      assert.equal((await lastAudit(`/v1/operations/${night.id}/approve`))?.detail.breakGlass, true)
      assert.match(t.log(), /BREAK GLASS/)
    } finally {
      await t.call('POST', policy, { twoPerson: false })
    }
  })

  test('a request that has expired cannot be approved, nor its approval used', async () => {
    const late = await waiting('olga')
    const approved = await waiting('olga')
    await approve('anna', approved.id)
    await t.restart(async () => {
      const catalog = await catalogOf()
      await catalog.db
        .updateTable('approvals')
        .set({ expires_at: new Date(Date.now() - 1000).toISOString() })
        .where('operation_id', 'in', [late.id, approved.id])
        .execute()
      await catalog.close()
    })
    assert.equal((await approve('anna', late.id)).body.code, 'approval.expired')
    const { approvalId } = await idOf(approved)
    const use = { approvalId, runId: 'run-1', planDigest: digest }
    await assert.rejects(workerOf(t).useApproval(approved.id, use), code('approval.expired'))
    assert.equal((await workerOf(t).weighApproval(approved.id, approvalId)).verdict, 'refused')
    assert.equal((await workerOf(t).expireApproval(late.id)).verdict, 'refused')
    assert.equal(await state(late.id), 'expired')
    assert.deepEqual((await lastAudit(late.id))?.detail.code, 'approval.expired')
  })

  /** As the workflow is told it. */
  const idOf = async (operation: OperationView) => {
    const [signal] = await signals(operation)
    const data = signal?.input?.payloads?.[0]?.data
    return { approvalId: JSON.parse(Buffer.from(data ?? []).toString()) as string }
  }

  test('an approval is used once, by one run, for one plan; a closed operation uses none', async () => {
    const operation = await waiting('olga')
    const worker = workerOf(t)
    const step = (run: string) => worker.beginDestructive(operation.id, 'exchange', run)
    await assert.rejects(step('run-1'), code('approval.used'))
    await approve('anna', operation.id)
    const { approvalId } = await idOf(operation)
    const use = { approvalId, runId: 'run-1', planDigest: digest }
    await assert.rejects(
      worker.useApproval(operation.id, { ...use, approvalId: 'apr-made-up' }),
      code('approval.unknown'),
    )
    await assert.rejects(
      worker.useApproval(operation.id, { ...use, planDigest: 'e'.repeat(64) }),
      code('approval.plan-changed'),
    )
    await worker.useApproval(operation.id, use)
    // The answer was lost.
    await worker.useApproval(operation.id, use)
    await assert.rejects(worker.useApproval(operation.id, { ...use, runId: 'run-2' }), code('approval.used'))
    assert.deepEqual((await lastAudit(operation.id))?.detail.code, 'approval.used')
    assert.equal((await worker.weighApproval(operation.id, approvalId)).verdict, 'refused')

    assert.equal(await step('run-1'), 'new')
    assert.equal(await step('run-1'), 'started')
    await assert.rejects(step('run-2'), code('approval.used'))
    await worker.finishDestructive(operation.id, 'exchange')
    assert.equal(await step('run-1'), 'finished')
    assert.deepEqual(await worker.destructiveSteps(operation.id), { exchange: 'finished' })
    await worker.updateOperation(operation.id, { state: 'succeeded' })
    await assert.rejects(step('run-1'), code('operation.conflict'))
    await assert.rejects(worker.useApproval(operation.id, use), code('approval.used'))
  })

  test('a decision that was written and not told is told by the next process', async () => {
    const operation = await waiting('olga')
    await t.restart(async () => {
      const catalog = await catalogOf()
      await decide(catalog, operation.id, {
        decision: 'rejected',
        by: 'anna',
        reason: 'no',
        breakGlass: false,
        seen: null,
      })
      await catalog.close()
    })
    await eventually('the workflow is told', async () =>
      (await signals(operation)).some(signal => signal.signalName === 'reject') ? true : undefined,
    )
  })
})
