/** What goes on around a swap: hooks, a pause, the safety backup. Whatever of it goes wrong, the target is as it was. */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { OperationView, Problem } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { addPerson, approve, askFor, awaiting, type Person, planOf } from '../support/people.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { eventually } from './support.ts'
import { startWorkedApi, type WorkedApi } from './worked.ts'

describe('around a swap', () => {
  let stack: WorkedApi
  let postgres: TestPostgres
  let anna: Person
  let program = ''
  let calls = ''
  let gate = ''

  before(async () => {
    stack = await startWorkedApi()
    postgres = await startPostgres()
    anna = await addPerson(stack, 'anna', 'approver')
    const vault = join(stack.directory, 'vault')
    mkdirSync(vault)
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: vault })
    await createDatabase(postgres.url(), 'shop')
    await postgres.sql("CREATE TABLE t (x text); INSERT INTO t VALUES ('backed up')", 'shop')
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    const { id } = await stack.backup({ connection: 'pg', destinations: ['vault'] })
    backup = (await stack.ended(id)).backup
    calls = join(stack.directory, 'calls')
    gate = join(stack.directory, 'gate')
    program = join(stack.directory, 'hook')
    writeFileSync(
      program,
      `#!/bin/sh
echo "$1 $HOLDFAST_OUTCOME" >> ${calls}
case $2 in
  wait) while [ ! -e ${gate} ]; do sleep 0.1; done;;
  fail) exit 3;;
esac
`,
    )
    chmodSync(program, 0o755)
  })
  beforeEach(async () => {
    writeFileSync(calls, '')
    rmSync(gate, { force: true })
    await postgres.sql("DROP TABLE IF EXISTS made_by_hook; UPDATE t SET x = 'later'", 'shop')
  })
  after(async () => {
    await stack?.stop()
    await postgres?.stop()
  })

  let backup = ''
  const hooks = (...items: Record<string, unknown>[]) =>
    stack.expectOk('PUT', '/v1/connections/pg/hooks', { items })
  const hook = (name: string, of: 'backup' | 'restore', at: 'before' | 'after', mode = '', extra = {}) => ({
    name,
    of,
    at,
    run: { argv: [program, name, mode] },
    ...extra,
  })
  const told = { when: 'always' }
  const called = () =>
    readFileSync(calls, 'utf8')
      .split('\n')
      .map(line => line.trim())
      .filter(line => line !== '')
  const content = () => postgres.sql('SELECT x FROM t', 'shop')
  const waiting = async () => {
    const { body } = await askFor(anna, {
      backup,
      target: { connection: 'pg', database: 'shop' },
      safetyBackup: { destination: 'vault' },
    })
    const view = await awaiting(stack, body.operation.id)
    assert.equal(view.state, 'awaiting-approval', JSON.stringify(view.error))
    return view
  }
  const approved = async () => {
    const { id } = await waiting()
    assert.equal((await approve(stack, anna, id)).status, 202)
    return id
  }
  const reaches = (id: string, state: OperationView['state']) =>
    eventually(`it is ${state}`, async () => {
      const view = await stack.operation(id)
      if (view.endedAt !== null) throw new Error(JSON.stringify(view.error))
      return view.state === state ? view : undefined
    })
  const safetyOf = async (id: string) => {
    const { items } = await stack.expectOk<{ items: OperationView[] }>('GET', '/v1/operations?kind=backup')
    const { runId } = await stack.operation(id)
    const ours = items.find(one => one.runId === runId)
    assert.ok(ours, `a safety backup of ${id}`)
    return ours
  }
  const expectOld = async () => {
    assert.equal(await content(), 'later')
    const names = (await postgres.sql('SELECT datname FROM pg_database')).split('\n')
    assert.deepEqual(
      names.filter(name => name.startsWith('holdfast') && !name.includes('old')),
      [],
    )
  }

  test('hooks of the restore run around it, under the lock that the safety backup has; a pause holds it before', async () => {
    await hooks(
      hook('saving', 'backup', 'before', 'wait'),
      hook('stop-writers', 'restore', 'before'),
      { name: 'grant', of: 'restore', at: 'after', run: { sql: 'CREATE TABLE made_by_hook ()' } },
      hook('start-writers', 'restore', 'after', '', told),
    )
    const { id } = await waiting()
    assert.deepEqual(
      (await planOf(stack, id)).hooks.map(one => one.name),
      ['stop-writers', 'grant', 'start-writers'],
    )
    assert.deepEqual(called(), [], 'nothing runs before somebody has said yes')
    assert.equal((await approve(stack, anna, id)).status, 202)
    await eventually('the safety backup is made', async () =>
      called().includes('saving') ? true : undefined,
    )
    const conflict = await stack.call<Problem>('POST', '/v1/backups', {
      connection: 'pg',
      destinations: ['vault'],
    })
    assert.deepEqual(
      [conflict.status, conflict.body.code, conflict.body.holder?.operation],
      [409, 'operation.conflict', id],
    )
    await stack.expectOk('POST', `/v1/operations/${id}/pause`)
    await eventually('the wish is known', async () =>
      (await stack.operation(id)).pauseWanted ? true : undefined,
    )
    writeFileSync(gate, '')
    const paused = await reaches(id, 'paused')
    assert.equal(paused.phases.at(-1)?.phase, 'safety backup')
    assert.deepEqual(called(), ['saving'])
    await expectOld()
    await stack.expectOk('POST', `/v1/operations/${id}/resume`)
    const ended = await stack.ended(id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.deepEqual(called(), ['saving', 'stop-writers', 'start-writers succeeded'])
    assert.equal(await content(), 'backed up')
    assert.equal(await postgres.sql("SELECT to_regclass('made_by_hook')", 'shop'), 'made_by_hook')
    assert.equal((await safetyOf(id)).state, 'succeeded')
    const order = ended.phases.map(one => one.phase)
    assert.ok(order.indexOf('safety backup') < order.indexOf('hooks'), order.join())
    assert.ok(
      order.indexOf('hooks') < order.indexOf('restore') && order.lastIndexOf('hooks') > order.indexOf('swap'),
    )
  })

  test('paused while it waits for its approval: approved, it does not begin before it is resumed', async () => {
    await hooks()
    const { id } = await waiting()
    await stack.expectOk('POST', `/v1/operations/${id}/pause`)
    assert.equal((await approve(stack, anna, id)).status, 202)
    const paused = await reaches(id, 'paused')
    assert.equal(paused.workflowId, `request/${id}`)
    // It holds nothing: others work on.
    const other = await stack.backup({ connection: 'pg', destinations: ['vault'] })
    assert.equal((await stack.ended(other.id)).state, 'succeeded')
    await expectOld()
    await stack.expectOk('POST', `/v1/operations/${id}/resume`)
    assert.equal((await stack.ended(id)).state, 'succeeded')
    assert.equal(await content(), 'backed up')
  })

  test('the safety backup fails: nothing is replaced, and the hooks of the restore are not run', async () => {
    await hooks(
      hook('saving', 'backup', 'before', 'fail'),
      hook('stop-writers', 'restore', 'before'),
      hook('start-writers', 'restore', 'after', '', told),
    )
    const id = await approved()
    const ended = await stack.ended(id)
    assert.deepEqual([ended.state, ended.error?.code], ['failed', 'hook.failed'])
    assert.deepEqual(called(), ['saving'])
    await expectOld()
    const safety = await safetyOf(id)
    assert.deepEqual([safety.state, safety.error?.code], ['failed', 'hook.failed'])
    assert.equal(ended.kept, null)
  })

  test('a hook before fails: nothing is replaced, who is told always is told, the safety backup stands', async () => {
    await hooks(
      hook('stop-writers', 'restore', 'before', 'fail'),
      hook('start-writers', 'restore', 'after', '', told),
      hook('never', 'restore', 'after'),
    )
    const id = await approved()
    const ended = await stack.ended(id)
    assert.deepEqual([ended.state, ended.error?.code], ['failed', 'hook.failed'])
    assert.deepEqual(called(), ['stop-writers', 'start-writers failed'])
    await expectOld()
    assert.equal((await safetyOf(id)).state, 'succeeded')
  })

  test('a hook after the safety backup fails: that one is partial, and stands; the restore goes on', async () => {
    await hooks(hook('after-saving', 'backup', 'after', 'fail'))
    const id = await approved()
    const ended = await stack.ended(id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.equal(await content(), 'backed up')
    const safety = await safetyOf(id)
    assert.deepEqual([safety.state, safety.error?.code], ['partial', 'hook.failed'])
  })

  test('a hook after the swap fails: it is replaced, and said to be partial', async () => {
    await hooks(hook('grant', 'restore', 'after', 'fail'))
    const id = await approved()
    const ended = await stack.ended(id)
    assert.deepEqual([ended.state, ended.error?.code], ['partial', 'hook.failed'])
    assert.equal(await content(), 'backed up')
    assert.equal(ended.kept?.state, 'kept')
  })
})
