/** Losing the catalog loses no backup; two Holdfasts never both write. */
import assert from 'node:assert/strict'
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { backupFacts } from '../../activities/commit.ts'
import type { BackupView, DestinationView } from '../../model/views.ts'
import { backupPrefix } from '../../storage/backups.ts'
import { loadKeyFile, thumbprint } from '../../storage/keys.ts'
import { attemptOf, commit, foundIn, newBackupId, opened, workerOf } from './backups.ts'
import { startTestApi, type TestApi } from './support.ts'
import { addRunning, closeFailed, sweepHere } from './sweeping.ts'

interface Taken {
  epoch: number
  warnings: string[]
}

interface Rebuilt {
  found: number
  added: number
  refused: { backup: string; code: string }[]
}

describe('rebuild, takeover', () => {
  let t: TestApi
  let path = ''

  before(async () => {
    t = await startTestApi()
    path = await t.addDestination('vault')
    await t.call('POST', '/v1/keys', { name: 'default' })
  })
  after(() => t.stop())

  const addOperation = (id: string, backupId: string) => addRunning(t, id, backupId)
  const close = (id: string) => closeFailed(t, id)
  const list = async (api: TestApi) =>
    (await api.call<{ items: BackupView[] }>('GET', '/v1/backups')).body.items
  test('the catalog is lost: rebuilt from the destination it is equal, and read-only until takeover', async () => {
    const to = await opened(t, 'vault')
    for (const n of [1, 2, 3]) {
      const names = await addOperation(`op-rebuild000${n}`, newBackupId())
      const manifest = await commit(t, to, names, await attemptOf(t, to, names))
      await workerOf(t).recordBackup(backupFacts(manifest, names.operationId), [await foundIn(to, manifest)])
      await close(names.operationId)
    }
    const before = await list(t)
    assert.equal(before.length, 3)

    const other = await startTestApi()
    try {
      await mkdir(join(other.home, 'keys'), { recursive: true })
      const added = await other.call<DestinationView>('POST', '/v1/destinations', {
        name: 'vault',
        uri: path,
      })
      assert.equal(added.status, 201)
      assert.equal(added.body.readOnly, true)

      // Without a key file nobody says whose signatures count.
      const strangers = await other.call<Rebuilt>('POST', '/v1/catalog/rebuild', { destination: 'vault' })
      assert.deepEqual([strangers.body.found, strangers.body.added], [3, 0])
      assert.deepEqual(new Set(strangers.body.refused.map(one => one.code)), new Set(['manifest.forged']))

      await cp(join(t.home, 'keys', 'default.json'), join(other.home, 'keys', 'default.json'))
      const rebuilt = await other.call<Rebuilt>('POST', '/v1/catalog/rebuild', {})
      assert.deepEqual(rebuilt.body, { found: 3, added: 3, refused: [] })
      assert.deepEqual(await list(other), before)
      const again = await other.call<Rebuilt>('POST', '/v1/catalog/rebuild', {})
      assert.deepEqual(again.body, { found: 3, added: 0, refused: [] })
      assert.deepEqual((await other.call<{ items: unknown[] }>('GET', '/v1/connections')).body.items, [])

      // The second one may not sweep; after takeover it is the first one that may not.
      const idle = await sweepHere(other)
      assert.deepEqual(
        idle.skipped.map(one => one.code),
        ['destination.read-only'],
      )
      const taken = await other.call<Taken>('POST', '/v1/destinations/vault/takeover', {
        reason: 'the first one burnt',
      })
      assert.equal(taken.body.epoch, 2)
      assert.equal(taken.body.warnings.length, 1)
      assert.match(taken.body.warnings[0] ?? '', /can write no more/)
      assert.equal((await other.call<DestinationView>('GET', '/v1/destinations/vault')).body.readOnly, false)
      const former = await sweepHere(t)
      assert.deepEqual(
        former.skipped.map(one => one.code),
        ['destination.read-only'],
      )
      assert.equal((await t.call<DestinationView>('GET', '/v1/destinations/vault')).body.readOnly, true)
      const back = await t.call<{ epoch: number }>('POST', '/v1/destinations/vault/takeover', {})
      assert.equal(back.body.epoch, 3)
    } finally {
      await other.stop()
      await to.close()
    }
  })

  test('at its start the API enters itself into key files; one it cannot read keeps nobody from starting', async () => {
    const other = await startTestApi()
    try {
      const keys = join(other.home, 'keys')
      const { installationId, fingerprint } = (
        await other.call<{ installationId: string; fingerprint: string }>('GET', '/v1/status')
      ).body
      await other.restart(async () => {
        await mkdir(keys, { recursive: true })
        await cp(join(t.home, 'keys', 'default.json'), join(keys, 'brought.json'))
      })
      const { installations } = await loadKeyFile(join(keys, 'brought.json'))
      assert.equal(Object.keys(installations).length, 2)
      assert.equal(await thumbprint(installations[installationId] ?? {}), fingerprint)
      assert.match(other.log(), /replace the copies kept elsewhere","key":"brought"/)
      await other.restart(() => writeFile(join(keys, 'broken.json'), 'no key'))
      assert.match(other.log(), new RegExp(`broken\\.json.*"fingerprint":"${fingerprint}"`))
      assert.equal((await other.call('GET', '/v1/status')).status, 200)
    } finally {
      await other.stop()
    }
  })

  test('a changed or moved manifest is refused, the others are taken', async () => {
    const [first, second] = await list(t)
    assert.ok(first && second)
    const manifestOf = (id: string) => join(path, backupPrefix('shop', id), 'manifest.json')
    const whole = await readFile(manifestOf(first.id), 'utf8')
    const other = await startTestApi()
    try {
      await mkdir(join(other.home, 'keys'), { recursive: true })
      await cp(join(t.home, 'keys', 'default.json'), join(other.home, 'keys', 'default.json'))
      await other.call('POST', '/v1/destinations', { name: 'vault', uri: path })
      await writeFile(manifestOf(first.id), whole.replace('items.db', 'other.db'))
      const moved = '20200101T000000Z-full-aaaabbbb'
      await mkdir(join(path, backupPrefix('shop', moved)), { recursive: true })
      await cp(manifestOf(second.id), manifestOf(moved))
      const { body } = await other.call<Rebuilt>('POST', '/v1/catalog/rebuild', {})
      assert.deepEqual([body.found, body.added], [4, 2])
      assert.deepEqual(body.refused.map(one => [one.backup, one.code]).sort(), [
        [`shop/${moved}`, 'manifest.invalid'],
        [`shop/${first.id}`, 'manifest.forged'],
      ])
      await rm(join(path, backupPrefix('shop', moved)), { recursive: true })
    } finally {
      await writeFile(manifestOf(first.id), whole)
      await other.stop()
    }
  })
})
