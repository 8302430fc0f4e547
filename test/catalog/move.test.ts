/**
 * A catalog that moves: every row arrives, secrets open, and at no moment are there two that would be used; also when the
 * move is killed, at each of its stages, and done again.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { audit } from '../../catalog/audit.ts'
import { checkAudit, pruneAudit } from '../../catalog/audit-chain.ts'
import { connectionSecrets, insertConnection } from '../../catalog/connections.ts'
import { copiedTables } from '../../catalog/copy.ts'
import { insertDestination, readDestination } from '../../catalog/destinations.ts'
import { rememberEpoch, rememberedEpoch } from '../../catalog/epochs.ts'
import { writerIdentity } from '../../catalog/installation.ts'
import { addKey } from '../../catalog/keys.ts'
import { migrate } from '../../catalog/migrations/index.ts'
import { type CatalogAt, moveCatalog, type Stage, takeCatalogBack } from '../../catalog/move.ts'
import { type Catalog, openCatalog, openDialect } from '../../catalog/open.ts'
import { HoldfastError } from '../../model/errors.ts'
import type { Actor } from '../../model/records.ts'
import { createKey } from '../../storage/keys.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { canary, shop, vault } from './rows.ts'
import { testKey } from './support.ts'

type Kind = 'sqlite' | 'postgresql'
type Row = Record<string, unknown>

describe('moving a catalog', () => {
  let postgres: TestPostgres
  let directory = ''

  before(async () => {
    // Sorted by another locale than bytes, as most servers are.
    postgres = await startPostgres({ auth: 'scram', password: canary, icuLocale: 'en-US' })
    directory = await mkdtemp(join(tmpdir(), 'holdfast-move-'))
  })
  after(async () => {
    await postgres?.stop()
    await rm(directory, { recursive: true, force: true })
  })

  const keysDirectory = () => join(directory, 'keys')
  const place = async (kind: Kind): Promise<CatalogAt> => {
    const name = `c${randomBytes(6).toString('hex')}`
    if (kind === 'sqlite') return { url: `sqlite:${join(directory, `${name}.sqlite`)}`, secretKey: testKey }
    await postgres.sql(`create database ${name}`)
    return { url: postgres.url(name), secretKey: testKey }
  }
  /** One that has something in every table, one of them with more rows than a page. */
  const filled = async (kind: Kind): Promise<CatalogAt> => {
    const at = await place(kind)
    await (await openCatalog(at)).close()
    const columns = await columnsOf(at)
    const catalog = await openCatalog(at)
    await insertConnection(catalog, shop('shop'), { password: canary })
    await insertDestination(catalog, vault, { secretAccessKey: `${canary} ö \u0001` }, 1)
    await rememberEpoch(catalog, 'vault', 7)
    for (const n of [1, 2, 3]) {
      await audit(catalog, {
        at: new Date().toISOString(),
        actor: { name: 'ada' },
        action: 'TEST',
        object: `Größe ${n}`,
        outcome: 'done',
        detail: { n },
      })
    }
    for (const table of copiedTables) {
      if ((await rowsOf(catalog, table)).length > 0) continue
      // The same text everywhere: whatever refers to something finds it.
      const known: Row = { connection: 'shop', destination: 'vault' }
      const row = Object.fromEntries(
        (columns[table] ?? []).map(({ name, type }) => [
          name,
          /int/i.test(type) ? 1 : (known[name] ?? 'Same'),
        ]),
      )
      const rows =
        table === 'operation_log'
          ? many(450).map(n => ({ ...row, seq: n, entry_id: `e${n}`, text: `${n} ü` }))
          : [row]
      await catalog.db
        .insertInto(table)
        .values(rows as never)
        .execute()
    }
    await catalog.close()
    return at
  }
  const many = (count: number) => Array.from({ length: count }, (_, n) => n)
  const columnsOf = async (at: CatalogAt) => {
    const dialect = await openDialect(at)
    const tables = await dialect.db.introspection.getTables()
    await dialect.close()
    return Object.fromEntries(
      tables.map(table => [table.name, table.columns.map(({ name, dataType: type }) => ({ name, type }))]),
    )
  }
  const rowsOf = async (catalog: Pick<Catalog, 'db'>, table: (typeof copiedTables)[number]): Promise<Row[]> =>
    (await catalog.db.selectFrom(table).selectAll().execute()) as Row[]

  /** All rows of all tables, as text that does not depend on the kind of database. */
  const contentOf = async (at: CatalogAt) => {
    const dialect = await openDialect(at)
    const content: Record<string, string[]> = {}
    for (const table of copiedTables) {
      content[table] = (await rowsOf(dialect, table))
        .map(row =>
          JSON.stringify(
            Object.entries(row)
              .sort()
              .map(([name, value]) => [
                name,
                value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
              ]),
          ),
        )
        .sort()
    }
    await dialect.close()
    return content
  }
  /** Without what says where it lies, and what the move itself has entered. */
  const comparable = (content: Record<string, string[]>, moves: number) => ({
    ...content,
    installation: content.installation?.map(row => row.replace(/\["binding","[^"]*"\]/, '')),
    audit: content.audit?.filter(row => !row.includes('catalog move')).length,
    auditRows: (content.audit?.length ?? 0) - moves,
    audit_head: null,
  })
  const codeOf = (error: unknown) => (error instanceof HoldfastError ? error.code : String(error))
  const opens = (at: CatalogAt) =>
    openCatalog({ ...at, ownSeconds: 1 }).then(
      async catalog => {
        const { newInstance } = catalog
        await catalog.close()
        return newInstance ? 'as another instance' : 'as it was'
      },
      error => codeOf(error),
    )
  const used = async (at: CatalogAt, work: (catalog: Catalog) => Promise<void>) => {
    const catalog = await openCatalog(at)
    try {
      await work(catalog)
    } finally {
      await catalog.close()
    }
  }
  /** It has nothing of the source: nobody could take it for a catalog in use. */
  const isBare = async (at: CatalogAt) => {
    if (at.url.startsWith('sqlite:') && !existsSync(at.url.slice('sqlite:'.length))) return true
    const dialect = await openDialect(at)
    try {
      const tables = (await dialect.db.introspection.getTables()).map(({ name }) => name)
      if (!tables.includes('installation')) return true
      const counts = await Promise.all(copiedTables.map(async table => (await rowsOf(dialect, table)).length))
      return counts.every(count => count === 0)
    } finally {
      await dialect.close()
    }
  }

  for (const [one, other] of [
    ['sqlite', 'postgresql'],
    ['postgresql', 'sqlite'],
    ['postgresql', 'postgresql'],
  ] as const) {
    test(`${one} to ${other}: every row arrives, it stays who it is, and the old one starts no more`, async () => {
      const [from, to] = [await filled(one), await place(other)]
      const before = await contentOf(from)
      for (const [table, rows] of Object.entries(before)) assert.ok(rows.length > 0, `${table} has rows`)
      let identity: unknown
      await used(from, async catalog => {
        identity = await writerIdentity(catalog)
      })
      const moved = await moveCatalog(from, to, keysDirectory())
      assert.equal(moved.rows.operation_log, 450)
      assert.ok(!JSON.stringify(moved).includes(canary))
      assert.deepEqual(comparable(await contentOf(to), 1), comparable(before, 0))
      assert.equal(await opens(from), 'catalog.moved')
      assert.equal(await opens(to), 'as it was')
      await used(to, async catalog => {
        assert.deepEqual(await writerIdentity(catalog), identity)
        assert.deepEqual(await connectionSecrets(catalog, 'shop'), { password: canary })
        assert.equal((await checkAudit(catalog)).brokenAt, null)
        assert.equal((await readDestination(catalog, 'vault')).readOnly, false)
      })
      // Once more is refused, and changes nothing.
      await assert.rejects(moveCatalog(from, await place(other), keysDirectory()), { code: 'catalog.moved' })
      assert.equal(await opens(to), 'as it was')
    })

    const stages: Stage[] = [
      'opened',
      'marked',
      `copied ${copiedTables[0]}`,
      'copied operations',
      `copied ${copiedTables.at(-1)}`,
      'committed',
    ]
    test(`${one} to ${other}: killed at each stage, there is one at most that is used; once more, it has moved`, async () => {
      for (const stage of stages) {
        const [from, to] = [await filled(one), await place(other)]
        const before = await contentOf(from)
        const child = spawn(process.execPath, [join(import.meta.dirname, 'move-child.ts'), stage], {
          env: { ...process.env, MOVE: JSON.stringify({ from, to, keys: keysDirectory() }) },
          stdio: ['ignore', 'pipe', 'inherit'],
        })
        const [said] = (await once(child.stdout, 'data')) as [Buffer]
        assert.equal(said.toString().trim(), stage)
        const gone = once(child, 'exit')
        child.kill('SIGKILL')
        await gone
        assert.equal(await opens(from), stage === 'opened' ? 'as it was' : 'catalog.moved', stage)
        if (stage !== 'committed') assert.equal(await isBare(to), true, stage)
        const moved = await moveCatalog(from, to, keysDirectory())
        assert.equal(moved.rows.operations, stage === 'committed' ? undefined : 1, stage)
        assert.deepEqual(comparable(await contentOf(to), 1), comparable(before, 0), stage)
        assert.deepEqual([await opens(from), await opens(to)], ['catalog.moved', 'as it was'], stage)
      }
    })
  }

  test('a target that is not empty is refused, and nothing is changed', async () => {
    const from = await filled('sqlite')
    const taken = await filled('postgresql')
    const before = await contentOf(taken)
    await assert.rejects(moveCatalog(from, taken, keysDirectory()), { code: 'request.exists' })
    assert.deepEqual(await contentOf(taken), before)
    const foreign = await place('postgresql')
    await postgres.sql('create table orders (id int)', new URL(foreign.url).pathname.slice(1))
    await assert.rejects(moveCatalog(from, foreign, keysDirectory()), /a table "orders"/)
    await assert.rejects(moveCatalog(from, from, keysDirectory()), { code: 'request.invalid' })
    const nowhere = { url: `sqlite:${join(directory, 'nowhere.sqlite')}`, secretKey: testKey }
    await assert.rejects(moveCatalog(nowhere, await place('sqlite'), keysDirectory()), {
      code: 'request.not-found',
    })
    assert.equal(existsSync(join(directory, 'nowhere.sqlite')), false)
    assert.equal(await opens(from), 'as it was')
  })

  test('while an API process lives it is refused, and that one goes on', async () => {
    for (const kind of ['sqlite', 'postgresql'] as const) {
      const from = await filled(kind)
      await used(from, async catalog => {
        await assert.rejects(moveCatalog(from, await place('postgresql'), keysDirectory()), {
          code: kind === 'sqlite' ? 'catalog.busy' : 'request.in-use',
        })
        await rememberEpoch(catalog, 'vault', 9)
      })
      assert.equal(await opens(from), 'as it was')
    }
  })

  test('an API process that starts in between is refused, and the move goes on', async () => {
    const [from, to] = [await filled('postgresql'), await place('sqlite')]
    let answer = ''
    await moveCatalog(from, to, keysDirectory(), async stage => {
      if (stage === 'marked') answer = await opens(from)
    })
    assert.equal(answer, 'catalog.moved')
    assert.equal(await opens(to), 'as it was')
  })

  test('a process that had lost its way to the server, and comes back: it writes nothing any more', async () => {
    const [from, to] = [await filled('postgresql'), await place('sqlite')]
    const dialect = await openDialect(from)
    try {
      // The server takes it for dead.
      await (dialect.presence as typeof dialect.presence & { close(): Promise<void> }).close()
      const write = () => dialect.db.updateTable('epochs').set({ epoch: 99 }).execute()
      await write()
      await moveCatalog(from, to, keysDirectory())
      await assert.rejects(write(), { code: 'catalog.moved' })
      await assert.rejects(dialect.db.deleteFrom('hooks').execute(), { code: 'catalog.moved' })
      await used(to, async catalog => {
        assert.equal(await rememberedEpoch(catalog, 'vault'), 99)
      })
      await takeCatalogBack(from)
      await write()
    } finally {
      await dialect.close()
    }
  })

  test('what arrives changed is not committed; the old one is used as before', async () => {
    const [from, to] = [await filled('sqlite'), await place('postgresql')]
    const dialect = await openDialect(to)
    await migrate(dialect.migration)
    await dialect.close()
    const database = new URL(to.url).pathname.slice(1)
    await postgres.sql(
      `create function meddle() returns trigger language plpgsql as $$ begin new.address = 'elsewhere'; return new; end $$;
       create trigger meddle before insert on connections for each row execute function meddle()`,
      database,
    )
    await assert.rejects(moveCatalog(from, to, keysDirectory()), (error: Error) => {
      assert.equal(codeOf(error), 'catalog.differs')
      assert.match(error.message, /table connections/)
      return true
    })
    assert.equal(await isBare(to), true)
    assert.equal(await opens(from), 'as it was')
    await postgres.sql('drop trigger meddle on connections', database)
    await moveCatalog(from, to, keysDirectory())
    assert.equal(await opens(to), 'as it was')
  })

  test('a wrong secret key is found before anything is changed', async () => {
    const from = await filled('sqlite')
    const to = await place('postgresql')
    await assert.rejects(
      moveCatalog({ ...from, secretKey: 'not the key of this one' }, to, keysDirectory()),
      { code: 'catalog.secret-key' },
    )
    assert.equal(await opens(from), 'as it was')
  })

  test('for another secret key: sealed anew, the audit whole; the old key opens nothing', async () => {
    const [from, bare] = [await filled('sqlite'), await place('postgresql')]
    const to = { ...bare, secretKey: 'another secret key for tests' }
    const ada: Actor = {
      name: 'ada',
      user: 'ada',
      via: 'session',
      credentialId: 'one',
      role: 'admin',
      scopes: null,
      connections: null,
      expiresAt: null,
      address: '127.0.0.1',
    }
    // What was pruned is where the chain begins.
    await used(from, async catalog => {
      await pruneAudit(catalog, new Date(Date.now() + 1000).toISOString(), ada, false)
    })
    await moveCatalog(from, to, keysDirectory())
    assert.equal(await opens(bare), 'catalog.secret-key')
    await used(to, async catalog => {
      assert.deepEqual(await connectionSecrets(catalog, 'shop'), { password: canary })
      const { rows, brokenAt } = await checkAudit(catalog)
      assert.deepEqual([rows, brokenAt], [2, null])
    })
    const changed = await filled('sqlite')
    await used(changed, async catalog => {
      await catalog.db.updateTable('audit').set({ actor: 'eve' }).where('seq', '=', 2).execute()
    })
    const target = await place('postgresql')
    await assert.rejects(moveCatalog(changed, { ...target, secretKey: to.secretKey }, keysDirectory()), {
      code: 'audit.broken',
    })
    // As it is, it moves as it is.
    await moveCatalog(changed, target, keysDirectory())
    await used(target, async catalog => assert.equal((await checkAudit(catalog)).brokenAt, 2))
  })

  test('the way back: used again as another instance, which writes nowhere before takeover', async () => {
    for (const stage of ['marked', 'done'] as const) {
      const [from, to] = [await filled('postgresql'), await place('sqlite')]
      let former: unknown
      await used(from, async catalog => {
        former = await writerIdentity(catalog)
      })
      if (stage === 'done') await moveCatalog(from, to, keysDirectory())
      else {
        const dialect = await openDialect(from)
        await dialect.db
          .insertInto('moves')
          .values({ id: 'one', way: 'away', place: 'somewhere', state: 'begun', at: 'then' })
          .execute()
        await dialect.close()
      }
      assert.equal(await opens(from), 'catalog.moved')
      await takeCatalogBack(from)
      await used(from, async catalog => {
        assert.equal(catalog.newInstance, true)
        assert.notDeepEqual(await writerIdentity(catalog), former)
        assert.equal((await readDestination(catalog, 'vault')).readOnly, true)
        assert.equal((await checkAudit(catalog)).brokenAt, null)
      })
      await assert.rejects(takeCatalogBack(from), { code: 'request.invalid' })
    }
  })

  test('key files come along: from a shared catalog into the directory, from there into a shared one', async () => {
    const [from, to] = [await filled('postgresql'), await place('sqlite')]
    const there = join(directory, 'keys-there')
    await used(from, async catalog => {
      await addKey(catalog, there, 'escrow.json', () => createKey(there, 'escrow', {}))
    })
    const here = join(directory, 'keys-here')
    await moveCatalog(from, to, here)
    assert.deepEqual(await readdir(here), ['escrow.json'])
    const back = await place('postgresql')
    // The directory is all there is of it now.
    await used(to, async catalog => {
      await catalog.db.deleteFrom('secrets').where('owner', '=', 'keys').execute()
    })
    await moveCatalog(to, back, here)
    await used(back, async catalog => {
      const kept = await catalog.db
        .selectFrom('secrets')
        .select('field')
        .where('owner', '=', 'keys')
        .execute()
      assert.deepEqual(kept, [{ field: 'escrow.json' }])
    })
  })
})
