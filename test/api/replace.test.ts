/** A restore over what is there, from the request to the removal of what was kept,. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import type { ApprovalView, OperationView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { digestPostgres, digestSqlite } from '../support/digest.ts'
import { addPerson, approve, askFor, awaiting, type Person, planOf } from '../support/people.ts'
import { createDatabase } from '../support/postgres-sample.ts'
import { fillRandomPostgres, makeRandomSqlite } from '../system/databases.ts'
import { expectCleanHost } from '../system/inspect.ts'
import { eventually } from './support.ts'
import { startWorkedApi, type WorkedApi } from './worked.ts'

describe('a restore over what is there', () => {
  let stack: WorkedApi
  let postgres: TestPostgres
  let anna: Person
  let ben: Person
  let path = ''

  before(async () => {
    stack = await startWorkedApi()
    postgres = await startPostgres()
    anna = await addPerson(stack, 'anna', 'approver')
    ben = await addPerson(stack, 'ben', 'operator')
    const vault = join(stack.directory, 'vault')
    mkdirSync(vault)
    await stack.expectOk('POST', '/v1/destinations', { name: 'vault', uri: vault })
    path = join(stack.directory, 'live.db')
    makeRandomSqlite(path, 3)
    await createDatabase(postgres.url(), 'shop')
    await fillRandomPostgres(postgres.url('shop'), 2)
    await stack.expectOk('POST', '/v1/connections', { name: 'file', url: `sqlite:${path}` })
    await stack.expectOk('POST', '/v1/connections', { name: 'pg', url: postgres.url('shop') })
    for (const connection of ['file', 'pg']) {
      const { id } = await stack.backup({ connection, destinations: ['vault'] })
      assert.equal((await stack.ended(id)).state, 'succeeded')
    }
  })
  after(async () => {
    await stack?.stop()
    await postgres?.stop()
  })
  /** Without what belongs to the database and not to its content. */
  const contentOf = async (name: string) => {
    const { database: _, ...content } = (await digestPostgres(postgres.url(name))).parts
    return content
  }
  const databases = async () => (await postgres.sql('SELECT datname FROM pg_database')).split('\n')

  test('PostgreSQL: asked for, shown, approved, replaced, kept; a safety backup first', async () => {
    const backedUp = await contentOf('shop')
    await postgres.sql('DROP TABLE words; CREATE TABLE spoilt (x int)', 'shop')
    await postgres.sql(
      `CREATE ROLE keeper; ALTER DATABASE shop OWNER TO keeper; ALTER DATABASE shop SET work_mem TO '9MB'`,
    )
    const spoilt = await contentOf('shop')
    const asked = await askFor(ben, {
      backup: 'pg:latest',
      target: { connection: 'pg', database: 'shop' },
      safetyBackup: { destination: 'vault' },
    })
    assert.equal(asked.status, 202, JSON.stringify(asked.body))
    const { id } = asked.body.operation
    const view = await awaiting(stack, id)
    assert.equal(view.state, 'awaiting-approval', JSON.stringify(view.error))
    assert.equal(view.workflowId, `request/${id}`)
    const waiting = await stack.expectOk<{ items: ApprovalView[] }>('GET', '/v1/approvals')
    assert.deepEqual(
      waiting.items.map(one => [one.operation, one.requestedBy, one.targetName, one.reason]),
      [[id, 'ben', 'shop', 'yesterday was better']],
    )
    const plan = await planOf(stack, id)
    assert.match(plan.destroys[0] ?? '', /Database "shop" .*OID \d+/)
    assert.ok(plan.steps.some(step => step.id === 'exchange' && /RENAME TO/.test(step.input ?? '')))
    assert.equal(waiting.items[0]?.planDigest, plan.digest)
    // Nothing is held while it waits.
    const other = await stack.backup({ connection: 'pg', destinations: ['vault'] })
    assert.equal((await stack.ended(other.id)).state, 'succeeded')

    const approved = await approve(stack, anna, id)
    assert.equal(approved.status, 202, JSON.stringify(approved.body))
    const ended = await stack.ended(id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.deepEqual(
      ended.phases.map(phase => `${phase.phase} ${phase.state}`),
      [
        'plan done',
        'precheck done',
        'approval done',
        'approval done',
        'plan done',
        'precheck done',
        'safety backup done',
        'restore done',
        'prove done',
        'swap done',
        'prove done',
        'finish done',
        'cleanup done',
      ],
    )
    assert.deepEqual(await contentOf('shop'), backedUp)
    assert.equal(
      await postgres.sql(
        `SELECT pg_get_userbyid(datdba) || ' ' || current_setting('work_mem') FROM pg_database WHERE datname = 'shop'`,
        'shop',
      ),
      'keeper 9MB',
    )
    expectCleanHost(stack.home, id)
    assert.equal(ended.approval?.state, 'used')
    assert.equal(ended.approval?.decidedBy, 'anna')
    assert.equal(ended.kept?.state, 'kept')
    const kept = ended.kept?.name ?? ''
    assert.ok((await databases()).includes(kept))
    await postgres.sql(ended.kept?.look ?? '')
    assert.deepEqual(await contentOf(kept), spoilt)

    // The safety backup is one of its own, of what was replaced.
    const { items } = await stack.expectOk<{ items: OperationView[] }>(
      'GET',
      '/v1/operations?kind=backup&connection=pg',
    )
    const safety = items[0]
    assert.equal(safety?.state, 'succeeded')
    const beside = await stack.restore({
      backup: safety?.backup,
      target: { connection: 'pg', database: 'from-safety' },
    })
    assert.equal((await stack.ended(beside.id)).state, 'succeeded')
    assert.deepEqual(await contentOf('from-safety'), spoilt)
    // While something is kept, its connection is needed.
    const refused = await stack.refused('DELETE', '/v1/connections/pg')
    assert.equal(refused.code, 'request.in-use')
  })

  test('SQLite: the file stays, a client that has it open goes on', async () => {
    const backedUp = digestSqlite(path).digest
    const client = new DatabaseSync(path)
    client.exec("INSERT INTO words VALUES ('spoilt', 9, NULL)")
    const spoilt = digestSqlite(path).digest
    const { body } = await askFor(anna, {
      backup: 'file:latest',
      target: { connection: 'file', database: path },
      keepOldSeconds: 2,
    })
    const { id } = body.operation
    await awaiting(stack, id)
    // Without a policy whoever asks may approve.
    assert.equal((await approve(stack, anna, id)).status, 202)
    const ended = await stack.ended(id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.equal(client.prepare("SELECT count(*) AS n FROM words WHERE word = 'spoilt'").get()?.n, 0)
    client.close()
    assert.equal(digestSqlite(path).digest, backedUp)
    assert.notEqual(spoilt, backedUp)
    // What was kept goes by itself.
    const gone = await eventually('the kept copy is removed', async () => {
      const view = await stack.operation(id)
      return view.kept?.state === 'dropped' ? view : undefined
    })
    assert.equal(existsSync(gone.kept?.name ?? ''), false)
    assert.deepEqual(
      readdirSync(stack.directory).filter(one => one.includes('holdfast-old')),
      [],
    )
    assert.ok(existsSync(path))
  })

  test('nothing is there: it goes beside, and nobody has to approve', async () => {
    const { body } = await askFor(ben, {
      backup: 'pg:latest',
      target: { connection: 'pg', database: 'brand new' },
    })
    const ended = await stack.ended(body.operation.id)
    assert.equal(ended.state, 'succeeded', JSON.stringify(ended.error))
    assert.ok((await databases()).includes('brand new'))
    assert.equal(ended.kept, null)
  })
})
