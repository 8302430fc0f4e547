/** Hooks: in their order, within their time, once, whoever is killed; what they print is kept, without secrets. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { OperationView, PlanView } from '../../model/views.ts'
import { holdfast } from '../cli/run.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres } from './databases.ts'
import { expectCleanHost, processesWith } from './inspect.ts'
import { directory, eventually, type Process, type Stack, startStack } from './stack.ts'

const password = `canary-${randomBytes(9).toString('hex')}`

interface Entry {
  seq: number
  source: string
  text: string
}

describe('hooks', () => {
  let stack: Stack
  let worker: Process
  let postgres: TestPostgres
  let program = ''
  let calls = ''
  let gate = ''

  before(async () => {
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
    postgres = await startPostgres({ auth: 'scram', password })
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 2)
    await postgres.sql('CREATE TABLE visits (who text)', 'shop')
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: await directory(stack, 'vault') })
    calls = join(stack.directory, 'calls')
    gate = join(stack.directory, 'gate')
    program = join(stack.directory, 'hook program')
    await writeFile(
      program,
      `#!/bin/sh
echo "$1 $HOLDFAST_CONNECTION $HOLDFAST_OUTCOME" >> ${calls}
echo "out of $1, secret $SECRET"
echo "err of $1" >&2
case $2 in
  wait) while [ ! -e ${gate} ]; do sleep 0.1; done; echo "$1 ends" >> ${calls};;
  sleep) sleep 600;;
  fail) exit 3;;
esac
`,
    )
    await chmod(program, 0o755)
  })

  beforeEach(async () => {
    await writeFile(calls, '')
  })

  after(async () => {
    await stack?.stop()
    await postgres?.stop()
  })

  const hooks = (...items: Record<string, unknown>[]) =>
    stack.expectOk('PUT', '/v1/connections/pg/hooks', { items })
  const hook = (name: string, at: 'before' | 'after', extra: Record<string, unknown> = {}, mode = '') => ({
    name,
    of: 'backup',
    at,
    run: { argv: [program, name, mode] },
    ...extra,
  })
  const called = async () =>
    (await readFile(calls, 'utf8'))
      .trim()
      .split('\n')
      .map(line => line.trim())
  const backup = (extra: Record<string, unknown> = {}) =>
    stack.backup({ connection: 'pg', destinations: ['vault'], ...extra })
  const ended = async (operation: OperationView, state: OperationView['state']) => {
    const view = await stack.ended(operation.id)
    assert.equal(view.state, state, JSON.stringify(view.error))
    expectCleanHost(stack.home, operation.id)
    assert.ok(!JSON.stringify(view).includes(password))
    return view
  }
  const logOf = async (id: string) =>
    (await stack.expectOk<{ items: Entry[] }>('GET', `/v1/operations/${id}/log`)).items
  const stored = async (view: OperationView) =>
    (await stack.backups('pg')).filter(one => one.id === view.backup).length

  test('before and after, programs and SQL, in order, as part of the plan; output without secrets', async () => {
    await hooks(
      hook('first', 'before', { secretEnv: { SECRET: 'password' } }),
      { name: 'visit', of: 'backup', at: 'before', run: { sql: "INSERT INTO visits VALUES ('hook')" } },
      hook('last', 'after'),
      hook('at-restores', 'after', { of: 'restore' }),
    )
    const view = await ended(await backup(), 'succeeded')
    assert.deepEqual(await called(), ['first pg', 'last pg succeeded'])
    assert.equal(await postgres.sql('SELECT who FROM visits', 'shop'), 'hook')
    assert.deepEqual(
      view.phases.map(one => one.phase),
      ['plan', 'precheck', 'hooks', 'upload', 'verify', 'commit', 'record', 'hooks', 'cleanup'],
    )
    const log = await logOf(view.id)
    const first = log.find(entry => entry.source === 'hook first')
    assert.match(first?.text ?? '', /out of first, secret •••/)
    assert.match(first?.text ?? '', /err of first/)
    assert.ok(!JSON.stringify(log).includes(password))
    const plan = await stack.expectOk<PlanView>('GET', `/v1/operations/${view.id}/plan`)
    assert.deepEqual(
      plan.hooks.map(({ name, at, input }) => ({ name, at, input })),
      [
        { name: 'first', at: 'before', input: null },
        { name: 'visit', at: 'before', input: "INSERT INTO visits VALUES ('hook')" },
        { name: 'last', at: 'after', input: null },
      ],
    )
    assert.ok(!JSON.stringify(plan).includes(password))
  })

  test('one that fails before ends it with nothing made; the rest is not run, but for what runs always', async () => {
    await hooks(
      hook('bad', 'before', {}, 'fail'),
      hook('never', 'before'),
      hook('on-success', 'after'),
      hook('in-any-case', 'after', { when: 'always' }),
    )
    const view = await ended(await backup(), 'failed')
    assert.equal(view.error?.code, 'hook.failed')
    assert.match(view.error.detail, /"bad".*exited with 3/)
    assert.deepEqual(await called(), ['bad pg', 'in-any-case pg failed'])
    assert.equal(await stored(view), 0)
  })

  test('one that may fail only warns; one that fails after leaves the backup, and says so', async () => {
    await hooks(hook('bad', 'before', { onFailure: 'warn' }, 'fail'))
    const warned = await ended(await backup(), 'succeeded')
    assert.match(warned.warnings.join(), /"bad".*exited with 3/)
    await hooks(hook('bad-after', 'after', {}, 'fail'), hook('next', 'after'))
    const partial = await ended(await backup(), 'partial')
    assert.equal(partial.error?.code, 'hook.failed')
    assert.equal(await stored(partial), 1)
    assert.deepEqual((await called()).slice(-2), ['bad-after pg succeeded', 'next pg succeeded'])
  })

  test('one that takes too long is stopped', async () => {
    await hooks(hook('slow', 'before', { timeoutSeconds: 1 }, 'sleep'))
    const view = await ended(await backup(), 'failed')
    assert.match(view.error?.detail ?? '', /did not end within 1 seconds/)
    assert.deepEqual(processesWith(`${program} slow`), [])
  })

  test('cancelled while one runs: it is stopped, and what runs always is told', async () => {
    await hooks(hook('slow', 'before', {}, 'sleep'), hook('in-any-case', 'after', { when: 'always' }))
    const operation = await backup()
    await eventually('the hook runs', async () => ((await called()).includes('slow pg') ? true : undefined))
    await stack.expectOk('POST', `/v1/operations/${operation.id}/cancel`)
    await ended(operation, 'cancelled')
    assert.deepEqual(await called(), ['slow pg', 'in-any-case pg cancelled'])
    assert.deepEqual(processesWith(`${program} slow`), [])
  })

  test('a killed worker: the hook that runs is waited for, the one that ended is not run again', async () => {
    await hooks(hook('done', 'before'), hook('running', 'before', {}, 'wait'))
    const operation = await backup()
    await eventually('the second hook runs', async () =>
      (await called()).includes('running pg') ? true : undefined,
    )
    await worker.kill9()
    worker = stack.startWorker()
    await writeFile(gate, '')
    await ended(operation, 'succeeded')
    assert.deepEqual(await called(), ['done pg', 'running pg', 'running ends'])

    await writeFile(calls, '')
    await hooks(hook('once', 'before'))
    // The catalog knows that it has ended; the worker dies before it hears that.
    const isRecord = (_method: string, url: string) => url.endsWith('/recordHookRun')
    const begun = stack.workerApi.hold('after', isRecord)
    const second = await backup()
    await begun.reached
    const over = stack.workerApi.hold('after', isRecord)
    begun.release()
    await over.reached
    await worker.kill9()
    over.cut()
    worker = stack.startWorker()
    await ended(second, 'succeeded')
    assert.deepEqual(await called(), ['once pg'])
  })

  test('around a restore: SQL before on the server, after in the restored database', async () => {
    await hooks(
      {
        name: 'before',
        of: 'restore',
        at: 'before',
        run: { sql: "COMMENT ON DATABASE postgres IS 'seen by a hook'" },
      },
      { name: 'after', of: 'restore', at: 'after', run: { sql: 'CREATE TABLE made_by_hook ()' } },
    )
    const restore = await stack.restore({
      backup: 'pg:latest',
      target: { connection: 'pg', database: 'copy' },
    })
    await ended(restore, 'succeeded')
    assert.equal(await postgres.sql("SELECT to_regclass('made_by_hook')", 'copy'), 'made_by_hook')
    const comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'postgres'"
    assert.equal(await postgres.sql(comment), 'seen by a hook')
    await hooks()
  })

  test('what cannot be is refused when it is defined', async () => {
    for (const items of [
      [hook('one', 'before'), hook('one', 'after')],
      [hook('one', 'before', { when: 'always' })],
      [hook('one', 'before', { secretEnv: { SECRET: 'nothing' } })],
      [hook('one', 'before', { run: { argv: [] } })],
      [hook('one', 'before', { run: { sql: 'SELECT 1' }, secretEnv: { SECRET: 'password' } })],
    ]) {
      const refused = await stack.refused('PUT', '/v1/connections/pg/hooks', { items })
      assert.equal(refused.status, 422, JSON.stringify(items))
    }
    assert.equal((await stack.refused('GET', '/v1/connections/none/hooks')).status, 404)
  })

  test('on the command line', async () => {
    const cli = async (...args: string[]) => {
      const env = { ...stack.env, HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token }
      const { code, stdout, stderr } = await holdfast(args, { env })
      assert.equal(code, 0, stderr)
      return stdout
    }
    await cli('hook', 'add', 'pg', 'look', '--before', 'backup', '--', program, 'look')
    await cli('hook', 'add', 'pg', 'check', '--after', 'backup', '--sql', 'SELECT 1', '--always', '--warn')
    const list = await cli('hook', 'list', 'pg')
    assert.match(list, /look +before backup/)
    assert.match(list, /check +after backup, always/)
    const view = await ended(await backup(), 'succeeded')
    assert.match(await cli('operation', 'log', view.id), /hook look\nout of look/)
    await cli('hook', 'remove', 'pg', 'look')
    assert.doesNotMatch(await cli('hook', 'list', 'pg'), /look/)
  })
})
