/** What a sweep takes and what it leaves: only what is ours and closed goes, looked at once more right before. */
import assert from 'node:assert/strict'
import { mkdir, readdir, rm, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { backupFacts } from '../../activities/commit.ts'
import type { WorkerContext } from '../../activities/context.ts'
import { sweepDestination } from '../../activities/sweep.ts'
import { sweepHost } from '../../activities/sweep-host.ts'
import { openLocalHost } from '../../hosts/index.ts'
import { backupPrefix } from '../../storage/backups.ts'
import type { Destination } from '../../storage/destination.ts'
import { attemptOf, commit, foundIn, newBackupId, opened, workerOf } from './backups.ts'
import { eventually, startTestApi, type TestApi } from './support.ts'
import { addRunning, beginSweep, closeFailed, sweepHere, turnOf } from './sweeping.ts'

describe('what a sweep takes', () => {
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
  const objects = async () =>
    (await readdir(path, { recursive: true, withFileTypes: true }))
      .filter(entry => entry.isFile())
      .map(entry => join(entry.parentPath, entry.name).slice(path.length + 1))
      .sort()
  const markerOf = (backupId: string) => `${backupPrefix('shop', backupId)}deleted.json`

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
      const dry = await sweepHere(t, { dryRun: true })
      assert.deepEqual(dry.removed.sort(), expected)
      assert.deepEqual(await objects(), before)

      const swept = await sweepHere(t)
      assert.deepEqual(swept.removed.sort(), expected)
      // Nobody knows whose that is: said, and left.
      const [found] = swept.skipped
      assert.equal(swept.skipped.length, 1)
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
      assert.deepEqual((await sweepHere(t)).removed, [])

      // Asked to, a sweep removes it, but not on the day it was written to.
      const young = await sweepHere(t, { unknown: true, destination: 'vault' })
      assert.deepEqual(young.removed, [])
      assert.match(young.skipped[0]?.detail ?? '', /so it stays/)
      const daysAgo = new Date(Date.now() - 3 * 24 * 3_600_000)
      await utimes(join(path, foreign), daysAgo, daysAgo)
      const rest = { unknown: true, destination: 'vault' }
      const dryOld = await sweepHere(t, { ...rest, dryRun: true })
      assert.equal(dryOld.removed.length, 1)
      assert.ok((await objects()).includes(foreign))
      const old = await sweepHere(t, rest)
      assert.deepEqual(old.removed, dryOld.removed)
      const left = await objects()
      assert.ok(!left.includes(foreign))
      assert.ok(left.includes(openAttempt.key), 'that of the open operation stays, however old')
    } finally {
      await to.close()
    }
  })

  test('sweep: staging that the catalog does not know is said, and goes on request; probes of the dead go by themselves', async () => {
    const staged = (room: string, name: string) => join(t.settings.tempDir, room, name)
    const names = ['op-unknown00001', 'probe-young']
    for (const name of names) {
      for (const room of ['data', 'jobs']) await mkdir(staged(room, name), { recursive: true })
    }
    const ago = async (name: string, hours: number) => {
      const then = new Date(Date.now() - hours * 3_600_000)
      for (const room of ['data', 'jobs']) await utimes(staged(room, name), then, then)
    }
    const there = async () =>
      (await readdir(join(t.settings.tempDir, 'data'))).filter(one => names.includes(one))

    const first = await sweepHere(t)
    assert.deepEqual(first.removed, [])
    assert.deepEqual(
      first.skipped.map(({ what, code }) => [what, code]),
      [['host op-unknown00001', 'request.not-found']],
    )
    const young = await sweepHere(t, { unknown: true })
    assert.deepEqual(young.removed, [])
    assert.match(young.skipped[0]?.detail ?? '', /so it stays/)
    await ago('op-unknown00001', 25)
    const dryOld = await sweepHere(t, { dryRun: true, unknown: true })
    assert.deepEqual(dryOld.removed, ['host op-unknown00001'])
    assert.deepEqual(await there(), names)
    const swept = await sweepHere(t, { unknown: true })
    assert.deepEqual([swept.removed, swept.skipped], [['host op-unknown00001'], []])
    assert.deepEqual(await there(), ['probe-young'])
    await ago('probe-young', 1)
    await t.restart()
    await eventually('what a dead process had asked with is gone', async () =>
      (await there()).length > 0 ? undefined : true,
    )
  })

  test('on another machine the API removes no probes: a sweep does', async () => {
    const host = await openLocalHost({ name: 'db1', stagingRoot: join(t.home, 'db1') })
    const rooms = join(host.stagingRoot, 'data')
    for (const name of ['probe-old', 'probe-young']) await mkdir(join(rooms, name), { recursive: true })
    const then = new Date(Date.now() - 3_600_000)
    await utimes(join(rooms, 'probe-old'), then, then)
    const { input, context, end } = await beginSweep(t)
    await sweepHost({ ...context, host }, turnOf(), { ...input, dryRun: true }, 'host db1')
    assert.deepEqual(await readdir(rooms), ['probe-old', 'probe-young'])
    await sweepHost({ ...context, host }, turnOf(), input, 'host db1')
    assert.deepEqual(await readdir(rooms), ['probe-young'])
    assert.deepEqual((await end()).removed, ['host probe-old'])
  })

  /** The sweep's destination, where something happens once the store was walked over. */
  const afterTheWalk = (context: WorkerContext, happens: () => Promise<void>): WorkerContext => {
    let walked = false
    return {
      ...context,
      destination: async name =>
        new Proxy(await context.destination(name), {
          get(store, method) {
            if (method !== 'listUploads') {
              const found: unknown = Reflect.get(store, method)
              return typeof found === 'function' ? found.bind(store) : found
            }
            return async function* (...args: Parameters<Destination['listUploads']>) {
              yield* store.listUploads(...args)
              if (args[0] !== '' || walked) return
              walked = true
              await happens()
            }
          },
        }),
    }
  }

  test('a look that is old removes nothing: what was committed after it stays whole', async () => {
    const to = await opened(t, 'vault')
    try {
      const late = await addOperation('op-late0000001', newBackupId())
      const attempt = await attemptOf(t, to, late)
      await close(late.operationId)
      const { input, context, end } = await beginSweep(t)
      const watched = afterTheWalk(context, async () => {
        await commit(t, to, late, attempt)
      })
      await sweepDestination(watched, turnOf(), input, 'vault')
      const { removed } = await end()
      assert.deepEqual(
        removed.filter(what => what.includes(late.backupId)),
        [],
      )
      const left = await objects()
      assert.ok(left.includes(attempt.key))
      assert.ok(!left.includes(markerOf(late.backupId)))
    } finally {
      await to.close()
    }
  })

  test('who lost the step removes nothing more, and what it did not remove the next one does', async () => {
    const to = await opened(t, 'vault')
    try {
      const given = await addOperation('op-zombie00001', newBackupId())
      const attempt = await attemptOf(t, to, given)
      await close(given.operationId)
      const open = await addOperation('op-zombie00002', newBackupId())
      const second = await attemptOf(t, to, open)
      const { input, context, end } = await beginSweep(t)
      const lost = turnOf(() => {
        throw new Error('another one has the step')
      })
      await assert.rejects(sweepDestination(context, lost, input, 'vault'), /another one has the step/)
      assert.ok((await objects()).includes(attempt.key))
      await sweepDestination(context, turnOf(), input, 'vault')
      assert.ok(!(await objects()).includes(attempt.key))
      assert.ok((await end()).removed.includes(`vault/${attempt.key}`))
      // A sweep that is closed removes nothing, even if one of its steps lives.
      await context.catalog.updateOperation(open.operationId, { state: 'failed' })
      await assert.rejects(sweepDestination(context, turnOf(), input, 'vault'), {
        code: 'operation.conflict',
      })
      assert.ok((await objects()).includes(second.key))
    } finally {
      await to.close()
    }
  })

  test('a copy that is to come stays; once its time is over what was begun of it goes, without a marker', async () => {
    const to = await opened(t, 'vault')
    try {
      const names = await addOperation('op-elsewhere01', newBackupId())
      const attempt = await attemptOf(t, to, names)
      const upload = await to.openUpload(`${attempt.key}.part`)
      const manifest = await commit(t, to, names, attempt)
      const missing = (wantedUntil: string) => ({
        destination: 'vault',
        committedAt: null,
        trouble: 'away',
        wantedUntil,
      })
      await rm(join(path, backupPrefix('shop', names.backupId), 'manifest.json'))
      const there = { destination: 'attic', committedAt: new Date().toISOString() }
      const hour = 3_600_000
      const known = backupFacts(manifest, names.operationId)
      await workerOf(t).recordBackup(known, [there, missing(new Date(Date.now() + hour).toISOString())])
      await close(names.operationId)
      const ours = (what: string) => what.includes(names.backupId)
      assert.deepEqual((await sweepHere(t)).removed.filter(ours), [])
      assert.ok((await objects()).includes(attempt.key))

      await workerOf(t).recordBackup(known, [missing(new Date(Date.now() - hour).toISOString())])
      const expected = [`upload vault/${attempt.key}.part`, `vault/${attempt.key}`]
      assert.deepEqual((await sweepHere(t, { dryRun: true })).removed.filter(ours).sort(), expected)
      assert.ok((await objects()).includes(attempt.key))
      assert.deepEqual((await sweepHere(t)).removed.filter(ours).sort(), expected)
      const left = await objects()
      assert.ok(!left.includes(attempt.key))
      assert.ok(!left.includes(markerOf(names.backupId)), 'it may be copied here again')
      assert.equal(await to.listParts(`${attempt.key}.part`, upload), undefined)
    } finally {
      await to.close()
    }
  })

  test('a backup that is known as committed and lost its manifest is said, and keeps its bytes', async () => {
    const to = await opened(t, 'vault')
    try {
      const names = await addOperation('op-manifest01', newBackupId())
      const attempt = await attemptOf(t, to, names)
      const manifest = await commit(t, to, names, attempt)
      await workerOf(t).recordBackup(backupFacts(manifest, names.operationId), [await foundIn(to, manifest)])
      await close(names.operationId)
      await rm(join(path, backupPrefix('shop', names.backupId), 'manifest.json'))
      const { removed, skipped } = await sweepHere(t)
      assert.deepEqual(
        removed.filter(what => what.includes(names.backupId)),
        [],
      )
      const said = skipped.filter(({ what }) => what.includes(names.backupId))
      assert.deepEqual(
        said.map(({ code }) => code),
        ['manifest.missing'],
      )
      const left = await objects()
      assert.ok(left.includes(attempt.key))
      assert.ok(!left.includes(markerOf(names.backupId)))
    } finally {
      await to.close()
    }
  })
})
