/** The catalog moves under a Holdfast that is at work: what runs goes on at the new place, and may still be written. */
import assert from 'node:assert/strict'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Moved } from '../../catalog/move.ts'
import type { DestinationView } from '../../model/views.ts'
import { holdfast } from '../cli/run.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { makeShop } from '../support/shop.ts'
import { directory, eventually, type Stack, startStack } from './stack.ts'

const canary = 'kanarienvogel-move-31'

describe('holdfast catalog move', () => {
  let stack: Stack
  let postgres: TestPostgres
  let urlFile = ''

  before(async () => {
    postgres = await startPostgres({ auth: 'scram', password: canary })
    await postgres.sql('create database catalog')
    stack = await startStack()
    urlFile = join(stack.directory, 'catalog-url')
    await writeFile(urlFile, `${postgres.url('catalog')}\n`, { mode: 0o600 })
    await chmod(urlFile, 0o600)
    const path = join(stack.directory, 'shop.db')
    makeShop(path, { rows: 500 })
    await stack.expectOk('POST', '/v1/destinations', {
      name: 'vault',
      uri: await directory(stack, 'vault'),
    })
    await stack.expectOk('POST', '/v1/connections', { name: 'shop', url: `sqlite:${path}` })
  })
  after(async () => {
    await stack?.stop()
    await postgres?.stop()
  })

  const move = (args: string[], env: Record<string, string> = {}) =>
    holdfast(['catalog', 'move', ...args], { env: { HOLDFAST_HOME: stack.home, ...env } })

  /** A backup that stands still in its middle, with the API stopped. */
  const atWork = async () => {
    const held = stack.workerApi.hold('after', (_method, url) => url.endsWith('/recordAttempt'))
    const { id } = await stack.backup({ connection: 'shop', destinations: ['vault'] })
    await held.reached
    await stack.pause(id)
    held.release()
    await eventually('it stands still', async () =>
      (await stack.operation(id)).state === 'paused' ? true : undefined,
    )
    await stack.api.terminate()
    return id
  }
  const goesOn = async (id: string, env: Record<string, string>) => {
    await stack.restartApi(env)
    assert.equal((await stack.operation(id)).state, 'paused')
    await stack.resume(id)
    assert.equal((await stack.ended(id)).state, 'succeeded')
    assert.equal((await stack.expectOk<DestinationView>('GET', '/v1/destinations/vault')).readOnly, false)
    const { id: next } = await stack.backup({ connection: 'shop', destinations: ['vault'] })
    assert.equal((await stack.ended(next)).state, 'succeeded')
  }

  test('while the API runs it is refused; a password in an argument, too', async () => {
    const busy = await move(['--to-file', urlFile])
    assert.equal(busy.code, 5)
    assert.match(busy.stderr, /^error catalog\.busy: /)
    const shown = await move([postgres.url('catalog')])
    assert.equal(shown.code, 2)
    assert.match(shown.stderr, /password in an argument/)
    assert.ok(!shown.stderr.includes(canary))
    assert.equal((await move([])).code, 2)
  })

  test('to PostgreSQL and back to a file, with a backup in its middle', async () => {
    const first = await atWork()
    const there = await move(['--json', '--to-file', urlFile])
    assert.equal(there.code, 0, there.stderr)
    const moved = JSON.parse(there.stdout) as Moved
    assert.equal(moved.rows.connections, 1)
    assert.ok(!`${there.stdout}${there.stderr}`.includes(canary))

    const again = await move(['--to-file', urlFile])
    assert.equal(again.code, 3)
    assert.match(again.stderr, /^error catalog\.moved: .*database "catalog".*\nhint: .*HOLDFAST_CATALOG_URL/)
    await assert.rejects(stack.restartApi(), /catalog\.moved/)

    const shared = { HOLDFAST_CATALOG_URL_FILE: urlFile }
    await goesOn(first, shared)
    const second = await atWork()
    const file = join(stack.directory, 'new', 'catalog.sqlite')
    const back = await move([`sqlite:${file}`], shared)
    assert.equal(back.code, 0, back.stderr)
    assert.match(back.stdout, new RegExp(`^The catalog is at ${file}: \\d+ rows of \\d+ tables, compared\\.`))
    await goesOn(second, { HOLDFAST_CATALOG_URL: `sqlite:${file}` })
    assert.equal((await stack.backups('shop')).length, 4)
    assert.ok(!(await readFile(stack.api.log, 'utf8')).includes(canary))
    await stack.api.terminate()

    const undone = await move(['--undo'], shared)
    assert.equal(undone.code, 0, undone.stderr)
    await stack.restartApi(shared)
    assert.equal((await stack.expectOk<DestinationView>('GET', '/v1/destinations/vault')).readOnly, true)
  })
})
