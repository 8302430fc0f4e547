/** Who may come in, and what is remembered of what they did. */
import assert from 'node:assert/strict'
import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  type AuditEntry,
  audit,
  beginAudited,
  endAudited,
  listAudit,
  settleBegun,
} from '../../catalog/audit.ts'
import { checkAudit, pruneAudit } from '../../catalog/audit-chain.ts'
import type { Catalog } from '../../catalog/open.ts'
import { countTry } from '../../catalog/password-limits.ts'
import {
  actorOfSession,
  createSession,
  forgetSessions,
  listSessions,
  sessionIdleSeconds,
} from '../../catalog/sessions.ts'
import { actorOfToken, createToken, ensureToken, workerOfToken } from '../../catalog/tokens.ts'
import {
  changeUser,
  checkPassword,
  findUser,
  insertUser,
  listUsers,
  setPassword,
} from '../../catalog/users.ts'
import type { Actor } from '../../model/records.ts'
import { withCatalog } from './support.ts'

const canary = 'kanarienvogel 3c81 password'
const ada = { name: 'ada', role: 'approver', requestKey: null } as const

const inAnHour = () => new Date(Date.now() + 3_600_000).toISOString()

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
    assert.equal(await workerOfToken(catalog, token), undefined)
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
    assert.deepEqual(await workerOfToken(catalog, worker), { host: null })
    assert.equal(await actorOfToken(catalog, worker, 'here'), undefined)
  }))

test('a token may never do more than its owner, and ends with its time', () =>
  withCatalog(async ({ catalog }) => {
    await insertUser(catalog, ada, null)
    const make = (name: string, changes: object = {}) =>
      createToken(catalog, {
        name,
        user: 'ada',
        role: 'admin',
        scopes: null,
        connections: null,
        expiresAt: null,
        ...changes,
      })
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
    assert.equal(await checkPassword(catalog, 'ada', canary, '10.0.0.1'), true)
    for (const [name, password] of [
      ['ada', `${canary} `],
      ['ada', ''],
      ['robot', ''],
      ['robot', canary],
      ['nobody', canary],
    ] as const) {
      assert.equal(await checkPassword(catalog, name, password, '10.0.0.1'), false, `${name} ${password}`)
    }
    await catalog.db.updateTable('users').set({ disabled: 1 }).execute()
    assert.equal(await checkPassword(catalog, 'ada', canary, '10.0.0.1'), false)
    assert.equal((await findUser(catalog, 'ada'))?.disabled, true)
    await assert.rejects(insertUser(catalog, ada, canary), { code: 'request.exists' })
    for (const file of await readdir(directory)) {
      assert.ok(!(await readFile(join(directory, file), 'latin1')).includes(canary), file)
    }
  }))

test('guessing is slowed down, also by many at once, and nobody elsewhere can lock anybody out', () =>
  withCatalog(async ({ catalog, reopen }) => {
    await insertUser(catalog, ada, canary)
    const outcome = (open: Catalog, password: string, address: string) =>
      checkPassword(open, 'ada', password, address).then(String, error => error.code as string)
    const home = '10.0.0.1'
    assert.equal(await outcome(catalog, canary, home), 'true')
    const guesses = await Promise.all(Array.from({ length: 12 }, () => outcome(catalog, 'wrong', '10.6.6.6')))
    assert.equal(guesses.filter(answer => answer === 'false').length, 6)
    assert.equal(guesses.filter(answer => answer === 'request.rate-limited').length, 6)
    // Not even the right one is looked at now, after a restart neither; at home nothing has changed.
    const lengthen = (open: Catalog) =>
      open.db
        .updateTable('password_tries')
        .set({ blocked_until: inAnHour() })
        .where('blocked_until', 'is not', null)
        .execute()
    await lengthen(catalog)
    const again = await reopen()
    assert.equal(await outcome(again, canary, '10.6.6.6'), 'request.rate-limited')
    for (let n = 0; n < 60; n++) await countTry(again, 'ada', `10.7.${n}.1`).catch(() => {})
    await lengthen(again)
    assert.equal(await outcome(again, canary, '10.8.8.8'), 'request.rate-limited', 'a new place waits')
    assert.equal(await outcome(again, canary, home), 'true', 'a known one does not')
    // Many users from one address.
    const users = await Promise.all(
      Array.from({ length: 25 }, (_, n) =>
        countTry(again, `user-${n}`, '10.9.9.9').then(
          () => 1,
          () => 0,
        ),
      ),
    )
    assert.equal(users.filter(Boolean).length, 21)
  }))

test('the pause grows with each try and ends at a quarter of an hour', () =>
  withCatalog(async ({ catalog }) => {
    const pauses: number[] = []
    for (let n = 0; n < 20; n++) {
      await catalog.db.updateTable('password_tries').set({ blocked_until: null }).execute()
      const at = Date.now()
      await countTry(catalog, 'ada', '10.0.0.1')
      const row = await catalog.db
        .selectFrom('password_tries')
        .select(({ fn }) => fn.max('blocked_until').as('until'))
        .executeTakeFirstOrThrow()
      pauses.push(row.until === null ? 0 : Math.round((Date.parse(row.until) - at) / 1000))
    }
    assert.deepEqual(pauses.slice(0, 9), [0, 0, 0, 0, 0, 1, 2, 4, 8])
    assert.equal(pauses.at(-1), 900)
  }))

