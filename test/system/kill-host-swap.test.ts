/**
 * Swaps on a host with a worker of its own, which dies in the middle: what was begun there only it can go on with or take
 * back. Each time there is the old database or the new one, whole; the words are those of kill-swap.test.ts.
 */
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { addPerson, approve, askFor, awaiting, type Person } from '../support/people.ts'
import { addWorkerHost } from './host-worker.ts'
import { directory, type Process, type Stack, startStack } from './stack.ts'

describe("kill -9 of a host's worker during a swap there", () => {
  let stack: Stack
  let host: Awaited<ReturnType<typeof addWorkerHost>>
  let worker: Process
  let anna: Person
  let path = ''

  before(async () => {
    stack = await startStack()
    host = await addWorkerHost(stack, 'db1')
    worker = host.begin()
    anna = await addPerson(stack, 'anna', 'approver')
    path = join(await directory(stack, 'live'), 'live.db')
    onFile("CREATE TABLE t (x TEXT); INSERT INTO t VALUES ('backed up')")
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: await directory(stack, 'vault') })
    await host.polling()
    await stack.expectOk('POST', '/v1/connections', { name: 'file', url: `sqlite:${path}`, host: 'db1' })
    const { id } = await stack.backup({ connection: 'file', destinations: ['vault'] })
    const made = await stack.ended(id)
    assert.equal(made.state, 'succeeded', JSON.stringify(made.error))
  })
  after(() => stack?.stop())

  function onFile(sql: string): void {
    const database = new DatabaseSync(path)
    try {
      database.exec(`PRAGMA busy_timeout = 20000; ${sql}`)
    } finally {
      database.close()
    }
  }
  const content = (): string => {
    const database = new DatabaseSync(path)
    try {
      database.exec('PRAGMA busy_timeout = 20000')
      return String(database.prepare("SELECT group_concat(x, ',') AS x FROM t").get()?.x)
    } finally {
      database.close()
    }
  }
  const word = (method: string) => (_: string, url: string) => url.endsWith(`/internal/v1/${method}`)

  const swap = async (at: () => Promise<void>, expected: 'backed up' | 'later') => {
    onFile("UPDATE t SET x = 'later'")
    const target = { connection: 'file', database: path }
    const { body } = await askFor(anna, { backup: 'file:latest', target })
    const { id } = body.operation
    assert.equal((await awaiting(stack, id)).state, 'awaiting-approval')
    const disturbed = at()
    assert.equal((await approve(stack, anna, id)).status, 202)
    await disturbed
    const view = await stack.ended(id, 180)
    assert.equal(view.state, expected === 'later' ? 'failed' : 'succeeded', JSON.stringify(view.error))
    assert.equal(content(), expected)
    const beside = (await readdir(join(path, '..'))).filter(
      name => name.includes('holdfast') && name !== view.kept?.name && !name.includes('old'),
    )
    assert.deepEqual(beside, [])
    for (const room of ['jobs', 'data']) {
      assert.deepEqual(await readdir(join(host.home, 'staging', room)).catch(() => []), [], room)
    }
    return view
  }

  test('after the exchange is noted, before it runs', async () => {
    await swap(async () => {
      const held = stack.workerApi.hold('after', word('beginDestructive'))
      await held.reached
      assert.equal(content(), 'later')
      await worker.kill9()
      held.cut()
      worker = host.begin()
    }, 'backed up')
  })

  test('after the exchange, before it is noted, and the API with it', async () => {
    await swap(async () => {
      const held = stack.workerApi.hold('before', word('finishDestructive'))
      await held.reached
      assert.equal(content(), 'backed up')
      await Promise.all([worker.kill9(), stack.api.kill9()])
      held.cut()
      await stack.restartApi()
      worker = host.begin()
    }, 'backed up')
  })

  test('while the old one is brought back, as the second proof failed', async () => {
    const view = await swap(async () => {
      const held = stack.workerApi.hold('before', word('finishDestructive'))
      await held.reached
      onFile('DROP TABLE t')
      held.release()
      const back = stack.workerApi.hold('after', word('beginRollBack'))
      await back.reached
      await worker.kill9()
      back.cut()
      worker = host.begin()
    }, 'later')
    assert.equal(view.error?.code, 'restore.proof-failed')
  })
})
