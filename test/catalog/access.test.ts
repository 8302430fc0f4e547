/** Who may come in, and what is remembered of what they did. */
import assert from 'node:assert/strict'
import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  type AuditEntry,
  audit,
  beginAudited,
  checkAudit,
  endAudited,
  listAudit,
  settleBegun,
} from '../../catalog/audit.ts'
import { actorOfToken, createToken, ensureToken, workerTokenIsValid } from '../../catalog/tokens.ts'
import { checkPassword, findUser, insertUser } from '../../catalog/users.ts'
import { withCatalog } from './support.ts'

const canary = 'kanarienvogel 3c81 password'
const ada = { name: 'ada', role: 'approver', requestKey: null } as const

const entry = (object: string, changes: Partial<AuditEntry> = {}): AuditEntry => ({
  at: new Date().toISOString(),
  actor: { name: 'ada', role: 'admin', credentialId: 'tok-1', address: '127.0.0.1' },
  action: 'POST /v1/backups',
  object,
  outcome: 'done',
  detail: { operation: 'op-1' },
  ...changes,
})

test('tokens of files: only their digest is kept; a removed file means a new token', () =>
  withCatalog(async ({ catalog, directory }) => {
    const path = join(directory, 'api.token')
    assert.deepEqual(await ensureToken(catalog, 'api', path), { made: true })
    assert.deepEqual(await ensureToken(catalog, 'api', path), { made: false })
    const token = (await readFile(path, 'utf8')).trim()
    assert.equal((await stat(path)).mode & 0o777, 0o600)
    const actor = await actorOfToken(catalog, token, 'here')
    assert.deepEqual([actor?.name, actor?.role, actor?.user], ['token:home', 'admin', null])
    assert.equal(await workerTokenIsValid(catalog, token), false)
    assert.equal(await actorOfToken(catalog, `${token}x`, 'here'), undefined)
    assert.equal(await actorOfToken(catalog, '', 'here'), undefined)
    for (const file of await readdir(directory)) {
      if (file.startsWith('catalog')) {
        assert.ok(!(await readFile(join(directory, file), 'latin1')).includes(token), file)
      }
    }
    await rm(path)
    await ensureToken(catalog, 'api', path)
    assert.equal(await actorOfToken(catalog, token, 'here'), undefined)
    const workers = join(directory, 'worker.token')
    await ensureToken(catalog, 'worker', workers)
    const worker = (await readFile(workers, 'utf8')).trim()
    assert.equal(await workerTokenIsValid(catalog, worker), true)
    assert.equal(await actorOfToken(catalog, worker, 'here'), undefined)
  }))

test('a token may never do more than its owner, and ends with its time', () =>
  withCatalog(async ({ catalog }) => {
    await insertUser(catalog, ada, null)
    const make = (name: string, changes: object = {}) =>
      createToken(catalog, { name, user: 'ada', role: 'admin', scopes: null, expiresAt: null, ...changes })
    const { token } = await make('laptop')
    assert.equal((await actorOfToken(catalog, token, 'here'))?.role, 'approver')
    const lesser = await make('cron', { role: 'operator', scopes: ['backups:write'] })
    const actor = await actorOfToken(catalog, lesser.token, 'here')
    assert.deepEqual([actor?.name, actor?.role, actor?.scopes], ['ada', 'operator', ['backups:write']])
    const late = await make('late', { expiresAt: new Date(Date.now() - 1).toISOString() })
    assert.equal(await actorOfToken(catalog, late.token, 'here'), undefined)
    await catalog.db.updateTable('users').set({ disabled: 1 }).execute()
    assert.equal(await actorOfToken(catalog, token, 'here'), undefined)
  }))

