/** Deep verifications and scrubs of backups in an object store: where exactly the damage is, who is told, and kills in between. */
import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Manifest } from '../../model/manifest.ts'
import type { BackupView, OperationView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import type { Interceptor } from '../servers/interceptor.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import type { Versitygw } from '../servers/versitygw.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { notifier } from './canary-consent.ts'
import { fillRandomPostgres, makeRandomSqlite } from './databases.ts'
import { expectCleanHost, objectsOf } from './inspect.ts'
import { type Process, type Stack, startStack } from './stack.ts'
import { startVault } from './vault.ts'

const mebibyte = 1 << 20

interface Made {
  id: string
  object: string
  /** Where the store keeps it. */
  path: string
}

describe('verify and scrub, in S3', () => {
  let stack: Stack
  let store: Versitygw
  let front: Interceptor
  let cloud: Destination
  let postgres: TestPostgres
  let worker: Process
  let notifies: Record<string, string> = {}
  const made: Record<string, Made> = {}

  before(async () => {
    stack = await startStack({ worker: false })
    notifies = await notifier(stack.directory)
    worker = stack.startWorker(notifies)
    ;({ store, front, destination: cloud } = await startVault(stack, 'read'))
    postgres = await startPostgres()
    const source = join(stack.directory, 'source.db')
    makeRandomSqlite(source, 5)
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 5)
    await stack.expectOk('POST', '/v1/connections', { name: 'file', url: `sqlite:${source}` })
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    made.copy = await backup({ connection: 'file', format: 'copy' })
    made['copy, plain'] = await backup({ connection: 'file', format: 'copy', encryptTo: [] })
    made.custom = await backup({ connection: 'pg', format: 'custom' })
    made['directory, plain'] = await backup({ connection: 'pg', format: 'directory', encryptTo: [] })
  })
  after(async () => {
    await stack?.stop()
    await postgres?.stop()
    await front?.close()
    await cloud?.close()
    await store?.stop()
  })

  const backup = async (request: Record<string, unknown> & { connection: string }): Promise<Made> => {
    const view = await stack.ended((await stack.backup({ ...request, destinations: ['vault'] })).id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    const folder = `${request.connection}/backups/${view.backup}`
    const manifest = Buffer.from((await cloud.read(`${folder}/manifest.json`)) ?? []).toString()
    const object = (JSON.parse(manifest) as Manifest).artifacts[0]?.object ?? ''
    const path = join(store.root, 'buckets', store.bucket, 'read', folder, object)
    return { id: view.backup, object, path }
  }
  const the = (name: string): Made => made[name] ?? assert.fail(name)
  const verify = async ({ id }: Made, level: string): Promise<OperationView> =>
    (await stack.expectOk<{ operation: OperationView }>('POST', `/v1/backups/${id}/verify`, { level }))
      .operation
  const shown = async ({ id }: Made) => await stack.expectOk<BackupView>('GET', `/v1/backups/${id}`)
  const scrub = async (body: Record<string, unknown>): Promise<OperationView> =>
    (await stack.expectOk<{ operation: OperationView }>('POST', '/v1/scrub', body)).operation
  const damaged = async (one: Made, at: number) => {
    const bytes = await readFile(one.path)
    const torn = Buffer.from(bytes)
    torn[at] = (torn[at] ?? 0) ^ 0x10
    await writeFile(one.path, torn)
    return async () => await writeFile(one.path, bytes)
  }
  const isRead =
    ({ object }: Made) =>
    (method: string, url: string) =>
      method === 'GET' && decodeURIComponent(url).includes(object)
  const told = async (): Promise<{ event: string; operation: string; error: { code: string } }[]> =>
    (await readFile(join(stack.directory, 'notify.told'), 'utf8').catch(() => ''))
      .split('\n')
      .filter(line => line !== '')
      .map(line => JSON.parse(line))

  test('deep: whole, of every format, and nothing is written or left', async () => {
    const keys = await objectsOf(cloud)
    for (const one of Object.values(made)) {
      const view = await stack.ended((await verify(one, 'deep')).id)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      const { verified } = await shown(one)
      assert.deepEqual([verified?.ok, verified?.level], [true, 'deep'])
      expectCleanHost(stack.home, view.id)
    }
    assert.deepEqual(await objectsOf(cloud), keys)
  })

  test('deep: the exact place, by segment and by frame', async () => {
    const at = 3 * mebibyte + 77
    for (const name of ['custom', 'copy, plain', 'directory, plain']) {
      const mend = await damaged(the(name), at)
      const view = await stack.ended((await verify(the(name), 'deep')).id)
      assert.equal(view.error?.code, 'artifact.corrupted', JSON.stringify(view.error))
      const { object, segment, frame, storedOffset } = view.error.context ?? {}
      assert.match(String(object), new RegExp(`${the(name).object}$`))
      if (name === 'custom') assert.deepEqual([segment, storedOffset], [3, 3 * mebibyte])
      else {
        assert.ok(Number(storedOffset) <= at, `${storedOffset}`)
        assert.match(view.error.detail, new RegExp(`frame ${frame}, which begins at byte ${storedOffset}\\b`))
      }
      await mend()
      assert.equal((await stack.ended((await verify(the(name), 'deep')).id)).state, 'succeeded')
    }
  })

  test('deep: a worker killed in the middle of reading begins again, and leaves nothing', async () => {
    for (const name of ['copy', 'directory, plain']) {
      const held = front.hold('midway', isRead(the(name)))
      const { id } = await verify(the(name), 'deep')
      await held.reached
      await worker.kill9()
      held.cut()
      worker = stack.startWorker(notifies)
      const view = await stack.ended(id)
      assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
      expectCleanHost(stack.home, id)
    }
  })

  test('a scrub is killed at one of them, and goes on there', async () => {
    const since = new Date().toISOString()
    const held = front.hold('midway', isRead(the('custom')))
    const { id } = await scrub({ destination: 'vault', level: 'deep' })
    await held.reached
    await worker.kill9()
    held.cut()
    worker = stack.startWorker(notifies)
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    for (const one of Object.values(made)) {
      assert.ok(((await shown(one)).verified?.proven?.deep ?? '') > since, one.id)
    }
    expectCleanHost(stack.home, id)
    assert.deepEqual(await told(), [])
  })

  test('a scrub that finds damage looks at the others too, and whoever is to know is told once, with no word of a secret', async () => {
    const since = new Date().toISOString()
    const torn = ['custom', 'copy, plain']
    const mends = [
      await damaged(the('custom'), 2 * mebibyte),
      await damaged(the('copy, plain'), 2 * mebibyte),
    ]
    const view = await stack.ended((await scrub({ destination: 'vault', level: 'checksum' })).id)
    assert.equal(view.error?.code, 'scrub.damaged', JSON.stringify(view.error))
    for (const [name, one] of Object.entries(made)) {
      const { verified } = await shown(one)
      const isTorn = torn.includes(name)
      assert.equal(verified?.ok, !isTorn, name)
      assert.ok(isTorn || (verified?.proven?.checksum ?? '') > since, name)
      assert.equal(
        view.warnings.some(warning => warning.startsWith(one.id) && /artifact\.corrupted/.test(warning)),
        isTorn,
        name,
      )
      assert.equal(view.error.detail.includes(one.id), isTorn, name)
    }
    const [event, ...more] = await told()
    assert.deepEqual(more, [])
    assert.deepEqual(
      [event?.event, event?.operation, event?.error],
      ['backup.damaged', view.id, { ...view.error }],
    )
    const environment = await readFile(join(stack.directory, 'notify.env'), 'utf8')
    assert.match(environment, /^HOLDFAST_EVENT=backup\.damaged$/m)
    assert.doesNotMatch(environment + JSON.stringify(event), new RegExp(store.secretAccessKey))
    for (const mend of mends) await mend()
  })
})
