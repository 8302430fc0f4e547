/** Several processes on one catalog: what holds on SQLite's one connection holds among them. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { listAttempts, recordAttempt } from '../../catalog/attempts.ts'
import { audit, beginAudited, endAudited, listAudit, settleBegun } from '../../catalog/audit.ts'
import { checkAudit } from '../../catalog/audit-chain.ts'
import { connectionSecrets, insertConnection } from '../../catalog/connections.ts'
import { insertDestination } from '../../catalog/destinations.ts'
import { rememberEpoch, rememberedEpoch } from '../../catalog/epochs.ts'
import { keepAnswer, takeRequest } from '../../catalog/idempotency.ts'
import { writerIdentity } from '../../catalog/installation.ts'
import { addKey, bringKeyBack, keyring, retireKey } from '../../catalog/keys.ts'
import { migrations } from '../../catalog/migrations/index.ts'
import { type Catalog, openCatalog } from '../../catalog/open.ts'
import { insertOperation, readOperation, updateOperation } from '../../catalog/operations.ts'
import { storePlan } from '../../catalog/plans.ts'
import { ensureToken, workerOfToken } from '../../catalog/tokens.ts'
import { HoldfastError } from '../../model/errors.ts'
import { createKey, placeKeyFile, trustInstallation } from '../../storage/keys.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { shop, vault } from './rows.ts'
import { operation, testKey } from './support.ts'

const codeOf = (error: unknown) => (error instanceof HoldfastError ? error.code : String(error))
const many = (count: number) => Array.from({ length: count }, (_, n) => n)

describe('several processes on one catalog', () => {
  let postgres: TestPostgres
  let directory = ''
  let one: Catalog
  let two: Catalog

  const open = (database = 'shared') => openCatalog({ url: postgres.url(database), secretKey: testKey })
  const child = async (program: string, database: string): Promise<{ child: ChildProcess; said: string }> => {
    const started = spawn(process.execPath, [join(import.meta.dirname, program), postgres.url(database)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [said] = (await once(started.stdout, 'data')) as [Buffer]
    return { child: started, said: said.toString() }
  }
  const kill9 = async (started: ChildProcess) => {
    const gone = once(started, 'exit')
    started.kill('SIGKILL')
    await gone
  }

  before(async () => {
    postgres = await startPostgres()
    directory = await mkdtemp(join(tmpdir(), 'holdfast-shared-'))
    await postgres.sql('create database shared')
    one = await open()
    two = await open()
  })
  after(async () => {
    await one?.close()
    await two?.close()
    await postgres?.stop()
    await rm(directory, { recursive: true, force: true })
  })

  test('many that start at once on an empty database make one installation', async () => {
    await postgres.sql('create database empty')
    const opened = await Promise.all(many(6).map(() => open('empty')))
    const identities = await Promise.all(opened.map(writerIdentity))
    assert.equal(new Set(identities.map(identity => JSON.stringify(identity))).size, 1)
    assert.equal(
      await postgres.sql(
        "select string_agg(version::text, ',' order by version) from schema_version",
        'empty',
      ),
      migrations.map(({ version }) => version).join(','),
    )
    assert.ok(opened.every(({ newInstance }) => !newInstance))
    for (const catalog of opened) await catalog.close()
  })

  test('one that is killed in the middle of a migration leaves nothing of it, and keeps nobody', async () => {
    await postgres.sql('create database half')
    const { child: killed } = await child('migrate-child.ts', 'half')
    const waiting = open('half')
    await kill9(killed)
    await (await waiting).close()
    assert.equal(await postgres.sql("select to_regclass('half') is null", 'half'), 't')
  })

  test('another secret key is refused', async () => {
    await assert.rejects(
      openCatalog({ url: postgres.url('shared'), secretKey: 'not the key of the others' }),
      {
        code: 'catalog.secret-key',
      },
    )
  })

  test('a copy of the database, or a dump put back into it, is another instance', async () => {
    await postgres.sql('create database origin')
    const origin = await open('origin')
    await insertDestination(origin, vault, {}, 1)
    const before = await writerIdentity(origin)
    await origin.close()
    const again = await open('origin')
    assert.equal(again.newInstance, false)
    await again.close()
    await postgres.sql('create database copied template origin')
    const copy = await open('copied')
    assert.equal(copy.newInstance, true)
    assert.equal((await writerIdentity(copy)).installationId, before.installationId)
    assert.notEqual((await writerIdentity(copy)).instanceId, before.instanceId)
    await copy.close()
    await postgres.sql(
      'alter table installation rename to old; create table installation (like old including all); insert into installation select * from old; drop table old',
      'origin',
    )
    const restored = await open('origin')
    assert.equal(restored.newInstance, true)
    await restored.close()
  })

  test('a closed operation is not opened again by an update that was on its way', async () => {
    await Promise.all(
      many(40).map(async n => {
        const id = `op-closed-${n}`
        await insertOperation(one, operation(id, { state: 'running' }), null)
        await Promise.all([
          updateOperation(one, id, { state: 'succeeded' }),
          updateOperation(two, id, { state: 'running', warnings: ['late'] }),
        ])
        assert.equal((await readOperation(one, id)).state, 'succeeded')
      }),
    )
  })

  test('checks that two processes add at once are all there', async () => {
    const id = 'op-checks'
    await insertOperation(one, operation(id, { state: 'running' }), null)
    await Promise.all(
      many(12).map(n =>
        updateOperation(n % 2 === 0 ? one : two, id, {
          checks: [{ id: `c${n}`, title: 't', answer: 'pass', detail: 'd' }],
        }),
      ),
    )
    assert.equal((await readOperation(two, id)).checks.length, 12)
  })

  test('no attempt appears after its operation was closed', async () => {
    await Promise.all(
      many(40).map(async n => {
        const id = `op-attempt-${n}`
        await insertOperation(one, operation(id, { state: 'running' }), null)
        const late = recordAttempt(two, {
          attemptId: `attempt-${n}`,
          operationId: id,
          backupId: 'b',
          connection: 'shop',
          destinations: ['vault'],
          createdAt: new Date().toISOString(),
          artifacts: [],
        }).catch(codeOf)
        await updateOperation(one, id, { state: 'failed' })
        const known = await listAttempts(one, { operation: id })
        await late
        assert.deepEqual(await listAttempts(one, { operation: id }), known)
      }),
    )
  })

  test('the first plan wins', async () => {
    await insertOperation(one, operation('op-plan'), null)
    const stored = await Promise.all(
      many(30).map(n =>
        storePlan(n % 2 === 0 ? one : two, { operationId: 'op-plan', digest: `d${n}`, plan: { n } }),
      ),
    )
    assert.equal(new Set(stored.map(({ digest }) => digest)).size, 1)
  })

  test('one connection of a name, with its own secrets', async () => {
    for (const n of many(8)) {
      const add = (catalog: Catalog, password: string) =>
        insertConnection(catalog, shop(`name-${n}`), { password }).then(() => password, codeOf)
      const answers = await Promise.all([add(one, 'first'), add(two, 'second')])
      const winner = answers.find(answer => answer !== 'request.exists')
      assert.ok(answers.includes('request.exists'), String(answers))
      assert.deepEqual(await connectionSecrets(one, `name-${n}`), { password: winner })
    }
  })

  test('one operation of a request', async () => {
    for (const n of many(8)) {
      const answers = await Promise.all(
        [one, two].map((catalog, at) =>
          insertOperation(catalog, operation(`op-request-${n}-${at}`), `request ${n}`).then(
            () => 'ok',
            codeOf,
          ),
        ),
      )
      assert.deepEqual(answers.sort(), ['ok', 'request.exists'])
    }
  })

  test('epochs never go back', async () => {
    await insertDestination(one, { ...vault, name: 'epochs' }, {}, null)
    await Promise.all(many(20).map(n => rememberEpoch(n % 2 === 0 ? one : two, 'epochs', ((n * 7) % 20) + 1)))
    assert.equal(await rememberedEpoch(one, 'epochs'), 20)
  })

  test('the audit is one unbroken line', async () => {
    await Promise.all(
      many(24).map(n =>
        audit(n % 2 === 0 ? one : two, {
          at: new Date().toISOString(),
          actor: { name: 'test' },
          action: 'TEST',
          object: String(n),
          outcome: 'done',
          detail: {},
        }),
      ),
    )
    const checked = await checkAudit(one)
    assert.deepEqual([checked.rows >= 24, checked.brokenAt], [true, null])
  })

  test('what a process has begun is entered as unknown when it is dead, and not before', async () => {
    const { child: other, said } = await child('present-child.ts', 'shared')
    const { process: theirs } = JSON.parse(said) as { process: string }
    const entry = { at: '2026-01-01T00:00:00.000Z', actor: { name: 'ada' }, action: 'TEST', detail: {} }
    const id = await beginAudited(one, theirs, { ...entry, object: 'begun elsewhere' })
    const settle = () => settleBegun(one, one.presence.process, new Date().toISOString())
    assert.equal(await settle(), 0, 'it lives, however long it takes')
    await kill9(other)
    let settled = 0
    while (settled === 0) settled = await settle()
    assert.equal(settled, 1)
    // It was only cut off, and is back.
    await endAudited(two, id, { ...entry, object: 'begun elsewhere', outcome: 'done' })
    assert.deepEqual(
      (await listAudit(one, { object: 'begun elsewhere' }, undefined, 9)).map(row => [
        row.outcome,
        row.detail.note,
      ]),
      [
        ['done', 'it was entered as unknown before'],
        ['unknown', 'the process ended before it could say whether it was done'],
      ],
    )
  })

  test('a request that another process is at is its own while it lives', async () => {
    const { child: other, said } = await child('present-child.ts', 'shared')
    const { process: theirs } = JSON.parse(said) as { process: string }
    const take = (process: string) => takeRequest(one, { key: 'k', hash: 'h', process })
    assert.equal((await take(theirs)).state, 'new')
    assert.equal((await take(one.presence.process)).state, 'elsewhere')
    await kill9(other)
    const states: string[] = []
    while (states.at(-1) !== 'again') states.push((await take(one.presence.process)).state)
    await keepAnswer(two, 'k', { status: 200, body: 'of one that lost it' })
    assert.equal((await take(one.presence.process)).state, 'under way')
    await keepAnswer(one, 'k', { status: 200, body: '{}' })
    assert.deepEqual(await takeRequest(two, { key: 'k', hash: 'h', process: two.presence.process }), {
      state: 'answered',
      answer: { status: 200, body: '{}' },
    })
  })

  test('of many that ask at once one takes the request', async () => {
    for (const n of many(8)) {
      const states = await Promise.all(
        [one, two].map(catalog =>
          takeRequest(catalog, { key: `key ${n}`, hash: 'h', process: catalog.presence.process }),
        ),
      )
      assert.deepEqual(states.map(({ state }) => state).sort(), ['elsewhere', 'new'])
    }
  })

  test('one leads; when it is killed, another one', async () => {
    await postgres.sql('create database led')
    const { child: leader, said } = await child('present-child.ts', 'led')
    assert.equal((JSON.parse(said) as { leads: boolean }).leads, true)
    const next = await open('led')
    assert.equal(await next.presence.lead(), false)
    await kill9(leader)
    let leads = false
    while (!leads) leads = await next.presence.lead()
    // Its own way to the server is cut: it has to ask anew, and whoever asks in between may hear that it does not answer.
    await postgres.sql(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'holdfast presence' and datname = 'led'",
    )
    const answers: unknown[] = []
    while (answers.at(-1) !== true)
      answers.push(await next.presence.alive(next.presence.process).catch(codeOf))
    assert.ok(
      answers.every(answer => [true, false, 'catalog.unreachable'].some(known => known === answer)),
      String(answers),
    )
    await next.close()
  })

  test('file tokens: the first process makes them, the next one does not make them invalid', async () => {
    const files = [join(directory, 'a', 'worker.token'), join(directory, 'b', 'worker.token')] as const
    const made = await Promise.all([
      ensureToken(one, 'worker', files[0]),
      ensureToken(two, 'worker', files[1]),
    ])
    assert.equal(made.filter(answer => answer.made).length, 1)
    const [file] = made[0]?.made ? files : [files[1]]
    const token = (await readFile(file, 'utf8')).trim()
    assert.deepEqual(await workerOfToken(two, token), { host: null })
    assert.deepEqual(await ensureToken(two, 'worker', join(directory, 'c', 'worker.token')), { made: false })
    assert.deepEqual(await workerOfToken(one, token), { host: null })
  })

  test('keys: what is retired on one machine is put away on all, also by one that died over it; and comes back to all', async () => {
    const [here, there] = [join(directory, 'retired-one'), join(directory, 'retired-two')]
    const made = await addKey(one, here, 'leaver.json', () => createKey(here, 'leaver', {}))
    const names = async (catalog: Catalog, path: string) =>
      (await keyring(catalog, path)).keys.map(({ name }) => name)
    assert.ok((await names(two, there)).includes('leaver'))
    await retireKey(one, here, 'leaver')
    // Of a process that was killed before it moved the file.
    await placeKeyFile(here, 'leaver.json', made)
    for (const [catalog, path] of [
      [one, here],
      [two, there],
    ] as const) {
      assert.ok(!(await names(catalog, path)).includes('leaver'))
      assert.deepEqual(await readdir(join(path, 'retired')), [`leaver-${made.kid.slice(0, 8)}.json`])
    }
    await assert.rejects(retireKey(two, there, 'leaver'), { code: 'key.missing' })
    await bringKeyBack(two, join(directory, 'retired-three'), 'leaver')
    for (const [catalog, path] of [
      [one, here],
      [two, there],
    ] as const) {
      assert.ok((await names(catalog, path)).includes('leaver'))
    }
    await assert.rejects(bringKeyBack(two, there, 'leaver'), { code: 'request.exists' })
    await assert.rejects(bringKeyBack(two, there, 'nobody'), { code: 'key.missing' })
    await retireKey(two, there, 'leaver')
  })

  test('keys: what is made or put there on one machine is on all, and opens on all', async () => {
    const [here, there] = [join(directory, 'keys-one'), join(directory, 'keys-two')]
    const made = await addKey(one, here, 'escrow.json', () =>
      createKey(here, 'escrow', { first: { x: '1' } }),
    )
    assert.deepEqual((await keyring(two, there)).keys, [made])
    assert.deepEqual(await readdir(there), ['escrow.json'])
    // A copy that was kept elsewhere and knows less, and one that learnt something.
    await trustInstallation(there, 'escrow', 'second', { x: '2' })
    const [learnt] = (await keyring(two, there)).keys
    assert.deepEqual((await keyring(one, here)).keys, [learnt])
    assert.deepEqual(Object.keys(learnt?.installations ?? {}).sort(), ['first', 'second'])

    const twice = await Promise.all(
      [
        [one, here],
        [two, there],
      ].map(([catalog, path]) =>
        addKey(catalog as Catalog, path as string, 'same.json', () =>
          createKey(path as string, 'same', {}),
        ).then(() => 'made', codeOf),
      ),
    )
    assert.deepEqual(twice.sort(), ['made', 'request.exists'])
    const [ours, theirs] = [await keyring(one, here), await keyring(two, there)]
    assert.deepEqual(ours, theirs)

    const other = join(directory, 'keys-three')
    await createKey(other, 'escrow', {})
    await assert.rejects(keyring(two, other), { code: 'key.invalid' })
    await writeFile(join(other, 'escrow.json'), await readFile(join(here, 'escrow.json')))
    assert.deepEqual(await keyring(two, other), ours)
    // Nothing of it is in the clear.
    const d = made.privateKey.d ?? '-'
    const dumped = await postgres.sql(
      "select string_agg(encode(ciphertext, 'escape'), '') from secrets",
      'shared',
    )
    assert.ok(!dumped.includes(d))
  })
})