test('passwords: the right one only, nobody who is disabled or unknown, and never in the clear', () =>
  withCatalog(async ({ catalog, directory }) => {
    await insertUser(catalog, ada, canary)
    await insertUser(catalog, { ...ada, name: 'robot' }, null)
    assert.equal(await checkPassword(catalog, 'ada', canary), true)
    for (const [name, password] of [
      ['ada', `${canary} `],
      ['ada', ''],
      ['robot', ''],
      ['robot', canary],
      ['nobody', canary],
    ] as const) {
      assert.equal(await checkPassword(catalog, name, password), false, `${name} ${password}`)
    }
    await catalog.db.updateTable('users').set({ disabled: 1 }).execute()
    assert.equal(await checkPassword(catalog, 'ada', canary), false)
    assert.equal((await findUser(catalog, 'ada'))?.disabled, true)
    await assert.rejects(insertUser(catalog, ada, canary), { code: 'request.exists' })
    for (const file of await readdir(directory)) {
      assert.ok(!(await readFile(join(directory, file), 'latin1')).includes(canary), file)
    }
  }))

test('audit rows form a chain: one that is changed, removed, added or cut off is noticed', () =>
  withCatalog(async ({ catalog }) => {
    // At once: they still stand in one line.
    await Promise.all(['x', 'x', 'x'].map(object => audit(catalog, entry(object))))
    await audit(catalog, entry('d'))
    await catalog.transaction(tx => audit(catalog, entry('e', { outcome: 'refused' }), tx))
    assert.deepEqual(await checkAudit(catalog).then(({ rows, brokenAt }) => [rows, brokenAt]), [5, null])
    assert.deepEqual(
      (await listAudit(catalog, {}, undefined, 2)).map(row => [row.seq, row.object, row.detail]),
      [
        [5, 'e', { operation: 'op-1' }],
        [4, 'd', { operation: 'op-1' }],
      ],
    )
    assert.deepEqual(
      (await listAudit(catalog, { outcome: 'done' }, 3, 9)).map(row => row.seq),
      [2, 1],
    )
    const { db } = catalog
    const forgeries = [
      () => db.updateTable('audit').set({ actor: 'eve' }).where('seq', '=', 3).execute(),
      () => db.deleteFrom('audit').where('seq', '=', 3).execute(),
      () => db.deleteFrom('audit').where('seq', '>=', 3).execute(),
    ]
    const rows = await db.selectFrom('audit').selectAll().execute()
    for (const forge of forgeries) {
      await forge()
      assert.equal((await checkAudit(catalog)).brokenAt, 3)
      await db.deleteFrom('audit').execute()
      await db.insertInto('audit').values(rows).execute()
      assert.equal((await checkAudit(catalog)).brokenAt, null)
    }
    // A transaction that is rolled back leaves no row and no gap.
    await assert.rejects(
      catalog.transaction(async tx => {
        await audit(catalog, entry('f'), tx)
        throw new Error('no')
      }),
    )
    await audit(catalog, entry('g'))
    assert.deepEqual(await checkAudit(catalog).then(({ rows, brokenAt }) => [rows, brokenAt]), [6, null])
  }))

test('what a process had begun and never ended is entered as unknown by the next one, once', () =>
  withCatalog(async ({ catalog }) => {
    const { outcome: _outcome, ...begun } = entry('backups')
    const ended = await beginAudited(catalog, 'one', begun)
    await beginAudited(catalog, 'one', { ...begun, object: 'lost' })
    await endAudited(catalog, ended, entry('backups'))
    const now = () => new Date().toISOString()
    assert.equal(await settleBegun(catalog, 'one', now()), 0, 'its own are under way')
    assert.equal(await settleBegun(catalog, 'two', new Date(Date.now() - 60_000).toISOString()), 0)
    assert.equal(await settleBegun(catalog, 'two', now()), 1)
    assert.equal(await settleBegun(catalog, 'two', now()), 0)
    assert.deepEqual(
      (await listAudit(catalog, {}, undefined, 9)).map(row => [row.object, row.outcome]),
      [
        ['lost', 'unknown'],
        ['backups', 'done'],
      ],
    )
  }))