test('a session ends when it is idle, when it is old, when it is ended, and with its user', () =>
  withCatalog(async ({ catalog }) => {
    await insertUser(catalog, ada, canary)
    const begin = () => createSession(catalog, { user: 'ada', address: 'here', agent: 'test' })
    const is = async (secret: string) => (await actorOfSession(catalog, secret, 'here'))?.user
    const age = (id: string, columns: { seen_at?: string; expires_at?: string }) =>
      catalog.db.updateTable('sessions').set(columns).where('id', '=', id).execute()
    const ago = (seconds: number) => new Date(Date.now() - seconds * 1000).toISOString()

    const { session, secret } = await begin()
    assert.equal(await is(secret), 'ada')
    assert.equal(await is(`${secret}x`), undefined)
    await age(session.id, { seen_at: ago(sessionIdleSeconds - 60) })
    assert.equal(await is(secret), 'ada', 'used in time')
    const [{ seenAt = '' } = {}] = await listSessions(catalog, 'ada')
    assert.ok(Date.now() - Date.parse(seenAt) < 60_000, 'that it was used is noted')
    await age(session.id, { seen_at: ago(sessionIdleSeconds + 1) })
    assert.equal(await is(secret), undefined)
    assert.deepEqual(await listSessions(catalog, undefined), [])

    const old = await begin()
    await age(old.session.id, { expires_at: ago(1) })
    assert.equal(await is(old.secret), undefined)
    await forgetSessions(catalog)
    assert.deepEqual(await catalog.db.selectFrom('sessions').selectAll().execute(), [])

    const [kept, other] = [await begin(), await begin()]
    await setPassword(catalog, 'ada', `${canary} new`, kept.session.id)
    assert.deepEqual([await is(kept.secret), await is(other.secret)], ['ada', undefined])
    await insertUser(catalog, { ...ada, name: 'admin' }, null)
    await changeUser(catalog, 'ada', { disabled: true }, () => {})
    assert.equal(await is(kept.secret), undefined)
    await changeUser(catalog, 'ada', { disabled: false }, () => {})
    assert.equal(await is(kept.secret), undefined, 'it does not come back')
  }))

test('there is always a user left who may change users', () =>
  withCatalog(async ({ catalog }) => {
    await insertUser(catalog, { ...ada, role: 'admin' }, null)
    await insertUser(catalog, { ...ada, name: 'grace', role: 'admin' }, null)
    const nothing = () => {}
    // Both at once: one of them stays.
    const both = await Promise.allSettled([
      changeUser(catalog, 'ada', { role: 'viewer' }, nothing),
      changeUser(catalog, 'grace', { disabled: true }, nothing),
    ])
    assert.deepEqual(both.map(one => one.status).sort(), ['fulfilled', 'rejected'])
    const left = (await listUsers(catalog, '', 9)).filter(user => user.role === 'admin' && !user.disabled)
    assert.equal(left.length, 1)
    await assert.rejects(changeUser(catalog, left[0]?.name ?? '', { role: 'operator' }, nothing), {
      code: 'user.last-admin',
    })
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

test('the oldest audit rows go, and the rest is whole; who removes them otherwise is found out', () =>
  withCatalog(async ({ catalog }) => {
    const admin: Actor = {
      name: 'ada',
      user: 'ada',
      via: 'session',
      credentialId: 'ses-1',
      role: 'admin',
      scopes: null,
      connections: null,
      expiresAt: null,
      address: '127.0.0.1',
    }
    const { db } = catalog
    const found = async () => {
      const { rows, brokenAt, prunedTo } = await checkAudit(catalog)
      return [rows, brokenAt, prunedTo]
    }
    for (const year of [2021, 2022, 2023, 2024, 2025]) {
      await audit(catalog, entry(String(year), { at: `${year}-06-01T00:00:00.000Z` }))
    }
    // Entered late: it stands behind a newer one and stays with it.
    await audit(catalog, entry('late', { at: '2021-07-01T00:00:00.000Z' }))
    const prune = (before: string, dryRun = false) => pruneAudit(catalog, before, admin, dryRun)
    assert.deepEqual(await prune('2020-01-01T00:00:00.000Z'), { rows: 0, prunedTo: 0 })
    assert.deepEqual(await prune('2023-01-01T00:00:00.000Z', true), { rows: 2, prunedTo: 2 })
    assert.deepEqual(await found(), [6, null, 0])
    assert.deepEqual(await prune('2023-01-01T00:00:00.000Z'), { rows: 2, prunedTo: 2 })
    assert.deepEqual(await found(), [5, null, 2])
    assert.deepEqual(
      (await listAudit(catalog, {}, undefined, 99)).map(row => row.object),
      ['/v1/audit', 'late', '2025', '2024', '2023'],
    )
    assert.deepEqual(
      await prune('2023-01-01T00:00:00.000Z'),
      { rows: 0, prunedTo: 2 },
      'again changes nothing',
    )
    assert.deepEqual(await prune('2025-01-01T00:00:00.000Z'), { rows: 2, prunedTo: 4 })
    await audit(catalog, entry('since'))
    assert.deepEqual(await found(), [5, null, 4])

    // Somebody who can write to the catalog removes one more, and moves the anchor on.
    const rows = await db.selectFrom('audit').selectAll().execute()
    const next = rows.find(row => row.seq === 5)
    await db.deleteFrom('audit').where('seq', '=', 5).execute()
    assert.deepEqual(await found(), [0, 5, 4])
    await db
      .updateTable('audit_head')
      .set({ pruned_seq: 5, pruned_hash: next?.hash ?? '' })
      .execute()
    assert.deepEqual(await found(), [4, 5, 5])
    await assert.rejects(prune('2026-01-01T00:00:00.000Z'), { code: 'audit.broken' })
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
