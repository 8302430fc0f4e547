/**
 * A whole PostgreSQL server replaced in place, through the whole product: asked for, approved, backed up once more, restored beside, its
 * server stopped, exchanged, started. The worker is killed around the exchange; a server that does not come up is taken back.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { appendFile, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { freePort } from '../../cli/free-port.ts'
import type { OperationView } from '../../model/views.ts'
import { postgresBinaries, psql, startPostgres } from '../servers/postgres.ts'
import { addPerson, approve, askFor, awaiting, type Person, planOf } from '../support/people.ts'
import { expectCleanHost, processesWith } from './inspect.ts'
import { directory, eventually, type Process, type Stack, startStack } from './stack.ts'

const run = promisify(execFile)

describe('a PostgreSQL server replaced in place', () => {
  let stack: Stack
  let worker: Process
  let anna: Person
  let ground = ''
  let live = ''
  let pgCtl: string[] = []
  let port = 0

  const as = async (...argv: string[]) => {
    const [program = '', ...args] = argv
    await run(program, args, { cwd: '/' })
  }
  const url = () => `postgres://postgres@127.0.0.1:${port}/postgres`
  const word = () => psql(url(), 'SELECT word FROM now')
  const start = () => as(...pgCtl, 'start', '-s', '-w', '-D', live, '-l', `${live}.log`, '-o', `-p ${port}`)

  before(async () => {
    stack = await startStack()
    assert.ok(stack.worker)
    worker = stack.worker
    anna = await addPerson(stack, 'anna', 'approver')
    ground = await mkdtemp(join(tmpdir(), 'holdfast-swap-'))
    live = join(ground, 'live')
    const asPostgres =
      process.getuid?.() === 0 ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--init-groups'] : []
    if (asPostgres.length > 0) await run('chown', ['postgres:', ground])
    await as(...asPostgres, 'mkdir', '-m', '0700', live)
    pgCtl = [...asPostgres, join((await postgresBinaries()).bin, 'pg_ctl')]
    port = await freePort()
    const made = await startPostgres({ dataDir: live, port, logFile: join(stack.directory, 'first.log') })
    await made.sql("CREATE TABLE now (word text); INSERT INTO now VALUES ('backed up')")
    await made.stop()
    await start()
    const uri = await directory(stack, 'vault')
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri })
    await stack.expectOk('POST', '/v1/connections', {
      name: 'live',
      url: `${url()}?supervisor=pg_ctl`,
      method: 'physical',
    })
    const { id } = await stack.backup({ connection: 'live', destinations: ['vault'] })
    assert.equal((await stack.ended(id)).state, 'succeeded')
    backup = (await stack.operation(id)).backup
  })
  after(async () => {
    await stack?.stop()
    if (pgCtl.length > 0)
      await as(...pgCtl, 'stop', '-s', '-w', '-m', 'immediate', '-D', live).catch(() => {})
    if (ground !== '') await rm(ground, { recursive: true, force: true })
  })
  let backup: string | null = null

  const ask = async (more: Record<string, unknown> = {}): Promise<OperationView> => {
    const target = { connection: 'live', database: live }
    const { body } = await askFor(anna, { backup, target, ...more })
    assert.ok(body.operation, JSON.stringify(body))
    return await awaiting(stack, body.operation.id)
  }
  const call = (method: string, skip: number) => {
    let left = skip
    return (_: string, path: string) => path.endsWith(`/internal/v1/${method}`) && left-- === 0
  }
  const expectNothingLeft = async (view: OperationView) => {
    expectCleanHost(stack.home, view.id)
    assert.deepEqual(
      (await readdir(ground))
        .filter(name => !['live', 'live.log'].includes(name))
        .map(name => join(ground, name)),
      view.kept?.state === 'kept' ? [view.kept.name] : [],
    )
    assert.deepEqual(
      processesWith('postgres -D').filter(line => line.includes(`${live}.`)),
      [],
    )
  }

  test('approved, backed up first, exchanged; the worker is killed before and after; the old one goes when its time is over', async () => {
    await psql(url(), "UPDATE now SET word = 'later'")
    const asked = await ask({ safetyBackup: { destination: 'vault' }, keepOldSeconds: 1 })
    assert.equal(asked.state, 'awaiting-approval', JSON.stringify(asked.error))
    const plan = await planOf(stack, asked.id)
    assert.match(plan.destroys.join('\n'), new RegExp(`The data directory ${live} .*its server is stopped`))
    const begun = stack.workerApi.hold('after', call('beginDestructive', 0))
    assert.equal((await approve(stack, anna, asked.id)).status, 202)
    await begun.reached
    assert.equal(await word(), 'later')
    await worker.kill9()
    begun.cut()
    const done = stack.workerApi.hold('before', call('finishDestructive', 0))
    worker = stack.startWorker()
    await done.reached
    // In its place, and nobody is let in yet.
    await assert.rejects(word())
    await worker.kill9()
    done.cut()
    worker = stack.startWorker()
    const view = await stack.ended(asked.id, 240)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.equal(await word(), 'backed up')
    const kept = view.kept?.name ?? assert.fail('nothing is kept')
    await eventually('the old one is removed', async () => (existsSync(kept) ? undefined : true))
    await eventually('that is noted', async () =>
      (await stack.operation(asked.id)).kept?.state === 'dropped' ? true : undefined,
    )
    await expectNothingLeft(await stack.operation(asked.id))
    const [, safety] = await stack.backups('live')
    assert.ok(safety)
    // The connection means the same server as before.
    const { id } = await stack.backup({ connection: 'live', destinations: ['vault'] })
    assert.equal((await stack.ended(id)).state, 'succeeded')
  })

  test('a server that does not come up: the one before runs again', async () => {
    await psql(url(), "UPDATE now SET word = 'later'")
    const asked = await ask()
    const opening = stack.workerApi.hold('after', call('beginDestructive', 1))
    assert.equal((await approve(stack, anna, asked.id)).status, 202)
    await opening.reached
    await rm(join(live, 'global/pg_control'))
    opening.release()
    const back = stack.workerApi.hold('after', call('beginRollBack', 0))
    await back.reached
    await worker.kill9()
    back.cut()
    worker = stack.startWorker()
    const view = await stack.ended(asked.id, 240)
    assert.equal(view.state, 'failed')
    assert.equal(view.error?.code, 'restore.not-started', JSON.stringify(view.error))
    assert.deepEqual(view.warnings, [])
    assert.equal(await word(), 'later')
    await expectNothingLeft(view)
  })

  test('a standby is refused before anybody is asked', async () => {
    await appendFile(join(live, 'standby.signal'), '')
    const view = await ask()
    assert.equal(view.error?.code, 'restore.swap-refused', JSON.stringify(view.error))
    await rm(join(live, 'standby.signal'))
    assert.equal(await word(), 'later')
  })

  for (const [moment, when, expected] of [
    ['exchanged', 'finishDestructive', 'later'],
    ['handed over', 'recordKept', 'backed up'],
  ] as const) {
    test(`ended from outside once it is ${moment}: a server runs, and it is known which`, async () => {
      await psql(url(), "UPDATE now SET word = 'later'")
      const asked = await ask({ keepOldSeconds: 1 })
      const held = stack.workerApi.hold('before', call(when, 0))
      assert.equal((await approve(stack, anna, asked.id)).status, 202)
      await held.reached
      await stack.terminate((await stack.operation(asked.id)).workflowId)
      held.cut()
      const view = await stack.ended(asked.id)
      assert.equal(view.error?.code, 'operation.terminated', JSON.stringify(view.error))
      await eventually('what was begun is ended', async () => {
        const { kept } = await stack.operation(asked.id)
        const runs = (await word().catch(() => '')) === expected
        return runs && (moment === 'exchanged' || kept?.state === 'dropped') ? true : undefined
      })
      await eventually('nothing is left', async () =>
        expectNothingLeft(await stack.operation(asked.id)).then(
          () => true,
          () => undefined,
        ),
      )
      await expectNothingLeft(await stack.operation(asked.id))
    })
  }
})
