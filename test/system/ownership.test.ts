/**
 * Who may write to a prefix, and what is left when the catalog is lost: everything that storage says, nothing that it does not.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { BackupView, DestinationView, OperationView } from '../../model/views.ts'
import { abandon } from '../../storage/backups.ts'
import type { Destination } from '../../storage/destination.ts'
import { openDestination, parseDestinationUri } from '../../storage/index.ts'
import { holdfast } from '../cli/run.ts'
import { startVersitygw, type Versitygw } from '../servers/versitygw.ts'
import { digestSqlite } from '../support/digest.ts'
import { makeShop } from '../support/shop.ts'
import { expectNoBackup, expectOneBackup, objectsOf } from './inspect.ts'
import { directory, type Stack, s3Input, startStack } from './stack.ts'

interface Rebuilt {
  found: number
  added: number
  refused: { backup: string; code: string }[]
}
interface Taken {
  epoch: number
  warnings: string[]
}
interface Status {
  installationId: string
  instanceId: string
}

const local = (path: string): Promise<Destination> =>
  openDestination(
    { name: 'x', ...parseDestinationUri(path), secretFields: [], createdAt: new Date().toISOString() },
    {},
  )

const status = (stack: Stack) => stack.expectOk<Status>('GET', '/v1/status')
const rebuild = (stack: Stack) => stack.expectOk<Rebuilt>('POST', '/v1/catalog/rebuild', {})
const takeover = (stack: Stack, name: string) =>
  stack.expectOk<Taken>('POST', `/v1/destinations/${name}/takeover`, { reason: 'a test' })
const addDestination = (stack: Stack, body: Record<string, unknown>) =>
  stack.expectOk<DestinationView>('POST', '/v1/destinations', body)
const isReadOnly = async (stack: Stack, name: string) =>
  (await stack.expectOk<DestinationView>('GET', `/v1/destinations/${name}`)).readOnly

async function backUp(stack: Stack, to: string, more: Record<string, unknown> = {}): Promise<OperationView> {
  return await stack.ended((await stack.backup({ connection: 'shop', destinations: [to], ...more })).id)
}

async function backedUp(stack: Stack, to: string, more: Record<string, unknown> = {}): Promise<string> {
  const ended = await backUp(stack, to, more)
  assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
  return ended.backup
}

/** A backup that must be refused, leaving the destination as it was. */
async function refusedBackup(stack: Stack, to: string, destination: Destination): Promise<void> {
  const objects = await objectsOf(destination)
  const ended = await backUp(stack, to)
  assert.equal(ended.state, 'failed')
  assert.equal(ended.error?.code, 'destination.read-only')
  assert.deepEqual(await objectsOf(destination), objects)
}

/** What `recover` says of every committed backup with nothing but the key file. */
async function recoverable(uri: string, keyFile: string): Promise<Record<string, boolean>> {
  const { stdout, stderr, code } = await holdfast(['--json', 'recover', uri, '--key', keyFile, '--list'])
  assert.equal(code, 0, stderr)
  const listed = JSON.parse(stdout) as { backup: string; state: string; trusted: boolean }[]
  return Object.fromEntries(
    listed.filter(one => one.state === 'committed').map(one => [one.backup, one.trusted]),
  )
}

