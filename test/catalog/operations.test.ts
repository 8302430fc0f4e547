import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listAttempts, recordAttempt } from '../../catalog/attempts.ts'
import { insertDestination, removeDestination } from '../../catalog/destinations.ts'
import {
  closedOperations,
  insertOperation,
  listOperations,
  readOperation,
  updateOperation,
} from '../../catalog/operations.ts'
import { readPlan, storePlan } from '../../catalog/plans.ts'
import { vault } from './rows.ts'
import { operation, withCatalog } from './support.ts'

const attempt = (attemptId: string, operationId: string) => ({
  attemptId,
  operationId,
  backupId: '20261121T031400Z-full-9f3kabcd',
  connection: 'shop',
  destinations: ['vault'],
  createdAt: new Date().toISOString(),
  artifacts: [],
})

test('a closed operation changes no more', () =>
  withCatalog(async ({ catalog }) => {
    await insertOperation(catalog, operation('op-one'), null)
    assert.equal(await updateOperation(catalog, 'op-one', { state: 'running', runId: 'run-1' }), true)
    assert.equal(await updateOperation(catalog, 'op-one', { state: 'succeeded' }), true)
    const closed = await readOperation(catalog, 'op-one')
    assert.equal(closed.state, 'succeeded')
    assert.ok(closed.endedAt)
    assert.equal(await updateOperation(catalog, 'op-one', { state: 'failed', runId: 'zombie' }), false)
    assert.deepEqual(await readOperation(catalog, 'op-one'), closed)
    await assert.rejects(updateOperation(catalog, 'op-none', {}), { code: 'request.not-found' })
  }))

test('a wish to cancel is not overwritten by progress, only by an end', () =>
  withCatalog(async ({ catalog }) => {
    await insertOperation(catalog, operation('op-one', { state: 'running' }), null)
    await updateOperation(catalog, 'op-one', { state: 'cancelling' })
    await updateOperation(catalog, 'op-one', { state: 'running', warnings: ['late'] })
    const row = await readOperation(catalog, 'op-one')
    assert.equal(row.state, 'cancelling')
    assert.deepEqual(row.warnings, ['late'])
    await updateOperation(catalog, 'op-one', { state: 'cancelled' })
    assert.equal((await readOperation(catalog, 'op-one')).state, 'cancelled')
  }))

test('no attempt begins once the operation is closed or unknown', () =>
  withCatalog(async ({ catalog }) => {
    await insertOperation(catalog, operation('op-one'), null)
    await recordAttempt(catalog, attempt('a1', 'op-one'))
    await recordAttempt(catalog, attempt('a1', 'op-one'))
    assert.equal((await listAttempts(catalog, { operation: 'op-one' })).length, 1)
    await updateOperation(catalog, 'op-one', { state: 'failed' })
    await assert.rejects(recordAttempt(catalog, attempt('a2', 'op-one')), { code: 'operation.conflict' })
    await assert.rejects(recordAttempt(catalog, attempt('a3', 'op-none')), { code: 'operation.conflict' })
    assert.deepEqual(
      (await listAttempts(catalog, { backup: '20261121T031400Z-full-9f3kabcd' })).map(one => one.attemptId),
      ['a1'],
    )
  }))

test('the first plan wins, also among many at once', () =>
  withCatalog(async ({ catalog }) => {
    await insertOperation(catalog, operation('op-one'), null)
    const stored = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        storePlan(catalog, { operationId: 'op-one', digest: `d${n}`, plan: { n } }),
      ),
    )
    assert.equal(new Set(stored.map(plan => plan.digest)).size, 1)
    assert.deepEqual(await readPlan(catalog, 'op-one'), stored[0])
    assert.equal(await readPlan(catalog, 'op-none'), undefined)
  }))

test('pages of operations: every one once, newest first, also with equal times', () =>
  withCatalog(async ({ catalog }) => {
    const times = ['2026-01-01T00:00:00.000Z', '2026-01-02T00:00:00.000Z']
    for (let n = 0; n < 9; n++) {
      const createdAt = times[n % 2] ?? ''
      await insertOperation(
        catalog,
        operation(`op-${n}`, { createdAt, kind: n === 3 ? 'verify' : 'backup' }),
        null,
      )
    }
    const seen: string[] = []
    let after: { createdAt: string; id: string } | undefined
    for (;;) {
      const [one, ...rest] = await listOperations(catalog, {}, after, 2)
      if (!one) break
      seen.push(one.id, ...rest.map(row => row.id))
      after = rest.at(-1) ?? one
    }
    assert.equal(seen.length, 9)
    assert.equal(new Set(seen).size, 9)
    assert.deepEqual(
      (await listOperations(catalog, { kind: 'verify' }, undefined, 9)).map(row => row.id),
      ['op-3'],
    )
    assert.deepEqual(await listOperations(catalog, { connection: 'none' }, undefined, 9), [])
  }))

test('closed operations are told from open and unknown ones, however many are asked for', () =>
  withCatalog(async ({ catalog }) => {
    await insertOperation(catalog, operation('op-open', { state: 'running' }), null)
    await insertOperation(catalog, operation('op-closed', { state: 'failed' }), null)
    const many = Array.from({ length: 3000 }, (_, n) => `op-unknown-${n}`)
    assert.deepEqual(await closedOperations(catalog, ['op-open', ...many, 'op-closed']), ['op-closed'])
  }))

test('what an open operation uses is not removed', () =>
  withCatalog(async ({ catalog }) => {
    await insertDestination(catalog, vault, {}, 1)
    await assert.rejects(insertDestination(catalog, vault, {}, 1), { code: 'request.exists' })
    await insertOperation(catalog, operation('op-one', { state: 'running' }), null)
    await assert.rejects(removeDestination(catalog, 'vault'), { code: 'request.in-use', message: /op-one/ })
    await updateOperation(catalog, 'op-one', { state: 'failed' })
    await removeDestination(catalog, 'vault')
    await assert.rejects(removeDestination(catalog, 'vault'), { code: 'request.not-found' })
  }))

test('where the log of a recovery lies is held as its base backup is, until it ends', () =>
  withCatalog(async ({ catalog }) => {
    for (const name of ['vault', 'log']) {
      await insertDestination(catalog, { ...vault, name, uri: `file:///srv/${name}` }, {}, 1)
    }
    const backup = operation('op-one')
    const input = { ...backup.input, copies: ['vault'], recovery: { archive: 'log' } } as never
    await insertOperation(catalog, { ...backup, kind: 'pitr', state: 'running', input }, null)
    for (const name of ['vault', 'log']) {
      await assert.rejects(removeDestination(catalog, name), { code: 'request.in-use', message: /op-one/ })
    }
    await updateOperation(catalog, 'op-one', { state: 'succeeded' })
    await removeDestination(catalog, 'log')
  }))
