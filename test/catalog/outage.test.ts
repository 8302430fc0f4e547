/** The catalog's server goes away, comes back, is full, refuses: which code, and that the password is nowhere. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { type Catalog, openCatalog } from '../../catalog/open.ts'
import { insertOperation, readOperation, updateOperation } from '../../catalog/operations.ts'
import { HoldfastError } from '../../model/errors.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { operation, testKey } from './support.ts'

const canary = 'kanarienvogel-4c1e'
const run = promisify(execFile)

/** The code; and nothing that could be logged of the error holds the password. */
const codeOf = (error: unknown): string => {
  const seen = new Set<unknown>()
  const text = (value: unknown): string => {
    if (value === null || typeof value !== 'object' || seen.has(value)) return String(value)
    seen.add(value)
    return Object.getOwnPropertyNames(value)
      .map(name => `${name}=${text((value as Record<string, unknown>)[name])}`)
      .join(' ')
  }
  assert.ok(!text(error).includes(canary), 'the error holds the password')
  return error instanceof HoldfastError ? error.code : `not one of ours: ${String(error)}`
}
const refused = (work: Promise<unknown>): Promise<string> => work.then(() => 'nothing', codeOf)

describe("the catalog's server", () => {
  let postgres: TestPostgres
  let directory = ''
  const open = (url = postgres.url('catalog')) => openCatalog({ url, secretKey: testKey })
  const withCatalog = async (work: (catalog: Catalog) => Promise<void>) => {
    const catalog = await open()
    try {
      await work(catalog)
    } finally {
      await catalog.close()
    }
  }
  const url = (change: (url: URL) => void): string => {
    const changed = new URL(postgres.url('catalog'))
    change(changed)
    return changed.href
  }

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'holdfast-outage-'))
    postgres = await startPostgres({ auth: 'scram', password: canary, durable: true })
    await postgres.sql('create database catalog')
    await withCatalog(catalog => insertOperation(catalog, operation('op-one', { state: 'running' }), null))
  })
  after(async () => {
    await postgres?.stop()
    await rm(directory, { recursive: true, force: true })
  })

  test('it is killed and comes back: reads and transactions wait for it', () =>
    withCatalog(async catalog => {
      const work = async () => {
        for (let n = 0; n < 40; n++) {
          await readOperation(catalog, 'op-one')
          // Whether a change took effect is not known when the server dies at its commit; asked again it is settled.
          await updateOperation(catalog, 'op-one', { warnings: [`w${n}`] }).catch(error =>
            assert.equal(codeOf(error), 'catalog.unreachable'),
          )
        }
      }
      const working = [work(), work(), work()]
      await postgres.kill9()
      await postgres.restart()
      await Promise.all(working)
      assert.equal(await catalog.presence.alive(catalog.presence.process), true)
    }))

  test('it stays away', async () => {
    const catalog = await open()
    await postgres.kill9()
    assert.deepEqual(
      await Promise.all([
        refused(readOperation(catalog, 'op-one')),
        refused(updateOperation(catalog, 'op-one', { warnings: [] })),
        refused(open()),
        refused(catalog.presence.alive('another')),
      ]),
      Array(4).fill('catalog.unreachable'),
    )
    assert.equal(await catalog.presence.lead(), false)
    await catalog.close()
    await postgres.restart()
  })

  test('wrong password, no such user, no such database, no TLS there', async () => {
    for (const wrong of [
      url(one => {
        one.password = `${canary}-wrong`
      }),
      url(one => {
        one.username = 'nobody'
      }),
      url(one => {
        one.pathname = '/nowhere'
      }),
      url(one => one.searchParams.set('sslmode', 'require')),
    ]) {
      assert.equal(await refused(open(wrong)), 'catalog.denied')
    }
  })

  test('addresses that cannot be meant are refused in words that hold no password', async () => {
    for (const wrong of [
      `postgres://user:${canary}@one,two/catalog`,
      `postgres://user:${canary}@host/catalog?options=-c`,
      `postgres://user:${canary}@host/catalog?sslmode=prefer`,
      `postgres://user:${canary}@host/catalog?sslmode=verify-full&sslrootcert=/nowhere`,
      `mysql://user:${canary}@host/catalog`,
    ]) {
      assert.equal(await refused(open(wrong)), 'settings.invalid')
    }
  })

  test('too many connections', async () => {
    await postgres.sql("create role few login password 'few-few-few'")
    await postgres.sql('alter database catalog connection limit 1')
    const few = url(one => {
      one.username = 'few'
      one.password = 'few-few-few'
    })
    assert.equal(await refused(open(few)), 'catalog.overloaded')
    await postgres.sql('alter database catalog connection limit -1')
  })

  test('a lock that somebody else keeps', () =>
    withCatalog(async catalog => {
      const holder = run('psql', [
        '-X',
        '-c',
        'begin; lock table operations; select pg_sleep(600)',
        `host=127.0.0.1 port=${postgres.port} user=postgres dbname=catalog password=${canary}`,
      ]).catch(() => undefined)
      const held =
        "select count(*) from pg_locks where relation = 'operations'::regclass and mode = 'AccessExclusiveLock' and granted"
      while ((await postgres.sql(held, 'catalog')) !== '1');
      assert.equal(await refused(readOperation(catalog, 'op-one')), 'catalog.overloaded')
      await postgres.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()",
      )
      await holder
    }))

  test('it became read-only, as after a failover; connections lead to the new primary afterwards', () =>
    withCatalog(async catalog => {
      await postgres
        .sql('alter system set default_transaction_read_only = on; select pg_reload_conf()')
        .catch(async () => {
          await postgres.sql('alter system set default_transaction_read_only = on')
          await postgres.sql('select pg_reload_conf()')
        })
      const readOnly = () => postgres.sql('show default_transaction_read_only')
      while ((await readOnly()) !== 'on');
      assert.equal(
        await refused(updateOperation(catalog, 'op-one', { warnings: ['x'] })),
        'catalog.unreachable',
      )
      await postgres.sql(
        'set default_transaction_read_only = off; alter system reset default_transaction_read_only',
      )
      await postgres.sql('select pg_reload_conf()')
      while ((await readOnly()) !== 'off');
      assert.equal(await updateOperation(catalog, 'op-one', { warnings: ['y'] }), true)
    }))

  test('its disk is full', async () => {
    const small = join(directory, 'small')
    await mkdir(small)
    await run('mount', ['-t', 'tmpfs', '-o', 'size=12m,mode=0777', 'none', small])
    try {
      await mkdir(join(small, 'space'))
      await run('chown', ['postgres', join(small, 'space')])
      await run('chmod', ['0755', directory])
      await postgres.sql(`create tablespace small location '${join(small, 'space')}'`)
      await postgres.sql('create database full_one tablespace small')
      const catalog = await open(
        url(one => {
          one.pathname = '/full_one'
        }),
      )
      const large = 'x'.repeat(100_000)
      let code = ''
      for (let n = 0; code === ''; n++) {
        const random = Array.from(
          { length: 400 },
          () => Math.random().toString(36) + large.slice(0, 10),
        ).join('')
        code = await insertOperation(
          catalog,
          operation(`op-${n}`, { warnings: [random.repeat(20)] }),
          null,
        ).then(() => '', codeOf)
      }
      assert.equal(code, 'catalog.full')
      await catalog.close()
      await postgres.sql('drop database full_one with (force)')
      await postgres.sql('drop tablespace small')
    } finally {
      await run('umount', ['-l', small])
    }
  })

  test('a database in another encoding is refused', async () => {
    await postgres.sql("create database latin encoding 'LATIN1' locale 'C' template template0")
    assert.equal(
      await refused(
        open(
          url(one => {
            one.pathname = '/latin'
          }),
        ),
      ),
      'settings.invalid',
    )
  })
})