describe('ownership', () => {
  let stack: Stack
  let store: Versitygw
  let shop: string

  before(async () => {
    stack = await startStack()
    store = await startVersitygw()
    shop = join(stack.directory, 'shop.db')
    makeShop(shop, { rows: 500 })
    await stack.expectOk('POST', '/v1/connections', { name: 'shop', url: `sqlite:${shop}` })
  })

  after(async () => {
    await stack?.stop()
    await store?.stop()
  })

  /** API and worker end, what `between` does happens, both start again. */
  async function whileStopped(between: () => Promise<void>): Promise<void> {
    await stack.worker?.terminate()
    await stack.api.terminate()
    await between()
    await stack.restartApi()
    stack.startWorker()
  }

  test('a lost catalog is rebuilt from storage alone, and writes only after takeover', async () => {
    const path = await directory(stack, 'disk')
    const disk = { name: 'disk', uri: path }
    const vault = s3Input(store, 'vault', 'lost')
    await addDestination(stack, disk)
    await addDestination(stack, vault)
    const first = await backedUp(stack, 'disk', {
      format: 'copy',
      labels: { why: 'nightly', 'a.b': 'ö "x"' },
    })
    const plain = await backedUp(stack, 'disk', { encryptTo: [] })
    const remote = await backedUp(stack, 'vault')
    const deleted = await backedUp(stack, 'disk')
    const destination = await local(path)
    try {
      await abandon(destination, 'shop', deleted, { by: 'a test', reason: 'not wanted' })
      await rebuild(stack)
      const old = await status(stack)
      const checking = await stack.expectOk<{ operation: { id: string } }>(
        'POST',
        `/v1/backups/${first}/verify`,
        { level: 'checksum' },
      )
      assert.equal((await stack.ended(checking.operation.id)).state, 'succeeded')
      const known = (await stack.backups('shop')).filter(one => one.state === 'committed')
      assert.deepEqual(new Set(known.map(one => one.id)), new Set([first, plain, remote]))
      const keyFile = join(stack.home, 'keys', 'default.json')
      const escrow = join(stack.directory, 'escrow.json')
      await cp(keyFile, escrow)

      await whileStopped(async () => {
        const catalog = (await readdir(stack.home)).filter(name => name.startsWith('catalog.sqlite'))
        assert.ok(catalog.length > 0)
        for (const name of catalog) await rm(join(stack.home, name))
      })
      const now = await status(stack)
      assert.notEqual(now.installationId, old.installationId)
      assert.deepEqual(await stack.backups('shop'), [])
      assert.equal((await addDestination(stack, disk)).readOnly, true)
      assert.equal((await addDestination(stack, vault)).readOnly, true)
      assert.deepEqual(await rebuild(stack), { found: 3, added: 3, refused: [] })
      // All that a view says but for what a verify found: that was known to the catalog only.
      const fromStorage = (one: BackupView) => ({
        ...one,
        verified: null,
        copies: one.copies.map(copy => ({ ...copy, verified: null })),
      })
      assert.deepEqual(await stack.backups('shop'), known.map(fromStorage))

      await stack.expectOk('POST', '/v1/connections', { name: 'shop', url: `sqlite:${shop}` })
      await refusedBackup(stack, 'disk', destination)
      for (const backup of [first, plain, remote]) {
        const back = join(stack.directory, `back-${backup}.db`)
        const restored = await stack.ended(
          (await stack.restore({ backup, target: { connection: 'shop', database: back } })).id,
        )
        assert.equal(restored.state, 'succeeded', JSON.stringify(restored.error))
        assert.deepEqual(digestSqlite(back), digestSqlite(shop))
      }

      const taken = await takeover(stack, 'disk')
      assert.equal(taken.epoch, 2)
      assert.equal(taken.warnings.length, 1, 'the former backups are trusted: a key file names who made them')
      assert.match(taken.warnings[0] ?? '', new RegExp(`${old.installationId}.*can write no more`))
      assert.equal(await isReadOnly(stack, 'disk'), false)
      const fresh = await backedUp(stack, 'disk')
      await expectOneBackup(destination, 'shop', fresh)
      assert.equal(await isReadOnly(stack, 'vault'), true, 'each destination is taken over by itself')

      // The key file alone opens what was made before and after; its copy of before knows only what was before.
      assert.deepEqual(await recoverable(path, keyFile), { [first]: true, [plain]: true, [fresh]: true })
      assert.deepEqual(await recoverable(path, escrow), { [first]: true, [plain]: true, [fresh]: false })
    } finally {
      await destination.close()
    }
  })

  test('a second Holdfast reads only until takeover; then the first one does, in the middle of a backup', async () => {
    const path = await directory(stack, 'shared')
    await addDestination(stack, { name: 'shared', uri: path })
    const ours = await backedUp(stack, 'shared')
    const destination = await local(path)
    const other = await startStack()
    try {
      assert.equal((await addDestination(other, { name: 'shared', uri: path })).readOnly, true)
      await other.expectOk('POST', '/v1/connections', { name: 'shop', url: `sqlite:${shop}` })
      await refusedBackup(other, 'shared', destination)
      const stranger = await rebuild(other)
      assert.deepEqual([stranger.found, stranger.added], [1, 0])
      assert.deepEqual(
        stranger.refused.map(one => one.code),
        ['manifest.forged'],
      )

      // The first one has begun to upload when the second takes over: it may not commit.
      const held = stack.workerApi.hold('after', (_method, url) => url.endsWith('/recordAttempt'))
      const late = await stack.backup({ connection: 'shop', destinations: ['shared'] })
      await held.reached
      const taken = await takeover(other, 'shared')
      assert.equal(taken.epoch, 2)
      assert.equal(taken.warnings.length, 2)
      const { installationId } = await status(stack)
      assert.match(taken.warnings[0] ?? '', new RegExp(`${installationId}.*can write no more`))
      assert.match(taken.warnings[1] ?? '', new RegExp(`cannot be restored here yet.*${installationId}`))
      held.release()
      const ended = await stack.ended(late.id)
      assert.equal(ended.error?.code, 'destination.read-only')
      await expectNoBackup(destination, 'shop', late.backup)

      const theirs = await backedUp(other, 'shared')
      await expectOneBackup(destination, 'shop', theirs)
      await expectOneBackup(destination, 'shop', ours)
      await refusedBackup(stack, 'shared', destination)
      await stack.expectOk('POST', '/v1/destinations/shared/check', {})
      assert.equal(await isReadOnly(stack, 'shared'), true)

      // With the first one's key file its backups are trusted here; from the next start on, that file opens all of them.
      const brought = join(other.home, 'keys', 'first.json')
      await cp(join(stack.home, 'keys', 'default.json'), brought)
      assert.deepEqual(await rebuild(other), { found: 2, added: 1, refused: [] })
      await other.api.terminate()
      await other.restartApi()
      const later = await backedUp(other, 'shared')
      assert.deepEqual(await recoverable(path, brought), { [ours]: true, [theirs]: true, [later]: true })
      const out = join(stack.directory, 'later.db')
      const got = await holdfast(['recover', path, '--key', brought, '--backup', later, '--out', out])
      assert.equal(got.code, 0, got.stderr)
      assert.deepEqual(digestSqlite(out), digestSqlite(shop))
    } finally {
      await other.stop()
      await destination.close()
    }
  })

  test('a copied home is another instance', async () => {
    const path = await directory(stack, 'copied')
    await addDestination(stack, { name: 'copied', uri: path })
    const destination = await local(path)
    const copy = join(stack.directory, 'copy')
    await whileStopped(() => promisify(execFile)('cp', ['-a', stack.home, copy]).then(() => {}))
    const other = await startStack({ home: copy })
    try {
      const [ours, theirs] = [await status(stack), await status(other)]
      assert.equal(theirs.installationId, ours.installationId)
      assert.notEqual(theirs.instanceId, ours.instanceId)
      assert.deepEqual([await isReadOnly(stack, 'copied'), await isReadOnly(other, 'copied')], [false, true])
      await refusedBackup(other, 'copied', destination)
      const first = await backedUp(stack, 'copied')

      const taken = await takeover(other, 'copied')
      assert.equal(taken.warnings.length, 1)
      assert.match(taken.warnings[0] ?? '', new RegExp(`${ours.instanceId}.*can write no more`))
      const second = await backedUp(other, 'copied')
      await refusedBackup(stack, 'copied', destination)
      for (const backup of [first, second]) await expectOneBackup(destination, 'shop', backup)
    } finally {
      await other.stop()
      await destination.close()
    }
  })
})
