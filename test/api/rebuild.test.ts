/** Losing the catalog loses no backup; two Holdfasts never both write; sweeping takes only what is ours and closed. */
import assert from 'node:assert/strict'
import { cp, mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { backupFacts } from '../../activities/commit.ts'
import { openCatalog } from '../../catalog/open.ts'
import { insertOperation, updateOperation } from '../../catalog/operations.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import type { BackupView, DestinationView } from '../../model/views.ts'
import { backupPrefix } from '../../storage/backups.ts'
import { loadKeyFile, thumbprint } from '../../storage/keys.ts'
import { operation } from '../catalog/support.ts'
import { attemptOf, commit, foundIn, newBackupId, opened, workerOf } from './backups.ts'
import { eventually, startTestApi, type TestApi } from './support.ts'

interface Taken {
  epoch: number
  warnings: string[]
}

interface Swept {
  removed: string[]
  skipped: { what: string; code: string; detail: string }[]
}
interface Rebuilt {
  found: number
  added: number
  refused: { backup: string; code: string }[]
}

describe('rebuild, takeover, sweep', () => {
  let t: TestApi
  let path = ''

  before(async () => {
    t = await startTestApi()
    path = await t.addDestination('vault')
    await t.call('POST', '/v1/keys', { name: 'default' })
  })
  after(() => t.stop())

  const direct = async (work: (catalog: Awaited<ReturnType<typeof openCatalog>>) => Promise<void>) =>
    await t.restart(async () => {
      const catalog = await openCatalog({
        url: t.settings.catalogUrl,
        secretKey: (await ensureSecretKey(t.settings)).key,
      })
      await work(catalog)
      await catalog.close()
    })
  const addOperation = async (id: string, backupId: string) => {
    await direct(catalog =>
      insertOperation(catalog, operation(id, { backupId, state: 'running', runId: 'r' }), null),
    )
    return { operationId: id, backupId, connection: 'shop', destination: 'vault' }
  }
  const close = (id: string) =>
    direct(async catalog => {
      await updateOperation(catalog, id, { state: 'failed' })
    })
  const list = async (api: TestApi) =>
    (await api.call<{ items: BackupView[] }>('GET', '/v1/backups')).body.items
  const objects = async () =>
    (await readdir(path, { recursive: true, withFileTypes: true }))
      .filter(entry => entry.isFile())
      .map(entry => join(entry.parentPath, entry.name).slice(path.length + 1))
      .sort()

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
      const idle = await other.call<Swept>('POST', '/v1/sweep', {})
      assert.deepEqual(
        idle.body.skipped.map(one => one.code),
        ['destination.read-only'],
      )
      const taken = await other.call<Taken>('POST', '/v1/destinations/vault/takeover', {
        reason: 'the first one burnt',
      })
      assert.equal(taken.body.epoch, 2)
      assert.equal(taken.body.warnings.length, 1)
      assert.match(taken.body.warnings[0] ?? '', /can write no more/)
      assert.equal((await other.call<DestinationView>('GET', '/v1/destinations/vault')).body.readOnly, false)
      const former = await t.call<Swept>('POST', '/v1/sweep', {})
      assert.deepEqual(
        former.body.skipped.map(one => one.code),
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

  test('sweep: leftovers of closed operations go, what is open, committed or not ours stays', async () => {
    const to = await opened(t, 'vault')
    try {
      const open = await addOperation('op-open0000001', newBackupId())
      const openAttempt = await attemptOf(t, to, open)
      const given = await addOperation('op-given000001', newBackupId())
      const givenAttempt = await attemptOf(t, to, given)
      const upload = await to.openUpload(`${givenAttempt.key}.part`)
      const done = await addOperation('op-done0000001', newBackupId())
      const lost = await attemptOf(t, to, done)
      const won = await attemptOf(t, to, done)
      const manifest = await commit(t, to, done, won)
      await workerOf(t).recordBackup(backupFacts(manifest, done.operationId), [await foundIn(to, manifest)])
      // Its operation is closed, and another one is at work on the same backup there, as a copying is.
      const first = await addOperation('op-first000001', newBackupId())
      const inUse = await attemptOf(t, to, first)
      await close(first.operationId)
      await addOperation('op-again000001', first.backupId)
      const foreign = `${backupPrefix('shop', newBackupId())}someAttempt/items.zst`
      await to.put(foreign, Buffer.from('not recorded by us'))
      await mkdir(join(t.settings.tempDir, 'data', given.operationId), { recursive: true })
      await close(given.operationId)
      await close(done.operationId)

      const expected = [
        'host op-given000001',
        `upload vault/${givenAttempt.key}.part`,
        `vault/${givenAttempt.key}`,
        `vault/${lost.key}`,
      ].sort()
      const before = await objects()
      const dry = await t.call<Swept>('POST', '/v1/sweep', { dryRun: true })
      assert.deepEqual(dry.body.removed.sort(), expected)
      assert.deepEqual(await objects(), before)

      const swept = await t.call<Swept>('POST', '/v1/sweep', {})
      assert.deepEqual(swept.body.removed.sort(), expected)
      // Nobody knows whose that is: said, and left.
      const [found] = swept.body.skipped
      assert.equal(swept.body.skipped.length, 1)
      assert.ok(
        found?.what.startsWith(`vault/${foreign.split('/').slice(0, 3).join('/')}/ (1 objects`),
        found?.what,
      )
      const after = await objects()
      for (const stays of [openAttempt.key, inUse.key, won.key, foreign])
        assert.ok(after.includes(stays), stays)
      for (const goes of [givenAttempt.key, lost.key]) assert.ok(!after.includes(goes), goes)
      assert.ok(after.includes(`${backupPrefix('shop', given.backupId)}deleted.json`))
      assert.equal(await to.listParts(`${givenAttempt.key}.part`, upload), undefined)
      assert.deepEqual((await t.call<Swept>('POST', '/v1/sweep', {})).body.removed, [])

      // Asked to, a sweep removes it, but not on the day it was written to.
      const young = await t.call<Swept>('POST', '/v1/sweep', { unknown: true, destination: 'vault' })
      assert.deepEqual(young.body.removed, [])
      assert.match(young.body.skipped[0]?.detail ?? '', /so it stays/)
      const daysAgo = new Date(Date.now() - 3 * 24 * 3_600_000)
      await utimes(join(path, foreign), daysAgo, daysAgo)
      const rest = { unknown: true, destination: 'vault' }
      const dryOld = await t.call<Swept>('POST', '/v1/sweep', { ...rest, dryRun: true })
      assert.equal(dryOld.body.removed.length, 1)
      assert.ok((await objects()).includes(foreign))
      const old = await t.call<Swept>('POST', '/v1/sweep', rest)
      assert.deepEqual(old.body.removed, dryOld.body.removed)
      const left = await objects()
      assert.ok(!left.includes(foreign))
      assert.ok(left.includes(openAttempt.key), 'that of the open operation stays, however old')
    } finally {
      await to.close()
    }
  })

  test('sweep: staging that the catalog does not know is said, and goes on request; probes of the dead go by themselves', async () => {
    const staged = (room: string, name: string) => join(t.settings.tempDir, room, name)
    const names = ['op-unknown00001', 'probe-old', 'probe-young']
    for (const name of names) {
      for (const room of ['data', 'jobs']) await mkdir(staged(room, name), { recursive: true })
    }
    const longAgo = new Date(Date.now() - 3_600_000)
    for (const room of ['data', 'jobs']) await utimes(staged(room, 'probe-old'), longAgo, longAgo)
    const there = async () =>
      (await readdir(join(t.settings.tempDir, 'data'))).filter(one => names.includes(one))

    const first = await t.call<Swept>('POST', '/v1/sweep', {})
    assert.deepEqual(first.body.removed, [])
    assert.deepEqual(
      first.body.skipped.map(({ what, code }) => [what, code]),
      [['host op-unknown00001', 'request.not-found']],
    )
    const dry = await t.call<Swept>('POST', '/v1/sweep', { dryRun: true, unknown: true })
    assert.deepEqual(dry.body.removed, ['host op-unknown00001'])
    assert.deepEqual(await there(), names)
    const swept = await t.call<Swept>('POST', '/v1/sweep', { unknown: true })
    assert.deepEqual([swept.body.removed, swept.body.skipped], [['host op-unknown00001'], []])
    await t.restart()
    await eventually('what a dead process had asked with is gone', async () =>
      (await there()).includes('probe-old') ? undefined : true,
    )
    assert.deepEqual(await there(), ['probe-young'])
  })
})
