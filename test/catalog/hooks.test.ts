import assert from 'node:assert/strict'
import { test } from 'node:test'
import { insertConnection, removeConnection } from '../../catalog/connections.ts'
import { findHookRun, listHooks, putHooks, recordHookRun } from '../../catalog/hooks.ts'
import { appendLog, readLog } from '../../catalog/log.ts'
import type { Hook, HookRun } from '../../model/records.ts'
import { shop } from './rows.ts'
import { withCatalog } from './support.ts'

const hook = (name: string): Hook => ({
  name,
  of: 'backup',
  at: 'before',
  when: 'success',
  run: { argv: ['true'] },
  secretEnv: {},
  timeoutSeconds: 60,
  onFailure: 'fail',
})

test('hooks are one list of their connection, and go with it', () =>
  withCatalog(async ({ catalog }) => {
    await insertConnection(catalog, shop('shop'), {})
    assert.deepEqual(await listHooks(catalog, 'shop'), [])
    await putHooks(catalog, 'shop', [hook('one'), hook('two')])
    await putHooks(catalog, 'shop', [hook('two')])
    assert.deepEqual(await listHooks(catalog, 'shop'), [hook('two')])
    await assert.rejects(putHooks(catalog, 'none', []), { code: 'request.not-found' })
    await removeConnection(catalog, 'shop')
    await insertConnection(catalog, shop('shop'), {})
    assert.deepEqual(await listHooks(catalog, 'shop'), [])
  }))

test('how a hook ended is not overwritten', () =>
  withCatalog(async ({ catalog }) => {
    const begun: HookRun = {
      name: 'one',
      startedAt: new Date().toISOString(),
      endedAt: null,
      ok: null,
      detail: '',
    }
    assert.equal(await findHookRun(catalog, 'op-one', 'one'), undefined)
    await recordHookRun(catalog, 'op-one', begun)
    assert.deepEqual(await findHookRun(catalog, 'op-one', 'one'), begun)
    const ended = { ...begun, endedAt: new Date().toISOString(), ok: true, detail: 'fine' }
    await recordHookRun(catalog, 'op-one', ended)
    await recordHookRun(catalog, 'op-one', { ...ended, ok: false, detail: 'a zombie' })
    await recordHookRun(catalog, 'op-one', begun)
    assert.deepEqual(await findHookRun(catalog, 'op-one', 'one'), ended)
    assert.equal(await findHookRun(catalog, 'op-two', 'one'), undefined)
  }))

test('a log keeps each entry once, in order, and is bounded', () =>
  withCatalog(async ({ catalog }) => {
    const entry = (id: string, text = id) => ({ id, at: new Date().toISOString(), source: 'pg_dump', text })
    for (const id of ['a', 'b', 'a', 'c']) await appendLog(catalog, 'op-one', entry(id))
    const log = await readLog(catalog, 'op-one', 0, 10)
    assert.deepEqual(
      log.map(({ seq, text }) => [seq, text]),
      [
        [1, 'a'],
        [2, 'b'],
        [3, 'c'],
      ],
    )
    assert.deepEqual(
      (await readLog(catalog, 'op-one', 1, 1)).map(({ text }) => text),
      ['b'],
    )
    await appendLog(catalog, 'op-two', entry('long', `${'x'.repeat(100_000)}end`))
    const [long] = await readLog(catalog, 'op-two', 0, 10)
    assert.ok((long?.text.length ?? 0) < 66_000)
    assert.ok(long?.text.endsWith('end'))
    for (let i = 0; i < 520; i += 1) await appendLog(catalog, 'op-two', entry(`n${i}`))
    const full = await readLog(catalog, 'op-two', 0, 1000)
    assert.equal(full.length, 501)
    assert.match(full.at(-1)?.text ?? '', /full/)
  }))
