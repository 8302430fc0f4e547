/** What the API says can be recovered of a server, from its archive and its base backups. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import { recordBackup } from '../../catalog/backups.ts'
import { openCatalog } from '../../catalog/open.ts'
import { ensureSecretKey } from '../../catalog/secrets.ts'
import { dueMoves, mayMove } from '../../catalog/tiers.ts'
import type { Manifest } from '../../model/manifest.ts'
import type { ArchiversView, RecoveryWindowsView, RestorePointView } from '../../model/recovery-views.ts'
import type { StatusView } from '../../model/views.ts'
import type { Destination } from '../../storage/destination.ts'
import { thumbprint } from '../../storage/keys.ts'
import { askToBeVouchedFor, listArchivers } from '../../storage/wal/archivers.ts'
import { enveloped } from '../../storage/wal/envelope.ts'
import { signerOf } from '../../storage/wal/header.ts'
import { logFileKey } from '../../storage/wal/layout.ts'
import { beginStream, pushLogFile } from '../../storage/wal/push.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { newArchiver, segmentOf } from '../wal/segments.ts'
import { newBackupId, opened } from './backups.ts'
import { startTestApi, type TestApi } from './support.ts'

describe('recovery windows', () => {
  let api: TestApi
  let server: TestPostgres
  let vault: Destination
  let systemIdentifier = ''
  const archiver = newArchiver()
  const backupId = newBackupId()
  const put = async (name: string, content = segmentOf(name, { server: systemIdentifier })) => {
    const file = { connection: 'shop', systemIdentifier, name, content }
    const trusted = { [archiver.archiver]: archiver.publicKey }
    await pushLogFile(vault, file, await enveloped(file, signerOf(archiver), null), {
      trusted,
      patienceSeconds: 5,
    })
  }
  const windows = () => api.call<RecoveryWindowsView>('GET', '/v1/connections/shop/windows')

  before(async () => {
    ;[server, api] = await Promise.all([startPostgres({ version: 15 }), startTestApi()])
    const url = `postgres://postgres@127.0.0.1:${server.port}/postgres`
    const added = await api.call('POST', '/v1/connections', { name: 'shop', url })
    assert.equal(added.status, 201, JSON.stringify(added.body))
    await api.addDestination('vault')
    await api.addDestination('other')
    systemIdentifier = await server.sql('select system_identifier from pg_control_system()')
    vault = await opened(api, 'vault')
  })
  after(async () => {
    await vault?.close()
    await api?.stop()
    await server?.stop()
  })

  test('a restore point is made once, and another try of one that was not is another one', async () => {
    const path = '/v1/connections/shop/restore-points'
    const made = await api.call<RestorePointView>('POST', path, { name: 'before-42', note: 'schema 42' })
    assert.equal(made.status, 201, JSON.stringify(made.body))
    assert.equal(made.body.systemIdentifier, systemIdentifier)
    assert.equal(made.body.timeline, 1)
    assert.match(made.body.lsn, /^0\/[0-9A-F]+$/)
    assert.match(
      await readFile(server.logFile, 'utf8'),
      new RegExp(`restore point "${made.body.serverName}" created`),
    )
    assert.equal((await api.call('POST', path, { name: 'before-42' })).status, 409)
    // It may have been made when its answer was lost: the next one has a name of its own.
    await server.kill9()
    assert.ok((await api.call('POST', path, { name: 'before-43' })).status >= 500)
    await server.restart()
    const again = await api.call<RestorePointView>('POST', path, { name: 'before-43' })
    assert.equal(again.status, 201, JSON.stringify(again.body))
    const { body } = await api.call<{ items: RestorePointView[] }>('GET', path)
    assert.deepEqual(
      body.items.map(({ name, note }) => [name, note]),
      [
        ['before-43', null],
        ['before-42', 'schema 42'],
      ],
    )
    assert.notEqual(body.items[0]?.serverName, body.items[1]?.serverName)
    assert.equal((await api.call('DELETE', `${path}/before-43`)).status, 204)
    assert.equal((await api.call('DELETE', `${path}/before-43`)).status, 404)
    assert.equal((await api.call<{ items: unknown[] }>('GET', path)).body.items.length, 1)
  })

  test('an archiver that asks is vouched for by the fingerprint of its key, and by no other', async () => {
    const path = '/v1/connections/shop/archivers'
    const stream = { connection: 'shop', systemIdentifier }
    await askToBeVouchedFor(vault, stream, archiver)
    const fingerprint = await thumbprint(archiver.publicKey)
    const listed = await api.call<ArchiversView>('GET', path)
    assert.deepEqual(
      listed.body.items.map(one => [one.destination, one.archiver, one.fingerprint, one.vouched]),
      [['vault', archiver.archiver, fingerprint, false]],
    )
    const asked = { archiver: archiver.archiver, fingerprint }
    const other = await thumbprint(newArchiver().publicKey)
    assert.equal((await api.call('POST', path, { ...asked, fingerprint: other })).status, 422)
    assert.equal((await api.call('POST', path, { ...asked, archiver: 'nobody' })).status, 422)
    assert.equal((await api.call<ArchiversView>('GET', path)).body.items[0]?.vouched, false)
    const vouched = await api.call<ArchiversView>('POST', path, asked)
    assert.equal(vouched.status, 200, JSON.stringify(vouched.body))
    assert.equal((await api.call<ArchiversView>('GET', path)).body.items[0]?.vouched, true)
    const [said] = await listArchivers(vault, stream)
    assert.equal(said?.vouchers.length, 1)
  })

  test('without an archive there is none', async () => {
    const { status, body } = await windows()
    assert.equal(status, 200)
    assert.deepEqual(body, { connection: 'shop', systemIdentifier, archives: [], unknown: [] })
  })

  test('are of the base backups and the log that are there, with what is missing', async () => {
    await beginStream(vault, { connection: 'shop', systemIdentifier }, archiver, { patienceSeconds: 5 })
    for (const number of [2, 3, 4, 6]) await put(`00000001000000000000000${number}`)
    await put('00000002.history', Buffer.from('1\t0/480000\tno recovery target specified\n'))
    await put('000000020000000000000004')
    await api.restart(async () => {
      const secretKey = (await ensureSecretKey(api.settings)).key
      const catalog = await openCatalog({ url: api.settings.catalogUrl, secretKey })
      const at = new Date().toISOString()
      const positions = { startLsn: '0/200028', stopLsn: '0/200100', timeline: 1 }
      await recordBackup(
        catalog,
        {
          id: backupId,
          connection: 'shop',
          engine: 'postgresql',
          method: 'physical',
          type: 'full',
          operationId: null,
          serverIdentity: `postgresql:${systemIdentifier}/localhost:5432`,
          database: 'postgres',
          encrypted: false,
          toolBytes: 1,
          storedBytes: 1,
          startedAt: at,
          endedAt: at,
          labels: {},
          manifest: { backupId, facts: { positions } } as unknown as Manifest,
        },
        [{ destination: 'vault', committedAt: at }],
      )
      await catalog.close()
    })
    const { body } = await windows()
    const [archive] = body.archives
    assert.equal(archive?.destination, 'vault')
    assert.equal(archive.segments, 5)
    assert.deepEqual(
      archive.windows.map(({ timeline, parent, intervals, gaps }) => ({ timeline, parent, intervals, gaps })),
      [
        {
          timeline: 1,
          parent: null,
          intervals: [{ from: '0/200100', to: '0/500000' }],
          gaps: [
            {
              first: '000000010000000000000005',
              last: '000000010000000000000005',
              lost: { from: '0/500000', to: null },
            },
          ],
        },
        {
          timeline: 2,
          parent: { timeline: 1, leftAt: '0/480000' },
          intervals: [{ from: '0/200100', to: '0/500000' }],
          gaps: [],
        },
      ],
    )
    assert.deepEqual(
      archive.windows[0]?.bases.map(({ backup, from, to }) => [backup, from, to]),
      [[backupId, '0/200100', '0/500000']],
    )
  })

  test('are on the status screen, with what is wrong', async () => {
    const status = async () => {
      const { body } = await api.call<StatusView>('GET', '/v1/status')
      const { log, problems } = body.databases.find(one => one.connection === 'shop') ?? assert.fail('shop')
      return { log, codes: problems.map(({ code }) => code).filter(code => code.startsWith('wal.')) }
    }
    const { log, codes } = await status()
    assert.ok(log)
    const { archivedAt, ...reached } = log
    assert.ok(archivedAt)
    assert.deepEqual(reached, {
      destination: 'vault',
      timeline: 2,
      from: '0/200100',
      to: '0/500000',
      gaps: 0,
    })
    assert.deepEqual(codes, [])
    // What the newest timeline needs of the older one.
    await vault.remove(logFileKey({ connection: 'shop', systemIdentifier }, '000000010000000000000003'))
    const holed = await status()
    assert.deepEqual([holed.log?.to, holed.log?.gaps, holed.codes], ['0/300000', 1, ['wal.gap']])
  })

  test('what a kept restore point needs is moved to no colder class', async () => {
    const path = '/v1/connections/shop/restore-points'
    const point = `${path}/before-42`
    const kept = async (keepUntil: string | null) => {
      const answer = await api.call<RestorePointView>('PATCH', point, { keepUntil })
      assert.equal(answer.status, 200, JSON.stringify(answer.body))
      assert.equal(answer.body.keepUntil, keepUntil)
      const { body } = await api.call<{ items: RestorePointView[] }>('GET', path)
      assert.equal(body.items.find(({ name }) => name === 'before-42')?.keepUntil, keepUntil)
    }
    const looked = async () => {
      let due: string[] = []
      let may = false
      await api.restart(async () => {
        const secretKey = (await ensureSecretKey(api.settings)).key
        const catalog = await openCatalog({ url: api.settings.catalogUrl, secretKey })
        const tiers = [{ afterDays: 1, class: 'COLD' }]
        await catalog.db
          .updateTable('destinations')
          .set({ settings: JSON.stringify({ tiers }) })
          .where('name', '=', 'vault')
          .execute()
        const later = new Date(Date.now() + 3 * 86_400_000).toISOString()
        due = (await dueMoves(catalog, 'vault', later)).map(move => move.backupId)
        may = await mayMove(catalog, 'vault', backupId)
        await catalog.close()
      })
      return { due, may }
    }
    assert.deepEqual(await looked(), { due: [backupId], may: true })
    await kept('forever')
    assert.deepEqual(await looked(), { due: [], may: false })
    // By another point.
    const { body: newer } = await api.call<RestorePointView>('POST', path, {
      name: 'before-44',
      keepUntil: '2099-01-01T01:00:00+01:00',
    })
    assert.equal(newer.keepUntil, '2099-01-01T00:00:00.000Z')
    await kept(null)
    assert.deepEqual(await looked(), { due: [], may: false }, 'before-44 needs it, too')
    assert.equal((await api.call('DELETE', `${path}/before-44`)).status, 204)
    assert.deepEqual(await looked(), { due: [backupId], may: true })
    await kept('2020-01-01T00:00:00.000Z')
    assert.deepEqual(await looked(), { due: [backupId], may: true }, 'its time is over')
    assert.equal((await api.call('PATCH', point, { keepUntil: 'tomorrow' })).status, 422)
    assert.equal((await api.call('PATCH', `${path}/nothing`, { keepUntil: null })).status, 404)
  })
})
