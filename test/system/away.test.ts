/** A store or a server that is away for longer than it is worth trying: parked, and tried again without anybody's help. */
import assert from 'node:assert/strict'
import { chmod, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import type { Interceptor } from '../servers/interceptor.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectOneBackup } from './inspect.ts'
import { eventually, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

describe('away for long', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let destination: Destination
  let postgres: TestPostgres
  let events = ''

  before(async () => {
    stack = await startStack({ worker: false, env: { HOLDFAST_PARK_RETRY_SECONDS: '2' } })
    events = join(stack.directory, 'events')
    const program = join(stack.directory, 'notify')
    await writeFile(program, `#!/bin/sh\ncat >> ${events}\n`)
    await chmod(program, 0o755)
    await writeFile(events, '')
    stack.startWorker({ HOLDFAST_NOTIFY_COMMAND: program })
    ;({ store, front, destination } = await startVault(stack, 'away'))
    const source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 1)
    await stack.expectOk('POST', '/v1/connections', { name: 'lite', url: `sqlite:${source}` })
    postgres = await startPostgres()
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 1)
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
  })

  after(async () => {
    await stack?.stop()
    await front?.close()
    await postgres?.stop()
    await destination?.close()
    await store?.stop()
  })

  const toldOf = async (id: string) =>
    (await readFile(events, 'utf8'))
      .split('\n')
      .filter(line => line !== '')
      .map(line => JSON.parse(line) as { event: string; operation: string })
      .filter(event => event.operation === id)
  /** Parked at another time than then. */
  const parkedAgain = (id: string, then: OperationView) =>
    eventually('it was tried again', async () => {
      const view = await stack.operation(id)
      const parkedAt = view.state === 'parked' ? view.error?.context?.parkedAt : undefined
      return parkedAt !== undefined && parkedAt !== then.error?.context?.parkedAt ? view : undefined
    })
  const expectDone = async (id: string, connection: string) => {
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    expectCleanHost(stack.home, id)
    await expectOneBackup(destination, connection, view.backup)
    assert.deepEqual(
      (await toldOf(id)).map(({ event }) => event),
      ['operation.parked'],
      'somebody was told, once',
    )
  }

  test('the server is away: who asked is told at once; where nobody watches it waits and goes on by itself', async () => {
    await postgres.kill9()
    const asked = { connection: 'pg', destinations: ['vault'] }
    const attended = await stack.ended((await stack.backup(asked)).id)
    assert.deepEqual([attended.state, attended.error?.code], ['failed', 'database.unreachable'])
    const { id } = await stack.backup({ ...asked, unattended: true })
    const parked = await stack.parked(id)
    assert.equal(parked.error?.code, 'database.unreachable')
    assert.equal(typeof parked.error.context?.retryAt, 'string')
    const again = await parkedAgain(id, parked)
    assert.equal(again.error?.context?.parkedUntil, parked.error.context?.parkedUntil, 'not put off')
    await postgres.restart()
    await expectDone(id, 'pg')
  })

  test('the store is away while the backup is made: it is kept, and goes on where it stopped', async () => {
    let away = true
    front.answer(
      (method, url) => away && method === 'PUT' && url.includes('manifest.json'),
      503,
      '',
      Number.POSITIVE_INFINITY,
    )
    const { id } = await stack.backup({ connection: 'lite', destinations: ['vault'] })
    const parked = await eventually(
      'it is parked',
      async () => {
        const view = await stack.operation(id)
        return view.state === 'parked' || view.endedAt !== null ? view : undefined
      },
      300,
    )
    assert.equal(parked.state, 'parked', JSON.stringify(parked.error))
    assert.match(parked.error?.code ?? '', /^destination\.(throttled|unreachable)$/)
    assert.ok((parked.error?.hint.length ?? 0) > 10)
    assert.equal(parked.phases.at(-1)?.phase, 'commit')
    const staged = join(stack.home, 'staging', 'data', id, 'database.sqlite')
    assert.ok((await stat(staged)).size > 0, 'nothing has to be made again')
    away = false
    await expectDone(id, 'lite')
  })
})
