/** Several API processes on one catalog: killed in the middle of a request, what they promised is kept by the others. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { freePort } from '../../cli/free-port.ts'
import type { KeyView, OperationView } from '../../model/views.ts'
import { startPostgres, type TestPostgres } from '../servers/postgres.ts'
import { startTemporal, type TestTemporal } from '../servers/temporal.ts'
import { makeShop } from '../support/shop.ts'

import { eventually } from './support.ts'

const canary = 'kanarienvogel-9e2b'
const root = join(import.meta.dirname, '../..')

interface Api {
  url: string
  home: string
  child: ChildProcess
  log: string
}

describe('several API processes', () => {
  let directory = ''
  let postgres: TestPostgres
  let temporal: TestTemporal
  let token = ''
  const apis: Api[] = []

  const start = async (name: string, address: string): Promise<Api> => {
    const port = await freePort()
    const home = join(directory, name)
    const child = spawn(process.execPath, ['cli/main.ts', 'api'], {
      cwd: root,
      env: {
        ...process.env,
        HOLDFAST_HOME: home,
        HOLDFAST_SECRET_KEY: 'a secret key for tests only',
        HOLDFAST_CATALOG_URL: postgres.url('catalog'),
        HOLDFAST_TEMPORAL_ADDRESS: temporal.address,
        HOLDFAST_API_LISTEN: `${address}:${port}`,
        HOLDFAST_LOG_LEVEL: 'debug',
        HOLDFAST_LOG_FORMAT: 'json',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const api = { url: `http://${address}:${port}`, home, child, log: '' }
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        api.log += chunk.toString()
      })
    }
    apis.push(api)
    await eventually(`${name} is ready`, async () =>
      (await fetch(`${api.url}/readyz`).catch(() => undefined))?.ok ? true : undefined,
    )
    return api
  }
  const kill9 = async ({ child }: Api) => {
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }
  const call = async <T>(api: Api, method: string, path: string, body?: unknown, key?: string) => {
    const response = await fetch(`${api.url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(key === undefined ? {} : { 'idempotency-key': key }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: (await response.json()) as T }
  }
  const ok = async <T>(api: Api, method: string, path: string, body?: unknown): Promise<T> => {
    const answer = await call<T>(api, method, path, body)
    assert.ok(answer.status < 300, JSON.stringify(answer.body))
    return answer.body
  }
  const database = async (api: Api, name: string) => {
    const path = join(directory, `${name}.db`)
    await copyFile(join(directory, 'shop.db'), path)
    await ok(api, 'POST', '/v1/connections', { name, url: `sqlite:${path}` })
  }
  const backup = (api: Api, connection: string, key: string) =>
    call<{ operation: OperationView }>(
      api,
      'POST',
      '/v1/backups',
      { connection, destinations: ['vault'] },
      key,
    )
  const operationsOf = async (connection: string) =>
    JSON.parse(
      await postgres.sql(
        `select coalesce(json_agg(json_build_object('id', id, 'runId', run_id)), '[]') from operations where connection = '${connection}'`,
        'catalog',
      ),
    ) as { id: string; runId: string | null }[]
  /** Whoever wants to write to the table waits, until the answer is called. */
  const lock = async (table: string): Promise<() => Promise<void>> => {
    const mark = `held ${randomUUID()}`
    const held = postgres
      .sql(
        `begin; lock table ${table} in share row exclusive mode; select pg_sleep(600) as "${mark}"`,
        'catalog',
      )
      .catch(() => '')
    const granted = `select count(*) from pg_locks where relation = '${table}'::regclass and mode = 'ShareRowExclusiveLock' and granted`
    await eventually('the lock is held', async () =>
      (await postgres.sql(granted, 'catalog')) === '1' ? true : undefined,
    )
    return async () => {
      await postgres.sql(
        `select pg_terminate_backend(pid) from pg_stat_activity where query like '%${mark}%' and pid <> pg_backend_pid()`,
      )
      await held
    }
  }
  const waits = (table: string) =>
    eventually(`somebody waits for ${table}`, async () =>
      (await postgres.sql(
        `select count(*) from pg_locks where relation = '${table}'::regclass and not granted`,
        'catalog',
      )) === '0'
        ? undefined
        : true,
    )

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'holdfast-several-'))
    postgres = await startPostgres({ auth: 'scram', password: canary })
    await postgres.sql('create database catalog')
    temporal = await startTemporal()
    makeShop(join(directory, 'shop.db'), { rows: 10 })
    await mkdir(join(directory, 'vault'))
    // At once, on an empty database.
    const [one] = await Promise.all([start('one', '127.0.0.1'), start('two', '127.0.0.2')])
    const made = await Promise.all(
      apis.map(({ home }) => readFile(join(home, 'api.token'), 'utf8').catch(() => '')),
    )
    assert.equal(made.filter(Boolean).length, 1, 'one of them made the token')
    token = made.join('').trim()
    await ok(one, 'POST', '/v1/keys', { name: 'default' })
    await ok(one, 'POST', '/v1/destinations', { name: 'vault', uri: join(directory, 'vault') })
  })
  after(async () => {
    for (const api of apis) {
      api.child.kill('SIGCONT')
      if (api.child.exitCode === null && api.child.signalCode === null) await kill9(api)
    }
    await temporal?.stop()
    await postgres?.stop()
    await rm(directory, { recursive: true, force: true })
  })

  test('what one makes the other has, key files too', async () => {
    const [one, two] = apis as [Api, Api]
    await database(two, 'both')
    const [{ items }, { items: keys }] = await Promise.all([
      ok<{ items: { name: string }[] }>(one, 'GET', '/v1/connections'),
      ok<{ items: KeyView[] }>(two, 'GET', '/v1/keys'),
    ])
    assert.deepEqual([items[0]?.name, keys[0]?.name], ['both', 'default'])
    assert.ok(await readFile(join(two.home, 'keys', 'default.json')))
    const answer = await backup(two, 'both', randomUUID())
    assert.equal(answer.status, 202, JSON.stringify(answer.body))
  })

  test('the same request to both at once, many times, is one operation', async () => {
    const [one, two] = apis as [Api, Api]
    await database(one, 'same')
    const key = randomUUID()
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, n) => backup(n % 2 ? one : two, 'same', key)),
    )
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([202]))
    assert.equal(new Set(answers.map(({ body }) => body.operation.id)).size, 1)
    assert.equal((await operationsOf('same')).length, 1)
  })

  test('one stands still: the other waits for it, and gives its answer', async () => {
    const [one, two] = apis as [Api, Api]
    await database(one, 'still')
    const key = randomUUID()
    const free = await lock('operations')
    const first = backup(one, 'still', key)
    await waits('operations')
    one.child.kill('SIGSTOP')
    await free()
    const second = backup(two, 'still', key)
    // The other one has asked, and has not taken it.
    await new Promise(resolve => setTimeout(resolve, 1000))
    one.child.kill('SIGCONT')
    const answers = await Promise.all([first, second])
    assert.deepEqual(
      answers.map(({ status }) => status),
      [202, 202],
      JSON.stringify(answers.map(({ body }) => body)),
    )
    assert.equal(answers[0].body.operation.id, answers[1].body.operation.id)
    assert.equal((await operationsOf('still')).length, 1)
  })

  test('one is killed before its row is there: the other takes the request up', async () => {
    const one = apis[0] as Api
    const two = apis[1] as Api
    await database(two, 'before')
    const key = randomUUID()
    const free = await lock('operations')
    const lost = backup(one, 'before', key).catch(() => undefined)
    await waits('operations')
    await kill9(one)
    await lost
    await free()
    const { status, body } = await backup(two, 'before', key)
    assert.equal(status, 202, JSON.stringify(body))
    assert.deepEqual(
      (await operationsOf('before')).map(({ id }) => id),
      [body.operation.id],
    )
  })

  test('one is killed when the workflow runs and before it answers: the other gives the same operation', async () => {
    const one = await start('three', '127.0.0.3')
    const two = apis[1] as Api
    await database(two, 'after')
    const key = randomUUID()
    const freeOperations = await lock('operations')
    const lost = backup(one, 'after', key).catch(() => undefined)
    await waits('operations')
    const freeAnswers = await lock('idempotency')
    await freeOperations()
    const promised = await eventually('the workflow runs', async () => {
      const [row] = await operationsOf('after')
      return row?.runId ? row : undefined
    })
    await waits('idempotency')
    await kill9(one)
    await lost
    await freeAnswers()
    const { status, body } = await backup(two, 'after', key)
    assert.equal(status, 202, JSON.stringify(body))
    assert.deepEqual([body.operation.id, body.operation.runId], [promised.id, promised.runId])
    assert.equal((await operationsOf('after')).length, 1)
  })

  test('the password of the catalog is in no log and on no command line', async () => {
    for (const { log, child } of apis) {
      assert.ok(log.includes('API listens'))
      assert.ok(!log.includes(canary))
      if (child.exitCode !== null || child.signalCode !== null) continue
      assert.ok(!(await readFile(`/proc/${child.pid}/cmdline`, 'utf8')).includes(canary))
    }
  })
})
