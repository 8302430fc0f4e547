/**
 * Sweeps against everything that lives: backups that run, stand still or lost their worker, a copying, a restore, a catalog of
 * before. What lives is whole afterwards, what is dead is gone.
 */
import assert from 'node:assert/strict'
import { copyFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import type { BackupView, OperationView } from '../../model/views.ts'
import { digestSqlite } from '../support/digest.ts'
import { expectNoBackup, expectOneBackup, objectsOf } from './inspect.ts'
import { eventually } from './stack.ts'
import { type Sweeping, startSweeping } from './sweeping.ts'

describe('sweeping beside what lives', () => {
  let s: Sweeping

  before(async () => {
    s = await startSweeping()
  })
  afterEach(() => s.settle())
  after(() => s?.stop())

  test('a backup that runs, is paused, parked, or lost its worker stays, and is whole afterwards', async () => {
    const denied = '<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
    let broken = false
    const last = s.isPart(10)
    s.front.answer((method, url) => broken && last(method, url), 403, denied, Number.POSITIVE_INFINITY)
    const running = s.holdParts(2)
    const { id, backup } = await s.begin()
    await running.reached
    await s.expectUntouched(backup, 'while it runs')

    await s.stack.pause(id)
    await eventually('the catalog has heard of it', async () =>
      (await s.stack.operation(id)).pauseWanted ? true : undefined,
    )
    const asked = () => s.stack.workerApi.seen.filter(line => line.endsWith('/pauseWanted')).length
    const before = asked()
    await eventually('it asked again', async () => (asked() > before + 1 ? true : undefined), 5).catch(() => {
      // It has heard of it already.
    })
    running.release()
    await eventually('it is paused', async () =>
      (await s.stack.operation(id)).state === 'paused' ? true : undefined,
    )
    await s.expectUntouched(backup, 'while it is paused')

    const next = s.holdParts(6)
    await s.stack.resume(id)
    await next.reached
    const again = s.holdParts(6)
    await s.restartWorker()
    next.cut()
    await s.expectUntouched(backup, 'while Temporal waits to give its step to another worker')
    await again.reached
    broken = true
    again.release()
    await s.stack.parked(id)
    await s.expectUntouched(backup, 'while it is parked')
    broken = false
    await s.stack.resume(id)
    await s.expectWhole(id)
  })

  test('a copying to where it is missing goes on beside it; what a given-up one left goes while none may begin', async () => {
    let away = true
    const denied = '<Error><Code>AccessDenied</Code></Error>'
    s.front.answer(() => away, 403, denied, Number.POSITIVE_INFINITY)
    const { id, backup } = await s.begin(['cellar', 'vault'])
    assert.equal((await s.stack.ended(id)).state, 'partial')
    const copying = s.front.hold('before', s.isPart(3))
    away = false
    await copying.reached
    await s.expectUntouched(backup, 'while it is copied home')
    const show = () => s.stack.expectOk<BackupView>('GET', `/v1/backups/${backup}`)
    const there = async () => (await show()).copies.find(copy => copy.destination === 'vault')
    const operation = (await there())?.operation ?? ''
    await s.stack.expectOk('POST', `/v1/operations/${operation}/cancel`, {})
    assert.equal((await s.stack.ended(operation)).state, 'cancelled')
    copying.cut()
    await eventually('it is wanted no more', async () =>
      (await there())?.wantedUntil === null ? true : undefined,
    )
    const { attemptId } = JSON.parse(
      Buffer.from((await s.cellar.read(`${s.prefixOf(backup)}manifest.json`)) ?? []).toString(),
    ) as { attemptId: string }
    const left = `${s.prefixOf(backup)}${attemptId}/left`
    await s.vault.put(left, Buffer.from('of a copying that died'))

    const removing = s.stack.workerApi.hold('after', (_, url) => url.endsWith('/claimLeftovers'))
    const { id: sweep } = await s.stack.sweep({ destination: 'vault' })
    await removing.reached
    const refused = await s.stack.refused('POST', `/v1/backups/${backup}/copy`, { to: 'vault' })
    assert.equal(refused.status, 409, JSON.stringify(refused.body))
    assert.match(refused.body.detail ?? '', new RegExp(sweep))
    await s.restartWorker()
    removing.cut()
    const view = await s.stack.ended(sweep)
    assert.deepEqual(view.swept?.removed, [`vault/${left}`])
    assert.deepEqual(await objectsOf(s.vault, s.prefixOf(backup)), [])
    const again = await s.stack.expectOk<{ operation: OperationView }>('POST', `/v1/backups/${backup}/copy`, {
      to: 'vault',
    })
    assert.equal((await s.stack.ended(again.operation.id)).state, 'succeeded')
    await expectOneBackup(s.vault, 'copied', backup)
    await s.expectRestorable(backup)
  })

  test('a restore reads beside it', async () => {
    const { backup } = await s.expectWhole((await s.begin()).id)
    const reading = s.front.hold(
      'before',
      (method, url) => method === 'GET' && /\/copied\/backups\/[^?]*\.(zst|tink)/.test(url),
    )
    const database = join(s.stack.directory, 'beside.db')
    const { id } = await s.stack.restore({
      backup,
      from: 'vault',
      target: { connection: 'copied', database },
    })
    await reading.reached
    await s.expectUntouched(backup, 'while it is read')
    reading.release()
    const view = await s.stack.ended(id)
    assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
    assert.deepEqual(digestSqlite(database), digestSqlite(s.source))
  })

  test('the catalog is put back to before the backup wrote anything: what its operation has sent stays while that is open', async () => {
    const attempt = s.stack.workerApi.hold('before', (_, url) => url.endsWith('/recordAttempt'))
    const { id, backup } = await s.begin()
    await attempt.reached
    const catalog = join(s.stack.home, 'catalog.sqlite')
    const kept = join(s.stack.directory, 'kept.sqlite')
    await s.stack.api.terminate()
    await copyFile(catalog, kept)
    await s.stack.restartApi()
    const sending = s.front.hold('before', s.isPart(3))
    attempt.release()
    await sending.reached
    await s.stack.api.terminate()
    for (const end of ['-wal', '-shm']) await rm(`${catalog}${end}`, { force: true })
    await copyFile(kept, catalog)
    await s.stack.restartApi()
    await s.expectUntouched(backup, 'while the workflow of the operation runs')
    sending.release()
    // Nobody signs for an attempt that is not recorded: it fails, and takes away nothing that is not its own.
    assert.equal((await s.stack.ended(id)).state, 'failed')
    await s.expectWhole((await s.begin()).id)
    const { removed, skipped } = await s.swept({ unknown: true })
    assert.deepEqual(
      removed.filter(what => what.includes(backup)),
      [],
    )
    const said = skipped.filter(({ what }) => what.includes(backup))
    assert.match(said[0]?.detail ?? '', /knows nothing of it.*so it stays/)
  })

  test('Temporal lost its state: what it was at is dead and goes, the next one is whole', async () => {
    const held = s.front.hold('before', s.isPart(3))
    const { id, backup } = await s.begin()
    await held.reached
    await s.stack.temporal.kill9()
    for (const end of ['', '-wal', '-shm']) {
      await rm(join(s.stack.directory, `temporal.sqlite${end}`), { force: true })
    }
    await s.stack.temporal.restart()
    const lost = await s.stack.ended(id)
    assert.equal(lost.error?.code, 'operation.terminated')
    held.release()
    await s.swept()
    await expectNoBackup(s.vault, 'copied', backup)
    await s.expectWhole((await s.begin()).id)
    await expectNoBackup(s.vault, 'copied', backup)
  })
})
