/**
 * Backups in a directory of the database server, over SSH: made, verified, restored and recovered from. The worker is
 * killed, and the link is cut, in the middle of an upload.
 */
import assert from 'node:assert/strict'
import { chown, cp, mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { DestinationView, OperationView, StatusView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination } from '../../storage/index.ts'
import { holdfast } from '../cli/run.ts'
import { localRecord } from '../destinations/subjects.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { sshUserId, startSshd, type TestSshd } from '../servers/sshd.ts'
import { startVersitygw } from '../servers/versitygw.ts'
import { digestPostgres, digestSqlite } from '../support/digest.ts'
import { createDatabase, makePostgresSample } from '../support/postgres-sample.ts'
import { makeShop } from '../support/shop.ts'
import { makeRandomSqlite } from './databases.ts'
import { expectCleanHost, expectOneBackup } from './inspect.ts'
import { eventually, type Stack, s3Input, startStack } from './stack.ts'

describe('a directory of the database server', () => {
  let stack: Stack
  let server: TestSshd
  let postgres: TestPostgres
  let shelf: string
  /** The same directory, as it is seen on that machine. */
  let there: Destination
  const staging = `/var/tmp/holdfast-test-${process.pid}-shelf`

  before(async () => {
    stack = await startStack()
    server = await startSshd()
    shelf = join(server.home, 'backups')
    await mkdir(shelf)
    await chown(shelf, sshUserId, sshUserId)
    there = await openDestination(localRecord(shelf), {})
    postgres = await startPostgres()
    await createDatabase(postgres.url(), 'shop')
    await makePostgresSample(postgres.url('shop'), { rows: 2000, oddities: true })
    await stack.expectOk('POST', '/v1/hosts', {
      name: 'db1',
      url: `ssh://${server.user}@${server.address}:${server.port}`,
      tempDir: staging,
      hostKeys: [await server.hostKey()],
      secrets: { privateKey: server.privateKey },
    })
    await stack.expectOk('POST', '/v1/connections', { name: 'shop', url: postgres.url('shop') })
    const notes = join(server.home, 'notes.db')
    makeShop(notes, { rows: 2000 })
    await chown(notes, sshUserId, sshUserId)
    await stack.expectOk('POST', '/v1/connections', { name: 'notes', url: `sqlite:${notes}`, host: 'db1' })
    const large = join(stack.directory, 'large.db')
    makeRandomSqlite(large, 150)
    await stack.expectOk('POST', '/v1/connections', { name: 'large', url: `sqlite:${large}` })
  })

  after(async () => {
    await stack?.stop()
    await postgres?.stop()
    await server?.stop()
    await rm(staging, { recursive: true, force: true })
  })

  const cli = async (...args: string[]) => {
    const ended = await holdfast(args, {
      cwd: stack.directory,
      env: { HOLDFAST_URL: stack.apiUrl, HOLDFAST_TOKEN: stack.token, HOLDFAST_HOME: stack.home },
    })
    assert.equal(ended.code, 0, ended.stderr)
    return ended.stdout
  }
  const succeeded = async ({ id }: { id: string }): Promise<OperationView> => {
    const view = await stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    return view
  }
  const thereAndBack = async (connection: string, format: string, database: string) => {
    const made = await succeeded(await stack.backup({ connection, destinations: ['vault'], format }))
    const { backup } = made
    await expectOneBackup(there, connection, backup)
    const { operation } = await stack.expectOk<{ operation: OperationView }>(
      'POST',
      `/v1/backups/${backup}/verify`,
      { level: 'deep' },
    )
    await succeeded(operation)
    await succeeded(await stack.restore({ backup, target: { connection, database } }))
    return made
  }

  test('is added by the CLI, and shown', async () => {
    const uri = `server://db1${shelf}`
    assert.equal((await cli('destination', 'add', 'vault', uri)).trim(), `vault: ${uri}`)
    assert.match(await cli('destination', 'list'), new RegExp(`vault +server .*${uri}`))
    assert.match(await cli('destination', 'check', 'vault'), /accepts, returns and deletes/)
    const { kind } = await stack.expectOk<DestinationView>('GET', '/v1/destinations/vault')
    assert.equal(kind, 'server')
  })

  test('PostgreSQL from the worker, streamed and staged', async () => {
    for (const format of ['custom', 'directory']) {
      await thereAndBack('shop', format, `back-${format}`)
      assert.deepEqual(
        await digestPostgres(postgres.url(`back-${format}`)),
        await digestPostgres(postgres.url('shop')),
      )
    }
  })

  test('SQLite of that very machine, with a warning that says so; recovered there without us', async () => {
    const notes = join(server.home, 'notes.db')
    const target = join(server.home, 'back.db')
    const { backup, checks } = await thereAndBack('notes', 'copy', target)
    assert.deepEqual(digestSqlite(target), digestSqlite(notes))
    assert.deepEqual(
      checks.filter(({ answer }) => answer === 'warn').map(({ id }) => id),
      ['destination-apart'],
    )

    const key = join(stack.directory, 'kept.json')
    await cp(join(stack.home, 'keys', 'default.json'), key)
    const again = join(stack.directory, 'recovered.db')
    await cli('recover', `file://${shelf}`, '--key', key, '--backup', backup, '--restore-to', again)
    assert.deepEqual(digestSqlite(again), digestSqlite(notes))
    const refused = await holdfast(['recover', `server://db1${shelf}`, '--key', key, '--list'], {
      cwd: stack.directory,
    })
    assert.match(refused.stderr, /host db1, which is not known here[\s\S]*file:\/\//)
  })

  test('a backup is copied into a cloud later, and restored from there', async () => {
    const store = await startVersitygw()
    try {
      await stack.expectOk('POST', '/v1/destinations', s3Input(store, 'cloud', 'moved'))
      const { backup } = await succeeded(
        await stack.backup({ connection: 'notes', destinations: ['vault'], format: 'copy' }),
      )
      const { operation } = await stack.expectOk<{ operation: OperationView }>(
        'POST',
        `/v1/backups/${backup}/copy`,
        { to: 'cloud' },
      )
      await succeeded(operation)
      // The server is gone for good.
      await rename(join(shelf, 'notes'), join(shelf, '.gone'))
      const target = join(server.home, 'from-the-cloud.db')
      await succeeded(await stack.restore({ backup, target: { connection: 'notes', database: target } }))
      assert.deepEqual(digestSqlite(target), digestSqlite(join(server.home, 'notes.db')))
    } finally {
      await store.stop()
    }
  })

  test('a worker that is killed while the link is cut, in mid-upload: the next one goes on with what is there', async () => {
    const { id } = await stack.backup({ connection: 'large', destinations: ['vault'], format: 'copy' })
    const uploads = join(shelf, '.holdfast-uploads')
    const partsOf = async (upload: string) =>
      [...(await readFile(join(uploads, upload, 'parts'), 'utf8')).matchAll(/"number":(\d+),/g)].map(
        ([, number]) => number,
      )
    const upload = await eventually('some parts', async () => {
      const [name] = (await readdir(uploads)).filter(one => /^[0-9a-f]{24}$/.test(one))
      return name !== undefined && (await partsOf(name)).length >= 2 ? name : undefined
    })
    await server.cut()
    const { ino } = await stat(join(uploads, upload, 'data'))
    await stack.worker?.kill9()
    const sent = await partsOf(upload)
    stack.startWorker()
    await server.mend()
    const { backup } = await succeeded({ id })
    await expectOneBackup(there, 'large', backup)
    expectCleanHost(stack.home, id)
    assert.ok(sent.length < 15, `all parts had been sent: ${sent.length}`)
    const objects = await readdir(join(shelf, 'large/backups', backup), { recursive: true })
    const artifact = objects.find(name => name.endsWith('.tink'))
    assert.ok(artifact)
    assert.equal(
      (await stat(join(shelf, 'large/backups', backup, artifact))).ino,
      ino,
      'it is the same upload',
    )
    assert.deepEqual(await readdir(uploads), [])
    const target = join(stack.directory, 'large-back.db')
    await succeeded(await stack.restore({ backup, target: { connection: 'large', database: target } }))
    assert.deepEqual(digestSqlite(target), digestSqlite(join(stack.directory, 'large.db')))
  })

  test('a server that is away is told by status', async () => {
    await server.cut()
    const { destinations } = await stack.expectOk<StatusView>('GET', '/v1/status')
    const [problem] = destinations.find(({ name }) => name === 'vault')?.problems ?? []
    assert.equal(problem?.code, 'destination.unreachable', JSON.stringify(problem))
    await server.mend()
  })
})
